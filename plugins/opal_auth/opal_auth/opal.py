"""What the auth service contributes to the suite."""

from collections.abc import Iterator

from opal_registry import SubApp, hookimpl


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    yield SubApp(
        name="opal_auth",
        models=("opal_auth.models",),
        requires=("core>=1.0",),
        migrations="opal_auth:migrations",
        table_prefix="auth_",
    )
