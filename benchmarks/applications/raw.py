"""No SQLAlchemy: the drivers, psycopg's pools, and a connection for each thread where SQLite is."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator

from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.applications import CLIENTS

URL = os.environ["URL"]
QUERY = "SELECT id, name, email, city, year FROM readers WHERE id = %s"
DSN = URL.replace("+psycopg", "")
pool = ConnectionPool(DSN, min_size=CLIENTS, open=False)
async_pool = AsyncConnectionPool(DSN, min_size=CLIENTS, open=False)
local = threading.local()


@contextlib.asynccontextmanager
async def live(_app: FastAPI) -> AsyncIterator[None]:
    """Open the pools, and close them."""
    if not URL.startswith("postgresql"):
        yield
        return
    with pool:
        async with async_pool:
            yield


app = FastAPI(lifespan=live)


@app.get("/postgresql/{reader_id}")
def read(reader_id: int) -> dict[str, object]:
    """One row."""
    with pool.connection() as connection:
        number, name, *_ = connection.execute(QUERY, [reader_id]).fetchone()
    return {"id": number, "name": name}


@app.get("/async/{reader_id}")
async def aread(reader_id: int) -> dict[str, object]:
    """The same for asyncio."""
    async with async_pool.connection() as connection:
        number, name, *_ = await (await connection.execute(QUERY, [reader_id])).fetchone()
    return {"id": number, "name": name}


@app.get("/sqlite/{reader_id}")
def read_file(reader_id: int) -> dict[str, object]:
    """The same from a file."""
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(URL.removeprefix("sqlite:///"))
    number, name, *_ = local.connection.execute(QUERY.replace("%s", "?"), [reader_id]).fetchone()
    return {"id": number, "name": name}
