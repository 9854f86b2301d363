"""The record that a plugin contributes: what a sub-app is called, what it brings, what it needs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from opal_registry.errors import PluginError, Problem

NAME = re.compile(r"[a-z][a-z0-9_]{0,29}\Z")
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[\w./-]+\Z")
LOCATION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
LONGEST_SCHEMA = 63
"""So many characters the name of a schema may have on every database."""

CREATE = ("models", "migrations", "external")


@dataclass(frozen=True, slots=True)
class Migrations:
    """Where the revisions of a sub-app are and how they are run, where ``package:folder`` says too little.

    Args:
        location: ``package:folder`` of the revisions, or one for each dialect; or ``module:function`` of a package that
            has a way of its own to upgrade its tables: it is called with an engine, once for each release.
        recursive: Whether folders inside that one hold revisions too.
        env: Whether the ``env.py`` of the folder runs them. It finds an open connection in
            ``config.attributes["connection"]``, and the URL in ``sqlalchemy.url``.
        is_async: Whether that ``env.py`` makes an asyncio engine, so that the URL has to name a driver for it.
        takes_over: The version table that another tool keeps for the same revisions in the same database, such as
            ``alembic_version``: ``opal-db adopt`` takes what it says over. Otherwise it is left alone.

    Raises:
        PluginError: If a location cannot be right.

    Example:
        >>> Migrations("optuna.storages._rdb:alembic/versions").get_location("sqlite")
        'optuna.storages._rdb:alembic/versions'
        >>> Migrations({"postgresql": "shop:pg", "sqlite": "shop:lite"}).get_location("sqlite")
        'shop:lite'
    """

    location: str | Mapping[str, str]
    recursive: bool = False
    env: bool = False
    is_async: bool = False
    takes_over: str | None = None

    def __post_init__(self) -> None:
        wrong = [each for each in self.locations if not (isinstance(each, str) and PLACE.match(each))]
        if wrong or not self.locations:
            mend = 'write it as package:folder, such as "standupbot:migrations"'
            raise PluginError(
                *(Problem(f"the location of migrations cannot be {each!r}", mend=mend) for each in wrong or [""])
            )

    @property
    def locations(self) -> tuple[str, ...]:
        """All locations, whatever the dialect."""
        return tuple(self.location.values()) if isinstance(self.location, Mapping) else (self.location,)

    def get_location(self, dialect: str) -> str:
        """The location for a dialect.

        Raises:
            PluginError: If there is none.
        """
        if isinstance(self.location, str):
            return self.location
        family = "mysql" if dialect == "mariadb" else dialect
        if family not in self.location:
            what = f"there are no migrations for {family}, only for {', '.join(sorted(self.location))}"
            raise PluginError(Problem(what, mend="use one of these databases, or leave the sub-app out"))
        return self.location[family]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubApp:
    """One application of the suite, as its plugin describes it. Making one imports nothing.

    Args:
        name: ``[a-z][a-z0-9_]*``, at most 30 characters; unique in the suite.
        models: Dotted names of the modules or packages that hold its models; packages are walked.
        requires: Other sub-apps that it needs, with version specifiers (PEP 440) for the distributions that bring them.
        migrations: ``package:folder`` of its own revisions, if it has any; or :class:`Migrations`, which can say more.
        create: How its tables come to be on a fresh database: ``models`` (``init`` creates them), ``migrations`` (its
            revisions do) or ``external`` (somebody else does, and ``init`` only looks whether they are there).
        table_prefix: What the name of each of its tables must start with, if anything.
        schema: The database schema that its models declare, if any; at most 63 characters.
        bind: Which of the configured databases its tables live in.
        metadata: ``package.module:attribute`` of what holds foreign tables to adopt: ``MetaData`` objects, declarative
            bases, anything with such a ``metadata``, or functions without arguments that return one of these.
        renamed_from: Names that it had in earlier releases; ``opal-db upgrade`` renames what databases know of it.

    Raises:
        PluginError: If a value cannot be right; all faults of the record at once.

    Example:
        >>> SubApp(name="standupbot", models=("standupbot.models",), requires=("core>=1.0",)).bind
        'default'
    """

    name: str
    models: Sequence[str] = ()
    requires: Sequence[str] = ()
    migrations: str | Migrations | None = None
    create: Literal["models", "migrations", "external"] = "models"
    table_prefix: str | None = None
    schema: str | None = None
    bind: str = "default"
    metadata: Sequence[str] = ()
    renamed_from: Sequence[str] = ()

    def __post_init__(self) -> None:
        problems = [*self._name_problems(), *self._scalar_problems(), *self._sequence_problems()]
        if problems:
            raise PluginError(*problems)
        for field in ("models", "requires", "metadata", "renamed_from"):
            object.__setattr__(self, field, tuple(getattr(self, field)))

    @property
    def history(self) -> Migrations | None:
        """Its ``migrations``, with all that they may say."""
        return Migrations(self.migrations) if isinstance(self.migrations, str) else self.migrations

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The parsed ``requires``, in the order given."""
        return tuple(Requirement(text) for text in self.requires)

    def _name_problems(self) -> list[Problem]:
        if isinstance(self.name, str) and NAME.match(self.name):
            return []
        mend = "use lower-case letters, digits and underscores, a letter first, at most 30 characters"
        return [Problem(f"{self.name!r} is not a name for a sub-app", mend=mend)]

    def _scalar_problems(self) -> list[Problem]:
        found = []
        if not isinstance(self.migrations, (Migrations, type(None))) and not self._is_place(self.migrations):
            mend = f'write it like migrations="{self.name}:migrations"'
            found.append(self._fault("migrations", self.migrations, mend))
        for field in ("table_prefix", "schema", "bind"):
            value = getattr(self, field)
            if not (value is None and field != "bind") and not (isinstance(value, str) and value):
                found.append(self._fault(field, value, "write it as a text that is not empty"))
        if isinstance(self.schema, str) and len(self.schema) > LONGEST_SCHEMA:
            found.append(self._fault("schema", self.schema, f"use a name of at most {LONGEST_SCHEMA} characters"))
        if self.create not in CREATE:
            found.append(self._fault("create", self.create, f"choose one of {', '.join(CREATE)}"))
        elif self.create == "migrations" and self.migrations is None:
            what = f"sub-app {self.name!r} says create='migrations', but not where its migrations are"
            mend = f'add migrations="{self.name}:migrations", or write create="models"'
            found.append(Problem(what, mend=mend))
        return found

    def _sequence_problems(self) -> list[Problem]:
        checks = {
            "models": _is_module,
            "requires": _is_requirement,
            "metadata": _is_location,
            "renamed_from": _is_name,
        }
        examples = {
            "models": "standupbot.models",
            "requires": "core>=1.0",
            "metadata": "standupbot.tables:metadata",
            "renamed_from": "standups",
        }
        found = []
        for field, accepts in checks.items():
            value, mend = getattr(self, field), f'write it like {field}=("{examples[field]}",)'
            if not isinstance(value, (tuple, list)):
                found.append(self._fault(field, value, mend))
            else:
                found += [self._fault(field, item, mend) for item in value if not accepts(item)]
        return found

    @staticmethod
    def _is_place(value: object) -> bool:
        return isinstance(value, str) and PLACE.match(value) is not None

    def _fault(self, field: str, value: object, mend: str) -> Problem:
        return Problem(f"sub-app {self.name!r}: {field} cannot be {value!r}", mend=mend)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.match(value) is not None


def _is_module(value: object) -> bool:
    return isinstance(value, str) and MODULE.match(value) is not None


def _is_location(value: object) -> bool:
    return isinstance(value, str) and LOCATION.match(value) is not None


def _is_requirement(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parsed = Requirement(value)
    except InvalidRequirement:
        return False
    return NAME.match(parsed.name) is not None and not (parsed.extras or parsed.url or parsed.marker)
