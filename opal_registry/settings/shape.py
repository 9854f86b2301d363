"""The shape of the configuration as paths: which keys there are, and what each holds."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from opal_registry.settings.model import Settings

_INSIDE: dict[Any, int] = {dict: 1, list: 0}


def section_of(annotation: Any) -> Any:
    """The model, dict or type that an annotation holds, without ``Annotated`` and ``None``."""
    if hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    members = [member for member in getattr(annotation, "__args__", ()) if member is not type(None)]
    is_optional = type(None) in getattr(annotation, "__args__", ())
    return section_of(members[0]) if is_optional and len(members) == 1 else annotation


def shape_at(path: tuple[str, ...]) -> Any:
    """The type at a path, such as a model, ``Secret`` or ``float``; None if there is no such key.

    Example:
        >>> shape_at(("database", "pool")).__name__, shape_at(("binds", "anything", "password")).__name__
        ('PoolSettings', 'Secret')
        >>> shape_at(("database", "pol")) is None
        True
    """
    shape: Any = Settings
    for key in path:
        keys = keys_of(shape)
        if keys is None:
            inside = _INSIDE.get(getattr(shape, "__origin__", None))
            shape = None if inside is None else section_of(shape.__args__[inside])
        else:
            shape = section_of(shape.model_fields[key].annotation) if key in keys else None
        if shape is None:
            return None
    return shape


def keys_of(shape: Any) -> list[str] | None:
    """The keys that a section may hold; None where any are allowed, or where it is no section."""
    return list(shape.model_fields) if isinstance(shape, type) and issubclass(shape, BaseModel) else None


def iter_paths(shape: Any = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting and section, those below dicts excepted."""
    for key in keys_of(shape) or ():
        yield (*path, key)
        yield from iter_paths(shape_at((*path, key)), (*path, key))
