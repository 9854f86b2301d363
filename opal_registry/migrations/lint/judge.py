"""Judging one revision by all rules."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from opal_registry.migrations.lint.case import Case, Facts
from opal_registry.migrations.lint.finding import SMALL, Finding, Hit, Rule
from opal_registry.migrations.lint.recording import record
from opal_registry.migrations.lint.rules import DECIDED, DIALECTS, RULES
from opal_registry.migrations.lint.squawk import Squawk
from opal_registry.migrations.lint.waivers import apply_waivers, read_waivers
from opal_registry.migrations.revision_file import Revision


@dataclass(slots=True)
class Judge:
    """Judges revisions one after the other, those of one history in its order.

    Args:
        dialect: Of the database that they are judged for.
        facts: What is known beside them.
        squawk: What squawk is, where it is installed.
        made: The tables that the revisions judged so far made, by sub-app.
    """

    dialect: sa.Dialect
    facts: Facts
    squawk: Squawk | None = None
    made: dict[str, set[str]] = field(default_factory=dict)

    def judge(self, revision: Revision) -> list[Finding]:
        """What there is to mind about a revision, by line; what is waived among it.

        Args:
            revision: The revision; its file is imported, and its ``upgrade`` run without a database.
        """
        recording = record(revision, self.dialect)
        made = self.made.setdefault(revision.app, set())
        case = Case(revision, recording, self.facts, frozenset(made))
        made.update(case.made)
        findings = [self._finding(rule, hit) for rule, hit in _apply(case)]
        if self.squawk and self.facts.dialect == "postgresql":
            findings += self.squawk.judge(recording)
        return self._with_waivers(case, _without_twins(findings))

    def _finding(self, rule: Rule, hit: Hit) -> Finding:
        rows = self._count(hit.tables)
        is_small = rule.by_size and rows is not None and rows < SMALL
        level = "note" if is_small else rule.level
        why = rule.why[self.facts.dialect]
        return Finding(rule.id, level, hit.line, hit.what, why, hit.rewrite, hit.tables, rows)

    def _count(self, tables: Sequence[str]) -> int | None:
        """How many rows the biggest of some tables has; None if that is not known of all of them."""
        rows = [self.facts.rows.get(table) for table in tables]
        return max((each for each in rows if each is not None), default=None) if None not in rows else None

    def _with_waivers(self, case: Case, findings: Sequence[Finding]) -> list[Finding]:
        waivers = read_waivers(case.revision.path.read_text("utf-8"))
        cases = [case, *_judge_elsewhere(case)] if waivers else [case]
        needed = [(rule.id, hit.line) for each in cases for rule, hit in _apply(each)]
        lost = [each.recording.trouble_line for each in cases if each.recording.trouble]
        judged = DECIDED | (self.squawk.judged if self.squawk else set())
        found = apply_waivers(findings, waivers, needed, judged, lost_at=min(lost, default=None))
        return sorted(found, key=lambda each: (each.line, each.rule))


def _apply(case: Case) -> Iterator[tuple[Rule, Hit]]:
    for rule in RULES:
        if rule.find and case.facts.dialect in rule.why:
            yield from ((rule, hit) for hit in rule.find(case))


def _judge_elsewhere(case: Case) -> Iterator[Case]:
    """The same revision for all databases, where nothing is known about them: a waiver may be needed for another one."""
    for name in DIALECTS:
        recording = record(case.revision, sa.make_url(f"{name}://").get_dialect()())
        yield Case(case.revision, recording, Facts(name), case.own)


def _without_twins(findings: Iterable[Finding]) -> list[Finding]:
    """The same things once: a loop does one thing several times."""
    return list({replace(each, rewrite=""): each for each in reversed(list(findings))}.values())[::-1]
