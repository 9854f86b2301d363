"""The built-in sub-app ``core``, which holds the shared ``User``. It enters by the same door as everybody else."""

from collections.abc import Iterator

from opal_registry.hookspecs import hookimpl
from opal_registry.sub_app import SubApp


@hookimpl
def opal_sub_apps() -> Iterator[SubApp]:
    """Contribute ``core``."""
    yield SubApp(name="core", models=("opal_registry.models",), migrations="opal_registry:revisions")
