"""The commands of migrations."""

import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from opal_registry.cli.command import Invocation, command
from opal_registry.cli.recorded import make_fingerprint, report_recorded
from opal_registry.errors import ConfigError, Problem

AppArgument = Annotated[str, typer.Argument(metavar="APP", help="The sub-app's name.")]
TargetArgument = Annotated[
    str | None, typer.Argument(metavar="[APP[@REV]]", help="One sub-app, or one revision of it, with what that needs.")
]
RevisionArgument = Annotated[str, typer.Argument(metavar="APP@REV", help="The sub-app and its revision.")]
MessageOption = Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="What the revision is about.")]
PhaseOption = Annotated[
    str | None,
    typer.Option("--phase", metavar="PHASE", help="expand: only what earlier code can work with; contract: the rest."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to those of ``opal-db``."""
    for name, (function, examples) in COMMANDS.items():
        command(app, name, examples=examples)(function)


def _upgrade(
    run: Invocation,
    target: TargetArgument = None,
    phase: PhaseOption = None,
    sql: Annotated[bool, typer.Option("--sql", help="Run nothing; print the pending revisions as a script.")] = False,
) -> int:
    """Run what is pending, and bring up what is new to the database: the one command of a deploy.

    Sub-apps that are new come from their models, as with init; all others are upgraded, each revision in a transaction
    of its own, in the order that "opal-db plan" shows. Safe to repeat, and to start from every pod.
    """
    checked = _check_phase(phase)
    if sql:
        return _print_sql(run, target, checked)
    fingerprint = "" if target else make_fingerprint(run)
    if not target and report_recorded(run, fingerprint, revisions=[], held_back=[]):
        return 0
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.look import EVERYTHING, Target
    from opal_registry.upgrade import upgrade

    report = upgrade(
        run.registry,
        Target.parse(target) if target else EVERYTHING,
        phase=checked,
        fingerprint=fingerprint,
        step=run.step,
        announce=run.output.note,
    )
    run.output.show(views.upgrade_document(report), *views.upgrade_view(report))
    return report.exit_code


def _print_sql(run: Invocation, target: str | None, phase: Literal["expand", "contract"] | None) -> int:
    from opal_registry.migrations.look import EVERYTHING, Target
    from opal_registry.upgrade import render_upgrade

    texts = list(render_upgrade(run.registry, Target.parse(target) if target else EVERYTHING, phase=phase))
    run.output.show({"statements": texts}, *texts)
    return 0


def _plan(run: Invocation, target: TargetArgument = None, phase: PhaseOption = None) -> int:
    """Show what upgrade would do, in order, and why; exit code 1 if there is anything. Changes nothing."""
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.look import EVERYTHING, Target
    from opal_registry.upgrade import make_plans

    with run.step("looking at the database"):
        plans = make_plans(run.registry, Target.parse(target) if target else EVERYTHING, phase=_check_phase(phase))
    left_out = run.registry.suite.quarantined
    run.output.show(views.plan_document(plans, left_out), *views.plan_view(plans, left_out))
    return int(not all(plan.is_empty for plan in plans))


def _downgrade(
    run: Invocation,
    target: RevisionArgument,
    cascade: Annotated[
        bool,
        typer.Option("--cascade", help="Take back what other sub-apps built on it as well; shows the plan, and asks."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Take revisions back, down to the one that is named (base: all of them).

    Refused where a revision of another sub-app, installed here or not, needs what would be taken away.
    """
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.downgrade import downgrade, plan_downgrade
    from opal_registry.migrations.look import Target

    wanted = Target.parse(target)
    if not wanted.revision:
        raise ConfigError(
            Problem(f"{target!r} names no revision", mend=f"write {target}@base, {target}@-1 or {target}@REV")
        )
    is_production = run.settings.is_production
    if (cascade or is_production) and not yes:
        planned = plan_downgrade(run.registry, wanted)
        is_to_be_asked = planned.cascade or (is_production and planned.steps)
        if is_to_be_asked and not _agrees(run, views.downgrade_plan_view(planned), is_production=is_production):
            return 1
    ran = downgrade(run.registry, wanted, cascade=cascade, announce=run.output.note, show=run.step)
    run.output.show(views.downgrade_document(ran), *views.downgrade_view(ran))
    return 0


def _agrees(run: Invocation, lines: list[str], *, is_production: bool) -> bool:
    """Whether a person agrees to a plan; a machine has to say so beforehand."""
    for line in lines:
        run.output.note(line)
    if not sys.stdin.isatty():
        what = "this is production" if is_production else "revisions of other sub-apps would be taken back"
        raise ConfigError(Problem(f"{what}, and nobody is there to be asked", mend="add --yes"))
    return bool(typer.confirm("go on?", err=True))


def _stamp(run: Invocation, target: TargetArgument) -> None:
    """Write down that a sub-app is at a revision, and run nothing; its heads unless one is named, base for none."""
    from opal_registry.migrations.look import Target
    from opal_registry.migrations.stamp import stamp

    wanted = Target.parse(target or "")
    heads = stamp(run.registry, wanted, announce=run.output.note)
    at = ", ".join(heads) or "base"
    run.output.show({"name": wanted.app, "heads": list(heads)}, f"{wanted.app} is written down as being at {at}")


def _adopt(run: Invocation, target: TargetArgument) -> None:
    """Take over tables that are there by nobody's history: find out at which revision they are, and write it down.

    The tables are compared with those that each revision makes, in a database made for the purpose. Nothing is run. Where
    none fits, what differs from the nearest is said (exit code 3).
    """
    from opal_registry.adopt import adopt
    from opal_registry.migrations.look import Target

    adopted = adopt(run.registry, Target.parse(target or ""), announce=run.output.note, step=run.step)
    notes = [f"note: {each}" for each in adopted.notes]
    document = {"name": adopted.app, "heads": list(adopted.heads), "notes": list(adopted.notes)}
    run.output.show(document, *notes, f"{adopted.app} is at {', '.join(adopted.heads)}, and known to be")


def _heads(run: Invocation) -> int:
    """Show the heads of all histories that are installed here; exit code 1 if one cannot be read. Asks no database."""
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.report import get_heads

    heads, left_out = get_heads(run.registry)
    run.output.show(views.heads_document(heads, left_out), *views.heads_view(heads, left_out))
    return int(bool(left_out))


def _current(run: Invocation) -> int:
    """Show where every database is in every history; exit code 1 if one is behind, diverged, or not known."""
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.report import get_current

    with run.step("looking at the database"):
        found = get_current(run.registry)
    run.output.show(views.current_document(found), *views.current_view(found))
    return int(any(views.needs_attention(current) for current in found))


def _history(run: Invocation, name: AppArgument) -> None:
    """Show the history of a sub-app: what was applied when, by which release, and what was changed since."""
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.report import get_history

    with run.step("looking at the database"):
        lines = get_history(run.registry, name)
    run.output.show(views.history_document(name, lines), *views.history_view(lines))


def _ready(run: Invocation) -> int:
    """Answer whether the code of this image can work with the databases as they are; for probes.

    behind, ready, ahead or diverged. Exit code 0 if it can: also where a database is ahead only by what earlier code can
    work with; else 1.
    """
    from opal_registry.cli.recorded import is_recorded

    if is_recorded(run):
        run.output.show({"verdict": "ready", "ready": True, "sub_apps": []}, "ready")
        return 0
    from opal_registry.cli import migration_views as views
    from opal_registry.migrations.ready import get_readiness

    found = get_readiness(run.registry)
    run.output.show(views.ready_document(found), *views.ready_view(found))
    return int(not all(each.is_ready for each in found))


def _revision(
    run: Invocation,
    name: AppArgument,
    message: MessageOption,
    live: Annotated[
        bool, typer.Option("--live", help="Compare with the configured database, not with one made for the purpose.")
    ] = False,
    empty: Annotated[bool, typer.Option("--empty", help="Compare nothing; write a revision to be filled in.")] = False,
    head: Annotated[str, typer.Option("--head", metavar="REV", help="What it follows; base begins a branch.")] = "head",
    branch_label: Annotated[
        str | None, typer.Option("--branch-label", metavar="NAME", help="A name for the branch that begins with it.")
    ] = None,
    gives: Annotated[
        list[str] | None,
        typer.Option("--gives", metavar="TABLE=APP", help="A table that is another sub-app's from now on."),
    ] = None,
    takes: Annotated[
        list[str] | None, typer.Option("--takes", metavar="TABLE=APP", help="A table that was another sub-app's.")
    ] = None,
) -> None:
    """Write a revision: what the models of a sub-app have that its history has not.

    The history is run in a database that is made for the purpose; only the sub-app's own tables are compared. What the
    revision rests on in other sub-apps is pinned in it. Where there is no difference no file is written.
    """
    from opal_registry.authoring.writing import find_absent, write_revision
    from opal_registry.cli import migration_views as views

    names = [name]
    while absent := find_absent(run.registry_for(*names)):
        names += absent
    written = write_revision(
        run.registry,
        name,
        message,
        live=live,
        is_empty=empty,
        head=head,
        branch_label=branch_label,
        gives=_parse_moves("--gives", gives),
        takes=_parse_moves("--takes", takes),
        everybody=run.everybody(),
        step=run.step,
    )
    run.output.show(views.written_document(written), views.written_view(written, name))


def _parse_moves(option: str, texts: list[str] | None) -> dict[str, str]:
    moves = {}
    for text in texts or ():
        table, _, app = text.partition("=")
        if not (table and app):
            raise ConfigError(Problem(f"{option} cannot be {text!r}", mend=f"write it like {option} labels=tags"))
        moves[table] = app
    return moves


def _merge(run: Invocation, name: AppArgument, message: MessageOption = "Merge") -> None:
    """Write a revision that makes one head of all heads of a sub-app's history."""
    from opal_registry.authoring.writing import merge_heads
    from opal_registry.cli import migration_views as views

    written = merge_heads(run.registry_for(name), name, message)
    run.output.show(views.written_document(written), views.written_view(written, name))


def _squash(run: Invocation, name: AppArgument, message: MessageOption = "Squash") -> None:
    """Write one revision that stands for all of a sub-app's history, made from its models.

    Databases that have all of it cross to the new one without running anything. Keep the old files for as long as a
    database may be in the midst of them; what they did beside making tables has to be copied by hand.
    """
    from opal_registry.authoring.writing import squash_history
    from opal_registry.cli import migration_views as views

    written = squash_history(run.registry_for(name), name, message, step=run.step)
    run.output.show(views.written_document(written), views.written_view(written, name))


def _check_phase(phase: str | None) -> Literal["expand", "contract"] | None:
    match phase:
        case None | "expand" | "contract":
            return phase
        case _:
            raise ConfigError(Problem(f"--phase cannot be {phase!r}", mend="choose one of expand, contract"))


COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "upgrade": (
        _upgrade,
        """
        opal-db upgrade                                 everything
        opal-db upgrade standupbot                      one sub-app, with what it needs
        opal-db upgrade standupbot@1a2b                 up to one of its revisions
        opal-db upgrade --phase expand                  before the new code is there
        opal-db upgrade --sql > upgrade.sql             for whoever lets no program run it
        """,
    ),
    "plan": (_plan, "opal-db plan"),
    "downgrade": (
        _downgrade,
        """
        opal-db downgrade standupbot@-1
        opal-db downgrade core@1a2b --cascade
        """,
    ),
    "ready": (_ready, "opal-db ready --quiet || exit 1"),
    "revision": (
        _revision,
        """
        opal-db revision standupbot -m "Add teams"
        opal-db revision standupbot -m "Fill in the teams" --empty
        """,
    ),
    "squash": (_squash, 'opal-db squash standupbot -m "1.0 to 1.9"'),
    "merge": (_merge, "opal-db merge standupbot"),
    "current": (_current, "opal-db current"),
    "heads": (_heads, "opal-db heads"),
    "history": (_history, "opal-db history standupbot"),
    "adopt": (_adopt, "opal-db adopt standupbot"),
    "stamp": (_stamp, "opal-db stamp standupbot@1a2b"),
}
