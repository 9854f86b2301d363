"""Extras: libraries that a part of the package needs, and that are installed with it when they are asked for."""

import importlib.util
from contextlib import suppress

from opal_registry.errors import ConfigError, Problem


class MissingExtraError(ConfigError, ImportError):
    """A library is not installed that what was asked for needs."""

    @classmethod
    def of(cls, what: str, extra: str, where: str = "") -> "MissingExtraError":
        """The error that names the extra.

        Args:
            what: What needs which library.
            extra: Which extra brings it.
            where: Where that was asked for.

        Example:
            >>> print(MissingExtraError.of("cloud_sql needs Google's connector, which is not installed", "cloudsql"))
            cloud_sql needs Google's connector, which is not installed
              mend:  pip install 'opal-registry[cloudsql]'
        """
        return cls(Problem(what, where, f"pip install 'opal-registry[{extra}]'"))


def is_installed(module: str) -> bool:
    """Whether a module could be imported; it is not, but the packages that it would lie in are."""
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec(module) is not None
    return False
