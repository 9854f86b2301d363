"""DDL for MySQL, which nobody could run here: compiled, and free of what only MariaDB understands."""

import re

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from opal_registry.base import NAMING_CONVENTION
from opal_registry.schema.compiled import Compiler
from opal_registry.store import tables
from tests.databases import create_tables, engine_of
from tests.distributions import Site

ONLY_MARIADB = re.compile(
    r"IF (?:NOT )?EXISTS|SEQUENCE|NEXTVAL|RETURNING|\bUUID\b|\bINET[46]\b|SYSTEM VERSIONING|OR REPLACE", re.IGNORECASE
)
"""Words that MySQL 8 does not understand where they would stand in our DDL, or understands otherwise."""

SUITE = """
    from sqlalchemy.dialects import mysql
    from opal_registry.registry import Registry
    from opal_registry.schema.compiled import Compiler
    from opal_registry.schema.ddl import render_ddl
    from opal_registry.settings.model import Settings

    with Registry(Settings(database={"url": "sqlite://"})) as registry:
        for app in registry.suite.sub_apps:
            print(*render_ddl(app.tables, Compiler(mysql.dialect())), sep=";")
"""


def test_the_registrys_own_tables_need_nothing_of_mariadb() -> None:
    compiler = Compiler(mysql.dialect())
    texts = [compiler.text(ddl) for ddl in tables.iter_upgrade({}, compiler.dialect)]
    assert [text.split(" (")[0] for text in texts] == [
        f"CREATE TABLE {one.name}" for one in tables.metadata.sorted_tables
    ]
    assert [ONLY_MARIADB.findall(text) for text in texts] == [[]] * len(texts)
    there = {one.name: ["name"] for one in tables.metadata.sorted_tables}
    added = [compiler.text(ddl) for ddl in tables.iter_upgrade(there, compiler.dialect)]
    assert all(re.match(r"ALTER TABLE opal_\w+ ADD COLUMN \S+ ", text) for text in added)
    assert not any(map(ONLY_MARIADB.search, added))


def test_nor_do_the_sample_sub_apps(site: Site) -> None:
    done = site.python(SUITE, suite=True)
    assert done.code == 0, done.err
    assert done.out.count("CREATE TABLE ") > 30
    assert ONLY_MARIADB.findall(done.out) == []


def checked() -> sa.Table:
    """A table whose column has a check with a name."""
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
    positive = sa.CheckConstraint("price > 0", name="positive")
    key = sa.Column("id", sa.Integer, primary_key=True)
    return sa.Table("items", metadata, key, sa.Column("price", sa.Integer, positive, nullable=False))


def test_a_check_of_a_column_is_one_of_the_table() -> None:
    assert Compiler(mysql.dialect()).text(CreateTable(checked())).splitlines()[2:] == [
        "    price INTEGER NOT NULL, ",
        "    CONSTRAINT pk_items PRIMARY KEY (id), ",
        "    CONSTRAINT ck_items_positive CHECK (price > 0)",
        ")",
    ]


def test_a_check_of_a_column_is_kept_everywhere(any_database_url: str) -> None:
    engine = engine_of(any_database_url)
    with engine.begin() as connection:
        create_tables(connection, [checked()])
    with pytest.raises(sa.exc.DBAPIError, match="ck_items_positive"), engine.begin() as connection:
        connection.execute(sa.insert(checked()).values(id=1, price=-1))
    engine.dispose()
