"""Flask-SQLAlchemy."""

import os

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from benchmarks.applications import POOL, model


class Base(DeclarativeBase):
    """As its manual has it."""


db = SQLAlchemy(model_class=Base)


class Reader(model.Reader, db.Model):
    """The table."""


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["URL"]
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = POOL
db.init_app(app)


@app.get("/readers/<int:reader_id>")
def read(reader_id: int) -> dict[str, object]:
    """One row."""
    found = db.session.get_one(Reader, reader_id)
    return {"id": found.id, "name": found.name}
