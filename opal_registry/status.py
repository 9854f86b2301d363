"""How every sub-app stands: those installed here, those that only the ledger knows, those that were left out."""

from collections.abc import Iterator
from dataclasses import dataclass

from opal_registry.engines.url import describe_url
from opal_registry.registry import Registry
from opal_registry.schema.live import Difference
from opal_registry.store.ledger import Entry
from opal_registry.suite import LoadedSubApp, Quarantined
from opal_registry.survey import Survey, survey_engine


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
        differences: How existing tables differ.
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
    """

    databases: dict[str, str]
    sub_apps: tuple[SubAppStatus, ...]

    @property
    def exit_code(self) -> int:
        """1 if any sub-app needs attention, else 0."""
        return int(any(status.needs_attention for status in self.sub_apps))


def get_status(registry: Registry) -> StatusReport:
    """Look at every configured database; nothing is changed, not even a SQLite file created.

    Raises:
        PluginError: If a sub-app cannot be loaded.
        DatabaseError: If a database is unreachable or refuses.
    """
    suite = registry.suite
    databases, statuses = {}, []
    for bind in registry.settings.databases:
        engine = registry.engine(bind)
        apps = [app for app in suite.sub_apps if app.sub_app.bind == bind]
        found = survey_engine(engine, apps)
        databases[bind] = describe_url(engine.url)
        statuses += [_status(app, found) for app in apps]
        absent = found.entries.keys() - {app.name for app in suite.sub_apps} - {out.name for out in suite.quarantined}
        statuses += [_absent(found.entries[name]) for name in sorted(absent)]
    return StatusReport(databases, (*statuses, *_left_out(suite.quarantined)))


def _status(app: LoadedSubApp, found: Survey) -> SubAppStatus:
    missing = tuple(table.fullname for table in found.missing[app.name])
    differences = tuple(found.differences.get(app.name, ()))
    entry = found.entries.get(app.name)
    state, detail = "ready", ""
    if any(difference.harmful for difference in differences):
        state, detail = "differs", "; ".join(str(difference) for difference in differences if difference.harmful)
    elif missing:
        state, detail = "pending", f"{len(missing)} to create: {', '.join(missing)} (opal-db init)"
    elif entry is None:
        state, detail = "pending", "not recorded in the ledger (opal-db init)"
    elif entry.is_newer_than(app.distribution, app.version):
        state, detail = "ahead", f"the database was written by {entry.version}"
    return SubAppStatus(
        app.name, app.distribution, app.version, app.sub_app.bind, state, detail, len(app.tables), missing, differences
    )


def _absent(entry: Entry) -> SubAppStatus:
    detail = f"its tables came with {entry.distribution or 'an unknown distribution'} {entry.version}".strip()
    return SubAppStatus(
        entry.name, entry.distribution, entry.version, entry.bind, "not installed here", detail, len(entry.tables)
    )


def _left_out(quarantined: tuple[Quarantined, ...]) -> Iterator[SubAppStatus]:
    for out in quarantined:
        distribution, version = (out.plugin.distribution, out.plugin.version) if out.plugin else ("", "")
        detail = "; ".join(problem.what for problem in out.problems)
        yield SubAppStatus(out.name, distribution, version, "", "quarantined", detail)
