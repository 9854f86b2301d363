"""Where a value of the configuration comes from, and what its key is called."""

from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "OPAL_"
"""What variables that set a key begin with."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Args:
        source: The kind of source, one of ``argument``, ``environment variable``, ``variable``, ``.env``,
            ``secret file``, ``file``, ``default``.
        place: The name, path or line within it.

    Example:
        >>> str(Origin("file", "config/opal.yaml:4")), str(Origin("variable", "DATABASE_URL")), str(Origin("default"))
        ('config/opal.yaml:4', 'variable DATABASE_URL', 'default')
    """

    source: str
    place: str = ""

    def __str__(self) -> str:
        if self.source in ("file", ".env"):
            return self.place
        return f"{self.source} {self.place}".strip()


def dotted(path: Iterable[object]) -> str:
    """A path as people write it.

    Example:
        >>> dotted(("database", "replicas", "0", "url"))
        'database.replicas[0].url'
    """
    return "".join(f"[{key}]" if str(key).isdigit() else f".{key}" for key in path).removeprefix(".")


def variable_name(path: Iterable[str]) -> str:
    """The variable that sets a key.

    Example:
        >>> variable_name(("database", "pool", "size"))
        'OPAL_DATABASE__POOL__SIZE'
    """
    return PREFIX + "__".join(path).upper()
