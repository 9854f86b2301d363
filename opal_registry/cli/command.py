"""What all commands have in common: their options, their errors, their exit codes."""

import contextlib
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from opal_registry.cli.output import Output, error_document
from opal_registry.errors import ConfigError, DatabaseError, OpalError, Problem
from opal_registry.guard import Step

if TYPE_CHECKING:  # --help and usage errors need neither SQLAlchemy nor pydantic
    from opal_registry.cli.watchdog import Watchdog
    from opal_registry.registry import Registry
    from opal_registry.settings.model import Settings

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="The YAML file to read.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
TracebackOption = Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")]
BROKEN_PIPE = 128 + signal.SIGPIPE
COMMON: dict[str, Any] = {
    "config": ConfigOption,
    "json": JsonOption,
    "quiet": QuietOption,
    "traceback": TracebackOption,
}


class Report(Protocol):
    """What a verb returns to a command."""

    @property
    def exit_code(self) -> int:
        """What the command returns to the shell."""


@dataclass
class Invocation:
    """One call of the command line: its common options, and what they lead to."""

    config: Path | None
    json: bool
    quiet: bool
    traceback: bool

    @cached_property
    def output(self) -> Output:
        """Where results go."""
        return Output(as_json=self.json, quiet=self.quiet)

    @cached_property
    def settings(self) -> "Settings":
        """The settings, read now."""
        from opal_registry.settings.sources import load_settings

        return load_settings(self.config)

    @cached_property
    def registry(self) -> "Registry":
        """The registry of those settings; its imports are watched, and shown while they last."""
        from logging import NullHandler, getLogger

        from opal_registry.registry import Registry

        getLogger("sqlalchemy.pool").addHandler(NullHandler())  # of a connection that is broken an error tells
        return Registry(self.settings, step=self._watch)

    def registry_for(self, *names: str) -> "Registry":
        """A registry of some sub-apps and those they need: no models of others are imported."""
        from opal_registry.registry import Registry

        self.__dict__["registry"] = Registry(self.settings, sub_apps=names, step=self._watch)
        return self.registry

    def everybody(self) -> "Registry":
        """A registry of all sub-apps that can be loaded; nothing is, until it is asked."""
        from opal_registry.registry import Registry

        lenient = self.settings.sub_apps.model_copy(update={"on_error": "quarantine"})
        return Registry(self.settings.model_copy(update={"sub_apps": lenient}), step=self._watch)

    def close(self) -> None:
        """Close the registry, if there is one."""
        if "registry" in self.__dict__:
            self.registry.close()

    @property
    def step(self) -> Step:
        """Shows what is being done, where somebody watches."""
        return self.output.step

    @contextlib.contextmanager
    def _watch(self, text: str) -> Any:
        with self.output.step(text), self._watchdog.watching(text):
            yield

    @cached_property
    def _watchdog(self) -> "Watchdog":
        from opal_registry.cli.watchdog import Watchdog

        return Watchdog(self.settings.sub_apps.import_timeout, as_json=self.json)


def command(app: typer.Typer, name: str, *, examples: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a command: the common options are added, its errors become exit codes.

    Args:
        app: Where.
        name: What it is called.
        examples: Shown under its help, one a line.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(ctx: typer.Context, **values: Any) -> None:
            common: dict[str, Any] = {key: values.pop(key) or (ctx.obj or {}).get(key) for key in COMMON}
            raise typer.Exit(execute(Invocation(**common), function, values))

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [_keyword(key, kind, default=None if key == "config" else False) for key, kind in COMMON.items()]
        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *own, *shared]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        epilog = "Examples:\n\n\b\n" + "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
        app.command(name, help=inspect.getdoc(function), epilog=epilog)(run)
        return function

    return register


def _call(function: Callable[..., Any], invocation: Invocation, values: dict[str, Any]) -> int:
    code = int(function(invocation, **values) or 0)
    try:
        sys.stdout.flush()  # now, while a reader that has gone, or a full device, can still be noticed
    except BrokenPipeError:
        raise
    except OSError as error:
        return report_unwritable(error)
    return code


class StoppedError(OpalError):
    """Somebody pressed Ctrl-C."""

    exit_code = 128 + signal.SIGINT


def execute(invocation: Invocation, function: Callable[..., Any], values: dict[str, Any]) -> int:
    """Call a command's function, and turn whatever happens into an exit code."""
    try:
        return _call(function, invocation, values)
    except KeyboardInterrupt as interrupt:
        return _fail(invocation, StoppedError(Problem("interrupted")), interrupt)
    except BrokenPipeError:  # the reader of our output has seen enough
        discard_output()
        return BROKEN_PIPE
    except OpalError as error:
        return _fail(invocation, error, error)
    except Exception as error:  # noqa: BLE001 -- a person gets one line, whatever went wrong
        what = f"unexpected {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        mend = "run it again with --traceback, and report what it shows"
        return _fail(invocation, DatabaseError(Problem(what, mend=mend)), error)
    finally:
        invocation.close()


def report_unwritable(error: OSError) -> int:
    """The exit code where a result, or an error, could not be printed; stderr may still work."""
    discard_output()
    with contextlib.suppress(OSError):
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
    return DatabaseError.exit_code


def discard_output() -> None:
    """Let what is still to be written to stdout go nowhere, so that nothing fails a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report_usage(error: Any, *, as_json: bool) -> int:
    """The exit code of a command line that cannot be understood; machines are told why as well."""
    if as_json:
        Output(as_json=True).show({"error": error_document(ConfigError(Problem(error.format_message())))})
    return int(error.exit_code)


def _fail(invocation: Invocation, error: OpalError, cause: BaseException) -> int:
    if invocation.traceback:
        traceback.print_exception(cause, file=sys.stderr)
    invocation.output.error(error)
    return error.exit_code


def _keyword(name: str, annotation: Any, *, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
