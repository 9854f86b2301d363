"""What the verbs of migrations look at: the databases of a suite, and how far its histories have come in each."""

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from opal_registry.engines.errors.failures import explained, of_bind
from opal_registry.engines.url import describe_url
from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.migrations.history import History, load_readable
from opal_registry.plan import closure
from opal_registry.registry import Registry
from opal_registry.schema.looking import look_at
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey, is_missing_file, survey, survey_nothing


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached.

    Args:
        app: One sub-app; empty for all.
        revision: One revision of it, in any of Alembic's ways to say one; empty for its heads.
    """

    app: str = ""
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read ``APP`` or ``APP@REV``.

        Raises:
            ConfigError: If it is something else.

        Example:
            >>> Target.parse("standupbot@1a2b")
            Target(app='standupbot', revision='1a2b')
        """
        app, at, revision = text.partition("@")
        if not app or (at and not revision):
            mend = "write it as APP, or as APP@REVISION"
            raise ConfigError(Problem(f"{text!r} names no sub-app and no revision of one", mend=mend))
        return cls(app, revision)

    def __str__(self) -> str:
        return f"{self.app}@{self.revision}" if self.revision else self.app


EVERYTHING = Target()


@dataclass(frozen=True, slots=True)
class Home:
    """One database, and the sub-apps that live there.

    Args:
        bind: Which one.
        where: The same for people.
        apps: The sub-apps, in order.
        found: What it holds.
    """

    bind: str
    where: str
    apps: tuple[LoadedSubApp, ...]
    found: Survey


def look_at_homes(registry: Registry, only: Collection[str] | None = None) -> Iterator[Home]:
    """Look at every database that sub-apps live in; nothing is changed, not even a SQLite file created.

    Args:
        registry: The registry of the suite.
        only: The sub-apps that count, if not all.

    Raises:
        DatabaseError: If one is unreachable or refuses.
    """
    apps = [app for app in registry.suite.sub_apps if only is None or app.name in only]
    for bind in registry.settings.databases:
        here = tuple(app for app in apps if app.sub_app.bind == bind)
        if here:
            with of_bind(bind):
                found = look(registry, bind, here)
            yield Home(bind, describe_url(registry.migration_engine(bind).url), here, found)


def look(registry: Registry, bind: str, apps: Collection[LoadedSubApp]) -> Survey:
    """What one database holds of some sub-apps; their tables are not compared with the models."""
    engine = registry.migration_engine(bind)
    if is_missing_file(engine):
        return survey_nothing(list(apps), engine.dialect)
    wait, role = registry.settings.locks.wait, registry.settings.databases[bind].migration_role
    with (
        explained(engine.url, doing="looking at the tables"),
        look_at(engine, wait=wait, role=role) as connection,
    ):
        return survey(connection, list(apps), compare=False)


def find_app(registry: Registry, name: str) -> LoadedSubApp:
    """A sub-app by its name.

    Raises:
        ConfigError: If it is not installed here; with the nearest name.
        PluginError: If it is quarantined.
    """
    by_name = {app.name: app for app in registry.suite.sub_apps}
    if name in by_name:
        return by_name[name]
    if problems := [each for out in registry.suite.quarantined if out.name == name for each in out.problems]:
        raise PluginError(*problems)
    near = difflib.get_close_matches(name, by_name, 1)
    mend = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(by_name)}"
    raise ConfigError(Problem(f"no sub-app {name!r} is installed here", mend=mend))


def read_histories(registry: Registry, name: str = "") -> dict[str, History]:
    """The histories of the suite. A sub-app whose own cannot be read stops everybody, or is quarantined.

    Args:
        registry: The registry of the suite.
        name: The one sub-app that is asked for; it is stopped only by what it needs.

    Raises:
        PluginError: What is wrong with them, all at once, where ``sub_apps.on_error`` is ``raise``.
    """
    histories, faults = load_readable(registry.suite.sub_apps, registry.get_dialect)
    if faults and registry.settings.sub_apps.on_error == "quarantine":
        registry.leave_out(faults)
        return {app.name: histories[app.name] for app in registry.suite.sub_apps if app.name in histories}
    concerned = closure({app.name: app.needs for app in registry.suite.sub_apps}, name)
    if problems := [each for fault in faults if concerned.intersection(fault.names) for each in fault.error.problems]:
        raise PluginError(*problems)
    return histories


def find_history(registry: Registry, name: str) -> tuple[LoadedSubApp, dict[str, History]]:
    """A sub-app that has a history, and all histories that can be read.

    Raises:
        ConfigError: If it is not installed here, or has none.
        PluginError: If its history, or that of one that it needs, is at fault.
    """
    histories = read_histories(registry, name)
    app = find_app(registry, name)  # not before: it may just have been left out
    if name not in histories:
        mend = f'write migrations="{name}:migrations" into its SubApp, or choose from: {", ".join(histories) or "none"}'
        raise ConfigError(Problem(f"sub-app {name!r} has no migrations", str(app.plugin), mend))
    return app, histories
