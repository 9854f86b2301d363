"""The dependency of the textbook: a generator that yields a session, and closes it."""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.applications import POOL, model


class Base(DeclarativeBase):
    """As the textbook has it."""


class Reader(model.Reader, Base):
    """The table."""


URL = os.environ["URL"]
engine = sa.create_engine(URL, **POOL)
app = FastAPI()


def get_db() -> Iterator[Session]:
    """A session for the length of a request."""
    with Session(engine) as session:
        yield session


@app.get("/readers/{reader_id}")
def read(reader_id: int, db: Annotated[Session, Depends(get_db)]) -> dict[str, object]:
    """One row."""
    found = db.get_one(Reader, reader_id)
    return {"id": found.id, "name": found.name}


if "psycopg" in URL:
    async_engine = create_async_engine(URL, **POOL)

    async def get_async_db() -> AsyncIterator[AsyncSession]:
        """The same for asyncio."""
        async with AsyncSession(async_engine) as session:
            yield session

    @app.get("/async/{reader_id}")
    async def aread(reader_id: int, db: Annotated[AsyncSession, Depends(get_async_db)]) -> dict[str, object]:
        """The same for asyncio."""
        found = await db.get_one(Reader, reader_id)
        return {"id": found.id, "name": found.name}
