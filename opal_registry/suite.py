"""The suite as it is installed here: every sub-app with its tables, in the order in which they come to be.

    entry points -> requirements -> models -> owners -> conflicts and references -> order

Each station adds to the list of faults. In the end they are raised all at once, or the sub-apps concerned are
quarantined together with whoever needs them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from operator import attrgetter
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.schema import sort_tables_and_constraints

from opal_registry import plan
from opal_registry.discovery import Choice, Discovery, Fault, InstalledSubApp, Plugin, discover, import_models
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.ownership import conflicts, references
from opal_registry.ownership.owners import Ownership, assign_owners
from opal_registry.requirements import check_requirements
from opal_registry.sub_app import SubApp


@dataclass(frozen=True, slots=True)
class LoadedSubApp:
    """A sub-app whose models are imported.

    Args:
        sub_app: What its plugin declared.
        plugin: The plugin.
        tables: The tables it owns, each after those it refers to.
        needs: The sub-apps it needs, by ``requires`` or by foreign key; sorted.
        seconds: How long importing its models took.
    """

    sub_app: SubApp
    plugin: Plugin
    tables: tuple[sa.Table, ...]
    needs: tuple[str, ...]
    seconds: float

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
    unmet = check_requirements(found, choice)
    partial = choice.enabled != "all" or bool(choice.disabled)
    loading = _Loading(found, base, partial=partial, step=step)
    loading.sort()
    loading.import_models()
    if on_error == "raise" and loading.faults:
        raise _all_at_once([*loading.faults, *loading.explain_unmet(unmet)])
    while faults := loading.find_faults():
        if on_error == "raise":
            raise _all_at_once(faults)
        if not loading.reject(faults):
            break
    return loading.suite()


class _Loading:
    """One run of :func:`load_suite`: who is still in (``apps``), and what is held against the others (``faults``)."""

    def __init__(self, found: Discovery, base: type[sa_orm.DeclarativeBase], *, partial: bool, step: Step) -> None:
        self.found, self.base, self.partial, self.step = found, base, partial, step
        self.apps = {app.name: app for app in found.sub_apps}
        self.faults = list(found.faults)
        self.seconds: dict[str, float] = {}
        self.adopted: dict[sa.MetaData, str] = {}

    def reject(self, faults: Iterable[Fault]) -> bool:
        """Take out those the faults concern, and whoever requires them, with a fault of their own.

        Returns:
            Whether anybody was still in.
        """
        before = len(self.apps)
        for fault in faults:
            self.faults.append(fault)
            gone = {name for name in fault.names if self.apps.pop(name, None)}
            self.partial = self.partial or bool(gone)
            for app in list(self.apps.values()):
                if gone.intersection(app.needs):
                    need = min(gone.intersection(app.needs))
                    problem = Problem(f"{app} requires {need!r}, which is left out", str(app.plugin))
                    self.reject([Fault((app.name,), PluginError(problem), app.plugin, derived=True)])
        return len(self.apps) < before

    def sort(self) -> None:
        """Put the sub-apps in the order of their requirements, so that models are imported in it."""
        while True:
            try:
                names = plan.order({name: app.needs for name, app in self.apps.items()})
            except plan.CycleError as error:
                self.reject([Fault(error.path[1:], error)])
            else:
                self.apps = {name: self.apps[name] for name in names}
                return

    def import_models(self) -> None:
        for name in list(self.apps):
            if name in self.apps:
                self._import(self.apps[name])

    def explain_unmet(self, unmet: Sequence[InstalledSubApp]) -> list[Fault]:
        """The foreign keys of those whose requirements are absent: they say what exactly is missing."""
        apps = self.apps | {app.name: app for app in unmet}
        try:
            for app in unmet:
                import_models(app, step=self.step)
        except PluginError:
            return []
        owners = self._assign_owners(apps).owners
        return [fault for fault in references.find_dangling(owners, apps) if fault.names[0] not in self.apps]

    def suite(self) -> Suite:
        owners = self._assign_owners(self.apps).owners
        needs = self._needs(owners)
        loaded = (self._loaded(self.apps[name], owners, needs[name]) for name in plan.order(needs))
        return Suite(tuple(loaded), tuple(_quarantine(self.faults)), self.found)

    def _import(self, app: InstalledSubApp) -> None:
        started = time.perf_counter()
        try:
            import_models(app, step=self.step)
            with guarded("adopting foreign MetaData", where=str(app.plugin)):
                self.adopted |= dict.fromkeys(_iter_metadata(app.sub_app.metadata), app.name)
        except PluginError as error:
            self.reject([Fault((app.name,), self._in_our_words(error, app), app.plugin)])
        self.seconds[app.name] = time.perf_counter() - started

    def _in_our_words(self, error: PluginError, app: InstalledSubApp) -> PluginError:
        owners = self._assign_owners(self.apps).owners
        problem = conflicts.explain_redefinition(error.__cause__, owners, self.apps, app)
        return OwnershipError(problem) if problem else error

    def _assign_owners(self, apps: Mapping[str, InstalledSubApp]) -> Ownership:
        adopted = {metadata: name for metadata, name in self.adopted.items() if name in apps}
        return assign_owners(
            list(apps.values()),
            self.base.metadata,
            adopted=adopted,
            ignore_strangers=self.partial or apps is not self.apps,
        )

    def _needs(self, owners: Mapping[sa.Table, str]) -> dict[str, set[str]]:
        by_key = references.needs_by_foreign_key(owners)
        return {name: {*app.needs, *by_key.get(name, ())} for name, app in self.apps.items()}

    def find_faults(self) -> list[Fault]:
        """Hold the models of those that are still in against each other."""
        decided = self._assign_owners(self.apps)
        owners = decided.owners
        faults = [
            *decided.faults,
            *conflicts.find_conflicts(owners, self.apps),
            *references.find_dangling(owners, self.apps),
            *references.find_ambiguous_relationships(self.base, owners, self.apps),
        ]
        try:
            plan.order(self._needs(owners))
        except plan.CycleError as error:
            links = "; ".join(references.explain_need(self.apps[a], b, owners) for a, b in pairwise(error.path))
            problems = (replace(problem, where=links) for problem in error.problems)
            faults.append(Fault(error.path[1:], PluginError(*problems)))
        return faults

    def _loaded(self, app: InstalledSubApp, owners: Mapping[sa.Table, str], needs: set[str]) -> LoadedSubApp:
        tables = [table for table, owner in owners.items() if owner == app.name]
        return LoadedSubApp(app.sub_app, app.plugin, _in_order(tables), tuple(sorted(needs)), self.seconds[app.name])


def _all_at_once(faults: Sequence[Fault]) -> PluginError:
    """One error for all faults; those that only follow from others say nothing new."""
    first_hand = [fault.error for fault in faults if not fault.derived]
    kind = OwnershipError if all(isinstance(error, OwnershipError) for error in first_hand) else PluginError
    raised = kind(*dict.fromkeys(problem for error in first_hand for problem in error.problems))
    raised.__cause__ = first_hand[0]
    return raised


def _in_order(tables: Sequence[sa.Table]) -> tuple[sa.Table, ...]:
    """Each table after those it refers to; where tables refer to each other in a circle, by name."""
    by_name = sorted(tables, key=lambda table: table.key)
    return tuple(table for table, _ in sort_tables_and_constraints(by_name) if table is not None)  # type: ignore[no-untyped-call]


def _quarantine(faults: Sequence[Fault]) -> Iterable[Quarantined]:
    for name in dict.fromkeys(name for fault in faults for name in fault.names):
        own = [fault for fault in faults if name in fault.names]
        problems = tuple(dict.fromkeys(problem for fault in own for problem in fault.error.problems))
        yield Quarantined(name, next((fault.plugin for fault in own if fault.plugin), None), problems)


def _iter_metadata(locations: Iterable[str]) -> Iterable[sa.MetaData]:
    for location in locations:
        module, _, path = location.partition(":")
        value = attrgetter(path)(import_module(module))
        metadata = value if isinstance(value, sa.MetaData) else getattr(value, "metadata", None)
        if not isinstance(metadata, sa.MetaData):
            mend = "name a MetaData object or a declarative base"
            raise PluginError(Problem(f"{location} is an object of type {type(value).__name__}", mend=mend))
        yield metadata
