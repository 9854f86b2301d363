"""The door for applications: the four names of the original module, and their asyncio twins.

    from opal_registry.database import Base, SessionLocal, engine, get_db

All of them follow the default registry, also where they were imported before it was set: ``registry.as_default()``
decides which database they mean. Importing this module reads no configuration and opens nothing.
"""

import contextlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opal_registry.base import Base
from opal_registry.lending import AsyncSessionDependency, SessionDependency
from opal_registry.registry import get_default_registry
from opal_registry.sessions import OpalSession

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncSession


class _DefaultEngine(sa.Engine):
    """The engine of the default registry, whichever that is when it is used."""

    def __init__(self) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        if name in {"__class__", "__dict__"}:
            return object.__getattribute__(self, name)
        return getattr(get_default_registry().engine(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(get_default_registry().engine(), name, value)

    def __repr__(self) -> str:
        return repr(get_default_registry().engine())

    def __eq__(self, other: object) -> bool:
        return other is self or other is get_default_registry().engine()

    def __hash__(self) -> int:  # a Session(bind=engine) finds its connection again by the engine
        return hash(get_default_registry().engine())


class _DefaultFactory:
    """A session factory of the default registry, whichever that is when it is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, **options: Any) -> Any:
        return getattr(get_default_registry(), self._name)(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(get_default_registry(), self._name), name)

    def __repr__(self) -> str:
        return f"<the {self._name} of the default registry>"


engine: sa.Engine = _DefaultEngine()
SessionLocal = _DefaultFactory("session_factory")
AsyncSessionLocal = _DefaultFactory("async_session_factory")
get_db = SessionDependency(until="response")
"""A session for the length of a request, as a dependency of FastAPI, or by hand as the generator that it was: closed at
its end, whatever that end is. It commits only when it is told to. On SQLite a request with a safe method locks out no writer."""

get_async_db = AsyncSessionDependency(until="response")
"""The asyncio twin of ``get_db``."""


def session_scope(*, read_only: bool = False) -> contextlib.AbstractContextManager[OpalSession]:
    """A session of the default registry for the length of a block: committed at its end, rolled back on any error.

    Args:
        read_only: Refuse to write, in this process and by the server.

    Example:
        >>> from opal_registry.registry import Registry
        >>> from opal_registry.settings.model import Settings
        >>> registry = Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]).as_default()
        >>> with session_scope(read_only=True) as session:
        ...     session.scalar(sa.text("SELECT 1"))
        1
        >>> registry.close()
    """
    return get_default_registry().session_scope(read_only=read_only)


def async_session_scope(*, read_only: bool = False) -> "contextlib.AbstractAsyncContextManager[AsyncSession]":
    """The asyncio twin of :func:`session_scope`."""
    return get_default_registry().async_session_scope(read_only=read_only)


__all__ = [
    "AsyncSessionLocal",
    "Base",
    "SessionLocal",
    "async_session_scope",
    "engine",
    "get_async_db",
    "get_db",
    "session_scope",
]
