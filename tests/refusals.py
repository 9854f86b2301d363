"""Models that not every database takes; ``refusals.txt`` holds what preflight says of each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

Parts = Sequence[Any]
TEXTS = Path(__file__).with_suffix(".txt")


class Word(sa.types.UserDefinedType[Any]):
    """A type that somebody wrote, by its name."""

    cache_ok = True

    def __init__(self, word: str) -> None:
        self.word = word

    def get_col_spec(self, **_: Any) -> str:
        return self.word


def make(name: str) -> sa.MetaData:
    """The table ``items`` of a case, and ``parents`` if it has one, which comes first."""
    metadata = sa.MetaData()
    made = CASES[name]()
    for table, parts in (made if isinstance(made, dict) else {"items": made}).items():
        has_id = name not in WITHOUT_ID or table == "parents"
        key = [sa.Column("id", sa.Integer, primary_key=True)] if has_id else []
        sa.Table(table, metadata, *key, *parts)
    return metadata


def read_texts() -> dict[str, dict[str, tuple[str, str]]]:
    """By case and database what preflight says and how it would mend it; ``unsure`` where it says nothing."""
    texts: dict[str, dict[str, tuple[str, str]]] = {}
    lines = iter(TEXTS.read_text("utf-8").splitlines())
    for line in lines:
        if not line.startswith(" "):
            case = texts.setdefault(line, {})
        else:
            database, _, what = line.strip().partition(": ")
            case[database] = (what, "" if what == "unsure" else next(lines).strip())
    return texts


def _type(kind: Any) -> Callable[[], Parts]:
    return lambda: [sa.Column("x", kind)]


def _default(text: str, kind: Any = None) -> Callable[[], Parts]:
    return lambda: [sa.Column("x", kind or sa.String(36), server_default=sa.text(text))]


def _check(text: str) -> Callable[[], Parts]:
    return lambda: [sa.Column("x", sa.String(50)), sa.CheckConstraint(text, name="some_check")]


def _index(*columns: Any, kind: Any = None, dialect: str = "", **options: Any) -> Callable[[], Parts]:
    def make_parts() -> Parts:
        index = sa.Index("ix_x", *columns, **options)
        return [sa.Column("x", kind or sa.String(50)), index.ddl_if(dialect=dialect) if dialect else index]

    return make_parts


def _points(to: str, *target: Callable[[], Any], kind: Any = None, nullable: bool = True, **options: Any) -> Any:
    def make_tables() -> dict[str, Parts]:
        key = sa.ForeignKey(f"parents.{to}", name="fk_x", **options)
        return {
            "parents": [part() for part in target],
            "items": [sa.Column("x", *([kind] if kind else []), key, nullable=nullable)],
        }

    return make_tables


def _columns(number: int) -> Callable[[], Parts]:
    return lambda: [sa.Column(f"c{n}", sa.Integer) for n in range(number)]


def _code(**options: Any) -> Callable[[], Any]:
    return lambda: sa.Column("code", sa.String(20), **options)


def _unique_in_part() -> sa.Index:
    some = sa.text("code > 'a'")
    return sa.Index("uq_some", "code", unique=True, sqlite_where=some, postgresql_where=some)


def _another_order() -> dict[str, Parts]:
    def two() -> Parts:
        return [sa.Column("a", sa.Integer), sa.Column("b", sa.Integer)]

    key = sa.ForeignKeyConstraint(["b", "a"], ["parents.b", "parents.a"], name="fk_both")
    return {"parents": [*two(), sa.UniqueConstraint("a", "b")], "items": [*two(), key]}


def _of_expression(kind: Any, expression: Callable[[Any], Any]) -> Callable[[], Parts]:
    def make_parts() -> Parts:
        column: sa.Column[Any] = sa.Column("x", kind)
        return [column, sa.Index("ix_x", expression(column))]

    return make_parts


def _generated(text: Any, *, persisted: bool | None = True, kind: Any = None) -> Callable[[], Parts]:
    def make_parts() -> Parts:
        made = sa.Computed(text() if callable(text) else text, persisted=persisted)
        return [sa.Column("x", sa.String(50)), sa.Column("y", kind or sa.String(60), made)]

    return make_parts


def _drawn() -> Parts:
    sequence = sa.Sequence("some_sequence")
    return [sa.Column("x", sa.Integer, sequence, server_default=sequence.next_value())]


def _where(text: str) -> Callable[[], Parts]:
    return _index("x", postgresql_where=sa.text(text), sqlite_where=sa.text(text))


def _unique(**options: Any) -> Callable[[], Parts]:
    return lambda: [sa.Column("x", sa.String(50)), sa.UniqueConstraint("x", name="uq_x", **options)]


def _late_check(*, of_column: bool = False, **options: Any) -> Callable[[], Parts]:
    def make_parts() -> Parts:
        check = sa.CheckConstraint("x > 'a'", **options)
        return [sa.Column("x", sa.String(50), check)] if of_column else [sa.Column("x", sa.String(50)), check]

    return make_parts


def _kinds() -> Any:
    return sa.select(sa.literal("a")).scalar_subquery()


def _exclusion() -> Parts:
    once: Any = postgresql.ExcludeConstraint(("x", "="), name="once")
    return [sa.Column("x", sa.Integer), once.ddl_if(dialect="postgresql")]


CASES: dict[str, Callable[[], Any]] = {
    "an array": _type(postgresql.ARRAY(sa.Integer)),
    "a JSONB": _type(postgresql.JSONB),
    "an address": _type(postgresql.INET),
    "a long text of MySQL": _type(mysql.LONGTEXT),
    "a BLOB": _type(sa.BLOB),
    "a CLOB": _type(sa.CLOB),
    "a DATETIME": _type(sa.DATETIME),
    "a type of an extension": _type(postgresql.CITEXT),
    "a type of an extension that is offered": _type(Word("vector(3)")),
    "a type in a schema": _type(Word("geo.geometry(POINT, 4326)")),
    "a type that nobody has": _type(Word("mood")),
    "an enum without a name": _type(sa.Enum("small", "large")),
    "no type": _type(sa.types.NullType),
    "a collation of SQLite": _type(sa.String(50, collation="NOCASE")),
    "a collation of MySQL": _type(sa.String(50, collation="utf8mb4_bin")),
    "a string without length": _type(sa.String),
    "a text with length": _type(sa.Text(500)),
    "a string longer than MySQL takes": _type(sa.String(16_384)),
    "a string longer than PostgreSQL takes": _type(sa.String(10_485_761)),
    "a char longer than MySQL takes": _type(sa.CHAR(256)),
    "a number longer than MySQL takes": _type(sa.Numeric(66, 2)),
    "a number longer than PostgreSQL takes": _type(sa.Numeric(1001, 2)),
    "a long row": lambda: [sa.Column(name, sa.String(8000)) for name in ("a", "b", "c")],
    "a row that is one byte too long": lambda: [
        sa.Column("x", sa.String(16_383), nullable=False),
        sa.Column("y", sa.SmallInteger, nullable=False),
    ],
    "a long enum value": _type(sa.Enum("x" * 64, name="size")),
    "enum values that differ in case": _type(sa.Enum("low", "LOW", name="level")),
    "no columns": list,
    "more columns than InnoDB takes": _columns(1018),
    "more columns than PostgreSQL takes": _columns(1601),
    "more columns than SQLite takes": _columns(2001),
    "a long column name": lambda: [sa.Column("x" * 65, sa.Integer)],
    "columns that differ in case": lambda: [sa.Column("Name", sa.Integer), sa.Column("name", sa.Integer)],
    "a column that is there already": lambda: [sa.Column("ctid", sa.Integer)],
    "foreign keys of one name": lambda: {
        "parents": [sa.Column("x", sa.ForeignKey("parents.id", name="fk_x"))],
        "items": [sa.Column("x", sa.ForeignKey("parents.id", name="fk_x"))],
    },
    "a long primary key": lambda: [sa.Column("x", sa.String(769), primary_key=True)],
    "a long index": lambda: [
        *(sa.Column(name, sa.String(400)) for name in ("x", "y")),
        sa.Index("ix_both", "x", "y"),
    ],
    "a primary key of text": lambda: [sa.Column("x", sa.Text, primary_key=True)],
    "an index with a text": _index("id", "x", kind=sa.Text),
    "a key of 33 columns": lambda: [
        *_columns(33)(),
        sa.UniqueConstraint(*(f"c{n}" for n in range(33)), name="uq_all"),
    ],
    "a foreign key to a plain column": _points("code", _code()),
    "a foreign key to an indexed column": _points("code", _code(index=True)),
    "a foreign key to a column that is unique in part": _points("code", _code(), _unique_in_part),
    "a foreign key to half a key": _points("code", _code(primary_key=True)),
    "a foreign key in another order": _another_order,
    "a foreign key of text to a number": _points("id", kind=sa.String(20)),
    "a foreign key of another size": _points("id", kind=sa.BigInteger),
    "a foreign key that sets null": _points("id", nullable=False, ondelete="SET NULL"),
    "an index without columns": _index(),
    "an index of a function": _of_expression(sa.String(50), sa.func.lower),
    "an index of JSON": _index("x", kind=sa.JSON),
    "an index into JSON": _of_expression(sa.JSON, lambda column: column["kind"]),
    "a unique JSON": lambda: [sa.Column("x", sa.JSON, unique=True)],
    "a GIN index of text": _index("x", postgresql_using="gin"),
    "a trigram index": _index("x", postgresql_using="gin", postgresql_ops={"x": "gin_trgm_ops"}),
    "a trigram index as text": _index(sa.text("x gin_trgm_ops"), postgresql_using="gin", dialect="postgresql"),
    "an index of an extension": _index("x", postgresql_using="hnsw"),
    "an operator class that nobody has": _index("x", postgresql_ops={"x": "my_ops"}),
    "a unique hash index": _index("x", unique=True, postgresql_using="hash"),
    "a hash index of two columns": _index("x", "id", postgresql_using="hash"),
    "a BRIN index that includes": _index("x", postgresql_using="brin", postgresql_include=["id"]),
    "an exclusion of plain values": _exclusion,
    "a function of PostgreSQL as a default": _default("gen_random_uuid()"),
    "a function object as a default": lambda: [
        sa.Column("x", sa.String(36), server_default=sa.func.gen_random_uuid()),
    ],
    "a function of an extension as a default": _default("uuid_generate_v4()"),
    "a function of MySQL as a default": _default("(uuid())"),
    "now() as a default": _default("now()", sa.DateTime),
    "a cast of PostgreSQL": _default("'{}'::json", sa.JSON),
    "a time zone": _default("(CURRENT_TIMESTAMP AT TIME ZONE 'UTC')", sa.DateTime),
    "a default that follows updates": _default("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP", sa.DateTime),
    "a number for a truth value": _default("0", sa.Boolean),
    "a truth value for a number": _default("false", sa.Integer),
    "a check by a function": _check("char_length(x) > 2"),
    "a check by a function of an extension": _check("digest(x, 'md5') IS NOT NULL"),
    "a check by pattern": _check("x ~ '^[a-z]+$'"),
    "a check regardless of case": _check("x ILIKE 'a%'"),
    "a check in the words of MySQL": _check("`x` > 'a'"),
    "a check of what is counted": _check("id > 0"),
    "a generated column": lambda: [
        sa.Column("x", sa.String(50)),
        sa.Column("y", sa.String(32), sa.Computed("md5(x)", persisted=True)),
    ],
    "a unique constraint that is deferrable": _unique(deferrable=True),
    "a unique constraint that is not deferrable": _unique(deferrable=False),
    "a unique constraint that is initially immediate": _unique(initially="immediate"),
    "a primary key that is deferrable": lambda: [
        sa.Column("x", sa.Integer),
        sa.PrimaryKeyConstraint("x", deferrable=True, initially="DEFERRED"),
    ],
    "a check that is deferrable": _late_check(name="some_check", deferrable=True),
    "a check that is initially deferred": _late_check(initially="DEFERRED"),
    "a check that is not deferrable": _late_check(deferrable=False),
    "a check of a column that is deferrable": _late_check(of_column=True, deferrable=True, initially="DEFERRED"),
    "a check of a column that is initially deferred": _late_check(of_column=True, initially="DEFERRED"),
    "a foreign key that is deferrable": _points("id", deferrable=True, initially="DEFERRED"),
    "a foreign key that is initially deferred": _points("id", initially="DEFERRED"),
    "a foreign key that is not deferrable and deferred": _points("id", deferrable=False, initially="DEFERRED"),
    "a random number, generated": _generated("random()", kind=sa.Float),
    "a random number of SQLAlchemy's, generated": _generated(sa.func.random, kind=sa.Float, persisted=None),
    "a random number of SQLAlchemy's, stored": _generated(sa.func.random, kind=sa.Float),
    "the time, generated": _generated("CURRENT_TIMESTAMP", kind=sa.DateTime, persisted=None),
    "the time, stored": _generated("CURRENT_TIMESTAMP", kind=sa.DateTime),
    "the time of SQLAlchemy's, stored": _generated(sa.func.now, kind=sa.DateTime),
    "today, stored": _generated(sa.func.current_date, kind=sa.Date),
    "now(), stored": _generated("coalesce(now(), now())", kind=sa.DateTime),
    "now(), generated": _generated("now()", kind=sa.DateTime, persisted=None),
    "a UUID of PostgreSQL, stored": _generated("gen_random_uuid()", kind=sa.Uuid),
    "a UUID of MySQL, stored": _generated("uuid()"),
    "a check by the time": lambda: [
        sa.Column("x", sa.DateTime),
        sa.CheckConstraint("x < CURRENT_TIMESTAMP", name="some_check"),
    ],
    "a check by the time of SQLAlchemy's": lambda: [
        sa.Column("x", sa.DateTime),
        sa.CheckConstraint(sa.column("x") < sa.func.now(), name="some_check"),
    ],
    "a check by a UUID": _check("x <> uuid()"),
    "a check by a random number": _check("random() IS NOT NULL"),
    "a random number as a default": _default("(random())", sa.Float),
    "an index by the time": lambda: [
        sa.Column("x", sa.DateTime),
        sa.Index("ix_x", sa.text("(coalesce(x, CURRENT_TIMESTAMP))")).ddl_if(dialect=("sqlite", "postgresql")),  # type: ignore[arg-type]
    ],
    "an index of rows by the time": lambda: [
        sa.Column("x", sa.DateTime),
        sa.Index("ix_x", "x", postgresql_where=(now := sa.text("x > CURRENT_TIMESTAMP")), sqlite_where=now),
    ],
    "a check by a subquery": _check("x IN (SELECT 'a')"),
    "a check by a subquery of SQLAlchemy's": lambda: [
        sa.Column("x", sa.String(50)),
        sa.CheckConstraint(sa.column("x").in_(sa.select(sa.literal("a"))), name="some_check"),
    ],
    "a check of a column by a subquery": lambda: [
        sa.Column("x", sa.String(50), sa.CheckConstraint("x = ( /* ' */ select 'a')")),
    ],
    "a subquery, generated": _generated("coalesce(x, (SELECT 'a'))"),
    "a subquery, generated when read": _generated("coalesce(x, (SELECT 'a'))", persisted=None),
    "a subquery as a default": _default("(SELECT 'a')"),
    "a subquery in a default": _default("coalesce((SELECT 'a'), 'b')"),
    "a subquery of SQLAlchemy's as a default": lambda: [sa.Column("x", sa.String(50), server_default=_kinds())],
    "a subquery of SQLAlchemy's in a default": lambda: [
        sa.Column("x", sa.String(50), server_default=sa.func.coalesce(_kinds(), "b")),
    ],
    "rows by the day, in an index": lambda: [
        sa.Column("x", sa.Date),
        sa.Index("ix_x", "x", postgresql_where=sa.column("x") > sa.func.current_date()),
    ],
    "an index of a subquery": _index(sa.text("(coalesce(x, (SELECT 'a')))"), dialect="sqlite"),
    "an index of a subquery on PostgreSQL": _index(sa.text("(coalesce(x, (SELECT 'a')))"), dialect="postgresql"),
    "an index of nothing but a subquery": _index(sa.text("(SELECT 'a')"), dialect="postgresql"),
    "an index of rows by a subquery": _where("x IN (SELECT 'a')"),
    "bits of MySQL": _type(mysql.BIT(3)),
    "a default by a sequence": _drawn,
    "a column whose name ends in a space": lambda: [sa.Column("x ", sa.Integer)],
    "a number that is counted up, generated": _generated("id + 1", persisted=None, kind=sa.Integer),
    "a number that is counted up, stored": _generated("id + 1", kind=sa.Integer),
    "a float of 53 bits": _type(sa.Float(53)),
    "a float of 54 bits": _type(sa.Float(54)),
}
"""By name the parts of the table ``items``, or of several tables; each gets a column ``id`` before them."""

WITHOUT_ID = {
    "a long primary key",
    "a primary key of text",
    "a primary key that is deferrable",
    "a row that is one byte too long",
    "no columns",
    *(name for name in CASES if name.startswith("more columns")),
}
