"""What MonitorIQ contributes to the suite."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from opal_registry import SubApp, hookimpl

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="monitoriq",
        models=("monitoriq.models",),
        requires=("core>=1.0", "buildpilot>=1.0"),
        migrations="monitoriq:migrations",
        table_prefix="monitor_",
    )


@hookimpl
def opal_seed(session: "Session") -> None:
    from monitoriq.seed import add_severities

    add_severities(session)
