"""Secrets and references to secrets: held as a box that shows ``********`` and is opened on purpose only.

A secret is written as text, or as a reference to the place that holds it, such as ``{file: path}``. A reference is
followed when the value is asked for the first time, not before, so that looking at a configuration needs no secret.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from opal_registry.errors import ConfigError
from opal_registry.references import DESCRIPTIONS, READERS, read

MASK = "********"
REFERENCES = tuple(READERS)
HOW_TO_WRITE = "write text in quotes, or a reference: {file: path}, {env: NAME}, {keyring: SERVICE/USER} or {gcp: NAME}"

_SECRET_PARAMETER = re.compile(
    r"([?&][^=&]*(?:pass|pwd|secret|token|api_?key)[^=&]*=)[^&]*|([?&]options=)[^&]*(?:pass|pwd|secret|token)[^&]*",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?:\[[^\]/?]*\]|[^:/?\[\]]*)(?::(?:\d*|port))?(?:,|[/?]|\Z)", re.IGNORECASE)
"""What may stand before the path of a URL without a user: a host, or several, and a port or the word that an example has for it."""


def mask_url(text: str) -> str:
    """Hide the password, and the query parameters that look secret, of a database URL.

    A password with an unescaped ``@`` makes a URL ambiguous; everything up to the last ``@`` is hidden then. Without any ``@``
    everything is hidden that follows a ``:`` and is no port. Text that is no URL is hidden as a whole.

    Example:
        >>> mask_url("postgresql://app:hunter2@db/suite?sslmode=require&sslpassword=x")
        'postgresql://app:********@db/suite?sslmode=require&sslpassword=********'
        >>> mask_url("postgresql://app:hunter2/suite"), mask_url("postgresql://db:5432/suite")
        ('postgresql://app:********', 'postgresql://db:5432/suite')
        >>> mask_url("sqlite:////srv/opal_suite.db")
        'sqlite:////srv/opal_suite.db'
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):
        return MASK
    if not scheme.startswith("sqlite"):
        rest = _mask_password(rest)
    masked = _SECRET_PARAMETER.sub(lambda match: (match[1] or match[2]) + MASK, rest)
    return f"{scheme}://{masked}"


def _mask_password(rest: str) -> str:
    user_info, at, address = rest.rpartition("@")
    if not at:
        return rest if _ADDRESS.match(rest) else f"{rest.partition(':')[0]}:{MASK}"
    return f"{user_info.partition(':')[0]}:{MASK}@{address}" if ":" in user_info else rest


class Secret:
    """A text that must not be seen, or a reference to the place that holds it.

    Args:
        text: The secret itself.
        key: The setting it is the value of, for errors.
        where: Where that was written, for errors.
        environ: Where variables are looked up; the environment of the process unless given.
        **reference: Or the place that holds it, by its kind: ``file``, ``env``, ``keyring`` or ``gcp``.

    Example:
        >>> Secret("hunter2"), str(Secret("hunter2")), Secret("hunter2").get_secret_value()
        (Secret('********'), '********', 'hunter2')
        >>> Secret(env="OPAL_DB_PASSWORD", environ={"OPAL_DB_PASSWORD": "hunter2"})
        Secret(env='OPAL_DB_PASSWORD')
    """

    __slots__ = ("_environ", "_text", "key", "kind", "target", "where")

    def __init__(
        self,
        text: str | None = None,
        *,
        key: str = "",
        where: str = "",
        environ: Mapping[str, str] | None = None,
        **reference: str,
    ) -> None:
        if len(reference) + (text is not None) != 1 or not reference.keys() <= READERS.keys():
            raise TypeError(f"a secret is a text, or one of: {', '.join(READERS)}")
        self.kind, self.target = next(iter(reference.items()), ("", ""))
        self._text, self._environ, self.key, self.where = text, environ, key, where

    @property
    def is_reference(self) -> bool:
        """Whether the value lies somewhere else."""
        return bool(self.kind)

    @property
    def reference(self) -> str:
        """The reference as it is written, such as ``{file: /run/secrets/db}``; empty for plain text."""
        return f"{{{self.kind}: {self.target}}}" if self.kind else ""

    def get_secret_value(self) -> str:
        """Return the text; a reference is followed the first time, which may ask a network.

        Raises:
            ConfigError: If what it refers to is missing, unreadable or empty.
        """
        if self._text is None:
            self.renew()
        return self._text or ""

    def renew(self) -> None:
        """Follow a reference anew: what it leads to may have been replaced. If it cannot be, the old value is kept.

        Raises:
            ConfigError: If what it refers to is missing, unreadable or empty.
        """
        if not self.kind:
            return
        try:
            self._text = read(self.kind, self.target, self._environ)
        except ConfigError as error:
            (problem,) = error.problems
            what = f"{self.key}: {problem.what}" if self.key else problem.what
            raise ConfigError(replace(problem, what=what, where=self.where)) from None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it is written: what a reference led to, and the environment it was looked up in, stay here."""
        reference = {self.kind: self.target} if self.kind else {}
        return _remake, (None if self.kind else self._text, self.key, self.where, reference)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str | None]:
        return (self.kind, self.target) if self.kind else ("", self._text)

    def __str__(self) -> str:
        return self.reference or MASK

    def __repr__(self) -> str:
        return f"Secret({self.kind}={self.target!r})" if self.kind else f"Secret({MASK!r})"

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
        if len(value) != 1 or not kinds:
            raise _fault("is not a reference", f"{HOW_TO_WRITE}; text that starts with a brace must be in quotes")
        target = value[kinds[0]]
        if not isinstance(target, str) or not target or "\0" in target:
            raise _fault(f"{{{kinds[0]}: ...}} must hold text that is not empty", HOW_TO_WRITE)
        return cls(**value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        references = [
            {
                "type": "object",
                "properties": {kind: {"type": "string", "minLength": 1, "description": DESCRIPTIONS[kind]}},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind in REFERENCES
        ]
        return {"anyOf": [{"type": "string", "minLength": 1}, *references]}


def _remake(text: str | None, key: str, where: str, reference: dict[str, str]) -> Secret:
    return Secret(text, key=key, where=where, environ=None, **reference)


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
