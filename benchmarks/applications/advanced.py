"""Advanced Alchemy's extension for FastAPI."""

import os
from typing import Annotated

from advanced_alchemy.extensions.fastapi import (
    AdvancedAlchemy,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemySyncConfig,
    base,
)
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from benchmarks.applications import POOL, model


class Reader(model.Reader, base.DefaultBase):
    """The table."""


URL = os.environ["URL"]
ENGINE = EngineConfig(**POOL)
app = FastAPI()

if os.environ.get("ASYNC"):
    alchemy = AdvancedAlchemy(config=SQLAlchemyAsyncConfig(connection_string=URL, engine_config=ENGINE), app=app)

    @app.get("/async/{reader_id}")
    async def aread(
        reader_id: int, db: Annotated[AsyncSession, Depends(alchemy.provide_session())]
    ) -> dict[str, object]:
        """One row."""
        found = await db.get_one(Reader, reader_id)
        return {"id": found.id, "name": found.name}

else:
    alchemy = AdvancedAlchemy(config=SQLAlchemySyncConfig(connection_string=URL, engine_config=ENGINE), app=app)

    @app.get("/readers/{reader_id}")
    def read(reader_id: int, db: Annotated[Session, Depends(alchemy.provide_session())]) -> dict[str, object]:
        """One row."""
        found = db.get_one(Reader, reader_id)
        return {"id": found.id, "name": found.name}
