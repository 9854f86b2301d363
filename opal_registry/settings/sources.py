"""Where settings come from, in which order, and how they become :class:`~opal_registry.settings.Settings`."""

import os
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from os.path import normpath
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from opal_registry.errors import ConfigError, Problem
from opal_registry.secrets import Secret
from opal_registry.settings.database import DEFAULT_URL, FORMS, DatabaseSettings
from opal_registry.settings.explain import describe, problem_of, reserved_in_use, settings_schema, unknown_key
from opal_registry.settings.kinds import PLAIN_NAME
from opal_registry.settings.layers import Key, Layer, Leaf, Merged, Reading, anchor_url, merge, sqlite_path
from opal_registry.settings.model import DEFAULT_BIND, Settings
from opal_registry.settings.origin import Origin, dotted, variable_name
from opal_registry.settings.shape import shape_at
from opal_registry.settings.variables import (
    Variable,
    VariableReader,
    dotenv_variables,
    environment_variables,
    secret_file_variables,
)

DEFAULT_FILE = Path("config/opal.yaml")
DEFAULT_NAME = "opal_suite.db"
DEFAULT_SECRETS = Path("/run/secrets")
_FORM_KEYS = {(key,) for keys in FORMS.values() for key in keys}


@dataclass(slots=True)
class _Sources:
    """What the sources read from, and what they found wrong."""

    arguments: Mapping[str, Any]
    environ: Mapping[str, str]
    directory: Path
    dotenv: list[Variable]
    config_file: Path | None = None
    referenced: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    @property
    def lookup(self) -> Mapping[str, str]:
        """Where references to variables are looked up: the environment, then ``.env``."""
        environ = cast("MutableMapping[str, str]", self.environ)
        return ChainMap(environ, {variable.name: variable.value for variable in self.dotenv})

    def shown(self, path: Path) -> str:
        """A path, relative to the working directory if it lies below it."""
        return str(path.relative_to(self.directory)) if path.is_relative_to(self.directory) else str(path)


def _from_arguments(sources: _Sources) -> list[Layer]:
    given = _without_none(sources.arguments)
    return [Reading(sources.directory, sources.lookup, lambda _: Origin("argument")).layer(given)]


def _from_environment(sources: _Sources) -> list[Layer]:
    return _from_variables(sources, environment_variables(sources.environ))


def _from_dotenv(sources: _Sources) -> list[Layer]:
    return _from_variables(sources, sources.dotenv)


def _from_secret_files(sources: _Sources) -> list[Layer]:
    directory, named_by = _secrets_directory(sources)
    if named_by and not directory.is_dir():
        what = f"OPAL_SECRETS_DIR names {directory}, which is not a directory"
        raise ConfigError(Problem(what, where=named_by, mend="correct it, or unset it"))
    if not directory.is_dir() or (not named_by and not os.access(directory, os.R_OK | os.X_OK)):
        return []
    try:
        variables = list(secret_file_variables(directory))
    except OSError as exc:
        what = f"the directory {directory} cannot be read: {exc.strerror}"
        raise ConfigError(Problem(what, where=named_by, mend="let this user read it")) from None
    return _from_variables(sources, variables)


def _from_file(sources: _Sources) -> list[Layer]:
    path = sources.config_file
    if path is None:
        return []
    from opal_registry.settings.yaml_file import load_yaml  # only where there is a file

    shown = sources.shown(path)
    document = load_yaml(path, shown=shown)
    lines = document.lines
    directory = path.parent if path.is_file() else sources.directory

    def origin_of(key: Key) -> Origin:
        while key and key not in lines:
            key = key[:-1]
        return Origin("file", f"{shown}:{lines.get(key, 1)}")

    return [Reading(directory, sources.lookup, origin_of).layer(document.data)]


PRECEDENCE: tuple[tuple[str, Callable[[_Sources], list[Layer]]], ...] = (
    ("arguments", _from_arguments),
    ("environment variables: OPAL_*, then DATABASE_URL, then SQLALCHEMY_DATABASE_URL", _from_environment),
    ("the same variables in .env", _from_dotenv),
    ("files named like the variables in $OPAL_SECRETS_DIR, else /run/secrets", _from_secret_files),
    ("the YAML file", _from_file),
)
"""The sources, the highest first. What none of them sets has its default."""


def load_settings(
    config: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    **arguments: Any,
) -> Settings:
    """Read the configuration from all sources.

    Args:
        config: The YAML file; unless given, ``$OPAL_CONFIG``, ``config/$OPAL_ENV.yaml`` or ``config/opal.yaml``.
        environ: The environment; that of the process unless given.
        directory: The working directory; that of the process unless given.
        **arguments: Settings that override every source, as nested dicts; None means not given.

    Raises:
        ConfigError: If anything is wrong; everything that can be seen at once.

    Example:
        >>> settings = load_settings(environ={"DATABASE_URL": "postgresql://app@db/suite"}, directory=Path("/"))
        >>> str(settings.origin("database", "url")), settings.database.url.get_secret_value()
        ('variable DATABASE_URL', 'postgresql://app@db/suite')
    """
    environ = os.environ if environ is None else environ
    directory = (directory or Path.cwd()).absolute()
    dotenv = dotenv_variables(directory / ".env", shown=".env")
    sources = _Sources(arguments, environ, directory, dotenv)
    sources.config_file = _find_file(sources, config)
    # The file is read first: what references name is not a misspelt setting.
    sources.referenced = {
        v.value for v in [*environment_variables(environ), *dotenv] if v.name.upper().endswith("__ENV")
    }
    by_name = {}
    for name, read in reversed(PRECEDENCE):
        by_name[name] = read(sources)
        sources.referenced |= _referenced(by_name[name])
    merged = merge([layer for name, _ in PRECEDENCE for layer in by_name[name]])
    return _build(sources, merged)


def _build(sources: _Sources, merged: Merged) -> Settings:
    problems = [*sources.problems, *merged.problems, *_take_out_empty(merged)]
    _add_default_database(sources, merged)
    tree = merged.tree()
    problems += [unknown_key((key,), merged) for key in tree if key not in Settings.model_fields]
    try:
        settings = Settings(**{key: value for key, value in tree.items() if key in Settings.model_fields})
    except ValidationError as exc:
        problems += [problem_of(error, merged) for error in exc.errors() if not _is_known_conflict(error, merged)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    settings._config_file = sources.config_file
    settings._origins = merged.origins()
    _refuse_default_in_production(settings)
    return settings


def _add_default_database(sources: _Sources, merged: Merged) -> None:
    if ("database",) in merged.leaves:
        if merged.leaves[("database",)].value != {}:
            return
        del merged.leaves[("database",)]
    if not any(path[:1] == ("database",) and path[1:2] in _FORM_KEYS for path in merged.leaves):
        url = Secret(anchor_url(DEFAULT_URL, sources.directory), key="database.url", where="default")
        merged.leaves[("database", "url")] = Leaf(url, Origin("default"))


def _is_known_conflict(error: ErrorDetails, merged: Merged) -> bool:
    return "forms" in error.get("ctx", {}) and tuple(map(str, error["loc"])) in merged.conflicts


def _take_out_empty(merged: Merged) -> list[Problem]:
    empty = {path: leaf for path, leaf in merged.leaves.items() if leaf.value is None and shape_at(path) is not None}
    for path in empty:
        del merged.leaves[path]
    return [
        Problem(f"{dotted(path)} has no value", where=str(leaf.origin), mend="write its value, or take the key out")
        for path, leaf in empty.items()
    ]


def _refuse_default_in_production(settings: Settings) -> None:
    if not settings.is_production:
        return
    problems = []
    for bind, database in settings.databases.items():
        section = ("database",) if bind == DEFAULT_BIND else ("binds", bind)
        path = (*section, "url" if database.form == "url" else "name")
        file = _sqlite_file(database)
        if file and (settings.origin(*path).source == "default" or Path(file).name == DEFAULT_NAME):
            who = settings.origin("environment")
            what = f"the environment is {settings.environment} ({who}), but {dotted(path)} is the SQLite file {file}"
            name = variable_name((*section, "url"))
            by = f"{name} or DATABASE_URL" if bind == DEFAULT_BIND else name
            mend = f"set {by}, or write {dotted((*section, 'url'))} in the YAML file"
            problems.append(Problem(what, where=str(settings.origin(*path)), mend=mend))
    if problems:
        raise ConfigError(*problems)


def _sqlite_file(database: DatabaseSettings) -> str | None:
    if database.form == "parts":
        return database.name if str(database.driver).startswith("sqlite") else None
    url = database.url
    return sqlite_path(url.get_secret_value()) if url and not url.is_reference else None


def _find_file(sources: _Sources, config: str | Path | None) -> Path | None:
    if config is not None:
        return _named_file(sources, str(config), "--config", "--config")
    if named := _special(sources, "OPAL_CONFIG"):
        return _named_file(sources, named.value, "OPAL_CONFIG", str(named.origin))
    if profile := _special(sources, "OPAL_ENV"):
        return _profile(sources, profile)
    path = sources.directory / DEFAULT_FILE
    return path if path.exists() or path.is_symlink() else None


def _named_file(sources: _Sources, named: str, by: str, where: str) -> Path:
    path = Path(normpath(sources.directory / Path(named).expanduser())) if named.strip() and "\0" not in named else None
    if path is None:
        raise ConfigError(Problem(f"{by} is empty", where=where, mend="name a YAML file, or leave it out"))
    if not path.exists():
        what = f"{by} names {named}, but there is no {path}"
        raise ConfigError(Problem(what, where=where, mend="correct the path, or create the file"))
    return path


def _profile(sources: _Sources, profile: Variable) -> Path:
    name, where = profile.value, str(profile.origin)
    if not PLAIN_NAME.match(name):
        mend = "write a plain name, such as development, staging or production, or unset it"
        raise ConfigError(Problem(f"OPAL_ENV cannot be {name[:40]!r}", where=where, mend=mend))
    folder = sources.directory / DEFAULT_FILE.parent
    path = folder / f"{name}.yaml"
    if path.exists():
        return path
    profiles = sorted(found.stem for found in folder.glob("*.yaml")) if folder.is_dir() else []
    there = f"choose one of {', '.join(profiles)}" if profiles else f"there are no profiles in {folder}"
    what = f"OPAL_ENV is {name}, but there is no {path}"
    raise ConfigError(Problem(what, where=where, mend=f"{there}; or create it; or name a file with OPAL_CONFIG"))


def _special(sources: _Sources, name: str) -> Variable | None:
    """A variable that steers the reading itself: from the environment, else from ``.env``."""
    if name in sources.environ:
        return Variable(name, sources.environ[name], Origin("environment variable", name))
    return next((variable for variable in sources.dotenv if variable.name == name), None)


def _secrets_directory(sources: _Sources) -> tuple[Path, str]:
    named = _special(sources, "OPAL_SECRETS_DIR")
    if named is None:
        return DEFAULT_SECRETS, ""
    return sources.directory / Path(named.value).expanduser(), str(named.origin)


def _from_variables(sources: _Sources, variables: list[Variable]) -> list[Layer]:
    reader = VariableReader(sources.directory, sources.lookup, frozenset(sources.referenced))
    layers = reader.layers(variables)
    sources.problems += reader.problems
    return layers


def _referenced(layers: list[Layer]) -> set[str]:
    values = [leaf.value for layer in layers for leaf in layer.leaves.values()]
    return {value.target for value in values if isinstance(value, Secret) and value.kind == "env"}


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if value is not None
    }


__all__ = ["PRECEDENCE", "describe", "load_settings", "reserved_in_use", "settings_schema"]
