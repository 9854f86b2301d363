"""Judging one revision by all rules."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from opal_registry.migrations.lint.case import Case, Facts
from opal_registry.migrations.lint.finding import SMALL, Finding, Hit, Rule
from opal_registry.migrations.lint.recording import Recording, record
from opal_registry.migrations.lint.rules import RULES
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
        findings = [self._finding(rule, hit) for rule in self._rules() for hit in rule.find(case)]  # type: ignore[misc]
        judged = {rule.id for rule in self._rules()}
        if self.squawk and self.facts.dialect == "postgresql":
            findings += self.squawk.judge(recording)
            judged |= self.squawk.judged
        return self._with_waivers(revision, recording, findings, judged)

    def _rules(self) -> Iterator[Rule]:
        return (rule for rule in RULES if rule.find and self.facts.dialect in rule.why)

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

    def _with_waivers(
        self, revision: Revision, recording: Recording, findings: Iterable[Finding], judged: set[str]
    ) -> list[Finding]:
        waivers = read_waivers(revision.path.read_text("utf-8"))
        lost_at = recording.trouble_line if recording.trouble else None
        found = apply_waivers(_without_twins(findings), waivers, judged, lost_at=lost_at)
        return sorted(found, key=lambda each: (each.line, each.rule))


def _without_twins(findings: Iterable[Finding]) -> list[Finding]:
    """The same things once: a loop does one thing several times."""
    return list({replace(each, rewrite=""): each for each in reversed(list(findings))}.values())[::-1]
