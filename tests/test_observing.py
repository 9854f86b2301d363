"""What is told of statements: slow ones with their plans, tags in the server's own view, lines of JSON, metrics and spans."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from opal_registry.engines.caller import Caller, caller
from opal_registry.engines.watching.observing import time_statements
from opal_registry.engines.watching.tags import make_tag
from opal_registry.errors import OpalError
from opal_registry.init import init
from opal_registry.logs import JsonFormatter
from opal_registry.models import User
from opal_registry.prometheus import export
from opal_registry.settings.model import ObserveSettings
from opal_registry.telemetry import BUCKETS, instrument
from tests.databases import registry_of

WHO = Caller("standupbot", "GET /users/{user_id}")
SLOW = "opal_registry.slow"


@pytest.fixture(autouse=True)
def _called() -> Iterator[None]:
    token = caller.set(WHO)
    yield
    caller.reset(token)


def slow_ones(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == SLOW]


class TestSlowStatements:
    def test_are_logged_with_who_wants_them_and_without_what(
        self, any_database_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with registry_of(any_database_url, observe={"slow_query": "0.001ms"}) as registry:
            init(registry)
            caplog.clear()
            with registry.session_scope() as session:
                session.scalars(sa.select(User).where(User.username == "hunter2")).all()
        (record,) = slow_ones(caplog)
        assert record.message.startswith("slow query: ")
        assert ", default, standupbot, GET /users/{user_id}: SELECT users.id" in record.message.replace("ms, ", ", ")
        assert "hunter2" not in record.message

    def test_that_fail_are_too(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        with registry_of(database_url, observe={"slow_query": "0.001ms"}) as registry:
            with registry.engine().connect() as connection, pytest.raises(sa.exc.DBAPIError):
                connection.exec_driver_sql("SELECT no_such_column")
        assert any("SELECT no_such_column" in record.message for record in slow_ones(caplog))

    def test_whose_rows_cannot_be_read_are_told_of_once(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with registry_of(f"sqlite:///{tmp_path / 'x.db'}", observe={"slow_query": "0.001ms"}) as registry:
            counted: list[object] = []
            time_statements(registry.engine(), lambda _context, _seconds, error: counted.append(error))
            with pytest.raises(sa.exc.OperationalError), registry.engine().connect() as connection:
                connection.exec_driver_sql("SELECT CAST(x'ff' AS TEXT)").all()
        assert len([record for record in slow_ones(caplog) if "x'ff'" in record.message]) == 1
        assert counted.count(None) == len(counted) == 1

    def test_have_to_be_named_before_they_are_explained(self) -> None:
        with pytest.raises(ValueError, match="has explain without slow_query"):
            ObserveSettings(explain=True)

    def test_that_are_quick_enough_are_not(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        with registry_of(database_url, observe={"slow_query": "1m"}) as registry, registry.engine().connect() as one:
            one.exec_driver_sql("SELECT 1")
        assert not slow_ones(caplog)

    def test_bring_their_plan_once(self, any_database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        with registry_of(any_database_url, observe={"slow_query": "0.001ms", "explain": True}) as registry:
            init(registry)
            caplog.clear()
            for _ in range(2):
                with registry.session_scope() as session:
                    session.add(User(username=f"ada{_}"))
                    session.flush()
                    assert session.scalars(sa.select(User).where(User.username == f"ada{_}")).one().id
        plans: list[Any] = [record.__dict__["opal"]["plan"] for record in slow_ones(caplog)]
        selects = [
            plan for plan, record in zip(plans, slow_ones(caplog), strict=True) if "SELECT users" in record.message
        ]
        assert [bool(plan) for plan in selects] == [True, False]
        assert "users" in selects[0]
        with registry_of(any_database_url) as registry, registry.session_scope() as session:
            assert session.scalar(sa.select(sa.func.count()).select_from(User)) == 2

    @pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
    def test_that_are_several_in_one_string_are_not_run_again(self, postgres_url: str, driver: str) -> None:
        url = postgres_url.replace("psycopg", driver)
        with registry_of(url, observe={"slow_query": "0.001ms", "explain": True}) as registry:
            with registry.engine().begin() as connection:
                connection.exec_driver_sql("CREATE TABLE t (i int)")
                connection.exec_driver_sql("SELECT 1; INSERT INTO t VALUES (1)")
                connection.exec_driver_sql("INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);")
                assert connection.exec_driver_sql("SELECT i FROM t ORDER BY i").scalars().all() == [1, 2, 3]

    def test_also_by_asyncio(self, postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
        async def main(driver: str) -> None:
            url = postgres_url.replace("psycopg", driver)
            async with registry_of(url, observe={"slow_query": "0.001ms", "explain": True}) as registry:
                async with registry.async_session_scope() as session:
                    session.add(User(username=driver))
                    await session.flush()

        with registry_of(postgres_url) as registry:
            init(registry)
        caplog.clear()
        for driver in ("psycopg", "asyncpg"):
            asyncio.run(main(driver))
        inserts = [record for record in slow_ones(caplog) if "INSERT INTO users" in record.message]
        assert [("Insert on users" in record.message) for record in inserts] == [True, True]


class TestTags:
    @pytest.mark.parametrize("driver", ["psycopg", "pg8000", "pymysql"])
    def test_are_seen_by_the_server(self, driver: str, request: pytest.FixtureRequest) -> None:
        if driver == "pymysql":
            url = request.getfixturevalue("mariadb_url")
            seen = "SELECT info FROM information_schema.processlist WHERE id = connection_id()"
        else:
            url = request.getfixturevalue("postgres_url").replace("psycopg", driver)
            seen = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        with registry_of(url, observe={"tags": True}) as registry, registry.session_scope() as session:
            assert str(session.scalar(sa.text(f"{seen} AND 1 = :one"), {"one": 1})).endswith(make_tag(WHO))
            assert str(session.scalar(sa.text(seen))).endswith(make_tag(WHO))

    def test_cannot_be_ended_by_a_route(self, database_url: str) -> None:
        caller.set(Caller("x", "GET /*/'; DROP TABLE users --*/%s"))
        with registry_of(database_url, observe={"tags": True}) as registry:
            init(registry)
            with registry.session_scope() as session:
                session.add(User(username="ada"))
                session.flush()
                assert session.scalar(sa.select(sa.func.count()).select_from(User)) == 1
        assert "*/" not in make_tag(caller.get())[:-2]


def test_lines_of_json_say_for_whom(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with registry_of(database_url, observe={"slow_query": "0.001ms"}) as registry, registry.engine().connect() as one:
        one.exec_driver_sql("SELECT 1")
        line = json.loads(JsonFormatter().format(slow_ones(caplog)[-1]))
    assert line["milliseconds"] >= 0
    known = {"severity": "WARNING", "application": "standupbot", "route": WHO.route, "statement": "SELECT 1"}
    assert line.items() >= (known | {"bind": "default", "logger": SLOW}).items()
    assert "plan" not in line


def test_prometheus_counts_what_happens(postgres_url: str) -> None:
    to = CollectorRegistry()
    pool = {"size": 1, "max_overflow": 0, "timeout": "10ms"}
    with registry_of(postgres_url, database={"url": postgres_url, "pool": pool}) as registry:
        export(registry, to=to)
        engine = registry.engine()
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
            with pytest.raises(sa.exc.ProgrammingError):
                connection.exec_driver_sql("SELECT no_such_column")
            assert to.get_sample_value("opal_pool_connections", {"bind": "default", "state": "used"}) == 1
            with pytest.raises(sa.exc.TimeoutError):
                engine.connect()
        assert to.get_sample_value("opal_pool_connections", {"bind": "default", "state": "idle"}) == 1
        assert to.get_sample_value("opal_pool_connections_max", {"bind": "default"}) == 1
        assert to.get_sample_value("opal_pool_timeouts_total", {"bind": "default"}) == 1
        assert to.get_sample_value("opal_pool_use_seconds_count", {"bind": "default"}) == 1
        assert (to.get_sample_value("opal_pool_wait_seconds_count", {"bind": "default"}) or 0) >= 1
        labels = {"bind": "default", "application": "standupbot", "error": ""}
        assert (to.get_sample_value("opal_query_seconds_count", labels) or 0) >= 1
        assert to.get_sample_value("opal_query_seconds_count", labels | {"error": "UndefinedColumn"}) == 1


def test_prometheus_is_told_once(tmp_path: Path) -> None:
    target = CollectorRegistry()
    with registry_of(f"sqlite:///{tmp_path / 'x.db'}") as registry:
        export(registry, to=target)
        with pytest.raises(OpalError, match="has the metrics of a registry already"):
            export(registry, to=target)


def test_opentelemetry_is_told_once(tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with registry_of(f"sqlite:///{tmp_path / 'x.db'}") as registry:
        for _ in range(2):
            instrument(registry, meter_provider=provider, spans=False)
        with registry.engine().connect() as connection:
            connection.execute(sa.text("SELECT 1"))
        data = reader.get_metrics_data()
    assert data is not None
    counts = [
        getattr(point, "count", None)
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "db.client.operation.duration"
        for point in metric.data.data_points
    ]
    assert counts == [1]


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("prometheus", "prometheus_client", "prometheus"),
        ("telemetry", "opentelemetry", "otel"),
        ("fastapi", "fastapi", "fastapi"),
    ],
)
def test_the_extra_is_named_where_a_library_is_missing(module: str, missing: str, extra: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import opal_registry.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert f"mend:  pip install 'opal-registry[{extra}]'" in done.stderr


def test_a_fastapi_that_is_too_old_is_named() -> None:
    code = "import fastapi; fastapi.__version__ = '0.122.1'; import opal_registry.fastapi"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "needs FastAPI 0.123.5 or later, and there is 0.122.1" in done.stderr


def test_an_engine_may_be_watched_from_the_middle_of_a_statement_on(tmp_path: Path) -> None:
    to = CollectorRegistry()
    with registry_of(f"sqlite:///{tmp_path / 'x.db'}") as registry, registry.engine().connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("watch", 0, lambda: export(registry, to=to))
        connection.exec_driver_sql("SELECT watch()")
        connection.exec_driver_sql("SELECT 1")
    labels = {"bind": "default", "application": "standupbot", "error": ""}
    assert to.get_sample_value("opal_query_seconds_count", labels) == 1


def test_opentelemetry_gets_metrics_and_spans(postgres_url: str) -> None:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    with registry_of(postgres_url) as registry:
        try:
            instrument(registry, meter_provider=MeterProvider([reader]), tracer_provider=tracers)
            with registry.engine().connect() as connection:
                connection.exec_driver_sql("SELECT 1")
                found, bounds = points(reader)
        finally:
            SQLAlchemyInstrumentor().uninstrument()
    assert found["db.client.connection.count", "used"] == 1
    assert found["db.client.connection.max", ""] == 15
    assert {name for name, _ in found} >= {"db.client.connection.wait_time", "db.client.operation.duration"}
    assert not any(name.startswith("db.client.connections.") for name, _ in found)
    assert bounds == {BUCKETS}
    assert any(span.name.startswith("SELECT") for span in spans.get_finished_spans())


def points(reader: InMemoryMetricReader) -> tuple[dict[tuple[str, str], Any], set[tuple[float, ...]]]:
    """The value of each point by name and state, None of a histogram; and the bounds that histograms have."""
    data: Any = reader.get_metrics_data()
    metrics = [m for each in data.resource_metrics for scope in each.scope_metrics for m in scope.metrics]
    pairs = [(metric.name, point) for metric in metrics for point in metric.data.data_points]
    state = "db.client.connection.state"
    values = {(name, str(point.attributes.get(state, ""))): getattr(point, "value", None) for name, point in pairs}
    return values, {tuple(point.explicit_bounds) for _, point in pairs if hasattr(point, "explicit_bounds")}
