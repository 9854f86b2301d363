"""Which functions the databases have, going by their manuals, and which of them are not the same each time."""

from typing import Literal

from opal_registry.preflight.target import DATABASES, MYSQL

Clause = Literal["default", "check", "generated column", "stored column", "index", "condition"]
"""What a piece of SQL is for; a stored column is a generated one that is kept on disk."""

OF_INDEXES: frozenset[Clause] = frozenset({"index", "condition"})
"""Where MySQL takes functions only of late, and MariaDB none."""

NATIVE: dict[str, frozenset[str]] = {
    name: frozenset(databases.split())
    for names, databases in (
        ("array_length btrim cardinality clock_timestamp date_trunc gen_random_uuid json_build_object", "postgresql"),
        (
            "json_typeof jsonb_array_length jsonb_build_object jsonb_typeof num_nonnulls num_nulls split_part",
            "postgresql",
        ),
        ("statement_timestamp timeofday timezone to_timestamp to_tsvector transaction_timestamp", "postgresql"),
        ("uuidv4 uuidv7", "postgresql"),
        ("char_length greatest least md5 now", "postgresql mysql mariadb"),
        ("curdate curtime rand sysdate unix_timestamp utc_date utc_time utc_timestamp uuid", "mysql mariadb"),
        ("hex ifnull instr json_extract json_valid", "sqlite mysql mariadb"),
        ("datetime julianday randomblob strftime unixepoch", "sqlite"),
        ("random", "sqlite postgresql"),
    )
    for name in names.split()
}
"""Functions that some databases have and others have not, by the manuals."""

FROM_EXTENSIONS = {
    name: extension
    for names, extension in (
        ("uuid_generate_v1 uuid_generate_v1mc uuid_generate_v3 uuid_generate_v4 uuid_generate_v5", "uuid-ossp"),
        ("armor crypt digest gen_random_bytes gen_salt hmac pgp_sym_decrypt pgp_sym_encrypt", "pgcrypto"),
        ("similarity show_trgm strict_word_similarity word_similarity", "pg_trgm"),
        ("st_geogfromtext st_geomfromtext st_makepoint st_point st_setsrid st_transform", "postgis"),
        ("daitch_mokotoff dmetaphone levenshtein metaphone", "fuzzystrmatch"),
        ("earth_box earth_distance ll_to_earth", "earthdistance"),
        ("unaccent", "unaccent"),
    )
    for name in names.split()
}
"""Functions that extensions of PostgreSQL bring; no other database has them."""

WORDS = {
    "current_date": DATABASES,
    "current_time": DATABASES,
    "current_timestamp": DATABASES,
    "localtime": DATABASES - {"sqlite"},
    "localtimestamp": DATABASES - {"sqlite"},
}
"""What is called without parentheses, and which databases have it; its value is never the same."""

_CHANGING = """
    clock_timestamp curdate curtime gen_random_uuid now rand random statement_timestamp sysdate timeofday
    transaction_timestamp unix_timestamp utc_date utc_time utc_timestamp uuid
"""
CHANGING = {name: NATIVE[name] for name in _CHANGING.split()}
"""Functions whose value is never the same when they are called without arguments, and which databases have them."""

_MAY_CHANGE = """
    date_trunc datetime json_build_object jsonb_build_object julianday randomblob strftime timezone to_timestamp
    to_tsvector unixepoch uuidv4 uuidv7
"""
MAY_CHANGE = frozenset(_MAY_CHANGE.split())
"""Functions of which it depends on the arguments, or on the version."""

REFUSE_CHANGE: dict[Clause, frozenset[str]] = {
    "check": MYSQL,
    "generated column": DATABASES - {"mariadb"},
    "stored column": DATABASES,
    "index": frozenset({"sqlite", "postgresql"}),
    "condition": frozenset({"sqlite", "postgresql"}),
}
"""Who wants a value that is always the same, and where."""


def list_takers(name: str, clause: Clause) -> frozenset[str]:
    """The databases that have a function by themselves, and take it for certain.

    Example:
        >>> sorted(list_takers("now", "default")), sorted(list_takers("now", "generated column"))
        (['mariadb', 'mysql', 'postgresql'], ['mariadb'])
    """
    if name in MAY_CHANGE and clause != "default":
        return frozenset()
    refusing = REFUSE_CHANGE.get(clause, frozenset()) if name in CHANGING else frozenset()
    takers = NATIVE.get(name, frozenset()) - refusing
    return takers - MYSQL if clause in OF_INDEXES else takers
