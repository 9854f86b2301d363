"""What BuildPilot contributes to the suite."""

from collections.abc import Iterator

from opal_registry import SubApp, hookimpl


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="buildpilot",
        models=("buildpilot.models",),
        requires=("core>=1.0",),
        migrations="buildpilot:migrations",
        table_prefix="build_",
    )
