"""Prometheus: how full the pools are, how long somebody waits for a connection and keeps it, how long statements take.

    from opal_registry.prometheus import export

    export(registry)  # beside prometheus_client's own: start_http_server(9090), or make_asgi_app()

Needs the extra ``prometheus``.
"""

from collections.abc import Iterator

from opal_registry.engines.watching.metering import Metering
from opal_registry.errors import OpalError, Problem
from opal_registry.extras import MissingExtraError
from opal_registry.registry import Registry

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError:
    raise MissingExtraError.of("opal_registry.prometheus needs prometheus_client", "prometheus") from None

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: of statements that are good on loopback up to what nobody waits for."""


class _Meters:
    """What is counted as it happens."""

    def __init__(self, to: CollectorRegistry) -> None:
        pool = ("bind",)
        self.wait = Histogram("opal_pool_wait_seconds", "How long for a connection", pool, registry=to, buckets=BUCKETS)
        self.use = Histogram("opal_pool_use_seconds", "How long it was kept", pool, registry=to, buckets=BUCKETS)
        self.timeouts = Counter("opal_pool_timeouts", "How often nobody got one in time", pool, registry=to)
        labels = ("bind", "application", "error")
        self.query = Histogram("opal_query_seconds", "How long a statement took", labels, registry=to, buckets=BUCKETS)


class _Meter:
    def __init__(self, meters: _Meters, bind: str) -> None:
        self._query, self._bind = meters.query, bind
        self.waited = meters.wait.labels(bind).observe
        self.used = meters.use.labels(bind).observe
        self.timed_out = meters.timeouts.labels(bind).inc

    def executed(self, seconds: float, app: str, error: str) -> None:
        self._query.labels(self._bind, app, error).observe(seconds)


class _Levels(Collector):
    def __init__(self, metering: Metering) -> None:
        self._metering = metering

    def collect(self) -> Iterator[GaugeMetricFamily]:
        connections = GaugeMetricFamily("opal_pool_connections", "How many are open", labels=["bind", "state"])
        limit = GaugeMetricFamily("opal_pool_connections_max", "How many there may be", labels=["bind"])
        for level in self._metering.iter_levels():
            connections.add_metric([level.bind, "used"], level.used)
            connections.add_metric([level.bind, "idle"], level.idle)
            limit.add_metric([level.bind], level.limit)
        yield from (connections, limit)


def export(registry: Registry, *, to: CollectorRegistry = REGISTRY) -> None:
    """Count what the engines of a registry do, those that there are and those that will be made.

    Args:
        registry: Whose engines.
        to: Prometheus' registry, which bears each name once: export one registry to it.

    Raises:
        OpalError: If it bears them already.

    Example:
        >>> from prometheus_client import generate_latest
        >>> from opal_registry.settings.model import Settings
        >>> target = CollectorRegistry()
        >>> with Registry(Settings(database={"url": "sqlite:///x.db"}), sub_apps=["core"]) as registry:
        ...     export(registry, to=target)
        ...     engine = registry.engine()
        ...     print(generate_latest(target).decode().splitlines()[-1])
        opal_pool_connections_max{bind="default"} 15.0
    """
    try:
        meters = _Meters(to)
    except ValueError:
        what = "Prometheus' registry has the metrics of a registry already"
        raise OpalError(Problem(what, mend="export once; or each to a CollectorRegistry of its own")) from None
    metering = Metering(lambda bind, _system: _Meter(meters, bind))
    to.register(_Levels(metering))
    registry.watch(metering.add)
