"""Squawk, a linter for the SQL of PostgreSQL migrations, where it is installed (``squawk-cli`` on PyPI)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opal_registry.migrations.lint.finding import Finding
from opal_registry.migrations.lint.recording import Recording

COVERED = {
    "adding-field-with-default": "opal.M110",
    "adding-foreign-key-constraint": "opal.M105",
    "adding-not-nullable-field": "opal.M108",
    "adding-required-field": "opal.M112",
    "adding-serial-primary-key-field": "opal.M104",
    "ban-concurrent-index-creation-in-transaction": "opal.M103",
    "ban-drop-column": "opal.M006",
    "ban-drop-table": "opal.M006",
    "ban-uncommitted-transaction": "each revision is run in a transaction",
    "changing-column-type": "opal.M109",
    "constraint-missing-not-valid": "opal.M105 and opal.M106",
    "disallowed-unique-constraint": "opal.M104",
    "prefer-bigint-over-int": "the models say which type, for all databases",
    "prefer-bigint-over-smallint": "the models say which type, for all databases",
    "prefer-identity": "the models say which type, for all databases",
    "prefer-robust-stmts": "what is applied is recorded, and not run again",
    "prefer-text-field": "the models say which type, for all databases",
    "renaming-column": "opal.M008",
    "renaming-table": "opal.M008",
    "require-concurrent-index-creation": "opal.M101",
    "require-concurrent-index-deletion": "opal.M102",
    "require-lock-timeout": "locks.ddl_lock_timeout is set for every revision",
    "require-statement-timeout": "locks.ddl_lock_timeout is set for every revision",
    "transaction-nesting": "autocommit blocks are no nested transactions",
}
"""Rules of squawk that are left out, and what there is instead."""

TIMEOUT = 60
"""So many seconds it has for one revision."""


@dataclass(slots=True)
class Squawk:
    """The program.

    Args:
        path: Where it is.
        version: Which release.
        judged: The rules that it minded so far.
        trouble: Why it could not judge, if it could not.
    """

    path: Path
    version: str
    judged: set[str] = field(default_factory=set)
    trouble: str = ""

    def judge(self, recording: Recording) -> list[Finding]:
        """What squawk minds about the statements of a revision, at the lines that they come from."""
        found = list(self._iter_findings(recording)) if recording.sql.strip() else []
        self.judged |= {each.rule for each in found}
        return found

    def _iter_findings(self, recording: Recording) -> Iterator[Finding]:
        command = [self.path, "--reporter", "json", "--assume-in-transaction"]
        done = _run([*command, "--stdin-filepath", "revision.sql"], recording.sql)
        try:
            minded = json.loads(done.stdout or "[]") if done else None
        except ValueError:
            minded = None
        if minded is None or (done and done.returncode not in (0, 1)):
            self.trouble = (
                f"squawk {self.version} could not judge: {(done.stderr if done else 'no answer').strip():.200}"
            )
            return
        yield from (_finding(each, recording) for each in minded if each["rule_name"] not in COVERED)


def find_squawk() -> Squawk | None:
    """Squawk, if it is installed beside this Python or on the path, and can be run."""
    beside = Path(sys.executable).parent / "squawk"
    found = str(beside) if beside.is_file() else shutil.which("squawk")
    done = _run([Path(found), "--version"], "") if found else None
    if not found or done is None or done.returncode or not done.stdout.startswith("squawk "):
        return None  # something else may have that name
    return Squawk(Path(found), done.stdout.split()[1])


def _run(command: list[Any], text: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", timeout=TIMEOUT, check=False)  # noqa: S603 -- no shell
    except (OSError, subprocess.TimeoutExpired):
        return None


def _finding(minded: dict[str, Any], recording: Recording) -> Finding:
    level = "error" if minded["level"] == "Error" else "warning"
    line = _find_line(recording, int(minded["line"]))
    why = " ".join(str(minded.get("help") or "see https://squawkhq.com").split())
    what = " ".join(str(minded["message"]).split()).rstrip(".")
    return Finding(f"squawk.{minded['rule_name']}", level, line, what, why)  # type: ignore[arg-type]


def _find_line(recording: Recording, sql_line: int) -> int:
    """The line of the revision that a line of its SQL comes from."""
    begun = [act for act in recording.acts if act.sql.start <= sql_line and act.sql]
    return begun[-1].line if begun else 0
