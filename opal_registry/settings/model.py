"""The shape of the configuration: which settings there are, of what kind, with which defaults.

Making these models reads nothing; :func:`opal_registry.settings.sources.load_settings` does. Fields marked ``reserved`` are
checked but not acted upon by this release.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from opal_registry.secrets import Secret
from opal_registry.settings.database import DEFAULT_URL, RESERVED, DatabaseSettings
from opal_registry.settings.kinds import (
    AllOrNames,
    Duration,
    EnvironmentName,
    Names,
    PositiveDuration,
    Section,
    Text,
    Whole,
    fault,
)
from opal_registry.settings.origin import Origin

DEFAULT_BIND = "default"
PRODUCTION = "production"
LONGEST_BIND = 63
"""So many characters a bind key may have: the ledger keeps it."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class SubAppsSettings(Section):
    """Which sub-apps take part."""

    enabled: AllOrNames = "all"
    """all, or the names of those that take part."""
    disabled: Names = []
    """Those that do not, whatever enabled says."""
    on_error: Literal["raise", "quarantine"] = "raise"
    """What happens when one cannot be loaded: an error, or the others go on without it."""
    modules: dict[str, Names] = {}
    """Applications without an entry point: their name, and the modules that hold their models."""
    import_timeout: PositiveDuration = 60.0
    """How long importing the models of one may take."""


class LocksSettings(Section):
    """How processes that start at the same time wait for each other."""

    wait: Duration = 60.0
    """How long to wait for another process that creates or migrates tables; when looking, for a table that is locked."""
    ddl_lock_timeout: PositiveDuration = 2.0
    """How long one statement may wait for a table that is in use."""
    retries: Annotated[Whole, Field(ge=0, le=100)] = 5
    """How often such a statement is tried again."""
    statement_timeout: PositiveDuration | None = None
    """How long one statement of a revision may take, on PostgreSQL; no limit but the server's own if it is not set."""


class DeploymentSettings(Section):
    """How often the application runs, for what opal-db doctor computes."""

    instances: Annotated[Whole, Field(ge=1, le=10_000)] = 1
    """How many containers or machines run it at most, while one release takes over from another too."""
    workers: Annotated[Whole, Field(ge=1, le=1000)] = 1
    """How many processes each of them has."""
    reserve: Annotated[Whole, Field(ge=0, le=10_000)] = 5
    """How many connections to a server are left to others: operators, migrations, other programs."""


class ObserveSettings(Section):
    """What is told of statements while the application runs."""

    slow_query: Duration = 0.0
    """A statement that takes longer is logged, without its parameters (logger opal_registry.slow); 0 is none."""
    explain: bool = False
    """Whether the database is asked for the plan of a slow statement, once a minute for each."""
    tags: bool = False
    """Whether each statement says in a comment for which sub-app and route it is (sqlcommenter)."""

    @model_validator(mode="after")
    def _explains_what_is_slow(self) -> Self:
        if self.explain and not self.slow_query:
            raise fault("has explain without slow_query", "say what is slow, such as slow_query: 500ms, or take it out")
        return self


class ChecksSettings(Section):
    """Which findings of the checks are known. Checked by this release, not yet used."""

    silence: dict[str, Text] = {}
    """The id of a finding, and why it is not one here."""


class Settings(Section):
    """Everything that is configured. ``load_settings()`` fills it; made directly, it reads nothing.

    Example:
        >>> settings = Settings(database={"url": "postgresql://app:hunter2@db/suite"})
        >>> settings.database.url, settings.locks.wait, list(settings.databases)
        (Secret('********'), 60.0, ['default'])
    """

    model_config = ConfigDict(validate_default=True)

    environment: EnvironmentName = "development"
    """What this is: development, staging, production, or any other name. OPAL_ENV sets it too."""
    database: DatabaseSettings = DatabaseSettings()
    """The default database."""
    binds: dict[str, DatabaseSettings] = {}
    """Further databases, each of the same shape, by the key that sub-apps name as their bind."""
    sub_apps: SubAppsSettings = SubAppsSettings()
    """Which sub-apps take part."""
    deployment: DeploymentSettings = DeploymentSettings()
    """How often the application runs."""
    checks: Annotated[ChecksSettings, Field(json_schema_extra=RESERVED)] = ChecksSettings()
    """Which findings of the checks are known; checked, not yet used."""
    observe: ObserveSettings = ObserveSettings()
    """What is told of statements."""
    locks: LocksSettings = LocksSettings()
    """How processes that start at the same time wait for each other."""

    _config_file: Path | None = PrivateAttr(default=None)
    _origins: Mapping[tuple[str, ...], Origin] = PrivateAttr(default_factory=dict)

    @property
    def config_file(self) -> Path | None:
        """The YAML file that was read, if any."""
        return self._config_file

    @property
    def origins(self) -> Mapping[tuple[str, ...], Origin]:
        """Where each value that was set comes from, by its path."""
        return self._origins

    def origin(self, *path: str) -> Origin:
        """Where a value comes from: its own origin, or that of the list or section it was written in."""
        while path:
            if path in self._origins:
                return self._origins[path]
            path = path[:-1]
        return Origin("default")

    @property
    def databases(self) -> dict[str, DatabaseSettings]:
        """All databases by bind key: ``default`` first, then the others by name."""
        return {DEFAULT_BIND: self.database, **dict(sorted(self.binds.items()))}

    def place_of(self, bind: str, key: str = "url") -> str:
        """Where it is said how the database of a bind is reached; or, if it is set, where a key of it is set."""
        path = ("database",) if bind == DEFAULT_BIND else ("binds", bind)
        if key != "url" and getattr(self.databases[bind], key) is not None:
            return str(self.origin(*path, key))
        first = {"parts": ("driver",), "cloud_sql": ("cloud_sql", "instance")}.get(
            self.databases[bind].form or "", ("url",)
        )
        return str(self.origin(*path, *first))

    @property
    def is_production(self) -> bool:
        """Whether the environment is ``production``, in whatever case it is written."""
        return self.environment.casefold() == PRODUCTION

    @field_validator("database")
    @classmethod
    def _default_database(cls, value: DatabaseSettings) -> DatabaseSettings:
        return value if value.form else value.model_copy(update={"url": Secret(DEFAULT_URL)})

    @field_validator("binds")
    @classmethod
    def _checked_binds(cls, value: dict[str, DatabaseSettings]) -> dict[str, DatabaseSettings]:
        for key, database in value.items():
            if key == DEFAULT_BIND:
                raise fault("cannot hold the key default", "write the default database under database")
            if not _NAME.match(key):
                raise fault(f"cannot hold the key {key!r:.40}", "use lower-case letters, digits and underscores")
            if len(key) > LONGEST_BIND:
                what = f"cannot hold the key {key[:30] + '...'!r}"
                raise fault(what, f"use at most {LONGEST_BIND} characters, not {len(key)}")
            if database.form is None:
                what = f"holds {key}, which does not say how to connect"
                raise fault(what, f"write url, or the parts, or cloud_sql under binds.{key}")
        return value
