"""Programs that some tests need and that no Python package brings: where they are, and how to get them."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


class ProgramMissingError(Exception):
    """A program was not found; the text says in one line how to get it."""


def find_program(name: str, *, variable: str, install: Mapping[str, str]) -> Path:
    """Where a program really lies.

    Args:
        name: The program: the first one in the folders that the variable names (separated as in ``PATH``; where that is
            set nothing else counts), else in ``PATH``, ``/usr/sbin`` and ``/usr/libexec``.
        variable: The environment variable.
        install: The command that brings it, by the program that says which system this is; any other one by ``else``.

    Raises:
        ProgramMissingError: If it is not there.
    """
    named = os.environ.get(variable)
    usual = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/libexec"]
    found = shutil.which(name, path=named or os.pathsep.join(usual))
    if found:
        return Path(found).resolve()
    looked_at = f"there is no {name} in {variable}={named}; unset it, and" if named else f"no {name};"
    raise ProgramMissingError(f"{looked_at} install one with: {_installation(install)}")


def _installation(install: Mapping[str, str]) -> str:
    command = next((install[program] for program in install if shutil.which(program)), install["else"])
    is_plain = command.startswith(("brew ", "see ")) or os.geteuid() == 0
    return command if is_plain else f"sudo {command}"


__all__ = ["ProgramMissingError", "find_program"]
