"""Secrets and references to secrets: held as a box that shows ``********`` and is opened on purpose only.

A secret is written as text, or as a reference to the place that holds it: ``{file: path}`` or ``{env: NAME}``. A
reference is followed when the value is asked for, not before, so that looking at a configuration needs no secret.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from opal_registry.errors import ConfigError, Problem

MASK = "********"
REFERENCES = ("file", "env")
LATER_REFERENCES = ("keyring", "gcp")
HOW_TO_WRITE = "write text in quotes, or a reference: {file: path} or {env: NAME}"
MAX_BYTES = 1024 * 1024

_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|api_?key)[^=&]*=)[^&]*", re.IGNORECASE)


def mask_url(text: str) -> str:
    """Hide the password, and the query parameters that look secret, of a database URL.

    A password with an unescaped ``@`` makes a URL ambiguous; everything up to the last ``@`` is hidden then. Text that is
    no URL is hidden as a whole.

    Example:
        >>> mask_url("postgresql://app:hunter2@db/suite?sslmode=require&sslpassword=x")
        'postgresql://app:********@db/suite?sslmode=require&sslpassword=********'
        >>> mask_url("sqlite:////srv/opal_suite.db")
        'sqlite:////srv/opal_suite.db'
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):
        return MASK
    user_info, at, address = rest.rpartition("@")
    if at and ":" in user_info and not scheme.startswith("sqlite"):
        rest = f"{user_info.partition(':')[0]}:{MASK}@{address}"
    masked = _SECRET_PARAMETER.sub(lambda match: match[1] + MASK, rest)
    return f"{scheme}://{masked}"


class Secret:
    """A text that must not be seen, or a reference to the place that holds it.

    Args:
        text: The secret itself.
        file: A file that holds it; one newline at its end does not belong to it.
        env: An environment variable that holds it.
        key: The setting it is the value of, for errors.
        where: Where that was written, for errors.
        environ: Where ``env`` is looked up; the environment of the process unless given.

    Example:
        >>> Secret("hunter2"), str(Secret("hunter2")), Secret("hunter2").get_secret_value()
        (Secret('********'), '********', 'hunter2')
        >>> Secret(env="OPAL_DB_PASSWORD", environ={"OPAL_DB_PASSWORD": "hunter2"})
        Secret(env='OPAL_DB_PASSWORD')
    """

    __slots__ = ("_environ", "_text", "env", "file", "key", "where")

    def __init__(
        self,
        text: str | None = None,
        *,
        file: str | None = None,
        env: str | None = None,
        key: str = "",
        where: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if [text, file, env].count(None) != 2:
            raise TypeError("a secret is one of: a text, a file, an environment variable")
        self._text = text
        self._environ = environ
        self.file = file
        self.env = env
        self.key = key
        self.where = where

    @property
    def is_reference(self) -> bool:
        """Whether the value lies somewhere else."""
        return self._text is None

    @property
    def reference(self) -> str:
        """The reference as it is written, such as ``{file: /run/secrets/db}``; empty for plain text."""
        if self.file is not None:
            return f"{{file: {self.file}}}"
        return f"{{env: {self.env}}}" if self.env is not None else ""

    def get_secret_value(self) -> str:
        """Return the text, following the reference if it is one.

        Raises:
            ConfigError: If the file or variable is missing, unreadable or empty.
        """
        if self.file is not None:
            return self._read_file(Path(self.file))
        if self.env is not None:
            return self._read_env(self.env)
        return self._text or ""

    def _read_env(self, name: str) -> str:
        value = (os.environ if self._environ is None else self._environ).get(name)
        if not value:
            state = "is not set" if value is None else "is empty"
            raise self._error(f"the environment variable {name} {state}", f"set {name}")
        return value

    def _read_file(self, path: Path) -> str:
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
            text = data.decode()
        except FileNotFoundError:
            raise self._error(f"the file {path} does not exist", "create it, or correct the reference") from None
        except IsADirectoryError:
            raise self._error(f"{path} is a directory", "name the file in it that holds the secret") from None
        except UnicodeDecodeError:
            raise self._error(f"the file {path} is not UTF-8 text", "store the secret as UTF-8 text") from None
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not a path"
            raise self._error(f"the file {path} cannot be read: {reason}", "let this user read it") from None
        return self._checked_text(path, text, len(data))

    def _checked_text(self, path: Path, text: str, size: int) -> str:
        text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
        if size > MAX_BYTES:
            raise self._error(f"the file {path} is larger than 1 MiB", "name the file that holds only the secret")
        if not text:
            raise self._error(f"the file {path} is empty", "write the secret into it")
        return text

    def _error(self, what: str, mend: str) -> ConfigError:
        return ConfigError(Problem(f"{self.key}: {what}" if self.key else what, where=self.where, mend=mend))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._text, self.file, self.env) == (other._text, other.file, other.env)

    def __hash__(self) -> int:
        return hash((self._text, self.file, self.env))

    def __str__(self) -> str:
        return self.reference or MASK

    def __repr__(self) -> str:
        if self.file is not None:
            return f"Secret(file={self.file!r})"
        return f"Secret(env={self.env!r})" if self.env is not None else f"Secret({MASK!r})"

    @classmethod
    def parse(cls, value: object) -> "Secret":
        """Make a secret of what a configuration holds: text, or ``{file: path}``, or ``{env: NAME}``.

        Raises:
            PydanticCustomError: If it is neither; the value is not in the message.
        """
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls._parse_text(value)
        if isinstance(value, dict):
            return cls._parse_reference(value)
        found = type_name(value)
        if isinstance(value, (bool, int, float)):
            raise _fault(f"must be text, but it is read as {found}", "put the value in quotes")
        raise _fault(f"must be text or a reference, not {found}", HOW_TO_WRITE)

    @classmethod
    def _parse_text(cls, value: str) -> "Secret":
        if not value:
            raise _fault("is empty", HOW_TO_WRITE)
        return cls(value)

    @classmethod
    def _parse_reference(cls, value: dict[Any, Any]) -> "Secret":
        kinds = [kind for kind in REFERENCES if kind in value]
        for kind in LATER_REFERENCES:
            if kind in value:
                raise _fault(f"{{{kind}: ...}} is not understood by this release", HOW_TO_WRITE)
        if len(value) != 1 or not kinds:
            raise _fault("is not a reference", f"{HOW_TO_WRITE}; text that starts with a brace must be in quotes")
        target = value[kinds[0]]
        if not isinstance(target, str) or not target or "\0" in target:
            raise _fault(f"{{{kinds[0]}: ...}} must hold text that is not empty", HOW_TO_WRITE)
        return cls(file=target) if kinds[0] == "file" else cls(env=target)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = {
            "file": "A file that holds the secret; relative to the file that names it.",
            "env": "An environment variable that holds the secret.",
        }
        references = [
            {
                "type": "object",
                "properties": {kind: {"type": "string", "minLength": 1, "description": described[kind]}},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind in REFERENCES
        ]
        return {"anyOf": [{"type": "string", "minLength": 1}, *references]}


def type_name(value: object) -> str:
    """What to call the type of a value, in words that people who write YAML know.

    Example:
        >>> type_name(5), type_name(True), type_name({})
        ('a number', 'a truth value', 'a section')
    """
    names: dict[type, str] = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "text",
        dict: "a section",
        list: "a list",
        tuple: "a list",
        type(None): "nothing (null)",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _fault(what: str, mend: str) -> PydanticCustomError:
    return PydanticCustomError("opal", "{what}", {"what": what, "mend": mend})
