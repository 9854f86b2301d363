"""Which words for types the databases know, going by their manuals; SQLite takes any word."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import sqlalchemy as sa

from opal_registry.ownership.conflicts import iter_sequences
from opal_registry.preflight.target import FAILURES, MYSQL

NAME = re.compile(r'(?:(?P<schema>\w+|"[^"]+")\.)?(?P<word>\w+|"[^"]+")(?P<rest>.*)', re.DOTALL)
"""A type as it is written: its name, perhaps with a schema, and what follows."""

_POSTGRESQL = """
    bigint bigserial bit bool boolean box bpchar bytea char character cidr circle date datemultirange daterange dec
    decimal float float4 float8 inet int int2 int4 int4multirange int4range int8 int8multirange int8range integer interval
    json jsonb jsonpath line lseg macaddr macaddr8 money name national nchar numeric nummultirange numrange oid path
    pg_lsn pg_snapshot point polygon real regclass regconfig serial serial2 serial4 serial8 smallint smallserial text
    time timestamp timestamptz timetz tsmultirange tsquery tsrange tstzmultirange tstzrange tsvector uuid varbit varchar
    xml
"""
POSTGRESQL = frozenset(_POSTGRESQL.split())
"""The types that every PostgreSQL has (its manual, "Data Types")."""

_NOT_MYSQL = """
    bytea cidr circle citext clob cube daterange hstore int4range int8range interval jsonb jsonpath lseg ltree macaddr
    macaddr8 money nclob numrange oid regclass regconfig seg timestamptz timetz tsquery tsrange tstzrange tsvector xml
"""
NOT_MYSQL = frozenset(_NOT_MYSQL.split())
"""Types that others have, and neither MySQL nor MariaDB."""

EXTENSIONS = {
    "cube": "cube",
    "citext": "citext",
    "ean13": "isn",
    "geography": "postgis",
    "geometry": "postgis",
    "halfvec": "vector",
    "hstore": "hstore",
    "isbn": "isn",
    "isbn13": "isn",
    "ismn": "isn",
    "ismn13": "isn",
    "issn": "isn",
    "issn13": "isn",
    "lquery": "ltree",
    "ltree": "ltree",
    "ltxtquery": "ltree",
    "query_int": "intarray",
    "raster": "postgis_raster",
    "seg": "seg",
    "semver": "semver",
    "sparsevec": "vector",
    "upc": "isn",
    "vector": "vector",
}
"""The types that extensions of PostgreSQL bring."""


@cache
def split_name(text: str) -> tuple[str, str, str]:
    """The schema, the name and the rest of a type as it is written, without quotes; in lower case but for quoted names.

    Example:
        >>> split_name("geo.GEOMETRY(POINT, 4326)")
        ('geo', 'geometry', '(POINT, 4326)')
    """
    found = NAME.match(text)
    if found is None:
        return "", "", text
    return _plain(found["schema"] or ""), _plain(found["word"]), found["rest"]


@cache
def is_ordinary(text: str) -> bool:
    """Whether every PostgreSQL has a type as it is written."""
    schema, word, rest = split_name(text)
    if word == "double":
        return rest.lower().startswith(" precision")
    return word in POSTGRESQL and not schema


def iter_takers(kind: sa.types.TypeEngine[object]) -> Iterator[str]:
    """The databases that have a type of SQLAlchemy's; nothing is said of types that somebody else wrote."""
    if isinstance(kind, (sa.types.UserDefinedType, sa.types.NullType)):
        return
    for name, dialect in _dialects().items():
        try:
            text = dialect.type_compiler_instance.process(kind)
        except FAILURES:
            continue
        if name not in refusers(text):
            yield name


def iter_default_takers(column: sa.Column[Any]) -> Iterator[str]:
    """The databases that have words for the default of a column."""
    draws = any(iter_sequences(column))
    for name, dialect in _dialects().items():
        try:
            word_default(dialect, column)
        except FAILURES:
            continue
        if dialect.supports_sequences or name == "mariadb" or not draws:
            yield name


def word_default(dialect: sa.Dialect, column: sa.Column[Any]) -> None:
    """Find words for the default of a column.

    Raises:
        Exception: Of any kind, if there are none.
    """
    compiler: Any = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
    compiler.get_column_default_string(column)


def refusers(text: str) -> set[str]:
    """The databases that do not know a type as it is written, extensions of PostgreSQL apart.

    Example:
        >>> sorted(refusers("UUID")), sorted(refusers("CLOB"))
        (['mysql'], ['mariadb', 'mysql', 'postgresql'])
    """
    schema, word, _ = split_name(text)
    by = set(MYSQL) if word in NOT_MYSQL else {"mysql"} if word == "uuid" else set()
    if not (is_ordinary(text) or word in EXTENSIONS or schema):
        by.add("postgresql")
    return by


def _dialects() -> dict[str, sa.Dialect]:
    from sqlalchemy.dialects import mysql, postgresql, sqlite  # only where something is wrong already

    made = (sqlite.dialect(), postgresql.dialect(), mysql.dialect(), mysql.dialect(is_mariadb=True))  # type: ignore[no-untyped-call]
    return dict(zip(("sqlite", "postgresql", "mysql", "mariadb"), made, strict=True))


def _plain(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()
