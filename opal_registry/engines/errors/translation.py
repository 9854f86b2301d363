"""Errors of statements, raised by what they mean, whichever database and driver says it."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.errors.constraints import find_rule
from opal_registry.engines.errors.failures import SETTING, UNKNOWN, find_code, find_meaning
from opal_registry.engines.errors.neutral import (
    ConnectError,
    ConnectionLostError,
    ConstraintError,
    DeadlockError,
    InDoubtError,
    LockWaitError,
    SerializationError,
)
from opal_registry.engines.url import describe_url

AT_COMMIT = "opal_at_commit"
"""The mark of a driver's error that a COMMIT ended with."""

STUMBLES = (AttributeError, LookupError, NameError, TypeError, ValueError)
"""What a driver raises that does not expect what it gets."""

AGAIN = "roll the transaction back and run the whole of it again: opal_registry.transactions.in_transaction does"
ADVICE: dict[type[sa.exc.DBAPIError], str] = {
    DeadlockError: AGAIN,
    SerializationError: AGAIN,
    LockWaitError: "look for a transaction that stays open for long, or let this one wait longer",
    InDoubtError: (
        "the connection was lost while the COMMIT was under way: nobody knows whether it took effect. It is not tried "
        "again; look whether the work was done, or write it so that a repetition does no harm"
    ),
}
"""What the error says beside the driver's words."""


def make_neutral(engine: sa.Engine) -> None:
    """Let an engine raise the errors of :mod:`opal_registry.engines.errors.neutral` in place of SQLAlchemy's.

    Nothing is listened to but errors: what goes well costs nothing.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """
    sa.event.listen(engine, "handle_error", _translate)
    dialect: Any = engine.dialect
    dialect.do_commit = _marking(dialect.do_commit)
    dialect.do_commit_twophase = _marking(dialect.do_commit_twophase)
    _catch_raw_errors(engine.dialect)


def _marking(commit: Callable[..., None]) -> Callable[..., None]:
    """The same COMMIT, whose errors can be told from those of other statements."""

    def commit_and_mark(*arguments: Any, **named: Any) -> None:
        try:
            commit(*arguments, **named)
        except Exception as error:
            setattr(error, AT_COMMIT, True)
            raise

    return commit_and_mark


def _catch_raw_errors(dialect: sa.Dialect) -> None:
    """Let no error of a socket (asyncpg), or of a driver that cannot work with what it is told, pass as it is raised.

    SQLAlchemy would not know it for one of a database.
    """
    connect: Any = dialect.connect

    def connect_or_say_why(*arguments: Any, **named: Any) -> Any:
        try:
            return connect(*arguments, **named)
        except (OSError, UnicodeError) as error:
            raise make_driver_error(dialect, error) from error
        except Exception as error:
            if not (isinstance(error, STUMBLES) or type(error).__module__.startswith("scramp")):  # pg8000's
                raise
            stumbled = f"the driver stumbled ({type(error).__name__}: {error})"
            raise make_driver_error(dialect, ValueError(stumbled)) from error

    dialect.connect = connect_or_say_why  # type: ignore[method-assign]


def make_driver_error(dialect: sa.Dialect, cause: Exception) -> Exception:
    """The driver's own error for something that is not: SQLAlchemy knows it for one of a database."""
    kind: Any = dialect.loaded_dbapi.OperationalError
    text = str(cause) or ("timed out" if isinstance(cause, TimeoutError) else type(cause).__name__)
    made: Exception = kind(text, cause) if issubclass(kind, sa.exc.EmulatedDBAPIException) else kind(text)
    return made


def _translate(context: sa.ExceptionContext) -> sa.exc.DBAPIError | None:
    original = context.original_exception
    if not isinstance(original, Exception) or context.is_pre_ping:
        return None
    if context.connection is None:
        return _refuse(context, original)
    if context.sqlalchemy_exception is None and isinstance(original, OSError):
        context.is_disconnect = True  # some drivers let Python's own error through, and keep a connection of no use
    kind = find_meaning(original).neutral
    is_lost = context.is_disconnect or kind is InDoubtError
    if hasattr(original, AT_COMMIT) and (is_lost or not find_code(original)):
        return _lose(context)
    return _make(context, ConnectionLostError if is_lost else kind)


def _refuse(context: sa.ExceptionContext, original: Exception) -> sa.exc.DBAPIError | None:
    error, meaning = _make(context, ConnectError), find_meaning(original)
    if error is not None and context.engine is not None and meaning is not UNKNOWN:
        mend = SETTING.sub("", meaning.mend)  # which bind it is, is not known here
        error.add_detail(f"{describe_url(context.engine.url)}: {meaning.what}; {mend}")
    return error


def _lose(context: sa.ExceptionContext) -> InDoubtError:
    context.is_disconnect = True  # also where the driver says so in its own way: a timeout, an error of the socket
    error = InDoubtError("COMMIT", None, context.original_exception, connection_invalidated=True)
    error.add_detail(ADVICE[InDoubtError])
    return error


def _make(context: sa.ExceptionContext, kind: type[sa.exc.DBAPIError] | None) -> sa.exc.DBAPIError | None:
    shown = getattr(context, "chained_exception", None) or context.sqlalchemy_exception
    if kind is None or not (isinstance(shown, sa.exc.DBAPIError) or context.is_disconnect):
        return None
    error = kind(
        context.statement,
        getattr(shown, "params", None),
        getattr(shown, "orig", context.original_exception),
        hide_parameters=getattr(shown, "hide_parameters", True),
        connection_invalidated=context.is_disconnect,
        ismulti=getattr(shown, "ismulti", None),
    )
    if isinstance(error, ConstraintError):
        error.rule = find_rule(error)
    if kind in ADVICE:
        error.add_detail(ADVICE[kind])
    return error
