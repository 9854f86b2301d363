"""How every sub-app stands: those installed here, those that only the ledger knows, those that were left out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained, of_bind
from opal_registry.engines.url import describe_url
from opal_registry.errors import DatabaseError
from opal_registry.migrations.history import load_readable
from opal_registry.migrations.progress import describe_ahead
from opal_registry.registry import Registry
from opal_registry.schema.catalog import read_catalog
from opal_registry.schema.live import Difference
from opal_registry.schema.looking import look_at
from opal_registry.store.events import Event, read_events
from opal_registry.store.holder import Holder
from opal_registry.store.journal import OpenStep
from opal_registry.store.ledger import Entry, as_kept
from opal_registry.suite import LoadedSubApp, Quarantined, Suite
from opal_registry.survey import Survey, is_missing_file, read_own_columns, survey_engine
from opal_registry.withheld import Withholding


@dataclass(frozen=True, slots=True)
class SubAppStatus:
    """How one sub-app stands.

    Args:
        name: The sub-app.
        distribution: The distribution that brings it, or brought it.
        version: The installed version, or the one in the ledger.
        bind: The configured database that it lives in.
        state: ``ready``, ``pending`` (tables are missing), ``differs`` (a table is not what its model says), ``ahead``
            (a later release was here), ``not installed here`` or ``quarantined``.
        detail: What is behind the state, for people.
        tables: How many tables it owns.
        missing: The tables that are not there.
        differences: How existing tables differ; none where a later release was here, whose models they follow.
    """

    name: str
    distribution: str
    version: str
    bind: str
    state: str
    detail: str = ""
    tables: int = 0
    missing: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should do something."""
        return self.state in {"pending", "differs", "quarantined"}


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the suite stands.

    Args:
        databases: For each bind, where its database is.
        sub_apps: One status per sub-app.
        errors: Of the databases that could not be looked at.
    """

    databases: dict[str, str]
    sub_apps: tuple[SubAppStatus, ...]
    errors: tuple[DatabaseError, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of an error if there is one; else 1 if any sub-app needs attention, else 0."""
        if self.errors:
            return min(error.exit_code for error in self.errors)
        return int(any(status.needs_attention for status in self.sub_apps))


def get_status(registry: Registry) -> StatusReport:
    """Look at every configured database; nothing is changed, not even a SQLite file created.

    Raises:
        PluginError: If a sub-app cannot be loaded.
        DatabaseError: If every database is unreachable or refuses.
        LockTimeoutError: If in each somebody has locked a table that is looked at, and does not let go in time.
    """
    errors = _Errors(registry)
    histories, faults = load_readable(registry.suite.sub_apps, registry.get_dialect)
    suite = registry.suite.without(faults)
    databases, statuses = {}, []
    for bind in registry.settings.databases:
        with errors.collected(bind):
            engine = registry.engine(bind)
            apps = [app for app in suite.sub_apps if app.sub_app.bind == bind]
            databases[bind] = describe_url(engine.url)
            found = survey_engine(engine, apps, wait=registry.settings.locks.wait)
            withholding = Withholding(apps, found, histories)
            statuses += [_status(app, found, withholding) for app in apps]
            statuses += [_absent(entry) for entry in _iter_absent(found.entries, suite)]
    return StatusReport(databases, (*statuses, *_left_out(suite.quarantined)), tuple(errors.found))


class _Errors:
    """Those of databases that could not be looked at, as long as there is one that could."""

    def __init__(self, registry: Registry) -> None:
        self.found: list[DatabaseError] = []
        self._most = len(registry.settings.databases) - 1

    @contextmanager
    def collected(self, bind: str) -> Iterator[None]:
        """Keep the error of a database for later.

        Raises:
            DatabaseError: If it is that of the last one of which there was hope, with what all the others said.
        """
        try:
            with of_bind(bind):
                yield
        except DatabaseError as error:
            if len(self.found) == self._most:
                error.problems = tuple(problem for each in (*self.found, error) for problem in each.problems)
                raise
            self.found.append(error)


def find_absent(registry: Registry) -> tuple[SubAppStatus, ...]:
    """The sub-apps that the databases know and this image lacks; nothing is changed.

    Raises:
        DatabaseError: If a database is unreachable or refuses.
        LockTimeoutError: If somebody has locked a table that is looked at, and does not let go in time.
    """
    found: list[SubAppStatus] = []
    for bind in registry.settings.databases:
        with of_bind(bind):
            entries = survey_engine(registry.engine(bind), [], wait=registry.settings.locks.wait).entries
        found += [_absent(entry) for entry in _iter_absent(entries, registry.suite)]
    return tuple(found)


def get_events(
    registry: Registry, *, limit: int = 20, on_failure: Callable[[DatabaseError], None] = lambda _: None
) -> list[tuple[str, Event]]:
    """Who ran what, the latest first: each event with the bind it was recorded in; nothing is changed.

    Args:
        registry: The registry.
        limit: How many at most.
        on_failure: Told of each database that could not be looked at, in the end.

    Raises:
        DatabaseError: If every database is unreachable or refuses.
        LockTimeoutError: If in each somebody has locked a table that is looked at, and does not let go in time.
    """
    found: list[tuple[str, Event]] = []
    errors = _Errors(registry)
    for bind in registry.settings.databases:
        with errors.collected(bind):
            found += [(bind, event) for event in _read_events(registry, registry.engine(bind), limit)]
    for error in errors.found:
        on_failure(error)
    return sorted(found, key=lambda item: item[1].started_at, reverse=True)[:limit]


def _read_events(registry: Registry, engine: sa.Engine, limit: int) -> list[Event]:
    if is_missing_file(engine):
        return []
    with (
        explained(engine.url, doing="reading the events"),
        look_at(engine, wait=registry.settings.locks.wait) as connection,
    ):
        columns = read_own_columns(connection, read_catalog(connection))
        return read_events(connection, columns, limit=limit)


def _iter_absent(entries: Mapping[str, Entry], suite: Suite) -> Iterator[Entry]:
    here = {app.name for app in suite.sub_apps} | {out.name for out in suite.quarantined}
    yield from (entry for name, entry in sorted(entries.items()) if name not in here)


def _status(app: LoadedSubApp, found: Survey, withholding: Withholding) -> SubAppStatus:
    ahead = describe_ahead(app, withholding.progress.get(app.name), found)
    state, detail = ("ahead", ahead) if ahead else _judge(app, found, withholding.reasons.get(app.name, ""))
    missing = tuple(table.fullname for table in found.missing[app.name])
    differences = () if ahead else tuple(found.differences.get(app.name, ()))
    return SubAppStatus(
        app.name, app.distribution, app.version, app.sub_app.bind, state, detail, len(app.tables), missing, differences
    )


def _judge(app: LoadedSubApp, found: Survey, withheld: str) -> tuple[str, str]:
    """The state of a sub-app, and what is behind it."""
    missing = [table.fullname for table in found.missing[app.name]]
    harmful = [str(difference) for difference in found.differences.get(app.name, ()) if difference.harmful]
    entry, steps = found.entries.get(app.name), found.steps.get(app.name)
    if app.name in found.unfinished:
        return "pending", withheld
    if harmful:
        return "differs", "; ".join(harmful)
    if withheld:
        return "pending", withheld
    if steps:
        return "pending", _describe_run(found.run) if found.run else _describe_step(steps[-1])
    if missing:
        return "pending", f"{len(missing)} to create: {', '.join(missing)} (opal-db init)"
    if entry is None:
        return "pending", "not recorded in the ledger (opal-db init)"
    if entry.is_newer_than(app.distribution, app.version) and entry.version != as_kept(app.version, "version"):
        return "ahead", f"the database was written by {entry.version}"
    return "ready", ""


def _describe_run(run: Holder) -> str:
    named = f": {run}" if str(run) else ""
    return f"a run is going on{named}"


def _describe_step(step: OpenStep) -> str:
    statement = " ".join(step.statement.split())
    if not step.number:
        return f"a run ended before it came to this: {statement} (opal-db init goes on)"
    return f"a run ended in the middle, at: {statement:.80} (opal-db init goes on)"


def _absent(entry: Entry) -> SubAppStatus:
    tables = f"{len(entry.tables)} table{'' if len(entry.tables) == 1 else 's'}"
    detail = f"{entry.distribution or 'an unknown distribution'} {entry.version}".strip() + f", {tables}"
    return SubAppStatus(
        entry.name, entry.distribution, entry.version, entry.bind, "not installed here", detail, len(entry.tables)
    )


def _left_out(quarantined: tuple[Quarantined, ...]) -> Iterator[SubAppStatus]:
    for out in quarantined:
        distribution, version = (out.plugin.distribution, out.plugin.version) if out.plugin else ("", "")
        detail = "; ".join(problem.what for problem in out.problems)
        yield SubAppStatus(out.name, distribution, version, "", "quarantined", detail)
