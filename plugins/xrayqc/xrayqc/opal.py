"""What XrayQC contributes to the suite."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from opal_registry import SubApp, hookimpl

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="xrayqc",
        models=("xrayqc.models",),
        requires=("core>=1.0", "regressioninsight>=1.0"),
        migrations="xrayqc:migrations",
        table_prefix="xray_",
    )


@hookimpl
def opal_seed(session: "Session") -> None:
    from xrayqc.seed import add_defect_kinds

    add_defect_kinds(session)
