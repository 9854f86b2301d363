"""Histories that are run in their own way: by an ``env.py`` of theirs, or by a function that upgrades everything."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep
from alembic.util import load_python_file

from opal_registry.engines.errors.failures import explain, is_database_error
from opal_registry.engines.url import with_driver
from opal_registry.errors import PluginError, Problem
from opal_registry.guard import guarded
from opal_registry.migrations.environment import Ran
from opal_registry.migrations.history import History
from opal_registry.migrations.revision_file import Revision
from opal_registry.store.revisions import make_head, make_record, make_removal, make_version_table


def run_env(
    engine: sa.Engine, history: History, revisions: Sequence[Revision], *, downgrade: bool = False
) -> list[Ran]:
    """Let the ``env.py`` of a history run some of its revisions, in the order given.

    It gets an open connection, and the URL; the version table is ours unless it names one.

    Args:
        engine: The database.
        history: The history.
        revisions: Which ones.
        downgrade: Whether to take them back instead.

    Raises:
        PluginError: If there is no ``env.py``, or it or a revision fails.
        DatabaseError: If the database fails.
    """
    env, map_ = history.location.env, history.script.revision_map
    make = MigrationStep.downgrade_from_script if downgrade else MigrationStep.upgrade_from_script
    steps = [make(map_, history.script.get_revision(each.id)) for each in revisions]
    options = {"fn": lambda *_: steps, "version_table": history.version_table}
    started = time.perf_counter()
    with (
        _explained(f"running the revisions of {history.app!r} by its env.py", str(env), engine),
        engine.connect() as own,
    ):
        if not env.exists():
            mend = "correct migrations=, or leave out env=True: then the registry runs them"
            raise PluginError(Problem(f"the history of {history.app!r} has no env.py", str(env), mend))
        config = Config()
        config.set_main_option("sqlalchemy.url", _write_url(engine, history).replace("%", "%%"))
        config.attributes["connection"] = own
        with EnvironmentContext(config, history.script, **options):
            load_python_file(str(env.parent), env.name)
        own.commit()
    seconds = (time.perf_counter() - started) / max(1, len(revisions))
    return [Ran(each, seconds, 0) for each in revisions]


def run_command(engine: sa.Engine, history: History) -> list[Ran]:
    """Let a package upgrade its tables in its own way, and write down that it was done for this release.

    Args:
        engine: What it is called with.
        history: Its one revision is the release.

    Raises:
        PluginError: If it fails.
        DatabaseError: If the database fails.
    """
    (release,) = history.revisions.values()
    command, started = history.location.command, time.perf_counter()
    assert command is not None  # noqa: S101 -- else there would be files
    with _explained(
        f"calling {history.location.value} of sub-app {history.app!r}", str(history.location.folder), engine
    ):
        command(engine)
    return [Ran(release, time.perf_counter() - started, 0)]


def write_release(connection: sa.Connection, history: History, ran: Ran) -> None:
    """Write down that a package that upgrades in its own way is at a release, and at no other.

    Args:
        connection: The database, in a transaction.
        history: The history.
        ran: What was run.
    """
    table = make_version_table(history.app)
    table.create(connection, checkfirst=True)
    connection.execute(sa.delete(table))
    connection.execute(make_head(history.app, ran.revision.id))
    connection.execute(make_removal(history.app))
    for applied in ran.revision.iter_applied(history.version, ran.seconds):
        connection.execute(make_record(applied))


def _write_url(engine: sa.Engine, history: History) -> str:
    url = with_driver(engine.url, use_async=True) if history.location.options.is_async else engine.url
    return url.render_as_string(hide_password=False)


@contextmanager
def _explained(doing: str, where: str, engine: sa.Engine) -> Iterator[None]:
    try:
        with guarded(doing, where=where):
            yield
    except PluginError as error:
        if error.__cause__ is not None and is_database_error(error.__cause__):
            raise explain(error.__cause__, engine.url, doing=doing) from error.__cause__
        raise
