"""OpenTelemetry: metrics of pools and statements by their semantic conventions, and a span for each statement.

    from opal_registry.telemetry import instrument

    instrument(registry)  # before its engines are used; the providers are OpenTelemetry's own

Needs the extra ``otel``.
"""

import logging
from collections.abc import Callable, Iterator
from weakref import WeakSet

from opal_registry.engines.watching.metering import Level, Metering
from opal_registry.extras import MissingExtraError
from opal_registry.registry import Registry

try:
    from opentelemetry import metrics, trace
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
except ModuleNotFoundError:
    raise MissingExtraError.of("opal_registry.telemetry needs OpenTelemetry", "otel") from None

POOL, STATE, SYSTEM, ERROR = (
    "db.client.connection.pool.name",
    "db.client.connection.state",
    "db.system.name",
    "error.type",
)
APPLICATION = "opal.application"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Seconds, as the semantic conventions advise; OpenTelemetry's own are for milliseconds.

https://opentelemetry.io/docs/specs/semconv/database/database-metrics/
"""


_watched: WeakSet[Registry] = WeakSet()

logger = logging.getLogger("opal_registry")


class _Meters:
    """The instruments, as the semantic conventions of database clients name them."""

    def __init__(self, meter: metrics.Meter, metering: Metering) -> None:
        self.wait = _create_histogram(meter, "db.client.connection.wait_time", "How long for a connection")
        self.use = _create_histogram(meter, "db.client.connection.use_time", "How long it was kept")
        self.timeouts = meter.create_counter(
            "db.client.connection.timeouts", "{timeout}", "How often nobody got one in time"
        )
        self.query = _create_histogram(meter, "db.client.operation.duration", "How long a statement took")
        meter.create_observable_up_down_counter(
            "db.client.connection.count", [_observe(metering, _count)], "{connection}", "How many are open"
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.max", [_observe(metering, _limit)], "{connection}", "How many there may be"
        )


class _Meter:
    def __init__(self, meters: _Meters, bind: str, system: str) -> None:
        self._meters, self._pool = meters, {POOL: bind}
        self._query = {SYSTEM: system, POOL: bind}

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

    Spans are those of ``opentelemetry-instrumentation-sqlalchemy``: of statements, for engines that are made from now on, and of
    ``connect()``, for all engines of the process, of whomever.

    Args:
        registry: Whose engines.
        meter_provider: Where metrics go; the global one if it is not given.
        tracer_provider: Where spans go; the global one if it is not given.
        spans: Whether there is a span for each statement.
    """
    if registry in _watched:
        logger.warning("%r is instrumented already", registry)
        return
    _watched.add(registry)
    meters: list[_Meters] = []
    metering = Metering(lambda bind, system: _Meter(meters[0], bind, system))
    meters.append(_Meters(metrics.get_meter("opal_registry", meter_provider=meter_provider), metering))
    registry.watch(metering.add)
    instrumentor = SQLAlchemyInstrumentor()
    if spans and not instrumentor.is_instrumented_by_opentelemetry:
        # its check knows no SQLAlchemy newer than itself, although it works
        # and its metric says again, by an older name, what ours say
        no_metrics = metrics.NoOpMeterProvider()
        instrumentor.instrument(skip_dep_check=True, tracer_provider=tracer_provider, meter_provider=no_metrics)


def _create_histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=BUCKETS)


def _observe(
    metering: Metering, read: Callable[[Level], Iterator[Observation]]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for level in metering.iter_levels():
            yield from read(level)

    return observe


def _count(level: Level) -> Iterator[Observation]:
    yield Observation(level.used, {POOL: level.bind, STATE: "used"})
    yield Observation(level.idle, {POOL: level.bind, STATE: "idle"})


def _limit(level: Level) -> Iterator[Observation]:
    yield Observation(level.limit, {POOL: level.bind})
