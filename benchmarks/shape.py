"""What a run really made: counted in the live database, so that nobody is compared who did less."""

from dataclasses import dataclass

import sqlalchemy as sa

from benchmarks.generate import COLUMNS, FOREIGN_KEYS, INDEXES, Scale


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of the generated suite a database holds; what a contestant keeps for itself does not count.

    Args:
        tables: Generated tables.
        columns: Their columns.
        indexes: Their indexes, but those of primary keys.
        to_users: Their foreign keys to ``users``.
        inside: Their foreign keys to a table of the same sub-app.
    """

    tables: int
    columns: int
    indexes: int
    to_users: int
    inside: int


def make_shape(scale: Scale) -> Shape:
    """What a database should hold."""
    tables = scale.tables
    to_users = inside = tables * FOREIGN_KEYS // 2
    return Shape(tables, tables * COLUMNS, tables * INDEXES, to_users, inside)


def get_shape(engine: sa.Engine) -> Shape:
    """Count what a database holds."""
    look = sa.inspect(engine)
    names = [name for name in look.get_table_names() if name.startswith("app")]
    targets = [
        (name, key["referred_table"])
        for (_, name), keys in look.get_multi_foreign_keys(filter_names=names).items()
        for key in keys
    ]
    return Shape(
        len(names),
        sum(map(len, look.get_multi_columns(filter_names=names).values())),
        sum(map(len, look.get_multi_indexes(filter_names=names).values())),
        sum(target == "users" for _, target in targets),
        sum(target.startswith(name.partition("_")[0] + "_") for name, target in targets),
    )
