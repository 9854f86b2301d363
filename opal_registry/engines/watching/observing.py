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
    mine = f"opal_began_{id(told)}"  # of each who listens: a context is shared

    def before(*arguments: Any) -> None:
        arguments[CONTEXT].__dict__[mine] = time.perf_counter()

    def end(context: ExecutionContext | None, error: BaseException | None) -> None:
        began = None if context is None else context.__dict__.pop(mine, None)
        if context is not None and began is not None:  # else it was under way when we came, or has been told of
            told(context, time.perf_counter() - began, error)

    def after(*arguments: Any) -> None:
        end(arguments[CONTEXT], None)

    def failed(error: sa.ExceptionContext) -> None:
        end(error.execution_context, error.original_exception)

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
