"""What CalMind contributes to the suite."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from opal_registry import SubApp, hookimpl

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="calmind",
        models=("calmind.models",),
        requires=("core>=1.0",),
        migrations="calmind:migrations",
        table_prefix="calmind_",
    )


@hookimpl
def opal_seed(session: "Session") -> None:
    from calmind.seed import add_exercises_and_feelings

    add_exercises_and_feelings(session)
