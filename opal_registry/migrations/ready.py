"""Whether the code of this image can work with a database as it is now; for probes: one query for each database."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.engines.errors.failures import explained, find_code, of_bind
from opal_registry.migrations.history import History, load_readable
from opal_registry.plan import closure
from opal_registry.registry import Registry
from opal_registry.schema.looking import look_at
from opal_registry.store.events import read_renames
from opal_registry.store.journal import Journal, Unfinished
from opal_registry.store.tables import COMPLETE, revisions, steps, sub_apps
from opal_registry.survey import is_missing_file

Verdict = Literal["ready", "ahead", "behind", "diverged"]
ORDER: tuple[Verdict, ...] = ("ready", "ahead", "behind", "diverged")
"""From the best to the worst."""

NO_SUCH_TABLE = {"42P01", "1146", "SQLITE_ERROR"}

NO_STEP = (sa.null(), sa.null(), sa.null(), sa.null(), sa.null())
QUERY = sa.union_all(  # the steps first: PostgreSQL learns from them of which kinds the columns are
    sa.select(
        steps.c.sub_app,
        steps.c.revision,
        steps.c.command,
        steps.c.checksum,
        steps.c.number,
        steps.c.statement,
        steps.c.digest,
        steps.c.table_name,
    ),
    sa.select(sub_apps.c.name, sa.null(), sa.null(), *NO_STEP),
    sa.select(revisions.c.sub_app, revisions.c.revision, revisions.c.phase, *NO_STEP),
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether one sub-app of this image can work.

    Args:
        app: The sub-app.
        bind: The database that it lives in.
        verdict: ``ready``, ``ahead`` (the database has revisions that this image lacks), ``behind`` or ``diverged``.
        is_ready: Whether its code can work: also where the database is only ahead by what earlier code can work with.
        detail: What is behind the verdict, for people.
    """

    app: str
    bind: str
    verdict: Verdict
    is_ready: bool
    detail: str = ""


def find_verdict(found: Sequence[Readiness]) -> Verdict:
    """The worst verdict of several; ``ready`` if there is none.

    Example:
        >>> find_verdict([Readiness("a", "default", "ahead", True), Readiness("b", "default", "ready", True)])
        'ahead'
    """
    return max((each.verdict for each in found), key=ORDER.index, default="ready")


def get_readiness(registry: Registry) -> list[Readiness]:
    """Ask every database whether the sub-apps of this image can work; imports no models, changes nothing.

    Raises:
        PluginError: If a plugin or a history is at fault.
        DatabaseError: If a database is unreachable or refuses.
    """
    apps = registry.discovery.sub_apps
    histories, faults = load_readable(apps, registry.get_dialect)
    broken, on_error = _find_broken(apps, faults), registry.settings.sub_apps.on_error
    found: list[Readiness] = []
    for bind in registry.settings.databases:
        here = [app for app in apps if app.sub_app.bind == bind]
        if here:
            with of_bind(bind):
                there, unfinished = _ask(registry, bind, {app.name for app in here})
            judged = _judge_all([app for app in here if app.name not in broken], histories, there)
            found += (_with_unfinished(each, unfinished.get(each.app, ())) for each in judged)
            found += [_left_out(app, broken[app.name], on_error) for app in here if app.name in broken]
    return found


def _find_broken(apps: Sequence[InstalledSubApp], faults: Sequence[Fault]) -> dict[str, str]:
    """Why the histories of some sub-apps cannot be read, their own or one that they need."""
    said = {fault.names[0]: "; ".join(problem.what for problem in fault.error.problems) for fault in faults}
    needs = {app.name: app.needs for app in apps}
    found = {name: sorted(closure(needs, name) & said.keys()) for name in needs}
    return {name: f"the history of {out[0]} is at fault: {said[out[0]]}" for name, out in found.items() if out}


def _left_out(app: InstalledSubApp, why: str, on_error: str) -> Readiness:
    """What is said of one of them; where it is quarantined it stops nobody."""
    return Readiness(app.name, app.sub_app.bind, "behind", is_ready=on_error == "quarantine", detail=why)


def _with_unfinished(found: Readiness, unfinished: Sequence[Unfinished]) -> Readiness:
    """The same, if none of its revisions was begun and not finished."""
    if not unfinished:
        return found
    verdict: Verdict = "diverged" if found.verdict == "diverged" else "behind"
    detail = "; ".join(filter(None, (*(f"{each} ({each.describe_ways()})" for each in unfinished), found.detail)))
    return replace(found, verdict=verdict, is_ready=False, detail=detail)


def _ask(
    registry: Registry, bind: str, names: Set[str]
) -> tuple[dict[str, dict[str, str | None]], dict[str, list[Unfinished]]]:
    """The sub-apps that a database knows, each with its applied revisions and their phases; and those begun.

    A sub-app that the database knows by a later name is found by its own as well.
    """
    engine = registry.engine(bind)
    found: dict[str, dict[str, str | None]] = {}
    journal = Journal()
    if is_missing_file(engine):
        return found, journal.unfinished
    with (
        explained(engine.url, doing="asking which revisions are applied"),
        look_at(engine, wait=registry.settings.locks.wait) as connection,
    ):
        try:
            for row in connection.execute(QUERY):
                _take_in(row, found, journal)
            if found.keys() and names - found.keys():
                renames = read_renames(connection, COMPLETE)
                found |= {old: found[renames[old]] for old in names - found.keys() if renames.get(old) in found}
        except sa.exc.DBAPIError as error:
            if find_code(error.orig) not in NO_SUCH_TABLE:
                raise
    return found, journal.unfinished


def _take_in(row: Any, found: dict[str, dict[str, str | None]], journal: Journal) -> None:
    if row.number is not None:
        journal.add(row)
        return
    known = found.setdefault(row.sub_app, {})
    if row.revision is not None:
        known[row.revision] = row.command  # the column of the steps that phases share


def _judge_all(
    apps: Sequence[InstalledSubApp], histories: Mapping[str, History], found: Mapping[str, Mapping[str, str | None]]
) -> Iterator[Readiness]:
    for app in apps:
        there = found.get(app.name)
        if there is None:
            yield Readiness(app.name, app.sub_app.bind, "behind", is_ready=False, detail="not brought up yet")
        else:
            yield _judge(app, histories.get(app.name), there)


def _judge(app: InstalledSubApp, history: History | None, there: Mapping[str, str | None]) -> Readiness:
    known = history.revisions if history else {}
    lacking = [each for each in known if each not in there]
    waiting = [each for each in lacking if known[each].can_wait]
    pending = [each for each in lacking if each not in waiting]
    beyond = sorted(there.keys() - known.keys()) if history else []
    taken = [each for each in beyond if there[each] != "expand"]
    verdict: Verdict = ("diverged" if beyond else "behind") if pending else ("ahead" if beyond else "ready")
    parts = [
        f"pending: {', '.join(pending)}" if pending else "",
        f"for the phase contract: {', '.join(waiting)}" if waiting else "",
        f"beyond this image: {', '.join(beyond)}" if beyond else "",
        f"of these, earlier code cannot work with {', '.join(taken)}" if taken else "",
    ]
    detail = "; ".join(filter(None, parts))
    return Readiness(app.name, app.sub_app.bind, verdict, is_ready=not (pending or taken), detail=detail)
