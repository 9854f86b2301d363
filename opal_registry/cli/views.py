"""How reports look: as sheets for people, as documents for machines. The documents are described in docs/commands.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticCustomError

from opal_registry.cli.output import Sheet, counted, error_document
from opal_registry.errors import ConfigError, DatabaseError, Problem
from opal_registry.init import InitReport, SubAppReport
from opal_registry.ping import Pulse
from opal_registry.settings.kinds import parse_duration
from opal_registry.status import StatusReport, SubAppStatus
from opal_registry.store.events import Event
from opal_registry.suite import LoadedSubApp, Quarantined, Suite

MOST_NAMED = 3
"""So many sub-apps that a run created tables for are named in one line."""


def parse_timeout(text: str) -> float:
    """Seconds from text such as ``30s`` or ``5m``.

    Raises:
        ConfigError: If it is no duration.
    """
    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except PydanticCustomError:
        raise ConfigError(Problem(f"--timeout cannot be {text!r}", mend="write it like 500ms, 30s, 5m or 1h")) from None


def init_document(report: InitReport) -> dict[str, Any]:
    """What ``init --json`` prints."""
    return {
        "recorded": False,
        "dry_run": report.dry_run,
        "databases": report.databases,
        "sub_apps": [_sub_app_report(sub_app) for sub_app in report.sub_apps],
        "quarantined": quarantined_document(report.quarantined),
        "bookkeeping": list(report.bookkeeping),
        "seconds": round(report.seconds, 3),
        "exit_code": report.exit_code,
    }


def init_view(report: InitReport) -> list[Sheet | str]:
    """What ``init`` shows: in a dry run the statements, else a table by sub-app."""
    if report.dry_run:
        return [_script(report), *_findings(report)]
    where = "\n".join(f"{bind}: {url}" for bind, url in report.databases.items())
    columns = ("sub-app", "version", ">tables", ">created", ">present", "seeded", ">import", ">time")
    rows = [
        (
            sub_app.app.name,
            sub_app.app.version or "-",
            str(len(sub_app.app.tables)),
            str(len(sub_app.created)),
            str(len(sub_app.present)),
            "yes" if sub_app.seeded else "",
            f"{sub_app.app.seconds:.2f} s",
            f"{sub_app.seconds:.2f} s",
        )
        for sub_app in report.sub_apps
    ]
    created = sum(len(sub_app.created) for sub_app in report.sub_apps)
    present = sum(len(sub_app.present) for sub_app in report.sub_apps)
    apps = counted(len(report.sub_apps), "sub-app")
    summary = f"{counted(created, 'table')} created, {present} present, {apps}, {report.seconds:.2f} s"
    return [where, Sheet(columns, rows), *_findings(report), summary if created else f"nothing to create: {summary}"]


def status_document(report: StatusReport) -> dict[str, Any]:
    """What ``status --json`` prints."""
    return {
        "databases": report.databases,
        "sub_apps": [_status_document(status) for status in report.sub_apps],
        "errors": list(map(error_document, report.errors)),
        "exit_code": report.exit_code,
    }


def status_view(report: StatusReport) -> list[Sheet | str]:
    """What ``status`` shows."""
    where = "\n".join(f"{bind}: {url}" for bind, url in report.databases.items())
    rows = [
        (status.name, status.version or "-", str(status.tables), status.state, status.detail)
        for status in report.sub_apps
    ]
    return [where, Sheet(("sub-app", "version", ">tables", "state", "detail"), rows)]


def apps_document(suite: Suite, absent: Sequence[SubAppStatus]) -> dict[str, Any]:
    """What ``apps list --json`` prints."""
    return {
        "sub_apps": [app_document(app) for app in suite.sub_apps],
        "not_installed_here": [_status_document(status) for status in absent],
        "quarantined": quarantined_document(suite.quarantined),
    }


def apps_view(suite: Suite, absent: Sequence[SubAppStatus]) -> list[Sheet | str]:
    """What ``apps list`` shows."""
    rows = [
        (
            app.name,
            app.distribution or "-",
            app.version or "-",
            str(len(app.tables)),
            ", ".join(app.needs),
            f"{app.seconds:.2f} s",
        )
        for app in suite.sub_apps
    ]
    columns = ("sub-app", "distribution", "version", ">tables", "needs", ">import")
    others = [f"not installed here: {status.name}: {status.detail}" for status in absent]
    return [Sheet(columns, rows), *others, *quarantined_lines(suite.quarantined)]


def events_document(events: Sequence[tuple[str, Event]], errors: Sequence[DatabaseError] = ()) -> dict[str, Any]:
    """What ``events --json`` prints."""
    return {
        "errors": list(map(error_document, errors)),
        "events": [
            {
                "bind": bind,
                "command": event.command,
                "started_at": event.started_at.isoformat(timespec="seconds"),
                "seconds": event.seconds,
                "outcome": event.outcome,
                "host": event.host,
                "pid": event.pid,
                "os_user": event.os_user,
                "written_by": event.written_by,
                "detail": dict(event.detail),
            }
            for bind, event in events
        ],
    }


def events_view(events: Sequence[tuple[str, Event]]) -> list[Sheet | str]:
    """What ``events`` shows."""
    if not events:
        return ["no run is recorded: opal-db init records what it does"]
    rows = [
        (
            f"{event.started_at:%Y-%m-%d %H:%M:%S}",
            bind,
            event.command,
            event.outcome,
            "-" if event.seconds is None else f"{event.seconds:.1f} s",
            f"{event.os_user}@{event.host}, process {event.pid}",
            event.written_by,
            _event_detail(event),
        )
        for bind, event in events
    ]
    return [Sheet(("when (UTC)", "bind", "command", "outcome", ">took", "who", "with", "what"), rows)]


def app_document(app: LoadedSubApp) -> dict[str, Any]:
    """What ``apps show --json`` prints."""
    return {
        "name": app.name,
        "distribution": app.distribution,
        "version": app.version,
        "plugin": app.plugin.value,
        "bind": app.sub_app.bind,
        "models": list(app.sub_app.models),
        "requires": list(app.sub_app.requires),
        "needs": list(app.needs),
        "import_seconds": round(app.seconds, 3),
        "tables": [
            {"name": table.fullname, "columns": table.columns.keys(), "refers_to": _refers_to(table)}
            for table in app.tables
        ],
    }


def app_view(app: LoadedSubApp) -> list[Sheet | str]:
    """What ``apps show`` shows."""
    facts = [
        ("sub-app", app.name),
        ("distribution", f"{app.distribution} {app.version}".strip() or "-"),
        ("plugin", app.plugin.value),
        ("models", ", ".join(app.sub_app.models) or "-"),
        ("requires", ", ".join(app.sub_app.requires) or "-"),
        ("needs", ", ".join(app.needs) or "-"),
        ("bind", app.sub_app.bind),
        ("import", f"{app.seconds:.2f} s"),
    ]
    rows = [(table.fullname, str(len(table.columns)), ", ".join(_refers_to(table))) for table in app.tables]
    lines = "\n".join(f"{label + ':':<14}{value}" for label, value in facts)
    return [lines, Sheet(("table", ">columns", "refers to"), rows)]


def ping_document(pulses: Sequence[Pulse]) -> dict[str, Any]:
    """What ``ping --json`` and ``wait --json`` print."""
    return {
        "databases": [
            {"bind": p.bind, "url": p.url, "server": p.server, "milliseconds": round(p.milliseconds, 2)} for p in pulses
        ]
    }


def ping_view(pulses: Sequence[Pulse]) -> list[Sheet | str]:
    """What ``ping`` and ``wait`` show."""
    return [f"{pulse.bind}: {pulse.server} answers in {pulse.milliseconds:.1f} ms, {pulse.url}" for pulse in pulses]


def _status_document(status: SubAppStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "distribution": status.distribution,
        "version": status.version,
        "bind": status.bind,
        "state": status.state,
        "detail": status.detail,
        "tables": status.tables,
        "missing": list(status.missing),
        "differences": [_difference(difference) for difference in status.differences],
    }


def _event_detail(event: Event) -> str:
    detail = event.detail
    if "error" in detail:
        return "; ".join(map(str, detail["error"]))
    if "revisions" in detail:
        return ", ".join(detail["revisions"]) if len(detail["revisions"]) <= MOST_NAMED else _count_revisions(detail)
    if "renamed" in detail:
        return ", ".join(f"{old} is {new}" for old, new in detail["renamed"].items())
    return _count_created(detail.get("created"))


def _count_revisions(detail: Mapping[str, Any]) -> str:
    apps = {revision.partition("@")[0] for revision in detail["revisions"]}
    return f"{counted(len(detail['revisions']), 'revision')} of {counted(len(apps), 'sub-app')}"


def _count_created(tables: Mapping[str, Any] | None) -> str:
    created = {name: len(names) for name, names in (tables or {}).items()}
    if len(created) > MOST_NAMED:
        return f"{counted(sum(created.values()), 'table')} of {len(created)} sub-apps"
    counts = ", ".join(f"{counted(number, 'table')} of {name}" for name, number in created.items())
    return counts or ("" if tables is None else "no table")


def _refers_to(table: Any) -> list[str]:
    return sorted({key.column.table.fullname for key in table.foreign_keys})


def _sub_app_report(report: SubAppReport) -> dict[str, Any]:
    return {
        "name": report.app.name,
        "distribution": report.app.distribution,
        "version": report.app.version,
        "bind": report.app.sub_app.bind,
        "created": list(report.created),
        "present": list(report.present),
        "differences": [_difference(difference) for difference in report.differences],
        "statements": list(report.statements),
        "withheld": report.withheld,
        "ahead": report.ahead,
        "seeded": report.seeded,
        "import_seconds": round(report.app.seconds, 3),
        "seconds": round(report.seconds, 3),
    }


def _difference(difference: Any) -> dict[str, Any]:
    return {name: getattr(difference, name) for name in ("table", "column", "what", "mend", "harmful")}


def quarantined_document(quarantined: Sequence[Quarantined]) -> list[dict[str, Any]]:
    """What documents say about sub-apps that were left out."""
    return [
        {"name": out.name, "problems": [{"what": p.what, "where": p.where, "mend": p.mend} for p in out.problems]}
        for out in quarantined
    ]


def quarantined_lines(quarantined: Sequence[Quarantined]) -> list[str]:
    """What a person is told about them."""
    return [f"quarantined: {out.name}: {problem}" for out in quarantined for problem in out.problems]


def _findings(report: InitReport) -> list[str]:
    """What a person must know beside the table; in a dry run as comments, so that the script stays one."""
    mark = "-- " if report.dry_run else ""
    lines = []
    for sub_app in report.sub_apps:
        for difference in sub_app.differences:
            word = "differs" if difference.harmful else "note"
            lines.append(f"{word}: sub-app {sub_app.app.name!r}, {difference}\n  mend:  {difference.mend}")
        if sub_app.ahead:
            lines.append(f"ahead: sub-app {sub_app.app.name!r}: {sub_app.ahead}")
        if sub_app.withheld:
            lines.append(f"withheld: sub-app {sub_app.app.name!r}: {sub_app.withheld}")
    lines += quarantined_lines(report.quarantined)
    return ["\n".join(mark + line for line in text.split("\n")) for text in lines]


def _script(report: InitReport) -> str:
    lines = [f"-- {bind}: {url}" for bind, url in report.databases.items()]
    if report.bookkeeping:
        lines += ["-- the registry's own tables", *(f"{statement};" for statement in report.bookkeeping)]
    for sub_app in report.sub_apps:
        lines.append(f"-- sub-app {sub_app.app.name}: {len(sub_app.created)} to create, {len(sub_app.present)} present")
        lines += [f"{statement.rstrip(';')};" for statement in sub_app.statements]
    return "\n".join(lines)
