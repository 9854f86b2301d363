"""Many independently released Python applications, one shared database.

This face is lazy (PEP 562): importing it costs nothing until a name is used. Nothing inside the package imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opal_registry.base import Base, make_base
    from opal_registry.errors import (
        ConfigError,
        DatabaseError,
        LockTimeoutError,
        OpalError,
        OwnershipError,
        PluginError,
        Problem,
        SchemaError,
    )
    from opal_registry.hookspecs import hookimpl
    from opal_registry.registry import Registry
    from opal_registry.settings.model import Settings
    from opal_registry.settings.sources import load_settings
    from opal_registry.sub_app import Migrations, SubApp

_HOMES = {
    "Base": "base",
    "ConfigError": "errors",
    "DatabaseError": "errors",
    "LockTimeoutError": "errors",
    "Migrations": "sub_app",
    "OpalError": "errors",
    "OwnershipError": "errors",
    "PluginError": "errors",
    "Problem": "errors",
    "Registry": "registry",
    "SchemaError": "errors",
    "Settings": "settings.model",
    "SubApp": "sub_app",
    "hookimpl": "hookspecs",
    "load_settings": "settings.sources",
    "make_base": "base",
}

__all__ = [
    "Base",
    "ConfigError",
    "DatabaseError",
    "LockTimeoutError",
    "Migrations",
    "OpalError",
    "OwnershipError",
    "PluginError",
    "Problem",
    "Registry",
    "SchemaError",
    "Settings",
    "SubApp",
    "hookimpl",
    "load_settings",
    "make_base",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
