"""A thousand requests that fail, are cancelled, or whose client leaves: what is left of their sessions."""

import asyncio
import gc
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any

import fastapi
import sqlalchemy as sa
from fastapi.responses import StreamingResponse
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from opal_registry.database import get_async_db
from opal_registry.fastapi import AsyncSessionDep, SessionDep
from opal_registry.registry import Registry
from opal_registry.settings.model import Settings
from tests.asgi import Exchange

REQUESTS, AT_A_TIME = 1000, 200
POOL_TIMEOUT = 10
"""Seconds that a request waits for a connection."""

SETTLE = 5.0
"""Seconds that threads which nobody waits for any more have to end."""

ASK = sa.text("SELECT count(*) FROM readers")
PATHS = ("/sync", "/async", "/stream")
ENDS = ("well", "failing", "cancelled", "left")


class EndpointError(Exception):
    """What an endpoint raises."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of the requests.

    Args:
        answered: How many were answered.
        failed: How many failed with an error that was not meant, by its name.
        checked_out: How many connections nobody gave back.
        tasks: How many tasks of asyncio wait for what will not happen.
        collected: How many the garbage collector had to give back.
    """

    answered: int
    failed: Counter[str]
    checked_out: int
    tasks: int
    collected: int = 0


def iter_section(urls: dict[str, str]) -> Iterator[str]:
    """The section of the page, line by line."""
    yield f"## {REQUESTS:,} requests that fail, are cancelled, or are left\n"
    yield f"{AT_A_TIME} at a time, to endpoints with `def`, with `async def`, and to streams; a quarter of them fails, a quarter is cancelled (by asyncio, as by a"
    yield "server that stops), and a quarter loses its client. To reach: nothing is left.\n"
    yield "|  |  | answered | failed without reason | connections not given back | given back by the garbage collector | tasks that never end |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for database, url in urls.items():
        for title, work in (("the textbook", _run_textbook), ("`SessionDep`, `AsyncSessionDep`", _run_opal)):
            left = _collect(work, url)
            failed = ", ".join(f"{number} {name}" for name, number in left.failed.items()) or "0"
            yield f"| {database} | {title} | {left.answered} | {failed} | {left.checked_out} | {left.collected} | {left.tasks} |"


async def _run_textbook(url: str) -> Left:
    engine = sa.create_engine(url, pool_timeout=POOL_TIMEOUT)
    async_engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"), pool_timeout=POOL_TIMEOUT)

    def get_db() -> Iterator[sa_orm.Session]:
        with sa_orm.Session(engine) as session:
            yield session

    async def get_both() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(async_engine) as session:
            yield session

    db = Annotated[AsyncSession, fastapi.Depends(get_both)]
    app = _make_app(Annotated[sa_orm.Session, fastapi.Depends(get_db)], db, db)
    left = await _run(app, [engine.pool, async_engine.pool])
    await async_engine.dispose()
    engine.dispose()
    return left


async def _run_opal(url: str) -> Left:
    settings = Settings.model_validate({"database": {"url": url, "pool": {"timeout": POOL_TIMEOUT}}})
    app = _make_app(SessionDep, AsyncSessionDep, Annotated[AsyncSession, fastapi.Depends(get_async_db)])
    async with Registry(settings, sub_apps=["core"]).as_default() as registry:
        return await _run(app, [registry.engine().pool, registry.async_engine().pool])


def _make_app(one: Any, other: Any, lasting: Any) -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/sync/{end}")
    def ask(end: str, db: one) -> int:
        return _judge(end, db.scalar(ASK))

    @app.get("/async/{end}")
    async def aask(end: str, db: other) -> int:
        return _judge(end, await db.scalar(ASK))

    @app.get("/stream/{end}")
    async def stream(end: str, db: lasting) -> StreamingResponse:
        async def iter_answers() -> AsyncIterator[str]:
            for _ in range(3 if end == "well" else 100):
                yield str(await db.scalar(ASK))
                _judge(end, 0)

        return StreamingResponse(iter_answers())

    return app


def _judge(end: str, answer: int) -> int:
    if end == "failing":
        raise EndpointError
    return answer


async def _run(app: fastapi.FastAPI, pools: list[Any]) -> Left:
    gate = asyncio.Semaphore(AT_A_TIME)
    work = [_send(app, gate, f"{PATHS[n % 3]}/{ENDS[n % 4]}", n % 7 / 1000) for n in range(REQUESTS)]
    outcomes = Counter(await asyncio.gather(*work))
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE):
            while _count(pools):
                await asyncio.sleep(0.05)
    answered = outcomes.pop("", 0)
    return Left(answered, outcomes, _count(pools), len(asyncio.all_tasks()) - 1)


async def _send(app: fastapi.FastAPI, gate: asyncio.Semaphore, path: str, after: float) -> str:
    """Send a request, and end it as its path says; the name of an error that was not meant."""
    async with gate:
        exchange = Exchange(app, path)
        task = asyncio.create_task(exchange.run())
        if path.endswith(("cancelled", "left")):
            await asyncio.sleep(after)
            task.cancel() if path.endswith("cancelled") else exchange.left.set()
        try:
            await task
        except (EndpointError, asyncio.CancelledError):
            return ""
        except Exception as error:  # noqa: BLE001 -- they are what is counted
            return type(error).__name__
    return ""


def _count(pools: list[Any]) -> int:
    return sum(pool.checkedout() for pool in pools)


def _collect(work: Callable[[str], Any], url: str) -> Left:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        left: Left = asyncio.run(work(url))
        gc.collect()
    return replace(left, collected=sum("garbage collector" in str(each.message) for each in caught))
