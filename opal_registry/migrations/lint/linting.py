"""The verb: judge the revisions that are still to be run, or all of them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained
from opal_registry.errors import ConfigError, DatabaseError, Problem
from opal_registry.migrations.history import History, load_readable
from opal_registry.migrations.lint.case import Facts
from opal_registry.migrations.lint.finding import Finding
from opal_registry.migrations.lint.judge import Judge
from opal_registry.migrations.lint.known import family, find_owners, find_uses, read_not_null, read_sizes
from opal_registry.migrations.lint.rules import DIALECTS
from opal_registry.migrations.lint.squawk import Squawk, find_squawk
from opal_registry.migrations.look import find_history, look, read_histories
from opal_registry.migrations.progress import find_applied
from opal_registry.migrations.revision_file import Revision
from opal_registry.registry import Registry
from opal_registry.schema.looking import look_at
from opal_registry.store.revisions import NOWHERE
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey


@dataclass(frozen=True, slots=True)
class Judged:
    """One revision, and what there is to mind about it.

    Args:
        revision: The revision.
        dialect: The family of the database that it was judged for.
        findings: By line; what is waived among them.
    """

    revision: Revision
    dialect: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class LintReport:
    """What there is to mind about the revisions of a suite.

    Args:
        judged: The revisions, in the order of the sub-apps and their histories.
        remarks: What could not be taken into account, and why.
        squawk: Which release of squawk took part; empty for none.
    """

    judged: tuple[Judged, ...]
    remarks: tuple[str, ...]
    squawk: str

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each level, and how many are waived."""
        found = [finding for each in self.judged for finding in each.findings]
        levels = {level: sum(each.level == level and not each.waived for each in found) for level in LEVELS}
        return levels | {"waived": sum(bool(each.waived) for each in found)}

    @property
    def exit_code(self) -> int:
        """1 if there are errors or warnings that are not waived."""
        return int(bool(self.counts["error"] or self.counts["warning"]))


LEVELS = ("error", "warning", "note")


def lint(
    registry: Registry,
    apps: Collection[str] = (),
    *,
    dialect: str = "",
    everything: bool = False,
    with_squawk: bool = True,
) -> LintReport:
    """Judge the revisions that the configured databases lack; without a database, all.

    Nothing is changed, and no statement of a revision is executed.

    Args:
        registry: The registry of the suite.
        apps: The sub-apps whose revisions are judged; all if none is named.
        dialect: ``postgresql`` or ``mysql``, whatever the configured databases are.
        everything: Whether revisions are judged that are applied already.
        with_squawk: Whether squawk takes part, where it is installed.

    Raises:
        ConfigError: If there is no such sub-app or dialect, or it has no history.
        PluginError: If a sub-app or a history is at fault.
    """
    if dialect and dialect not in DIALECTS:
        raise ConfigError(Problem(f"--dialect cannot be {dialect!r}", mend=f"choose one of {', '.join(DIALECTS)}"))
    for name in apps:
        find_history(registry, name)
    if not apps:
        read_histories(registry)
    work = _Lint(registry, dialect, everything, find_squawk() if with_squawk else None)
    left_out = [(out.name, each.what) for out in registry.suite.quarantined for each in out.problems]
    work.remarks += [f"{name}: not judged, because it is quarantined: {what}" for name, what in left_out]
    judged = [each for bind in registry.settings.databases for each in work.judge(bind, apps)]
    order = [app.name for app in registry.suite.sub_apps]
    judged.sort(key=lambda each: order.index(each.revision.app))
    squawk = work.squawk
    if squawk and squawk.trouble:
        work.remarks.append(squawk.trouble)
    return LintReport(tuple(judged), tuple(dict.fromkeys(work.remarks)), squawk.version if squawk else "")


class _Lint:
    def __init__(self, registry: Registry, dialect: str, everything: bool, squawk: Squawk | None) -> None:  # noqa: FBT001
        self.registry, self.dialect, self.everything, self.squawk = registry, dialect, everything, squawk
        self.remarks: list[str] = []

    def judge(self, bind: str, names: Collection[str]) -> Iterator[Judged]:
        """Judge the revisions of the sub-apps that live in one database."""
        apps = [app for app in self.registry.suite.sub_apps if app.sub_app.bind == bind]
        readable, _ = load_readable(apps)
        histories = {name: history for name, history in readable.items() if not names or name in names}
        if not histories:
            return
        found = self._look(bind, apps)
        judge = Judge(self._choose_dialect(bind), self._find_facts(bind, found), self.squawk)
        for history in histories.values():
            for revision in self._choose(history, found):
                yield Judged(revision, judge.facts.dialect, tuple(judge.judge(revision)))

    def _look(self, bind: str, apps: Sequence[LoadedSubApp]) -> Survey | None:
        try:
            return look(self.registry, bind, apps)
        except DatabaseError as error:
            self.remarks.append(f"{bind}: all revisions are judged, without sizes and ledger: {error.problems[0].what}")
            return None

    def _choose(self, history: History, found: Survey | None) -> list[Revision]:
        standing = found.standings.get(history.app, NOWHERE) if found else NOWHERE
        applied = set[str]() if self.everything else find_applied(history, standing)
        return [each for id_, each in history.revisions.items() if id_ not in applied]

    def _choose_dialect(self, bind: str) -> sa.Dialect:
        own = self.registry.migration_engine(bind).dialect
        if self.dialect and self.dialect != family(own.name):
            return sa.make_url(f"{self.dialect}://").get_dialect()()
        if family(own.name) not in DIALECTS:
            what = f"{bind}: on {own.name} only the rules about contracts count; --dialect judges for another database"
            self.remarks.append(what)
        return own

    def _find_facts(self, bind: str, found: Survey | None) -> Facts:
        suite, entries = self.registry.suite, found.entries if found else {}
        own = family(self.registry.migration_engine(bind).dialect.name)
        facts = Facts(
            self.dialect or own,
            find_owners(suite, entries),
            find_uses(suite, self.registry.base, entries.values()),
        )
        if not found or own != facts.dialect or own not in DIALECTS:
            return facts  # what a laptop's SQLite holds says nothing about another database
        try:
            return self._with_sizes(bind, facts)
        except DatabaseError as error:
            self.remarks.append(f"{bind}: sizes are not known: {error.problems[0].what}")
            return facts

    def _with_sizes(self, bind: str, facts: Facts) -> Facts:
        engine = self.registry.migration_engine(bind)
        role = self.registry.settings.databases[bind].migration_role
        wait = self.registry.settings.locks.wait
        with (
            explained(engine.url, doing="reading the sizes of tables"),
            look_at(engine, wait=wait, role=role) as connection,
        ):
            return replace(facts, rows=read_sizes(connection), not_null=read_not_null(connection))
