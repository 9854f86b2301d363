"""What RegressionInsight contributes to the suite."""

from collections.abc import Iterator

from opal_registry import SubApp, hookimpl


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="regressioninsight",
        models=("regressioninsight.models",),
        requires=("core>=1.0", "buildpilot>=1.0"),
        migrations="regressioninsight:migrations",
        table_prefix="regress_",
    )
