"""What can be known of all configured databases before anything is connected: secrets are read, and engines made."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from pydantic import BaseModel

from opal_registry.engines.cloud_sql.credentials import parse
from opal_registry.engines.factory import make_async_engine, make_engine, make_migration_engine
from opal_registry.engines.url import describe_url, is_async, make_url, parse_url
from opal_registry.errors import ConfigError, Problem
from opal_registry.secrets import Secret
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.model import Settings


def check_databases(settings: Settings) -> dict[str, str]:
    """Say where all databases are, by bind key.

    Raises:
        ConfigError: If anything is wrong with any of them; everything at once.

    Example:
        >>> check_databases(Settings(database={"url": "postgresql://app@db.example/suite"}))
        {'default': 'postgresql+psycopg://app@db.example/suite'}
    """
    problems = [problem for look in _iter_looks(settings) for problem in _collect(look)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return {
        bind: describe_url(make_url(database, where=settings.place_of(bind)))
        for bind, database in settings.databases.items()
    }


def _collect(look: Callable[[], object]) -> tuple[Problem, ...]:
    try:
        look()
    except ConfigError as error:
        return error.problems
    return ()


def _iter_looks(settings: Settings) -> Iterator[Callable[[], object]]:
    """What may fail, one after the other; an engine of what has a secret that cannot be read would say the same again."""
    for secret in _iter_secrets(settings):
        yield secret.get_secret_value
    for bind, database in settings.databases.items():
        if all(not _collect(secret.get_secret_value) for secret in _iter_secrets(database)):
            yield from _iter_engines(settings, bind, database)


def _iter_engines(settings: Settings, bind: str, database: DatabaseSettings) -> Iterator[Callable[[], object]]:
    where = settings.place_of(bind)
    yield partial(make_async_engine if is_async(database) else make_engine, database, where=where)
    yield partial(make_migration_engine, database, where=settings.place_of(bind, "migration_url"))
    for connection in (database, *database.replicas):
        if connection.cloud_sql and connection.cloud_sql.credentials:
            yield partial(parse, connection.cloud_sql.credentials)
    for replica in database.replicas:
        if replica.url:
            yield partial(parse_url, replica.url.get_secret_value(), where=replica.url.where)


def _iter_secrets(value: object) -> Iterator[Secret]:
    match value:
        case Secret():
            yield value
        case BaseModel():
            for _, inner in value:
                yield from _iter_secrets(inner)
        case Mapping():
            for inner in value.values():
                yield from _iter_secrets(inner)
        case list():
            for inner in value:
                yield from _iter_secrets(inner)
