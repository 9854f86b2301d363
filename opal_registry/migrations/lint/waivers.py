"""Waivers: a comment in a revision's file that says why something is all right there.

    op.create_index(...)  # opal: allow opal.M101 because the table is written to at night only

It counts for the statement that it stands on, or right above.
"""

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from opal_registry.migrations.lint.finding import Finding
from opal_registry.migrations.lint.rules import BY_ID

COMMENT = re.compile(r"#\s*opal:\s*allow\b\s*(?P<id>[\w.-]*)(?:\s+because\b)?(?P<reason>.*)")
WORD = re.compile(r"\w")
FOREIGN = re.compile(r"squawk\.[a-z0-9-]+\Z")


@dataclass(frozen=True, slots=True)
class Waiver:
    """One waiver.

    Args:
        rule: What it allows.
        reason: Why; empty if it does not say.
        line: Where it stands.
        statement: The lines of the statement that it counts for.
    """

    rule: str
    reason: str
    line: int
    statement: range

    @property
    def is_known(self) -> bool:
        """Whether there is such a rule; squawk's are not known here."""
        return self.rule in BY_ID or bool(FOREIGN.match(self.rule))


def read_waivers(text: str) -> list[Waiver]:
    r"""The waivers in a revision's file.

    Example:
        >>> (waiver,) = read_waivers("# opal: allow opal.M101 because it is tiny\nx = f(\n)\n")
        >>> waiver.rule, waiver.reason, waiver.statement
        ('opal.M101', 'it is tiny', range(2, 4))
    """
    statements = _read_statements(text)
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (match := COMMENT.match(token.string)):
            reason = match["reason"].strip() if WORD.search(match["reason"]) else ""
            line = token.start[0]
            found.append(Waiver(match["id"], reason, line, _find_statement(statements, text.splitlines(), line)))
    return found


def _read_statements(text: str) -> list[range]:
    """The lines of each statement; of one that holds others only those of its head, without the comments below it."""
    lines, found = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            while body and end > node.lineno + 1 and _is_comment(lines[end - 2]):
                end -= 1
            found.append(range(node.lineno, max(end, node.lineno + 1)))
    return sorted(found, key=len)


def _is_comment(line: str) -> bool:
    return not line.strip() or line.strip().startswith("#")


def _find_statement(statements: Sequence[range], lines: Sequence[str], line: int) -> range:
    """The smallest statement on a line, or else the one that begins below it."""
    while line <= len(lines):
        if found := next((each for each in statements if line in each), None):
            return found
        if not _is_comment(lines[line - 1]):
            break
        line += 1
    return range(0)


def apply_waivers(
    findings: Sequence[Finding],
    waivers: Sequence[Waiver],
    needed: Collection[tuple[str, int]],
    judged: Collection[str],
    *,
    lost_at: int | None,
) -> Iterator[Finding]:
    """Mark what is waived, and mind waivers that are at fault themselves.

    Args:
        findings: What the rules mind.
        waivers: Those of the file.
        needed: What is minded on any database: the rules, with the lines.
        judged: The rules whose waivers may be found to waive nothing.
        lost_at: From which line on nothing was judged, if the revision could not be followed to its end.
    """
    minded = {*needed, *((finding.rule, finding.line) for finding in findings)}
    used = {each for each in waivers if any((each.rule, line) in minded for line in each.statement)}
    for finding in findings:
        fitting = [each for each in waivers if each.rule == finding.rule and finding.line in each.statement]
        reason = next((each.reason for each in fitting if each.reason), "")
        yield replace(finding, waived=reason)
    for waiver in waivers:
        if fault := _find_fault(waiver, judged, is_used=waiver in used, lost_at=lost_at):
            rule = BY_ID[fault]
            what = f"{rule.title}: {waiver.rule or 'which?'}"
            yield Finding(fault, rule.level, waiver.line, what, rule.why["sqlite"], _mend(waiver, fault))


def _find_fault(waiver: Waiver, judged: Collection[str], *, is_used: bool, lost_at: int | None) -> str:
    if not waiver.is_known:
        return "opal.M402"
    if not waiver.reason:
        return "opal.M401"
    is_judged = waiver.rule in judged and (lost_at is None or waiver.line < lost_at)
    return "opal.M403" if is_judged and not is_used else ""


def _mend(waiver: Waiver, fault: str) -> str:
    if fault == "opal.M403":
        return "# take it out"
    return f"# opal: allow {waiver.rule if waiver.is_known else 'opal.M101'} because ..."
