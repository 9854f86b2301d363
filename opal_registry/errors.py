"""Everything that can go wrong, as data: what was found, where, and how to mend it.

One root and a handful of children; each child knows the exit code that the command line ends with. Errors carry
:class:`Problem` records, several at once where several things are wrong, so that nobody mends one only to meet the next.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")
"""Where an object lies in memory, as Python writes it: it says nothing, and differs from run to run."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        what: What was found, as one sentence without a full stop at its end; never a secret.
        where: The file and line, plugin, distribution or table it was found in.
        mend: What to do about it.

    Example:
        >>> print(Problem("no such key 'pol'", where="opal.yaml:3", mend="write 'pool'"))
        no such key 'pol'
          where: opal.yaml:3
          mend:  write 'pool'
    """

    what: str
    where: str = ""
    mend: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "what", ADDRESS.sub("", self.what))

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.mend:
            lines.append(f"  mend:  {self.mend}")
        return "\n".join(lines)


class OpalError(Exception):
    """The root of all errors raised on purpose by this package.

    Args:
        *problems: What is wrong; at least one.

    Attributes:
        problems: The same, as a tuple.
        exit_code: What a command that ends with this error returns to the shell.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ConfigError(OpalError):
    """The configuration or the command line is wrong (exit code 2)."""

    exit_code = 2


class PluginError(OpalError):
    """A plugin could not be loaded, or what it contributes is wrong (exit code 3)."""

    exit_code = 3


class OwnershipError(PluginError):
    """Two sub-apps claim one thing, or nobody owns it (exit code 3)."""


class SchemaError(PluginError):
    """A sub-app's models cannot exist in the target database (exit code 3)."""


class DatabaseError(OpalError):
    """The database is unreachable, refuses, or fails (exit code 4)."""

    exit_code = 4


class LockTimeoutError(DatabaseError):
    """Another process holds the lock for longer than we may wait (exit code 5)."""

    exit_code = 5
