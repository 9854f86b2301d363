"""Other people's code runs inside a guard, so that its failure is its own and says whose it is."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from types import TracebackType

from opal_registry.errors import PluginError, Problem

_URL = re.compile(r"[A-Za-z][\w+.-]*://\S+")

Step = Callable[[str], contextlib.AbstractContextManager[object]]
"""Called with what is about to be done; the context lasts as long as the doing. Progress and watchdogs hang on it."""


def quiet_step(_text: str) -> contextlib.AbstractContextManager[object]:
    """The step of whoever does not want to watch."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def guarded(doing: str, *, where: str, own: str = "") -> Iterator[None]:
    """Turn whatever a plugin's code raises into a :class:`PluginError` that names the plugin.

    ``SystemExit`` is caught as well; Ctrl-C is not. What the code prints goes to stderr, so that a command's own output
    stays readable by machines. Passwords in URLs are hidden.

    Args:
        doing: What is being done, as in "importing standupbot.models".
        where: The plugin and its distribution.
        own: The module that is being imported: a missing module of that name is the plugin's own mistake, another
            one is a dependency that is not installed.

    Example:
        >>> with guarded("importing x.opal", where="plugin x (opal-x 1.0)", own="x.opal"):
        ...     import no_such_dependency
        Traceback (most recent call last):
        ...
        opal_registry.errors.PluginError: importing x.opal failed: it needs the module 'no_such_dependency', which is not installed
          where: plugin x (opal-x 1.0)
          mend:  install it, or the extra of the distribution that brings it
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except PluginError as error:
        raise PluginError(
            *(Problem(_masked(p.what), p.where or where, _masked(p.mend)) for p in error.problems)
        ) from error
    except BaseException as error:  # SystemExit in a plugin must not end us
        what, mend = _explain(error, own)
        place = find_place(error)
        raise PluginError(
            Problem(f"{doing} failed: {_masked(what)}", f"{where}, {place}" if place else where, mend)
        ) from error


def _explain(error: BaseException, own: str) -> tuple[str, str]:
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        return f"it tried to end the program: sys.exit({code})", "raise an error there instead"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}", "mend the syntax, or install a release for this version of Python"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _explain_missing(error.name, own)
    text = _first_line(error)
    name = type(error).__name__
    return (f"{name}: {text}" if text else name), "mend the plugin, or leave it out with sub_apps.disabled"


def _explain_missing(name: str, own: str) -> tuple[str, str]:
    if own == name or own.startswith(f"{name}."):
        return f"there is no module {name!r}", "correct the name, or reinstall the distribution"
    return (
        f"it needs the module {name!r}, which is not installed",
        "install it, or the extra of the distribution that brings it",
    )


def _first_line(error: BaseException) -> str:
    try:
        return str(error).strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 -- an error that cannot even say what it is
        return ""


def _masked(text: str) -> str:
    """A text whose URLs show no passwords.

    Example:
        >>> _masked("no answer from postgresql+psycopg://rou:p%40d@host, sorry")
        'no answer from postgresql+psycopg://rou:********@host, sorry'
    """
    if "://" not in text:
        return text
    from opal_registry.secrets import mask_url  # brings pydantic, which --help does without

    return _URL.sub(lambda found: mask_url(found[0]), text)


def find_place(error: BaseException) -> str:
    """File and line where other people's code went wrong, or called what did; empty if it cannot be told."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = ""
    for step in _steps(error.__traceback__):
        file = step.tb_frame.f_code.co_filename
        if _package(step) not in _PASSED_OVER and not file.startswith("<"):
            place = f"{file}:{step.tb_lineno}"
    return place


def _package(step: TracebackType) -> str:
    return str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


_DRIVERS = {
    "aiosqlite",
    "asyncmy",
    "asyncpg",
    "greenlet",
    "pg8000",
    "psycopg",
    "psycopg_binary",
    "psycopg_c",
    "pymysql",
}
_PASSED_OVER = sys.stdlib_module_names | {"alembic", "opal_registry", "pluggy", "sqlalchemy"} | _DRIVERS
"""Packages that only do what they are told: the place is where they were told."""


def _steps(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next
