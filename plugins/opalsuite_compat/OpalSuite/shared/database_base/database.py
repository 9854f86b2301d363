"""The original module's names; new code imports them from :mod:`opal_registry.database`.

Importing it reads no configuration. ``SQLALCHEMY_DATABASE_URL`` does, whenever it is asked for: it is the URL of the
default registry's database, with the password, because code of the original suite hands it to ``create_engine``.
"""

from opal_registry.database import Base, SessionLocal, engine, get_db

SQLALCHEMY_DATABASE_URL: str


def __getattr__(name: str) -> str:
    if name == "SQLALCHEMY_DATABASE_URL":
        return engine.url.render_as_string(hide_password=False)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["SQLALCHEMY_DATABASE_URL", "Base", "SessionLocal", "engine", "get_db"]
