"""The URL of a database: what is understood, and what is refused before anybody connects."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.engines.url import describe_url, get_sqlite_path, is_memory, make_url, parse_url
from opal_registry.errors import ConfigError
from opal_registry.settings.database import DatabaseSettings
from tests.databases import database_of

HARD_PASSWORDS = [
    "p%41ss",
    "p@ss",
    "a:b",
    "a/b",
    "a#b?c=d",
    "two words",
    "pässwörd🔑",
    "'\"\\",
    "<tag>x",
    "${x",
    "100%",
]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_url(text, where="opal.yaml:3")
    return str(caught.value)


def parts(**parts: object) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"driver": "postgresql", "name": "opal", **parts})


@pytest.mark.parametrize("password", HARD_PASSWORDS)
def test_parts_take_any_password(password: str) -> None:
    url = make_url(parts(host="db", user="app", password=password))

    assert url.password == password
    assert sa.make_url(url.render_as_string(hide_password=False)).password == password


@pytest.mark.parametrize("password", HARD_PASSWORDS)
def test_a_url_takes_any_password_that_is_encoded(password: str) -> None:
    text = sa.URL.create("postgresql", "app", password, "db", 5432, "opal").render_as_string(hide_password=False)

    assert parse_url(text).password == password


@pytest.mark.parametrize("password", ["p@ss@word", "user", "password", "$ecret", "a<b>c", "{x}y"])
def test_a_password_that_looks_a_little_like_a_template_is_none(password: str) -> None:
    assert parse_url(f"postgresql://user:{password.replace('@', '%40')}@db/opal").password == password


def test_a_password_fills_in_what_the_url_lacks() -> None:
    url = make_url(database_of("postgresql://app@db/opal", password="a@b/c"))

    assert (url.username, url.password, url.host) == ("app", "a@b/c", "db")


@pytest.mark.parametrize(
    ("given", "plain", "for_asyncio"),
    [
        ("postgres://db/opal", "postgresql+psycopg", "postgresql+psycopg"),
        ("postgresql+asyncpg://db/opal", "postgresql+psycopg", "postgresql+asyncpg"),
        ("postgresql+pg8000://db/opal", "postgresql+pg8000", "postgresql+psycopg"),
        ("postgresql+psycopg_async://db/opal", "postgresql+psycopg", "postgresql+psycopg"),
        ("sqlite:///x.db", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:///x.db", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("mysql://db/opal", "mysql+pymysql", "mysql+asyncmy"),
        ("mariadb+asyncmy://db/opal", "mariadb+pymysql", "mariadb+asyncmy"),
    ],
)
def test_each_kind_of_engine_gets_a_driver_that_it_can_use(given: str, plain: str, for_asyncio: str) -> None:
    assert make_url(database_of(given)).drivername == plain
    assert make_url(database_of(given), use_async=True).drivername == for_asyncio


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("opal.db", "is not a URL: there is no '://'", "write it like postgresql://"),
        ("sqlite:///sqlite:///x.db", "the URL 'sqlite:///sqlite:///x.db' holds a second URL", "write the prefix once"),
        ("postgresql://postgresql://db/opal", "holds a second URL", "write the prefix once"),
        ("postgresql://user:password@host:port/dbname", "still holds the placeholder 'host:port'", "real value"),
        ("postgresql://app@hostname/opal", "still holds the placeholder 'hostname'", "real value"),
        ("postgresql://app:${DB_PASSWORD}@db/opal", "still holds the placeholder '${DB_PASSWORD}'", "real value"),
        ("postgresql://<user>:<password>@db/opal", "still holds the placeholder '<user>'", "real value"),
        ("postgresql://app:x@db/{{ name }}", "still holds the placeholder '{{ name }}'", "real value"),
        ("postgresql://app:x@db:5432x/opal", "is not a URL that can be read", "the port must be a number"),
        (
            "postgresql://app:p@ss@db/opal",
            "the URL postgresql://... has more than one '@'",
            "percent-encode it (@ is %40)",
        ),
        ("postgressql://db/opal", "the database 'postgressql' is not known here", "write 'postgresql'"),
        (
            "oracle://db/opal",
            "the database 'oracle' is not known here",
            "choose one of sqlite, postgresql, mysql, mariadb",
        ),
        ("sqlite:///x\0.db", "holds a character that cannot be seen", "take it out"),
        ("postgresql://db:99999/opal", "has port 99999", "write one up to 65535"),
        ("postgresql://app@db/opal?user=root&dbname=x", "says dbname, user after the '?'", "write it before"),
        ("postgresql://db/opal\n", "holds a character that cannot be seen", "take it out"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(text: str, what: str, mend: str) -> None:
    said = refusal(text)

    assert what in said
    assert mend in said
    assert "where: opal.yaml:3" in said


@pytest.mark.parametrize(
    "text", ["postgresql://app:hunter2@host:port/x", "oracle://app:hunter2@db/x", "postgresql://app:hunter2@a@b/x"]
)
def test_a_refusal_does_not_show_the_password(text: str) -> None:
    assert "hunter2" not in refusal(text)


@pytest.mark.parametrize(
    ("others", "use_async", "text"),
    [
        ({}, False, "postgresql+pg8000://opal@[tests:europe-west1:suite]/opal"),
        ({}, True, "postgresql+asyncpg://opal@[tests:europe-west1:suite]/opal"),
        ({"driver": "asyncpg"}, False, "postgresql+pg8000://opal@[tests:europe-west1:suite]/opal"),
        ({"driver": "psycopg"}, False, "postgresql+psycopg://opal@[tests:europe-west1:suite]/opal"),
        ({"engine": "mysql"}, False, "mysql+pymysql://opal@[tests:europe-west1:suite]/opal"),
    ],
    ids=str,
)
def test_a_cloud_sql_instance_stands_where_a_host_does(others: dict[str, str], use_async: bool, text: str) -> None:
    about = {"instance": "tests:europe-west1:suite", "database": "opal", "user": "opal", **others}
    url = make_url(DatabaseSettings.model_validate({"cloud_sql": about}), use_async=use_async)
    assert describe_url(url) == text


def test_mysql_has_no_asyncio_through_the_connector() -> None:
    about = {"instance": "tests:europe-west1:suite", "database": "opal", "user": "opal", "engine": "mysql"}
    with pytest.raises(ConfigError, match="no asyncio driver for mysql"):
        make_url(DatabaseSettings.model_validate({"cloud_sql": about}), use_async=True)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///x.db", "x.db"),
        ("sqlite:////srv/x.db", "/srv/x.db"),
        ("sqlite:///file:/srv/a%20b.db?mode=ro&uri=true", "/srv/a b.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///file:x?mode=memory&cache=shared&uri=true", None),
        ("postgresql://db/x", None),
    ],
)
def test_the_file_of_a_url(url: str, path: str | None) -> None:
    assert get_sqlite_path(sa.make_url(url)) == (Path(path) if path else None)
    assert is_memory(sa.make_url(url)) is (path is None and url.startswith("sqlite"))


def test_people_see_an_absolute_path_and_no_password() -> None:
    assert describe_url(sa.make_url("sqlite:///x.db")) == f"sqlite {Path.cwd() / 'x.db'}"
    assert describe_url(sa.make_url("sqlite://")) == "sqlite://"
    assert describe_url(sa.make_url("postgresql://app:hunter2@db/x")) == "postgresql://app:********@db/x"


def test_a_user_of_sqlite_is_refused() -> None:
    with pytest.raises(ConfigError, match="user is 'ada', and SQLite has no users"):
        make_url(database_of("sqlite:///x.db", user="ada"))
