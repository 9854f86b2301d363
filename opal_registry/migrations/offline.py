"""What a plan would send, as a script for whoever may not, or will not, let a program run it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import wraps
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep

from opal_registry.base import NAMING_CONVENTION
from opal_registry.guard import guarded
from opal_registry.migrations.environment import TRANSACTIONAL
from opal_registry.migrations.history import History
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.steps import Plan, Step
from opal_registry.schema.compiled import Compiler
from opal_registry.store import tables
from opal_registry.store.revisions import NOWHERE, Standing, make_record
from opal_registry.store.tables import Columns


def render_plan(plan: Plan, standings: Mapping[str, Standing], there: Columns, engine: sa.Engine) -> Iterator[str]:
    """The statements of a plan, each revision a transaction where the database has such.

    Args:
        plan: What is to be run.
        standings: How far each sub-app has come in the database.
        there: The columns of the registry's own tables.
        engine: The database; only its kind counts.

    Raises:
        PluginError: If a revision cannot do without a database.
    """
    compiler = Compiler(engine.dialect)
    yield from (f"{compiler.text(ddl)};" for ddl in tables.iter_upgrade(there, compiler.dialect))
    heads = {name: standing.heads for name, standing in standings.items()}
    for app, steps in groupby(plan.steps, key=lambda step: step.app):
        group, history = list(steps), plan.histories[app]
        yield _render_group(group, history, heads.get(app, NOWHERE.heads), engine.url, compiler)
        done = history.ancestors(heads.get(app, ())) | {step.revision.id for step in group}
        heads[app] = history.find_heads(done)


def _render_group(
    steps: Sequence[Step], history: History, heads: Sequence[str], url: sa.URL, compiler: Compiler
) -> str:
    output = io.StringIO()
    by_id = {step.revision.id: step.revision for step in steps}

    steps_of_alembic = [_make_step(history, revision) for revision in by_id.values()]

    def record(ctx: Any, step: Any, heads: object, run_args: object) -> None:  # noqa: ARG001 -- called by these names
        (id_,) = step.destination_revision_ids
        for applied in by_id[id_].iter_applied(history.version):
            ctx.impl.static_output(f"{compiler.text(make_record(applied))};")

    with EnvironmentContext(Config(), history.script, as_sql=True) as environment:
        environment.configure(
            url=url,
            dialect_opts={"paramstyle": "named"},
            output_buffer=output,
            starting_rev=tuple(heads) or None,  # type: ignore[arg-type]  # it may be several
            version_table=history.version_table,
            target_metadata=sa.MetaData(naming_convention=NAMING_CONVENTION),
            transaction_per_migration=True,
            transactional_ddl=url.get_backend_name() in TRANSACTIONAL,
            on_version_apply=record,
            literal_binds=True,
            fn=lambda *_: steps_of_alembic,
        )
        environment.run_migrations()
    return output.getvalue().strip()


def _make_step(history: History, revision: Revision) -> MigrationStep:
    where, doing = str(revision.path), f"writing the revision {revision} as SQL"
    step = MigrationStep.upgrade_from_script(history.script.revision_map, history.script.get_revision(revision.id))
    function = step.migration_fn

    @wraps(function)
    def call(**arguments: Any) -> None:
        with guarded(doing, where=where):
            function(**arguments)

    step.migration_fn = call
    return step
