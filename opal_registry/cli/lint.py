"""The command lint, and how its report looks."""

from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opal_registry.cli.command import Invocation, command
from opal_registry.cli.output import counted

if TYPE_CHECKING:
    from opal_registry.migrations.lint.finding import Finding
    from opal_registry.migrations.lint.linting import Judged, LintReport

AppsArgument = Annotated[list[str] | None, typer.Argument(metavar="[APP...]", help="Sub-apps; all if none is named.")]


def register(app: typer.Typer) -> None:
    """Add the command to those of ``opal-db``."""
    examples = """
        opal-db lint                                    what upgrade would run
        opal-db lint standupbot --all --dialect mysql   a whole history, for another database
        opal-db lint --json | jq '.revisions[].findings[] | select(.level == "error")'
        """
    command(app, "lint", examples=examples)(_lint)


def _lint(
    run: Invocation,
    apps: AppsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Also revisions that are applied already.")] = False,
    dialect: Annotated[
        str,
        typer.Option("--dialect", metavar="NAME", help="Judge for postgresql or mysql, not for what is configured."),
    ] = "",
    no_squawk: Annotated[bool, typer.Option("--no-squawk", help="Leave squawk out, where it is installed.")] = False,
) -> int:
    """Judge what pending revisions would do to those who use the database meanwhile; exit code 1 if it is bad.

    Nothing is executed, and no database is needed; where one answers, the sizes of its tables and its ledger count. Each
    finding says why, and how to write it instead. "# opal: allow ID because ..." on its line waives it.
    """
    from opal_registry.migrations.lint.linting import lint

    with run.step("following the revisions"):
        report = lint(run.registry, apps or (), dialect=dialect, everything=everything, with_squawk=not no_squawk)
    for remark in report.remarks:
        run.output.note(remark)
    run.output.show(lint_document(report), *lint_view(report))
    return report.exit_code


def lint_document(report: "LintReport") -> dict[str, Any]:
    """What ``lint --json`` prints; it is described in docs/commands.md."""
    return {
        "revisions": [
            {
                "name": each.revision.app,
                "revision": each.revision.id,
                "title": each.revision.title,
                "path": str(each.revision.path),
                "dialect": each.dialect,
                "findings": [_finding_document(finding) for finding in each.findings],
            }
            for each in report.judged
        ],
        "counts": report.counts,
        "remarks": list(report.remarks),
        "squawk": report.squawk or None,
        "exit_code": report.exit_code,
    }


def _finding_document(finding: "Finding") -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "level": finding.level,
        "line": finding.line,
        "what": finding.what,
        "why": finding.why,
        "rewrite": finding.rewrite,
        "tables": list(finding.tables),
        "rows": finding.rows,
        "waived": finding.waived or None,
    }


def lint_view(report: "LintReport") -> Iterator[str]:
    """What ``lint`` shows: for each revision a line, and below it what there is to mind."""
    for judged in report.judged:
        if any(not finding.waived for finding in judged.findings):
            yield f"{judged.revision}  {judged.revision.title}  (for {judged.dialect})"
            yield from (_describe(judged, each) for each in judged.findings if not each.waived)
    counts = report.counts
    found = [counted(counts[level], level) for level in ("error", "warning", "note")]
    waived = f"; {counts['waived']} waived" if counts["waived"] else ""
    yield f"{counted(len(report.judged), 'revision')}: {', '.join(found)}{waived}"


def _describe(judged: "Judged", finding: "Finding") -> str:
    size = f" ({describe_rows(finding.rows)})" if finding.rows is not None else ""
    place = f"{judged.revision.path}:{finding.line}" if finding.line else str(judged.revision.path)
    lines = [f"{place}: {finding.level} {finding.rule}", f"  {finding.what}{size}", f"  why:   {finding.why}"]
    if finding.rewrite:
        lines += ["  write:", indent(finding.rewrite, "      ")]
    return indent("\n".join(lines), "  ")


def describe_rows(rows: int) -> str:
    """How big a table is, for people: it is an estimate.

    Example:
        >>> describe_rows(1_234_567), describe_rows(0)
        ('about 1 200 000 rows', 'about 0 rows')
    """
    rounded = int(float(f"{rows:.1e}"))
    return f"about {rounded:,} rows".replace(",", " ")
