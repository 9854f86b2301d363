"""opal_registry's own: ``get_db``, ``SessionDep``, and their twins for asyncio."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.applications import KEPT, model
from opal_registry.database import Base, get_async_db, get_db
from opal_registry.fastapi import AsyncSessionDep, SessionDep, lifespan
from opal_registry.registry import Registry
from opal_registry.sessions import OpalSession
from opal_registry.settings.model import Settings


class Reader(model.Reader, Base):
    """The table."""


DATABASE = {"url": os.environ["URL"], "pool": {"size": KEPT} if KEPT else {}}
registry = Registry(Settings(database=DATABASE, environment="production"), sub_apps=["core"])
app = FastAPI(lifespan=lifespan(registry, threads=int(os.environ.get("THREADS", "0")) or None))


@app.get("/get_db/{reader_id}")
def read_kept(reader_id: int, db: Annotated[OpalSession, Depends(get_db)]) -> dict[str, object]:
    """One row; the session lasts until the response has been sent."""
    found = db.get_one(Reader, reader_id)
    return {"id": found.id, "name": found.name}


@app.get("/dep/{reader_id}")
def read_lent(reader_id: int, db: SessionDep) -> dict[str, object]:
    """One row; the session lasts until the endpoint has returned."""
    found = db.get_one(Reader, reader_id)
    return {"id": found.id, "name": found.name}


@app.get("/async/get_db/{reader_id}")
async def aread_kept(reader_id: int, db: Annotated[AsyncSession, Depends(get_async_db)]) -> dict[str, object]:
    """The first for asyncio."""
    found = await db.get_one(Reader, reader_id)
    return {"id": found.id, "name": found.name}


@app.get("/async/dep/{reader_id}")
async def aread_lent(reader_id: int, db: AsyncSessionDep) -> dict[str, object]:
    """The second for asyncio."""
    found = await db.get_one(Reader, reader_id)
    return {"id": found.id, "name": found.name}
