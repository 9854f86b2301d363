"""The shared user under its original path."""

from opal_registry.models import User

__all__ = ["User"]
