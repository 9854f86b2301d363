"""Schemas that models declare, on SQLite, which has none: left out of every statement, and nothing else is."""

import asyncio
import enum
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.schema import CreateTable, CreateView, DropIndex, DropTable

from opal_registry.registry import Registry
from opal_registry.schema.compiled import Compiler
from tests.databases import registry_of


class Base(sa_orm.DeclarativeBase):
    pass


class State(enum.Enum):
    OPEN = "open"
    DONE = "done"


class User(Base):
    __tablename__ = "users"
    __table_args__ = ({"schema": "accounts"},)
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(unique=True)
    tasks: sa_orm.Mapped[list["Task"]] = sa_orm.relationship(back_populates="user", order_by="Task.id")


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        sa.CheckConstraint("length(title) < 20", name="short"),
        sa.Index("ix_state_of_late", "state", sqlite_where=sa.text("late")),
        {"schema": "calmind"},
    )
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.Sequence("task_ids", schema="calmind"), primary_key=True)
    title: sa_orm.Mapped[str] = sa_orm.mapped_column(index=True)
    state: sa_orm.Mapped[State] = sa_orm.mapped_column(sa.Enum(State, schema="calmind", create_constraint=True))
    late: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=False)
    user_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"))
    parent_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(sa.ForeignKey("calmind.tasks.id"))
    user: sa_orm.Mapped[User | None] = sa_orm.relationship(back_populates="tasks")
    words: sa_orm.Mapped[int] = sa_orm.column_property(sa.func.length(title))


class Plain(Base):
    __tablename__ = "plain"
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    task_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(sa.ForeignKey(Task.id))


users, tasks, plain = (Base.metadata.tables[name] for name in ("accounts.users", "calmind.tasks", "plain"))


@pytest.fixture(params=["file", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """A registry of a SQLite database that holds the tables, some users and some tasks."""
    with registry_of(f"sqlite:///{tmp_path / 'opal.db'}" if request.param == "file" else "sqlite://") as registry:
        Base.metadata.create_all(registry.migration_engine())
        with registry.session_scope() as session:
            ada = User(id=1, name="ada", tasks=[Task(id=1, title="one", state=State.OPEN)])
            ada.tasks.append(Task(id=2, title="two", state=State.DONE, parent_id=1, late=True))
            session.add_all([ada, User(id=2, name="bob")])
            session.flush()
            session.add(Plain(id=1, task_id=2))
        yield registry


def names(registry: Registry, kind: str) -> set[str]:
    with registry.engine().connect() as connection:
        rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = ? AND sql <> ''", (kind,))
        return set(rows.scalars())


class TestTables:
    def test_are_created_with_indexes_under_their_names(self, registry: Registry) -> None:
        assert names(registry, "table") == {"users", "tasks", "plain"}
        assert names(registry, "index") == {"ix_state_of_late", "ix_calmind_tasks_title"}

    def test_keep_the_foreign_keys_between_schemas(self, registry: Registry) -> None:
        with registry.engine().connect() as connection:
            keys = connection.exec_driver_sql("PRAGMA foreign_key_list(tasks)").all()
            assert {(key.table, key[3], key.to, key.on_delete) for key in keys} == {
                ("users", "user_id", "id", "CASCADE"),
                ("tasks", "parent_id", "id", "NO ACTION"),
            }
            (key,) = connection.exec_driver_sql("PRAGMA foreign_key_list(plain)").all()
            assert (key.table, key[3]) == ("tasks", "task_id")

    def test_refuse_what_the_keys_and_checks_forbid(self, registry: Registry) -> None:
        engine = registry.engine()
        for forbidden in (
            {"title": "x", "state": State.OPEN, "user_id": 7},
            {"title": "x" * 20, "state": State.OPEN},
        ):
            with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
                connection.execute(sa.insert(tasks).values(late=False, **forbidden))
        with pytest.raises(sa.exc.IntegrityError, match="CHECK"), engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO tasks (title, late, state) VALUES ('x', 0, 'never')")

    def test_that_are_there_are_found_by_create_all(self, registry: Registry) -> None:
        engine, metadata = registry.engine(), sa.MetaData()
        Base.metadata.create_all(engine)
        seen = sa.Table("tasks", metadata, schema="calmind", autoload_with=engine, resolve_fks=False)
        more = sa.Index("ix_more", seen.c.user_id)
        more.create(engine, checkfirst=True)
        more.create(engine, checkfirst=True)
        assert {index.name for index in seen.indexes} == {"ix_state_of_late", "ix_calmind_tasks_title", "ix_more"}
        assert seen.columns.keys() == tasks.columns.keys()

    def test_are_dropped(self, registry: Registry) -> None:
        with registry.migration_engine().begin() as connection:
            connection.execute(DropIndex(next(index for index in tasks.indexes if index.name == "ix_state_of_late")))
            connection.execute(DropTable(plain))
        assert "ix_state_of_late" not in names(registry, "index")
        Base.metadata.drop_all(registry.migration_engine())
        assert names(registry, "table") == set()

    def test_are_what_a_view_reads_from(self, registry: Registry) -> None:
        metadata = sa.MetaData()
        view = CreateView(
            sa.select(tasks.c.title, users.c.name).join(users), "titles", schema="calmind", metadata=metadata
        )
        metadata.create_all(registry.migration_engine())
        with registry.engine().connect() as connection:
            assert connection.execute(sa.select(view.table).order_by(view.table.c.title)).all() == [
                ("one", "ada"),
                ("two", "ada"),
            ]

    def test_are_called_so_in_ddl_of_ones_own(self, registry: Registry) -> None:
        ddl = sa.DDL(  # type: ignore[no-untyped-call]
            "CREATE TRIGGER %(table)s_late AFTER INSERT ON %(fullname)s BEGIN SELECT '%(schema)s'; END"
        )
        with registry.migration_engine().begin() as connection:
            connection.execute(ddl.against(tasks))
        assert names(registry, "trigger") == {"tasks_late"}

    def test_are_written_so_by_whoever_copies_the_dialect(self, registry: Registry) -> None:
        text = Compiler(registry.migration_engine().dialect).text(CreateTable(tasks))
        assert "calmind" not in text
        assert "accounts" not in text
        assert "FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE" in text


class TestStatements:
    @pytest.fixture
    def connection(self, registry: Registry) -> Iterator[sa.Connection]:
        with registry.engine().begin() as connection:
            yield connection

    def test_insert_and_return(self, connection: sa.Connection) -> None:
        new = {"title": "new", "state": State.OPEN, "late": False}
        inserted = connection.execute(sa.insert(tasks).returning(tasks.c.id, tasks.c.title), [new, new])
        assert inserted.all() == [(3, "new"), (4, "new")]
        assert connection.execute(sa.insert(tasks).values(new)).inserted_primary_key == (5,)

    def test_insert_or_update(self, connection: sa.Connection) -> None:
        insert = upsert(users).values(id=9, name="ada")
        update = insert.on_conflict_do_update(index_elements=[users.c.name], set_={"name": insert.excluded.name + "!"})
        assert connection.execute(update.returning(users.c.id, users.c.name)).one() == (1, "ada!")

    def test_insert_from_select(self, connection: sa.Connection) -> None:
        chosen = sa.select(sa.literal(5), tasks.c.id).where(tasks.c.late)
        connection.execute(sa.insert(plain).from_select(["id", "task_id"], chosen))
        assert connection.scalar(sa.select(plain.c.task_id).where(plain.c.id == 5)) == 2

    def test_update_and_delete_with_other_tables(self, connection: sa.Connection) -> None:
        owned = sa.select(users.c.id).where(users.c.id == tasks.c.user_id, users.c.name == "ada")
        assert connection.execute(sa.update(tasks).values(late=True).where(owned.exists())).rowcount == 2
        joined = sa.update(tasks).values(title=users.c.name).where(users.c.id == tasks.c.user_id, tasks.c.id == 1)
        assert connection.execute(joined.returning(tasks.c.title)).scalar() == "ada"
        idle = sa.select(tasks.c.id).where(tasks.c.user_id == users.c.id)
        assert connection.execute(sa.delete(users).where(~idle.exists()).returning(users.c.name)).all() == [("bob",)]

    def test_join_aliases_and_subqueries(self, connection: sa.Connection) -> None:
        child, parent = tasks.alias("child"), tasks.alias()
        pairs = sa.select(child.c.title, parent.c.title).join(parent, parent.c.id == child.c.parent_id)
        assert connection.execute(pairs).all() == [("two", "one")]
        counted = sa.select(tasks.c.user_id, sa.func.count().label("n")).group_by(tasks.c.user_id).cte("counted")
        found = sa.select(users.c.name, counted.c.n).outerjoin(counted).order_by(users.c.id)
        assert connection.execute(found).all() == [("ada", 2), ("bob", None)]
        latest = sa.select(sa.func.max(tasks.c.id)).where(tasks.c.user_id == users.c.id).scalar_subquery()
        assert connection.execute(sa.select(users.c.name, latest)).all() == [("ada", 2), ("bob", None)]

    def test_join_a_table_without_a_schema(self, connection: sa.Connection) -> None:
        joined = sa.select(plain.c.id, tasks.c.title, users.c.name).select_from(plain.join(tasks).join(users))
        assert connection.execute(joined).all() == [(1, "two", "ada")]
        assert str(joined.compile(connection)).split("FROM ")[1] == (
            "plain JOIN tasks ON tasks.id = plain.task_id JOIN users ON users.id = tasks.user_id"
        )

    def test_walk_a_tree(self, connection: sa.Connection) -> None:
        tree = sa.select(tasks.c.id, tasks.c.parent_id).where(tasks.c.id == 2).cte(recursive=True)
        tree = tree.union_all(sa.select(tasks.c.id, tasks.c.parent_id).join(tree, tree.c.parent_id == tasks.c.id))
        assert connection.execute(sa.select(tree.c.id).order_by(tree.c.id)).scalars().all() == [1, 2]

    def test_with_a_map_of_schemas_are_the_same(self, connection: sa.Connection) -> None:
        mapped = connection.execution_options(schema_translate_map={"calmind": "other", None: "third"})
        assert mapped.scalar(sa.select(sa.func.count()).select_from(plain.join(tasks))) == 1


class TestObjects:
    def test_are_loaded_with_what_belongs_to_them(self, registry: Registry) -> None:
        loads = [sa_orm.joinedload, sa_orm.selectinload, sa_orm.subqueryload, sa_orm.immediateload, sa_orm.lazyload]
        for load in loads:
            with registry.session_scope(read_only=True) as session:
                ada = (
                    session.scalars(sa.select(User).options(load(User.tasks)).where(User.name == "ada")).unique().one()
                )
                assert [(task.title, task.words, task.user) for task in ada.tasks] == [("one", 3, ada), ("two", 3, ada)]

    def test_are_found_through_relationships(self, registry: Registry) -> None:
        with registry.session_scope(read_only=True) as session:
            lazy = sa.select(User.name).where(~User.tasks.any())
            assert session.scalars(lazy).all() == ["bob"]
            late = sa_orm.aliased(Task)
            busy = sa.select(User.name).join(User.tasks.of_type(late)).where(late.late, late.user.has(name="ada"))
            assert session.scalars(busy).all() == ["ada"]

    def test_are_changed_and_deleted(self, registry: Registry) -> None:
        with registry.session_scope() as session:
            session.get_one(Task, 1).title = "first"
            session.delete(session.get_one(User, 2))
            session.execute(sa.update(Task).where(Task.user.has(name="ada")).values(late=True))
            session.execute(sa.delete(Plain).where(Plain.task_id.in_(sa.select(Task.id))))
        with registry.session_scope(read_only=True) as session:
            found = session.execute(sa.select(Task.title, Task.late).order_by(Task.id)).all()
            assert found == [("first", True), ("two", True)]
            assert session.scalars(sa.select(User.name)).all() == ["ada"]

    def test_are_there_for_asyncio_too(self, tmp_path: Path) -> None:
        registry = registry_of(f"sqlite:///{tmp_path / 'opal.db'}")
        Base.metadata.create_all(registry.migration_engine())

        async def work() -> list[tuple[str, str]]:
            async with registry.async_session_scope() as session:
                session.add(User(name="ada", tasks=[Task(title="one", state=State.OPEN)]))
            async with registry.async_session_scope(read_only=True) as session:
                rows = await session.execute(sa.select(User.name, Task.title).join(User.tasks))
                found = [(name, title) for name, title in rows]
            await registry.aclose()
            return found

        assert asyncio.run(work()) == [("ada", "one")]


def test_other_engines_keep_their_schemas(registry: Registry) -> None:
    registry.engine()
    with sa.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("ATTACH ':memory:' AS calmind")
        connection.exec_driver_sql("ATTACH ':memory:' AS accounts")
        Base.metadata.create_all(connection)
        assert connection.execute(sa.select(tasks.c.id)).all() == []
        assert (
            connection.exec_driver_sql("SELECT count(*) FROM calmind.sqlite_master WHERE type = 'table'").scalar() == 1
        )
