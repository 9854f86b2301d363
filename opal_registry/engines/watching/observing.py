"""What is told of an engine while it works: leaks, slow statements, and tags by which a server's own tools name the caller."""

import logging
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ExecutionContext

from opal_registry.engines.caller import caller
from opal_registry.engines.pools.lingering import LingeringQueuePool
from opal_registry.engines.watching.explaining import Explainer
from opal_registry.engines.watching.tags import tag
from opal_registry.settings.model import Settings

BEGAN = "opal_began"
"""Under this name the context of a statement has the time when it was sent."""

CONTEXT = 4
"""Which argument of an event of a cursor is the context of the statement."""

LONGEST_SHOWN = 2000
"""So many characters of a statement are logged."""

slow = logging.getLogger("opal_registry.slow")

Told = Callable[[ExecutionContext, float, BaseException | None], None]
"""Is told of a statement: its context, the seconds that it took, and the error if it failed."""


def observe(engine: sa.Engine, settings: Settings, bind: str) -> None:
    """Let an engine tell what the settings ask for; what nobody asks for costs nothing.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        settings: What is configured.
        bind: The engine's bind key.
    """
    if isinstance(engine.pool, LingeringQueuePool):
        leak_after = settings.databases[bind].pool.leak_after
        engine.pool.leases.look_for_leaks(after=leak_after, with_places=not settings.is_production)
    if settings.observe.slow_query:
        explainer = Explainer(engine.dialect) if settings.observe.explain else None
        time_statements(engine, _log_slow(settings.observe.slow_query, bind, explainer))
    if settings.observe.tags:
        tag(engine)


def time_statements(engine: sa.Engine, told: Told) -> None:
    """Tell of each statement how long the database took.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        told: Is called after each one.
    """

    def before(*arguments: Any) -> None:
        setattr(arguments[CONTEXT], BEGAN, time.perf_counter())

    def after(*arguments: Any) -> None:
        context = arguments[CONTEXT]
        if (began := getattr(context, BEGAN, None)) is not None:  # it may have been under way when we came
            told(context, time.perf_counter() - began, None)

    def failed(error: sa.ExceptionContext) -> None:
        began = getattr(error.execution_context, BEGAN, None)
        if began is not None and error.execution_context is not None:
            told(error.execution_context, time.perf_counter() - began, error.original_exception)

    sa.event.listen(engine, "before_cursor_execute", before)
    sa.event.listen(engine, "after_cursor_execute", after)
    sa.event.listen(engine, "handle_error", failed)


def _log_slow(after: float, bind: str, explainer: Explainer | None) -> Told:
    def log(context: Any, seconds: float, error: BaseException | None) -> None:
        if seconds < after:
            return
        who, statement = caller.get(), str(context.statement)
        names = ", ".join(filter(None, (bind, who.app, who.route)))
        plan = explainer.explain(context) if explainer and error is None else ""
        end = f"\n{plan}" if plan else ""
        shown = " ".join(statement[:LONGEST_SHOWN].split())
        state = "" if error is None else f", {type(error).__name__}"
        about = {"milliseconds": round(seconds * 1000, 1), "bind": bind, "statement": shown, "plan": plan or None}
        slow.warning("slow query: %.0f ms, %s%s: %s%s", seconds * 1000, names, state, shown, end, extra={"opal": about})

    return log
