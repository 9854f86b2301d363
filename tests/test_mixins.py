"""Columns that many models share."""

import datetime as dt
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.base import make_base
from opal_registry.mixins import Timestamps, UUIDKey
from tests.databases import engine_of

TOKYO = dt.timezone(dt.timedelta(hours=9))


class Report(UUIDKey, Timestamps, make_base()):  # type: ignore[misc]
    """A model that uses all of them."""

    __tablename__ = "reports"
    name: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(50))


@pytest.fixture
def session(any_database_url: str) -> Iterator[sa_orm.Session]:
    """A session of a database with the table ``reports``."""
    engine = engine_of(any_database_url)
    Report.metadata.create_all(engine)
    with sa_orm.Session(engine) as session:
        yield session
    engine.dispose()


def test_importing_the_mixins_registers_no_table() -> None:
    code = "import opal_registry.mixins, opal_registry.base as b; assert not b.Base.metadata.tables"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_key_is_known_before_the_row_is_stored_only_when_it_is_flushed(session: sa_orm.Session) -> None:
    report = Report()
    session.add(report)
    session.flush()
    assert isinstance(report.id, uuid.UUID)
    session.expire(report)
    assert session.get(Report, report.id) is report


def test_the_columns_come_first_and_last() -> None:
    assert Report.__table__.columns.keys() == ["id", "name", "created_at", "updated_at"]


def test_a_moment_comes_back_in_utc(session: sa_orm.Session) -> None:
    moment = dt.datetime(2026, 11, 23, 8, 30, 1, 250_000, tzinfo=TOKYO)
    report = Report(created_at=moment)
    session.add(report)
    session.flush()
    session.expire(report)
    assert report.created_at == moment
    assert report.created_at.tzinfo == dt.UTC


def test_a_moment_is_kept_to_the_microsecond(session: sa_orm.Session) -> None:
    moment = dt.datetime(2026, 11, 23, 8, 30, 1, 999_999, tzinfo=dt.UTC)
    session.add(Report(created_at=moment))
    session.flush()
    session.expire_all()
    assert session.scalars(sa.select(Report.created_at).where(Report.created_at == moment)).all() == [moment]


def test_mariadb_dates_a_row_as_finely(mariadb_url: str) -> None:
    engine = engine_of(mariadb_url)
    Report.metadata.create_all(engine)
    with engine.connect() as connection:
        columns = {column["name"]: column for column in sa.inspect(connection).get_columns("reports")}
    assert [columns[name]["default"] for name in ("created_at", "updated_at")] == ["current_timestamp(6)"] * 2
    engine.dispose()


def test_moments_are_compared_whatever_zone_they_are_asked_in(session: sa_orm.Session) -> None:
    session.add(Report(created_at=dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)))
    session.flush()
    earlier = dt.datetime(2026, 1, 1, 20, tzinfo=TOKYO)
    assert session.scalar(sa.select(sa.func.count()).where(Report.created_at > earlier)) == 1


def test_a_moment_without_a_zone_is_refused(session: sa_orm.Session) -> None:
    session.add(Report(created_at=dt.datetime(2026, 1, 1)))
    with pytest.raises(sa.exc.StatementError, match="has no time zone: use datetime"):
        session.flush()


def test_a_change_moves_updated_at_only(session: sa_orm.Session) -> None:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    report = Report(created_at=past, updated_at=past)
    session.add(report)
    session.flush()
    report.name = "changed"
    session.flush()
    assert report.created_at == past < report.updated_at


def test_a_row_written_by_hand_is_dated_by_the_database(session: sa_orm.Session) -> None:
    session.execute(sa.insert(Report.__table__).values(id=uuid.uuid4(), created_at=sa.text("CURRENT_TIMESTAMP")))
    created, updated = session.execute(sa.select(Report.created_at, Report.updated_at)).one()
    assert abs(created - updated) < dt.timedelta(minutes=1)
    assert abs(dt.datetime.now(dt.UTC) - created) < dt.timedelta(minutes=1)
