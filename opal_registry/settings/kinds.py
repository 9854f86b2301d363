"""The kinds of values that settings have: durations, counts, ports, lists of names; and sections of them."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from opal_registry.secrets import type_name

WEEK = 7 * 24 * 3600
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\Z", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}
_DURATION_HOW = "write seconds as a number, or text such as 50ms, 60s, 5m or 1h; at most 168h"
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""Characters that nobody sees; libpq takes a NUL for the end of all that it is told, of how to encrypt too."""

_WITH_PORT = re.compile(r"([^:/]+):(\d+)")
PLACEHOLDER = re.compile(r"<[^<>]*>|\$?\{+[^{}]*\}+|\$[A-Z][A-Z_]+\b")
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


class Section(BaseModel):
    """What all sections have in common: unknown keys are errors, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def fault(what: str, mend: str, **data: Any) -> PydanticCustomError:
    """An error for pydantic that carries what was found (after the key's name) and how to mend it.

    Args:
        what: What was found.
        mend: How to mend it.
        **data: What else is known, such as ``at``, the keys of a section that it is about.
    """
    return PydanticCustomError("opal", "{what}", {"what": what, "mend": mend, **data})


def parse_duration(value: object) -> float:
    """Turn ``60s``, ``50ms``, ``5m``, ``1h`` or a number of seconds into seconds.

    Example:
        >>> parse_duration("50ms"), parse_duration("5m"), parse_duration(2)
        (0.05, 300.0, 2.0)
    """
    if isinstance(value, str) and (match := _DURATION.match(value.strip())) and len(value) < 30:
        seconds = round(float(match[1]) * _SECONDS[match[2]], 6)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 10 * WEEK else math.inf
    else:
        raise fault(f"cannot be {_shown(value)}", _DURATION_HOW)
    if not 0 <= seconds <= WEEK:
        raise fault(f"cannot be {_shown(value)}", _DURATION_HOW)
    return seconds


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    return type_name(value) if isinstance(value, (dict, list, tuple, bool)) or value is None else f"{value!s:.40}"


def whole_number(value: object) -> object:
    """Turn text of digits into a number; refuse truth values, fractions and everything else."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,18}", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise fault(f"cannot be {_shown(value)}", "write a whole number")
    return value


def _names(value: object) -> list[str]:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value):
        return list(value)
    found = _shown(value) if not isinstance(value, (list, tuple)) else "a list that holds something else than text"
    raise fault(f"cannot be {found}", "write a list of names, such as [one, two]")


def _all_or_names(value: object) -> object:
    if value == "all":
        return value
    if isinstance(value, str):
        raise fault(f"cannot be {_shown(value)}", "write all, or a list of names, such as [one, two]")
    return _names(value)


def _positive(value: float) -> float:
    if value == 0:
        raise fault("cannot be 0", _DURATION_HOW)
    return value


def _visible(value: str) -> str:
    if CONTROL.search(value):
        raise fault("holds a character that cannot be seen", "take it out")
    return value


def _host(value: str) -> str:
    if "://" in value:
        raise fault("holds a URL", "write the name or the address only; or write it as url")
    if match := _WITH_PORT.fullmatch(value):
        raise fault(f"cannot be {_shown(value)}", f"write host: {match[1]} and port: {match[2]}")
    if PLACEHOLDER.search(value):
        raise fault(f"still is the placeholder {_shown(value)}", "write the real value in its place")
    return value


def _environment_name(value: object) -> object:
    if isinstance(value, str) and not PLAIN_NAME.match(value):
        raise fault(f"cannot be {_shown(value)}", "write a plain name, such as development, staging or production")
    return value


_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": WEEK},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)?$"},
    ]
}
_NAMES_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}

SECONDS = "seconds"
"""Marks a field that is a duration."""

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA), SECONDS]
PositiveDuration = Annotated[Duration, BeforeValidator(lambda value: _positive(parse_duration(value)))]
Whole = Annotated[int, BeforeValidator(whole_number)]
Port = Annotated[Whole, Field(ge=1, le=65_535)]
Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_visible)]
Host = Annotated[Text, AfterValidator(_host)]
Names = Annotated[list[str], PlainValidator(_names), WithJsonSchema(_NAMES_SCHEMA)]
AllOrNames = Annotated[
    Literal["all"] | list[str],
    PlainValidator(_all_or_names),
    WithJsonSchema({"anyOf": [{"const": "all"}, _NAMES_SCHEMA]}),
]
EnvironmentName = Annotated[Text, BeforeValidator(_environment_name)]
