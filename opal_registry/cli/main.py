"""The commands of ``opal-db``."""

import io
import sys
from typing import Annotated

import typer

from opal_registry.cli import config, doctor, lint, migrations
from opal_registry.cli.command import (
    COMMON,
    ConfigOption,
    Invocation,
    JsonOption,
    QuietOption,
    TracebackOption,
    command,
    report_unwritable,
    report_usage,
)
from opal_registry.cli.recorded import make_fingerprint, report_recorded
from opal_registry.errors import DatabaseError

app = typer.Typer(
    name="opal-db",
    help="Bring up, look at and look after the database that many applications share.",
    epilog="Every command takes --config, --json, --quiet and --traceback. "
    "Exit codes: 0 fine, 1 findings, 2 usage or configuration, 3 plugin or ownership, 4 database, 5 lock.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
apps = typer.Typer(
    name="apps", help="The sub-apps that are installed here.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(apps)
app.add_typer(config.app)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"opal-db {version('opal-registry')}")
        raise typer.Exit


@app.callback()
def _common(
    ctx: typer.Context,
    config: ConfigOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    traceback: TracebackOption = False,
    _version_asked: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = dict(zip(COMMON, (config, json, quiet, traceback), strict=True))


@command(
    app,
    "init",
    examples="""
    opal-db init                                    bring up the configured database
    opal-db init --dry-run > create.sql             only show the statements
    opal-db init --verify                           do not take the ledger's word for it
    opal-db init --config config/postgres.yaml --create-database
    """,
)
def _init(
    run: Invocation,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the exact DDL and change nothing.")] = False,
    create_database: Annotated[
        bool, typer.Option("--create-database", help="Make the database itself where it is missing.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look at the live database as well, whatever the ledger says.")
    ] = False,
) -> int:
    """Create every missing table of every sub-app.

    Discovers the installed sub-apps, creates what is missing, records it in the ledger, puts first rows in, and reports.
    Nothing that exists is altered; a table of another shape is reported (exit code 1). Safe to repeat. Where neither code
    nor configuration has changed since, the ledger alone says that there is nothing to do.
    """
    fingerprint = "" if dry_run else make_fingerprint(run)
    if not (dry_run or verify) and report_recorded(run, fingerprint):
        return 0
    from opal_registry.cli import views
    from opal_registry.init import init

    report = init(
        run.registry,
        dry_run=dry_run,
        create_missing_database=create_database,
        fingerprint=fingerprint,
        step=run.step,
        announce=run.output.note,
    )
    run.output.show(views.init_document(report), *views.init_view(report))
    return report.exit_code


@command(
    app,
    "status",
    examples="""
    opal-db status
    opal-db status --json | jq '.sub_apps[] | select(.state != "ready")'
    """,
)
def _status(run: Invocation) -> int:
    """Show how every sub-app stands in the database; exit code 1 if one needs attention.

    Sub-apps that only the ledger knows are shown as "not installed here". Nothing is changed, not even a file created.
    """
    from opal_registry.cli import views
    from opal_registry.status import get_status

    with run.step("looking at the database"):
        report = get_status(run.registry)
    run.output.show(views.status_document(report), *views.status_view(report))
    for error in report.errors:
        run.output.complain(error)
    return report.exit_code


@command(app, "events", examples="opal-db events --limit 5")
def _events(
    run: Invocation,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=100_000, help="How many at most.")] = 20,
) -> int:
    """Show who brought what up, when, from where, and how it ended; the latest first. Nothing is changed."""
    from opal_registry.cli import views
    from opal_registry.status import get_events

    errors: list[DatabaseError] = []
    with run.step("reading the events"):
        events = get_events(run.registry, limit=limit, on_failure=errors.append)
    run.output.show(views.events_document(events, errors), *views.events_view(events))
    for error in errors:
        run.output.complain(error)
    return min((error.exit_code for error in errors), default=0)


@command(apps, "list", examples="opal-db apps list")
def _apps_list(run: Invocation) -> None:
    """List the installed sub-apps in the order in which they come, with their tables and import times.

    Those that the database knows from other images come after them; where it cannot be asked, that is said.
    """
    from opal_registry.cli import views
    from opal_registry.status import find_absent

    suite = run.registry.suite
    try:
        absent = find_absent(run.registry)
    except DatabaseError as error:
        run.output.note(f"what other images brought is not known: {error.problems[0].what}")
        absent = ()
    run.output.show(views.apps_document(suite, absent), *views.apps_view(suite, absent))


@command(apps, "show", examples="opal-db apps show standupbot")
def _apps_show(
    run: Invocation, name: Annotated[str, typer.Argument(metavar="APP", help="The sub-app's name.")]
) -> None:
    """Show one sub-app: where it comes from, what it needs, which tables it owns. Asks no database."""
    from opal_registry.cli import views
    from opal_registry.migrations.look import find_app

    app = find_app(run.registry, name)
    run.output.show(views.app_document(app), *views.app_view(app))


@command(app, "ping", examples="opal-db ping && echo there")
def _ping(run: Invocation) -> None:
    """Connect to every configured database once; exit code 4 if one does not answer."""
    from opal_registry.cli import views
    from opal_registry.ping import ping

    with run.step("connecting"):
        pulses = ping(run.registry)
    run.output.show(views.ping_document(pulses), *views.ping_view(pulses))


@command(
    app,
    "wait",
    examples="""
    opal-db wait && opal-db init
    opal-db wait --timeout 5m --config config/postgres.yaml
    """,
)
def _wait(
    run: Invocation,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to try, such as 30s or 5m.")] = "60s",
) -> None:
    """Wait until every configured database answers; exit code 4 if one does not in time."""
    from opal_registry.cli import views
    from opal_registry.ping import wait_until_ready

    seconds = views.parse_timeout(timeout)
    said: set[str] = set()

    def say(error: Exception) -> None:
        text = str(error).partition("\n")[0]
        if text not in said:
            run.output.note(f"waiting: {text}")
            said.add(text)

    pulses = wait_until_ready(run.registry, timeout=seconds, on_failure=say)
    run.output.show(views.ping_document(pulses), *views.ping_view(pulses))


doctor.register(app)
migrations.register(app)
lint.register(app)


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process if not given.

    Returns:
        The exit code: 0 fine, 1 findings, 2 usage or configuration, 3 plugin or ownership, 4 database, 5 lock.
    """
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    try:
        return int(app(args=arguments, prog_name="opal-db", standalone_mode=False) or 0)
    except OSError as error:  # those of a command have been told already: this one is about its output
        return report_unwritable(error)
    except Exception as error:
        if not hasattr(error, "show"):  # typer's usage errors, whichever library it takes them from
            raise
        error.show()
        return report_usage(error, as_json="--json" in arguments)
