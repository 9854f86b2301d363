"""The generated suite: sub-apps with the same tables for every contestant, as distributions for wheels.

Every table has 8 columns, 2 indexes, 1 foreign key to a table of the same sub-app and 1 to ``users``. The models differ
in their base class only; Django's are written in :mod:`benchmarks.generate_django`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

COLUMNS, INDEXES, FOREIGN_KEYS = 8, 2, 2
"""Of each generated table."""

CORE = "bench_core"
"""The package that holds the base class, ``users`` and the program that brings the schema up."""

HEAD = """\
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

{imports}
"""

TABLE = """

class {cls}({base}):
    __tablename__ = "{table}"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), index=True)
    note: Mapped[str | None] = mapped_column(sa.String(200))
    amount: Mapped[Decimal] = mapped_column(sa.Numeric(12, 2))
    is_active: Mapped[bool]
    made_at: Mapped[datetime]
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("{parent}.id"))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
"""

USER = """

class User({base}):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80), unique=True)
    email: Mapped[str | None] = mapped_column(sa.String(120), unique=True)
    hashed_password: Mapped[str | None] = mapped_column(sa.String(256))
    first_name: Mapped[str | None] = mapped_column(sa.String(80))
    last_name: Mapped[str | None] = mapped_column(sa.String(80))
    is_active: Mapped[bool] = mapped_column(server_default=sa.true())
    roles: Mapped[list[str]] = mapped_column(sa.JSON())
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
"""

PLUGIN = """\
from opal_registry import SubApp, hookimpl


@hookimpl
def opal_sub_apps():
    yield SubApp(name="{app}", models=("{app}.models",), requires=("core",), table_prefix="{app}_")
"""

PLAIN_BASE = """
CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    metadata = sa.MetaData(naming_convention=CONVENTION)
"""

CREATE_ALL = """\
import os

import sqlalchemy as sa

from bench_core.models import Base
{models}

Base.metadata.create_all(sa.create_engine(os.environ["DATABASE_URL"]))
"""

PRINT_DDL = """\
import sys

import sqlalchemy as sa

from bench_core.models import Base
{models}


def show(statement, *_args, **_options):
    print(str(statement.compile(dialect=engine.dialect)).strip() + ";")


engine = sa.create_mock_engine(sys.argv[1] + "://", show)
Base.metadata.create_all(engine, checkfirst=False)
"""

ADVANCED_ALCHEMY = """\
import os

from advanced_alchemy.base import metadata_registry
from advanced_alchemy.config import SQLAlchemySyncConfig
{models}

config = SQLAlchemySyncConfig(connection_string=os.environ["DATABASE_URL"])
with config.get_engine().begin() as connection:
    metadata_registry.get(None).create_all(connection)
"""

INVENIO_APP = """\
import os

from flask import Flask
from invenio_db import InvenioDB


def create_app():
    app = Flask("bench")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    InvenioDB(app)
    return app
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is generated.

    Args:
        apps: The number of sub-apps.
        tables_per_app: The number of tables in each.
    """

    apps: int
    tables_per_app: int = 20

    @property
    def tables(self) -> int:
        """The number of generated tables; ``users`` comes on top."""
        return self.apps * self.tables_per_app

    @property
    def app_names(self) -> list[str]:
        """The names of the sub-apps, which are those of their packages and distributions."""
        return [f"app{number:02}" for number in range(1, self.apps + 1)]

    def iter_tables(self, app: str) -> Iterator[tuple[str, str]]:
        """The tables of a sub-app: the name, and that of the one it refers to (the one before; the first, itself)."""
        names = [f"{app}_table{number:02}" for number in range(1, self.tables_per_app + 1)]
        yield from zip(names, [names[0], *names], strict=False)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a wheel is made of: its name, its files by path, and its entry points by group."""

    name: str
    files: dict[str, str]
    entry_points: dict[str, dict[str, str]] = field(default_factory=dict)


def class_name(table: str) -> str:
    """The name of the class that maps a table: ``App01Table02`` for ``app01_table02``."""
    return "".join(part.capitalize() for part in table.split("_"))


def make_opal_suite(scale: Scale) -> list[Distribution]:
    """The suite for opal_registry: one distribution per sub-app; ``users`` is its own."""
    imports = "from opal_registry.database import Base"
    return [
        Distribution(
            app,
            _package(app, scale, imports, "Base") | {f"{app}/opal.py": PLUGIN.format(app=app)},
            {"opal_registry": {app: f"{app}.opal"}},
        )
        for app in scale.app_names
    ]


def make_create_all_suite(scale: Scale) -> list[Distribution]:
    """The suite for ``create_all``, and for printing its DDL; the base has the naming convention that opal_registry has."""
    head = HEAD.format(imports="from sqlalchemy.orm import DeclarativeBase")
    core = {
        "models": head + PLAIN_BASE + USER.format(base="Base"),
        "create": CREATE_ALL.format(models=_import_all(scale)),
        "print_ddl": PRINT_DDL.format(models=_import_all(scale)),
    }
    return [_core(core), *_apps(scale, f"from {CORE}.models import Base", "Base")]


def make_advanced_alchemy_suite(scale: Scale) -> list[Distribution]:
    """The suite for Advanced Alchemy: its base class, its configuration, and what its ``create_all=True`` does."""
    imports = "from advanced_alchemy.base import DefaultBase"
    core = {
        "models": HEAD.format(imports=imports) + USER.format(base="DefaultBase"),
        "create": ADVANCED_ALCHEMY.format(models=f"import {CORE}.models\n" + _import_all(scale)),
    }
    return [_core(core), *_apps(scale, imports, "DefaultBase")]


def make_invenio_suite(scale: Scale) -> list[Distribution]:
    """The suite for Invenio-DB: models behind its entry points, and an application for ``flask db create``."""
    imports = "from invenio_db import db"
    core = {"models": HEAD.format(imports=imports) + USER.format(base="db.Model"), "app": INVENIO_APP}
    group = "invenio_db.models"
    return [
        _core(core, {group: {CORE: f"{CORE}.models"}}),
        *(
            Distribution(app, _package(app, scale, imports, "db.Model"), {group: {app: f"{app}.models"}})
            for app in scale.app_names
        ),
    ]


def _core(modules: dict[str, str], entry_points: dict[str, dict[str, str]] | None = None) -> Distribution:
    files = {f"{CORE}/{name}.py": source for name, source in modules.items()}
    return Distribution(CORE, {f"{CORE}/__init__.py": "", **files}, entry_points or {})


def _apps(scale: Scale, imports: str, base: str) -> list[Distribution]:
    return [Distribution(app, _package(app, scale, imports, base)) for app in scale.app_names]


def _package(app: str, scale: Scale, imports: str, base: str) -> dict[str, str]:
    tables = [
        TABLE.format(cls=class_name(table), base=base, table=table, parent=parent)
        for table, parent in scale.iter_tables(app)
    ]
    return {f"{app}/__init__.py": "", f"{app}/models.py": HEAD.format(imports=imports) + "".join(tables)}


def _import_all(scale: Scale) -> str:
    return "\n".join(f"import {app}.models" for app in scale.app_names)
