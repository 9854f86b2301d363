"""What StandupBot contributes to the suite."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from opal_registry import SubApp, hookimpl

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="standupbot",
        models=("standupbot.models",),
        requires=("core>=1.0",),
        migrations="standupbot:migrations",
        table_prefix="standup_",
    )


@hookimpl
def opal_seed(session: "Session") -> None:
    from standupbot.seed import add_first_team

    add_first_team(session)
