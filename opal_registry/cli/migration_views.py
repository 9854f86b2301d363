"""How reports about migrations look; the documents are described in docs/commands.md."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opal_registry.cli.output import Sheet, counted
from opal_registry.cli.views import init_document, init_view, quarantined_document, quarantined_lines

if TYPE_CHECKING:  # a command has imported what it reports already, and the others need not
    from opal_registry.authoring.writing import Written
    from opal_registry.migrations.downgrade import DowngradePlan
    from opal_registry.migrations.environment import Ran
    from opal_registry.migrations.ready import Readiness
    from opal_registry.migrations.report import Current, Line
    from opal_registry.migrations.revision_file import Revision
    from opal_registry.migrations.steps import Step
    from opal_registry.suite import Quarantined
    from opal_registry.upgrade import BindPlan, UpgradeReport

ATTENTION = {"unknown", "behind", "diverged"}

MOST_NAMED = 5
"""So many revisions are named in one cell."""


def upgrade_document(report: "UpgradeReport") -> dict[str, Any]:
    """What ``upgrade --json`` prints: what ``init`` does, and the revisions."""
    revisions = [_ran_document(ran) | {"bind": bind} for bind, ran in report.ran]
    held_back = [str(revision) for revision in report.held_back]
    own = {"revisions": revisions, "held_back": held_back, "exit_code": report.exit_code}
    return init_document(report.brought_up) | own


def upgrade_view(report: "UpgradeReport") -> list[Sheet | str]:
    """What ``upgrade`` shows."""
    parts: list[Sheet | str] = []
    if report.ran:
        parts.append(_ran_sheet([ran for _, ran in report.ran]))
    if report.held_back:
        names = ", ".join(map(str, report.held_back))
        parts.append(f"held back for the phase contract: {names}")
    return [*parts, *init_view(report.brought_up)] if report.brought_up.sub_apps else parts


def plan_document(plans: "Sequence[BindPlan]", left_out: "Sequence[Quarantined]") -> dict[str, Any]:
    """What ``plan --json`` prints."""
    return {
        "databases": {plan.bind: plan.where for plan in plans},
        "steps": [_step_document(step) | {"bind": plan.bind} for plan in plans for step in plan.plan.steps],
        "held_back": [str(revision) for plan in plans for revision in plan.plan.held_back],
        "renames": [
            {"name": new, "formerly": old, "bind": plan.bind} for plan in plans for old, new in plan.renames.items()
        ],
        "new": [
            {"name": name, "bind": plan.bind, "waits": waits} for plan in plans for name, waits in plan.new.items()
        ],
        "blocked": [
            {"name": name, "bind": plan.bind, "why": why} for plan in plans for name, why in plan.blocked.items()
        ],
        "unfinished": [
            {
                "name": each.sub_app,
                "revision": each.revision,
                "command": each.command,
                "what": str(each),
                "bind": plan.bind,
            }
            for plan in plans
            for each in plan.unfinished
        ],
        "quarantined": quarantined_document(left_out),
    }


def plan_view(plans: "Sequence[BindPlan]", left_out: "Sequence[Quarantined]") -> list[Sheet | str]:
    """What ``plan`` shows."""
    parts: list[Sheet | str] = []
    for plan in plans:
        parts.append(f"{plan.bind}: {plan.where}")
        parts += [f"unfinished: {each.sub_app}: {each}\n  mend:  {each.describe_ways()}" for each in plan.unfinished]
        new = [f"{name}{f' (now: {waits})' if waits else ''}" for name, waits in plan.new.items()]
        if plan.renames:
            parts.append(f"to be renamed: {', '.join(f'{old} is {new}' for old, new in plan.renames.items())}")
        if new:
            parts.append(f"to be brought up from the models: {', '.join(new)}")
        if plan.plan.steps:
            parts.append(_step_sheet(plan.plan.steps))
        if plan.plan.held_back:
            parts.append(f"held back for the phase contract: {', '.join(map(str, plan.plan.held_back))}")
        parts += [f"{name} cannot be upgraded: {why}" for name, why in plan.blocked.items()]
        if plan.is_empty:
            parts.append("nothing is pending")
    return [*parts, *quarantined_lines(left_out)]


def downgrade_plan_view(plan: "DowngradePlan") -> list[str]:
    """What a person is shown before being asked."""
    return [
        f"in {plan.home.where}, these are taken back:",
        *(f"  {step.revision}  ({step.why})" for step in plan.steps),
    ]


def downgrade_document(ran: "Sequence[Ran]") -> dict[str, Any]:
    """What ``downgrade --json`` prints."""
    return {"taken_back": [_ran_document(each) for each in ran]}


def downgrade_view(ran: "Sequence[Ran]") -> list[Sheet | str]:
    """What ``downgrade`` shows."""
    summary = f"{counted(len(ran), 'revision')} taken back" if ran else "nothing to take back"
    return [_ran_sheet(ran), summary] if ran else [summary]


def ready_document(found: "Sequence[Readiness]") -> dict[str, Any]:
    """What ``ready --json`` prints; no sub-apps where the ledger alone knew."""
    from opal_registry.migrations.ready import find_verdict

    return {
        "verdict": find_verdict(found),
        "ready": all(each.is_ready for each in found),
        "sub_apps": [
            {
                "name": each.app,
                "bind": each.bind,
                "verdict": each.verdict,
                "ready": each.is_ready,
                "detail": each.detail,
            }
            for each in found
        ],
    }


def ready_view(found: "Sequence[Readiness]") -> list[Sheet | str]:
    """What ``ready`` shows: the verdict, and who is not simply ready."""
    from opal_registry.migrations.ready import find_verdict

    rows = [(each.app, each.verdict, each.detail) for each in found if each.verdict != "ready"]
    return [find_verdict(found), Sheet(("sub-app", "verdict", "detail"), rows)]


def written_document(written: "Written | None") -> dict[str, Any]:
    """What ``revision --json`` and ``merge --json`` print; only the first may find nothing to write."""
    if written is None:
        return {"revision": None}
    return {"revision": written.id, "name": written.app, "path": str(written.path), "pins": written.pins}


def written_view(written: "Written | None", name: str) -> str:
    """What ``revision`` and ``merge`` show."""
    if written is None:
        return f"nothing to write: the history of {name} and its models say the same"
    pins = ", ".join(f"{app}@{each}" for app, ids in written.pins.items() for each in ids)
    return f"written: {written.path}{f' (needs {pins})' if pins else ''}"


def heads_document(heads: "Sequence[Revision]", left_out: "Sequence[Quarantined]") -> dict[str, Any]:
    """What ``heads --json`` prints."""
    found = [_revision_document(head) | {"labels": list(head.labels)} for head in heads]
    return {"heads": found, "quarantined": quarantined_document(left_out)}


def heads_view(heads: "Sequence[Revision]", left_out: "Sequence[Quarantined]") -> list[Sheet | str]:
    """What ``heads`` shows."""
    rows = [(head.app, head.id, ", ".join(head.labels), head.title) for head in heads]
    return [Sheet(("sub-app", "head", "branch", "title"), rows), *quarantined_lines(left_out)]


def needs_attention(current: "Current") -> bool:
    """Whether somebody should do something about where a database is."""
    return bool(current.unfinished or current.left_out) or (
        current.progress is not None and current.progress.state in ATTENTION
    )


def current_document(found: "Sequence[Current]") -> dict[str, Any]:
    """What ``current --json`` prints."""
    return {
        "current": [
            {
                "name": current.app,
                "bind": current.bind,
                "heads": list(current.heads),
                "state": _state(current),
                "pending": [each.id for each in current.progress.pending] if current.progress else [],
                "beyond": list(current.progress.beyond) if current.progress else [],
                "changed": [each.id for each in current.changed],
                "unfinished": [each.revision for each in current.unfinished],
            }
            for current in found
        ]
    }


def current_view(found: "Sequence[Current]") -> list[Sheet | str]:
    """What ``current`` shows."""
    rows = [(current.app, ", ".join(current.heads) or "-", _state(current), _detail(current)) for current in found]
    return [Sheet(("sub-app", "at", "state", "detail"), rows)]


def history_document(name: str, lines: "Sequence[Line]") -> dict[str, Any]:
    """What ``history --json`` prints."""
    return {
        "name": name,
        "revisions": [
            {
                "id": line.id,
                "title": line.revision.title if line.revision else "",
                "phase": line.revision.phase if line.revision else None,
                "needs": _needs(line.revision) if line.revision else [],
                "applied": line.is_applied,
                "applied_at": line.applied_at.isoformat() if line.applied_at else None,
                "version": line.applied.version if line.applied else None,
                "seconds": None if line.seconds is None else round(line.seconds, 3),
                "installed": line.revision is not None,
                "changed": line.is_changed,
            }
            for line in lines
        ],
    }


def history_view(lines: "Sequence[Line]") -> list[Sheet | str]:
    """What ``history`` shows."""
    rows = [
        (
            line.id,
            _how(line),
            f"{line.applied_at:%Y-%m-%d %H:%M:%S}" if line.applied_at else "",
            line.applied.version if line.applied else "",
            line.revision.title if line.revision else "(not in the release that is installed here)",
        )
        for line in lines
    ]
    return [Sheet(("revision", "state", "applied, UTC", "version", "title"), rows)]


def _how(line: "Line") -> str:
    if not line.is_applied:
        return "pending"
    if line.is_changed:
        return "applied; its file was changed since"
    return "applied" if line.applied and line.applied.seconds is not None else "applied, from the models or stamped"


def _state(current: "Current") -> str:
    if current.left_out:
        return "quarantined"
    return current.progress.state if current.progress else "not installed here"


def _detail(current: "Current") -> str:
    parts = [each for each in (current.left_out, current.other_name) if each]
    parts += [f"{each} ({each.describe_ways()})" for each in current.unfinished]
    if current.progress and current.progress.pending:
        parts.append(f"pending: {_first([each.id for each in current.progress.pending])}")
    if current.progress and current.progress.beyond:
        release = f", written by {current.progress.written_by}" if current.progress.written_by else ""
        parts.append(f"the database also has {_first(current.progress.beyond)}{release}")
    if current.changed:
        parts.append(f"changed since they were applied: {_first([each.id for each in current.changed])}")
    return "; ".join(parts)


def _first(ids: "Sequence[str]") -> str:
    """The first few of some revisions, and how many there are beside them."""
    more = len(ids) - MOST_NAMED
    return ", ".join(ids) if more <= 0 else f"{', '.join(ids[:MOST_NAMED])} and {more} more"


def _ran_sheet(ran: "Sequence[Ran]") -> Sheet:
    columns = ("sub-app", "revision", ">rows", ">time", "title")
    rows = [
        (each.revision.app, each.revision.id, str(each.rows or ""), f"{each.seconds:.2f} s", each.revision.title)
        for each in ran
    ]
    return Sheet(columns, rows)


def _step_sheet(steps: "Sequence[Step]") -> Sheet:
    rows = [(step.app, step.revision.id, step.revision.phase, step.revision.title, step.why) for step in steps]
    return Sheet(("sub-app", "revision", "phase", "title", "why"), rows)


def _ran_document(ran: "Ran") -> dict[str, Any]:
    return _revision_document(ran.revision) | {"seconds": round(ran.seconds, 3), "rows": ran.rows}


def _step_document(step: "Step") -> dict[str, Any]:
    return _revision_document(step.revision) | {"why": step.why}


def _revision_document(revision: "Revision") -> dict[str, Any]:
    return {
        "name": revision.app,
        "revision": revision.id,
        "title": revision.title,
        "phase": revision.phase,
        "needs": _needs(revision),
    }


def _needs(revision: "Revision") -> list[str]:
    pins = [f"{app}@{each}" for app, ids in revision.pins.items() for each in ids]
    return [*(f"{revision.app}@{each}" for each in revision.needs), *pins]
