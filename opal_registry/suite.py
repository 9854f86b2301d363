"""The suite as it is installed here: every sub-app with its tables, in the order in which they come to be.

    entry points -> requirements -> models -> owners -> conflicts and references -> order

Each station adds to the list of faults. In the end they are raised all at once, or the sub-apps concerned are
quarantined together with whoever needs them.
"""

import contextlib
import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.orm.interfaces import EXT_SKIP

from opal_registry import plan
from opal_registry.discovery import Choice, Discovery, Fault, InstalledSubApp, Plugin, discover, import_models
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.guard import Step, quiet_step
from opal_registry.ownership import adoption, conflicts, references, relationships
from opal_registry.ownership.definitions import get_mappers
from opal_registry.ownership.owners import Declared, Ownership, assign_owners
from opal_registry.ownership.spares import Spare, assign_spares, get_objects
from opal_registry.requirements import check_requirements, left_out
from opal_registry.sub_app import SubApp

NOBODY = "nobody"
"""What a table without an owner is held against."""


@dataclass(frozen=True, slots=True)
class LoadedSubApp:
    """A sub-app whose models are imported.

    Args:
        sub_app: What its plugin declared.
        plugin: The plugin.
        tables: The tables and views it owns, on whichever ``MetaData``, each after those it refers to.
        needs: The sub-apps it needs, by ``requires``, by foreign key or by view; sorted.
        seconds: How long importing its models took.
        late_keys: The foreign keys that can only be added when all of its tables are there: those that say
            ``use_alter``, and those between tables that refer to each other in a circle; sorted.
        twins: Tables that are one of ``tables`` defined again on another ``MetaData``, each with that one.
        spares: Sequences and enum types on its ``MetaData`` that no table uses; sorted by name.
    """

    sub_app: SubApp
    plugin: Plugin
    tables: tuple[sa.Table, ...]
    needs: tuple[str, ...]
    seconds: float
    late_keys: tuple[sa.ForeignKeyConstraint, ...] = ()
    twins: Mapping[sa.Table, sa.Table] = field(default_factory=dict, compare=False)
    spares: tuple[Spare, ...] = ()

    @property
    def name(self) -> str:
        """The sub-app's name."""
        return self.sub_app.name

    @property
    def distribution(self) -> str:
        """The distribution that brought it; empty if none is known."""
        return self.plugin.distribution

    @property
    def version(self) -> str:
        """The version of that distribution."""
        return self.plugin.version

    @property
    def is_created_here(self) -> bool:
        """Whether its tables are created from its models, and not by its migrations or by somebody else."""
        return self.sub_app.create == "models"

    def owns(self, table: sa.Table) -> bool:
        """Whether a table is one of its own, or another definition of one."""
        return table in self.tables or table in self.twins


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A sub-app (or a plugin, where its sub-apps are not known) that was left out, and why."""

    name: str
    plugin: Plugin | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """All sub-apps that take part, in order, and those that were left out."""

    sub_apps: tuple[LoadedSubApp, ...]
    quarantined: tuple[Quarantined, ...]
    discovery: Discovery

    def get(self, name: str) -> LoadedSubApp:
        """The sub-app of that name.

        Raises:
            KeyError: If it does not take part.
        """
        return {app.name: app for app in self.sub_apps}[name]

    def without(self, faults: Sequence[Fault]) -> "Suite":
        """The same suite, where those that some faults concern are left out, and all that need them."""
        problems = {name: fault.error.problems for fault in faults for name in fault.names}
        for app in self.sub_apps:  # each after those it needs
            if (gone := [need for need in app.needs if need in problems]) and app.name not in problems:
                what = f"sub-app {app.name!r} needs {', '.join(map(repr, gone))}, which is left out"
                mend = f"mend {gone[0]!r}, whose own fault is reported as well"
                problems[app.name] = (Problem(what, str(app.plugin), mend),)
        out = (Quarantined(app.name, app.plugin, problems[app.name]) for app in self.sub_apps if app.name in problems)
        kept = tuple(app for app in self.sub_apps if app.name not in problems)
        return replace(self, sub_apps=kept, quarantined=(*self.quarantined, *out))


def load_suite(
    choice: Choice,
    base: type[sa_orm.DeclarativeBase],
    *,
    on_error: Literal["raise", "quarantine"] = "raise",
    step: Step = quiet_step,
) -> Suite:
    """Discover the sub-apps, import their models, decide who owns what, and put them in order.

    Args:
        choice: Which sub-apps to load.
        base: The shared declarative base.
        on_error: Whether a fault stops everybody or takes out only those concerned.
        step: Told of each import before it happens.

    Raises:
        ConfigError: If the choice names a sub-app that is not there.
        PluginError: What is wrong, all at once, where ``on_error`` is ``raise``.
    """
    found = discover(choice, step=step)
    homeless = check_requirements(found, choice)
    partial = choice.enabled != "all" or bool(choice.disabled)
    loading = _Loading(found, base, partial=partial, step=step)
    loading.sort()
    with _without_collecting():
        loading.import_models()
    faults = loading.find_faults()
    if on_error == "raise" and (loading.faults or faults):
        raise _all_at_once([*loading.faults, *loading.explain_homeless(homeless), *faults])
    while loading.reject(faults):
        faults = loading.find_faults()
    loading.set_aside()
    return loading.suite()


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Collect no garbage meanwhile: mapped classes stay, and looking through them again and again takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Loading:
    """One run of :func:`load_suite`: who is still in (``apps``), who is out (``rejected``), and why (``faults``)."""

    def __init__(self, found: Discovery, base: type[sa_orm.DeclarativeBase], *, partial: bool, step: Step) -> None:
        self.found, self.base, self.partial, self.step = found, base, partial or bool(found.faults), step
        self.apps = {app.name: app for app in found.sub_apps}
        self.rejected: dict[str, InstalledSubApp] = {}
        self.faults = list(found.faults)
        self.seconds: dict[str, float] = {}
        self.adopted: list[adoption.Adopted] = []
        self.brought: dict[Spare, str] = {}
        self.decided, self.spares = Ownership({}, {}, ()), dict[Spare, str]()

    @property
    def everybody(self) -> dict[str, InstalledSubApp]:
        return self.apps | self.rejected

    def reject(self, faults: Iterable[Fault]) -> bool:
        """Take out those the faults concern, and whoever requires them, with a fault of their own.

        Returns:
            Whether anybody was still in.
        """
        before = len(self.apps)
        for fault in faults:
            self.faults.append(fault)
            gone = [name for name in fault.names if name in self.apps]
            self.rejected |= {name: self.apps.pop(name) for name in gone}
            self.partial = self.partial or bool(gone)
            for app in list(self.apps.values()):
                self.reject(left_out(app, need) for need in app.sub_app.requirements if need.name in gone)
        return len(self.apps) < before

    def sort(self) -> None:
        """Put the sub-apps in the order of their requirements, ``core`` first, so that models are imported in it."""
        while True:
            try:
                names = plan.order({name: app.needs for name, app in self.apps.items()})
            except plan.CycleError as error:
                self.reject([self._circle(error, {})])
            else:
                self.apps = {name: self.apps[name] for name in sorted(names, key=lambda name: name != "core")}
                return

    def import_models(self) -> None:
        for name in list(self.apps):
            if name in self.apps:
                self._import(self.apps[name])

    def find_faults(self) -> list[Fault]:
        """Hold the models of those that are still in against each other."""
        self.decided = decided = self._assign_owners(self.apps, ignore_strangers=self.partial)
        owners, self.spares = decided.owners, self._assign_spares()
        everybodys = self._assign_owners(self.everybody).owners if self.rejected else {}
        faults = [
            *adoption.find_unfit(self.adopted, self.apps, self.base.metadata),
            *decided.faults,
            *conflicts.find_conflicts(owners, self.apps, twins=decided.twins, spares=self.spares),
            *references.find_dangling(owners, self.apps, everybodys),
            *relationships.find_unclear_relationships(self.base, owners, self.apps),
        ]
        try:
            plan.order(self._needs(owners))
        except plan.CycleError as error:
            faults.append(self._circle(error, owners))
        return faults

    def explain_homeless(self, homeless: Sequence[InstalledSubApp]) -> list[Fault]:
        """The foreign keys of those whose requirements are not here: they say what exactly is missing."""
        apps = dict(self.apps)
        for app in homeless:
            with contextlib.suppress(PluginError):
                import_models(app, step=self.step)
                apps[app.name] = app
        owners = self._assign_owners(apps).owners
        return [fault for fault in references.find_dangling(owners, apps, {}) if fault.names[0] not in self.apps]

    def set_aside(self) -> None:
        """Keep SQLAlchemy from configuring the mappers of those that are out.

        A relationship of theirs to a class that was never defined would make the first query of everybody fail.
        """
        declared = Declared(self.everybody.values())
        for mapper in get_mappers(self.base):
            who = declared.who([mapper.class_.__module__])
            if who and not self.apps.keys() & who:
                sa.event.listen(mapper.class_, "before_mapper_configured", _skip, retval=True)

    def suite(self) -> Suite:
        """What is left, as the last look found it."""
        needs = self._needs(self.decided.owners)
        loaded = (self._loaded(self.apps[name], needs[name]) for name in plan.order(needs))
        return Suite(tuple(loaded), tuple(self._quarantined()), self.found)

    def _import(self, app: InstalledSubApp) -> None:
        started = time.perf_counter()
        try:
            import_models(app, step=self.step)
            self.adopted.extend(adoption.load_adopted(app, step=self.step))
        except PluginError as error:
            owners = self._assign_owners(self.everybody).owners
            fault = conflicts.explain_redefinition(error.__cause__, owners, self.everybody, app, failed=self.rejected)
            self.reject([fault or Fault((app.name,), error, app.plugin)])
        for item in get_objects(self.base.metadata):
            self.brought.setdefault(item, app.name)
        self.seconds[app.name] = time.perf_counter() - started

    def _assign_owners(self, apps: Mapping[str, InstalledSubApp], *, ignore_strangers: bool = True) -> Ownership:
        return assign_owners(
            list(apps.values()),
            self.base.metadata,
            adopters=self._adopters(apps),
            left_out=[app for name, app in self.everybody.items() if name not in apps],
            ignore_strangers=ignore_strangers,
        )

    def _assign_spares(self) -> dict[Spare, str]:
        return assign_spares(Declared(self.apps.values()), self.base.metadata, self._adopters(self.apps), self.brought)

    def _adopters(self, apps: Iterable[str]) -> dict[sa.MetaData, str]:
        """Who adopts what; those that take part come before those that do not."""
        first = sorted(self.adopted, key=lambda item: item.app.name not in apps)
        return adoption.find_adopters(first, self.base.metadata)

    def _needs(self, owners: Mapping[sa.Table, str]) -> dict[str, set[str]]:
        by_table = references.find_needs(owners)
        return {name: {*app.needs, *by_table.get(name, ())} for name, app in self.apps.items()}

    def _circle(self, error: plan.CycleError, owners: Mapping[sa.Table, str]) -> Fault:
        links = "; ".join(references.explain_need(self.apps[a], b, owners) for a, b in pairwise(error.path))
        return Fault(error.path[1:], PluginError(*(replace(problem, where=links) for problem in error.problems)))

    def _loaded(self, app: InstalledSubApp, needs: set[str]) -> LoadedSubApp:
        own = [table for table, owner in self.decided.owners.items() if owner == app.name]
        twins = {table: self.decided.twins[table] for table in own if table in self.decided.twins}
        tables, late = plan.order_tables([table for table in own if table not in twins], twins)
        return LoadedSubApp(
            app.sub_app,
            app.plugin,
            tables,
            tuple(sorted(needs)),
            self.seconds[app.name],
            late_keys=late,
            twins=twins,
            spares=tuple(item for item, owner in self.spares.items() if owner == app.name),
        )

    def _quarantined(self) -> Iterator[Quarantined]:
        """Everybody who is out, with all that is held against them; a table of nobody is held against nobody."""
        problems: dict[str, dict[Problem, None]] = {}
        for fault in self.faults:
            for name in fault.names or (NOBODY,):
                problems.setdefault(name, {}).update(dict.fromkeys(fault.error.problems))
        plugins = {name: fault.plugin for fault in self.faults for name in fault.names if fault.plugin}
        plugins |= {name: app.plugin for name, app in self.rejected.items()}
        return (Quarantined(name, plugins.get(name), tuple(found)) for name, found in problems.items())


def _skip(_mapper: object, _cls: object) -> object:
    return EXT_SKIP


def _all_at_once(faults: Sequence[Fault]) -> PluginError:
    """One error for all faults; those that only follow from others say nothing new."""
    first_hand = [fault.error for fault in faults if not fault.derived]
    kind = OwnershipError if all(isinstance(error, OwnershipError) for error in first_hand) else PluginError
    raised = kind(*dict.fromkeys(problem for error in first_hand for problem in error.problems))
    causes = [error.__cause__ for error in first_hand if error.__cause__ is not None]
    if causes:
        raised.__cause__ = BaseExceptionGroup("in the plugins", causes) if causes[1:] else causes[0]
    return raised


def _in_order(tables: Sequence[sa.Table]) -> tuple[sa.Table, ...]:
    return plan.order_tables(tables)[0]
