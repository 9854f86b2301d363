"""OpenTelemetry: metrics of pools and statements by their semantic conventions, and a span for each statement.

    from opal_registry.telemetry import instrument

    instrument(registry)  # before its engines are used; the providers are OpenTelemetry's own

Needs the extra ``otel``.
"""

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from opal_registry.engines.watching.metering import Metering
from opal_registry.registry import Registry

POOL, STATE, SYSTEM, ERROR = (
    "db.client.connection.pool.name",
    "db.client.connection.state",
    "db.system.name",
    "error.type",
)
APPLICATION = "opal.application"
SYSTEMS = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mariadb"}


class _Meters:
    """The instruments, as the semantic conventions of database clients name them."""

    def __init__(self, meter: metrics.Meter, metering: Metering) -> None:
        self.wait = meter.create_histogram("db.client.connection.wait_time", "s", "How long for a connection")
        self.use = meter.create_histogram("db.client.connection.use_time", "s", "How long it was kept")
        self.timeouts = meter.create_counter(
            "db.client.connection.timeouts", "{timeout}", "How often nobody got one in time"
        )
        self.query = meter.create_histogram("db.client.operation.duration", "s", "How long a statement took")
        meter.create_observable_up_down_counter(
            "db.client.connection.count", [_observe(metering, _count)], "{connection}", "How many are open"
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.max", [_observe(metering, _limit)], "{connection}", "How many there may be"
        )


class _Meter:
    def __init__(self, meters: _Meters, bind: str, system: str) -> None:
        self._meters, self._pool = meters, {POOL: bind}
        self._query = {SYSTEM: SYSTEMS[system], POOL: bind}

    def waited(self, seconds: float) -> None:
        self._meters.wait.record(seconds, self._pool)

    def used(self, seconds: float) -> None:
        self._meters.use.record(seconds, self._pool)

    def timed_out(self) -> None:
        self._meters.timeouts.add(1, self._pool)

    def executed(self, seconds: float, app: str, error: str) -> None:
        known = {APPLICATION: app, ERROR: error}
        self._meters.query.record(seconds, self._query | {name: value for name, value in known.items() if value})


def instrument(
    registry: Registry,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    spans: bool = True,
) -> None:
    """Let OpenTelemetry see what the engines of a registry do, those that there are and those that will be made.

    Spans are those of ``opentelemetry-instrumentation-sqlalchemy``, for engines that are made from now on, of whomever.

    Args:
        registry: Whose engines.
        meter_provider: Where metrics go; the global one if it is not given.
        tracer_provider: Where spans go; the global one if it is not given.
        spans: Whether there is a span for each statement.
    """
    meters: list[_Meters] = []
    metering = Metering(lambda bind, system: _Meter(meters[0], bind, system))
    meters.append(_Meters(metrics.get_meter("opal_registry", meter_provider=meter_provider), metering))
    registry.watch(metering.add)
    instrumentor = SQLAlchemyInstrumentor()
    if spans and not instrumentor.is_instrumented_by_opentelemetry:
        # its check knows no SQLAlchemy newer than itself, although it works
        instrumentor.instrument(skip_dep_check=True, tracer_provider=tracer_provider, meter_provider=meter_provider)


def _observe(
    metering: Metering, read: Callable[[Any], Iterator[Observation]]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for level in metering.iter_levels():
            yield from read(level)

    return observe


def _count(level: Any) -> Iterator[Observation]:
    yield Observation(level.used, {POOL: level.bind, STATE: "used"})
    yield Observation(level.idle, {POOL: level.bind, STATE: "idle"})


def _limit(level: Any) -> Iterator[Observation]:
    yield Observation(level.limit, {POOL: level.bind})
