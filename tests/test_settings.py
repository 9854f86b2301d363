"""The settings themselves: defaults, values, origins, and what is said when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from opal_registry.errors import ConfigError
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.model import Settings
from opal_registry.settings.sources import describe, load_settings, reserved_in_use, settings_schema

PROFILES = sorted((Path(__file__).parent.parent / "config").glob("*.yaml"))


def load(directory: Path, text: str = "", **environ: str) -> Settings:
    if text:
        (directory / "config").mkdir(exist_ok=True)
        (directory / "config/opal.yaml").write_text(text)
    return load_settings(environ=environ, directory=directory)


def error_of(directory: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(directory, text, **environ)
    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


def url_of(database: DatabaseSettings) -> str:
    assert database.url is not None
    return database.url.get_secret_value()


def test_importing_the_configuration_imports_no_sqlalchemy() -> None:
    code = "import sys, opal_registry.settings.sources; sys.exit('sqlalchemy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_made_directly_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE", '{"url": "postgresql://db/x"}')
    monkeypatch.setenv("ENVIRONMENT", "production")

    assert (Settings().environment, url_of(Settings().database)) == ("development", "sqlite:///./opal_suite.db")


def test_the_default_is_sqlite_in_the_working_directory(tmp_path: Path) -> None:
    settings = load(tmp_path)

    assert url_of(settings.database) == f"sqlite:///{tmp_path}/opal_suite.db"
    assert str(settings.origin("database", "url")) == "default"
    assert settings.sub_apps.enabled == "all"
    assert (settings.locks.wait, settings.locks.ddl_lock_timeout, settings.locks.retries) == (60, 2, 5)
    assert settings.database.connect_timeout == 10


def test_a_database_that_is_only_tuned_is_the_default_one(tmp_path: Path) -> None:
    settings = load(tmp_path, "database: {pool: {size: 1}}\n")

    assert url_of(settings.database) == f"sqlite:///{tmp_path}/opal_suite.db"


def test_the_databases_are_the_default_one_and_the_binds(tmp_path: Path) -> None:
    settings = load(tmp_path, "binds: {facts: {url: 'postgresql://db/facts'}}\n", OPAL_BINDS__LOGS__URL="x://y")

    assert list(settings.databases) == ["default", "facts", "logs"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("sqlite:///a.db", "sqlite:////D/config/a.db"),
        ("sqlite:///./a.db", "sqlite:////D/config/a.db"),
        ("sqlite:///../a.db?timeout=5", "sqlite:////D/a.db?timeout=5"),
        ("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite:////D/config/a.db"),
        ("sqlite+pysqlite:///a%20b.db", "sqlite+pysqlite:////D/config/a b.db"),
        ("sqlite:////srv/a.db", "sqlite:////srv/a.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///file:a.db?uri=true&mode=ro", "sqlite:///file:/D/config/a.db?uri=true&mode=ro"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "sqlite:///file::memory:?cache=shared&uri=true"),
        ("sqlite:///file:x?mode=memory&uri=true", "sqlite:///file:x?mode=memory&uri=true"),
        ("postgresql://db/a.db", "postgresql://db/a.db"),
    ],
)
def test_sqlite_paths_are_relative_to_the_file_that_names_them(written: str, read: str, tmp_path: Path) -> None:
    settings = load(tmp_path, f"database: {{url: '{written}'}}\n")

    assert url_of(settings.database) == read.replace("/D/", f"{tmp_path}/")


def test_sqlite_paths_in_variables_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    settings = load(tmp_path, "locks: {wait: 1}\n", DATABASE_URL="sqlite:///a.db")

    assert url_of(settings.database) == f"sqlite:///{tmp_path}/a.db"


def test_an_awkward_directory_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "100%?#").mkdir()

    settings = load(tmp_path / "100%?#", DATABASE_URL="sqlite:///a.db")

    assert url_of(settings.database) == f"sqlite:///{tmp_path}/100%25%3F%23/a.db"


def test_other_paths_are_relative_to_the_file_too(tmp_path: Path) -> None:
    text = "database: {url: 'postgresql://db/x', ssl: {mode: verify-full, root_cert: ca.pem}, password: {file: pw}}\n"

    database = load(tmp_path, text).database

    assert database.ssl is not None
    assert database.ssl.root_cert == f"{tmp_path}/config/ca.pem"
    assert database.password is not None
    assert str(database.password) == f"{{file: {tmp_path}/config/pw}}"


@pytest.mark.parametrize(
    ("written", "seconds"), [("60s", 60), ("50ms", 0.05), ("5m", 300), ("1h", 3600), ("1.5", 1.5), ("0", 0), ("2 s", 2)]
)
def test_durations_are_seconds(written: str, seconds: float, tmp_path: Path) -> None:
    assert load(tmp_path, f"locks: {{wait: {written}}}\n").locks.wait == seconds
    assert load(tmp_path, OPAL_LOCKS__WAIT=written).locks.wait == seconds


def test_variables_hold_lists_and_sections(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        OPAL_SUB_APPS__ENABLED="core, calmind",
        OPAL_SUB_APPS__DISABLED='["xrayqc"]',
        OPAL_SUB_APPS__MODULES__CALMIND="calmind.models",
        OPAL_LOCKS='{"wait": "5s"}',
    )

    assert settings.sub_apps.enabled == ["core", "calmind"]
    assert settings.sub_apps.disabled == ["xrayqc"]
    assert settings.sub_apps.modules == {"calmind": ["calmind.models"]}
    assert settings.locks.wait == 5


def test_the_origin_of_an_item_is_its_line(tmp_path: Path) -> None:
    text = "database:\n  url: x://y\n  replicas:\n  - url: x://a\n  - url: x://b\n    weight: 2\n"

    settings = load(tmp_path, text)

    assert str(settings.origin("database", "replicas", "1", "weight")) == "config/opal.yaml:6"
    assert str(settings.origin("locks", "wait")) == "default"


WRONG = [
    ("xyz: 5", "there is no key 'xyz' at the top level", "allowed here: environment, database, binds"),
    ("pasword: hunter2", "there is no key 'pasword' at the top level", "write password below database"),
    ("database: {pasword: hunter2}", "there is no key 'pasword' in database", "write password; allowed here: url"),
    ("database: {xyz: {two: hunter2}}", "there is no key 'xyz' in database", "allowed here: url, driver"),
    ("shards: {}", "there is no key 'shards' at the top level", "shards come with a later release"),
    ("_cli_parse_args: true", "there is no key '_cli_parse_args' at the top level", "allowed here"),
    ("database:", "database has no value", "write its value, or take the key out"),
    ("database: hunter2", "database must be a section, not text", "write keys below it: url, driver"),
    ("database: [hunter2]", "database must be a section, not a list", "write keys below it"),
    ("database: {url: }", "database.url has no value", "write its value"),
    ("database: {url: ''}", "database.url is empty", "write text in quotes"),
    ("database: {url: 5}", "database.url must be text, but it is read as a number", "put the value in quotes"),
    ("database: {url: 'x:', password: 12345}", "database.password must be text, but it is read as a number", "quotes"),
    (
        "database: {url: 'x:', password: yes}",
        "database.password must be text, but it is read as a truth value",
        "quotes",
    ),
    ("database: {url: 'x:', password: 0123}", "database.password: YAML reads this as a number", "put text in quotes"),
    (
        "database: {url: 'x:', password: {hunter2}}",
        "database.password is not a reference",
        "text that starts with a brace",
    ),
    (
        "database: {url: 'x:', password: [hunter2]}",
        "database.password must be text or a reference, not a list",
        "quotes",
    ),
    (
        "database: {url: 'x:', user: {env: DB_USER}}",
        "database.user is no secret, and cannot be a reference",
        "write its value, or set OPAL_DATABASE__USER",
    ),
    ("database: {url: 'x:', password: {file: ''}}", "database.password {file: ...} must hold text", "reference"),
    ("database: {driver: p, name: yes}", "database.name must be text, but it is read as a truth value", "quotes"),
    ("database: {driver: p, name: 2024-01-01}", "database.name: YAML reads this as a date", "put text in quotes"),
    ("database: {driver: p, name: n, port: 0}", "database.port cannot be 0", "at least 1"),
    ("database: {driver: p, name: n, port: 65536}", "database.port cannot be 65536", "at most 65535"),
    ("database: {driver: p, name: n, port: http}", "database.port cannot be 'http'", "write a whole number"),
    ("database: {host: h}", "database has host but no driver", "add driver, such as driver: postgresql"),
    ("database: {driver: p}", "database has driver but no name", "add name"),
    ("database: {url: 'x:', pool: {size: 0}}", "database.pool.size cannot be 0", "at least 1"),
    ("database: {url: 'x:', pool: {size: 1.5}}", "database.pool.size cannot be 1.5", "write a whole number"),
    ("database: {url: 'x:', pool: {size: true}}", "database.pool.size cannot be a truth value", "write a whole number"),
    ("database: {url: 'x:', ssl: {mode: verify}}", "database.ssl.mode cannot be 'verify'", "did you mean verify-ca?"),
    (
        "database: {url: 'x:', ssl: {root_cert: a}}",
        "database.ssl has root_cert, at which nobody looks without mode",
        "verify-full",
    ),
    (
        "database: {url: 'x:', ssl: {root_cert: a, mode: prefer}}",
        "database.ssl has root_cert, at which nobody looks with mode: prefer",
        "verify",
    ),
    ("database: {driver: p, name: n, host: 'x://h'}", "database.host holds a URL", "write it as url"),
    ("database: {driver: p, name: n, host: 'h:5'}", "database.host cannot be 'h:5'", "write host: h and port: 5"),
    ("database: {driver: p, name: n, host: <host>}", "database.host still is the placeholder '<host>'", "real value"),
    ('database: {driver: p, name: "n\\0"}', "database.name holds a character that cannot be seen", "take it out"),
    ("database: {url: 'x:', ssl: {cert: a}}", "database.ssl lacks key", "write both cert and key"),
    (
        "database: {cloud_sql: {instance: x, database: d, user: u}}",
        "database.cloud_sql.instance cannot be 'x'",
        "project:region:name",
    ),
    ("database: {cloud_sql: {instance: 'a:b1:c', user: u}}", "database.cloud_sql.database is missing", "add it"),
    (
        "database: {cloud_sql: {instance: 'project:region:name', database: d, user: u}}",
        "database.cloud_sql.instance cannot be 'project:region:name'",
        "project:region:name",
    ),
    (
        "database: {cloud_sql: {instance: 'a::c', database: d, user: u}}",
        "database.cloud_sql.instance cannot be 'a::c'",
        "project:region:name",
    ),
    (
        "database: {cloud_sql: {instance: 'a:b1:c', database: d, user: a@p.iam.gserviceaccount.com, iam_auth: true}}",
        "database.cloud_sql has user a@p.iam.gserviceaccount.com, whom postgresql knows by a shorter name",
        "write a@p.iam",
    ),
    (
        "database: {cloud_sql: {instance: 'a:b1:c', engine: mysql, database: d, user: a@p.iam, iam_auth: true}}",
        "database.cloud_sql has user a@p.iam, whom mysql knows by a shorter name",
        "write a",
    ),
    (
        "database: {cloud_sql: {instance: 'a:b1:c', database: d, user: a, api_endpoint: 'https://x/'}}",
        "database.cloud_sql.api_endpoint cannot be 'https://x/'",
        "with nothing behind that",
    ),
    (
        "database: {cloud_sql: {instance: 'a:b1:c', engine: mysql, database: d, user: a, driver: pg8000}}",
        "database.cloud_sql has driver pg8000 for engine mysql",
        "write pymysql",
    ),
    (
        "database: {cloud_sql: {instance: 'a:b1:c', database: d, user: a}, user: u}",
        "database has user beside cloud_sql",
        "go inside",
    ),
    ("database: {url: 'x:', replicas: [{weight: 1}]}", "database.replicas[0] does not say how to connect", "write url"),
    ("database: {url: 'x:', replicas: [{url: 5}]}", "database.replicas[0].url must be text", "quotes"),
    ("binds: {default: {url: 'x:'}}", "binds cannot hold the key default", "under database"),
    ("binds: {a-b: {url: 'x:'}}", "binds cannot hold the key 'a-b'", "lower-case letters"),
    (
        f"binds: {{{'a' * 64}: {{url: 'x:'}}}}",
        f"binds cannot hold the key '{'a' * 30}...'",
        "at most 63 characters, not 64",
    ),
    ("binds: {a: {}}", "binds holds a, which does not say how to connect", "under binds.a"),
    ("binds: {a: {url: 'x:', host: h}}", "binds.a says in several ways how to connect: url and host", "keep url"),
    ("sub_apps: {on_error: quarntine}", "sub_apps.on_error cannot be 'quarntine'", "did you mean quarantine?"),
    ("sub_apps: {disabled: calmind}", "sub_apps.disabled cannot be 'calmind'", "write a list of names"),
    ("sub_apps: {enabled: al}", "sub_apps.enabled cannot be 'al'", "write all, or a list of names"),
    (
        "sub_apps: {enabled: [5]}",
        "sub_apps.enabled cannot be a list that holds something else than text",
        "list of names",
    ),
    ("sub_apps: {modules: {calmind: x.y}}", "sub_apps.modules.calmind cannot be 'x.y'", "write a list of names"),
    ("sub_apps: {import_timeout: 0}", "sub_apps.import_timeout cannot be 0", "write seconds"),
    ("locks: {wait: -1}", "locks.wait cannot be -1", "write seconds"),
    ("locks: {wait: .nan}", "locks.wait cannot be nan", "write seconds"),
    ("locks: {wait: .inf}", "locks.wait cannot be inf", "write seconds"),
    ("locks: {wait: 1e99}", "locks.wait cannot be '1e99'", "write seconds"),
    ("locks: {wait: 169h}", "locks.wait cannot be '169h'", "at most 168h"),
    ("locks: {wait: five}", "locks.wait cannot be 'five'", "write seconds"),
    ("locks: {retries: 101}", "locks.retries cannot be 101", "at most 100"),
    ("environment: 'a b'", "environment cannot be 'a b'", "write a plain name"),
    ("environment: 5", "environment must be text, but it is read as a number", "quotes"),
    ("checks: {silence: {opal.W1: 5}}", "checks.silence.opal.W1 must be text", "quotes"),
]


@pytest.mark.parametrize(("text", "what", "mend"), WRONG, ids=[text for text, _, _ in WRONG])
def test_what_is_wrong_in_the_file_is_said_with_its_place_and_its_mend(
    text: str, what: str, mend: str, tmp_path: Path
) -> None:
    lines = error_of(tmp_path, f"# a comment\n{text}\n").splitlines()

    assert lines[0].startswith(what)
    assert lines[1].startswith("  where: config/opal.yaml:2")
    assert mend in lines[2]
    assert len(lines) == 3


WRONG_VARIABLES = [
    ("OPAL_DATABASE__PASWORD", "hunter2", "OPAL_DATABASE__PASWORD is not a setting", "write OPAL_DATABASE__PASSWORD"),
    ("OPAL_DATABSE__URL", "x://hunter2", "OPAL_DATABSE__URL is not a setting", "write OPAL_DATABASE__URL"),
    ("OPAL_DATABASE_URL", "x://hunter2", "OPAL_DATABASE_URL is not a setting", "write OPAL_DATABASE__URL"),
    ("OPAL_DATABASE_POOL_SIZE", "5", "OPAL_DATABASE_POOL_SIZE is not a setting", "write OPAL_DATABASE__POOL__SIZE"),
    ("OPAL_BIND__A__URL", "x", "OPAL_BIND__A__URL is not a setting", "write OPAL_BINDS__A__URL"),
    ("OPAL_BINDS__A__ULR", "x", "OPAL_BINDS__A__ULR is not a setting", "write OPAL_BINDS__A__URL"),
    ("OPAL_CONFG", "x", "OPAL_CONFG is not a setting", "write OPAL_CONFIG"),
    ("OPAL_LOCKS__XYZ", "x", "OPAL_LOCKS__XYZ is not a setting", "write OPAL_LOCKS"),
    ("OPAL_DATABASE", "{hunter2", "database: the text is not the JSON that is needed", "write an object"),
    ("OPAL_LOCKS", "5", "locks: the text is not the JSON that is needed", "OPAL_LOCKS__WAIT"),
    ("OPAL_SUB_APPS__DISABLED", '["a"', "sub_apps.disabled: the text is not the JSON that is needed", 'such as ["one"'),
    ("OPAL_DATABASE__REPLICAS", "x", "database.replicas: the text is not the JSON that is needed", "write a list"),
    ("OPAL_DATABASE__URL", "", "database.url is empty", "unset it"),
    ("OPAL_DATABASE__PORT", "1" * 30, "database.port cannot be", "write a whole number"),
    ("OPAL_DATABASE__CLOUD_SQL", '{"iam_auth": 5}', "database.cloud_sql.instance is missing", "add it"),
    ("OPAL_ENVIRONMENT", "", "environment", ""),
]


@pytest.mark.parametrize(("name", "value", "what", "mend"), WRONG_VARIABLES, ids=[name for name, *_ in WRONG_VARIABLES])
def test_what_is_wrong_in_a_variable_is_said_with_its_name(
    name: str, value: str, what: str, mend: str, tmp_path: Path
) -> None:
    lines = error_of(tmp_path, **{name: value}).splitlines()

    assert lines[0].startswith(what)
    assert lines[1] == f"  where: environment variable {name}"
    assert mend in lines[2]


@pytest.mark.parametrize("name", ["DATABASE_URL", "SQLALCHEMY_DATABASE_URL"])
def test_an_empty_url_is_an_error_not_a_silent_fallback(name: str, tmp_path: Path) -> None:
    assert error_of(tmp_path, **{name: ""}) == (
        f"database.url is empty\n  where: variable {name}\n"
        "  mend:  set it to a database URL, or unset it to use what comes after it"
    )


def test_variables_of_others_are_ignored(tmp_path: Path) -> None:
    load(tmp_path, OPAL_STANDUPBOT_TOKEN="x", OPAL_TEST_PG_BIN="x", OPAL_="x", OTHER="x")


def test_one_key_cannot_be_set_twice_by_one_source(tmp_path: Path) -> None:
    environ = {"OPAL_DATABASE__PASSWORD": "hunter2", "OPAL_DATABASE__PASSWORD__FILE": "x", "DATABASE_URL": "x://y"}

    assert error_of(tmp_path, **environ) == (
        "database.password is set twice\n"
        "  where: environment variable OPAL_DATABASE__PASSWORD and environment variable OPAL_DATABASE__PASSWORD__FILE\n"
        "  mend:  unset one of them"
    )


def test_a_section_and_a_key_in_it_cannot_disagree(tmp_path: Path) -> None:
    assert error_of(tmp_path, OPAL_BINDS='{"a": [1]}', OPAL_BINDS__A__URL="x://y") == (
        "binds.a is set twice\n"
        "  where: environment variable OPAL_BINDS and environment variable OPAL_BINDS__A__URL\n"
        "  mend:  unset one of them"
    )


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    settings = load(tmp_path, "binds: {a: {}}\ndatabase: {}\n", OPAL_BINDS__A__URL="x://y")

    assert url_of(settings.binds["a"]) == "x://y"


def test_opal_env_and_the_environment_cannot_disagree(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/a.yaml").write_text("locks: {wait: 1}\n")

    assert "environment is set twice" in error_of(tmp_path, OPAL_ENV="a", OPAL_ENVIRONMENT="b")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    error = error_of(tmp_path, "locks: {wait: -1}\nenvironmnt: x\n", OPAL_DATABASE__PORT="0", OPAL_DATABSE__URL="x")

    assert [line.split("where: ")[1] for line in error.splitlines() if "where" in line] == [
        "environment variable OPAL_DATABSE__URL",
        "config/opal.yaml:2",
        "environment variable OPAL_DATABASE__PORT",
        "config/opal.yaml:1",
    ]


class TestDotenv:
    def test_a_line_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("# ours\n\nOPAL_DATABASE__PASSWORD='hunter2\nX=1\n")

        assert error_of(tmp_path).splitlines()[:2] == ["this line cannot be read", "  where: .env:3"]

    def test_lines_of_others_are_ignored(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("OTHER='x\nexport DATABASE_URL=x://y # why\n")

        assert url_of(load(tmp_path).database) == "x://y"

    def test_a_directory_of_that_name_is_ignored(self, tmp_path: Path) -> None:
        (tmp_path / ".env").mkdir()

        load(tmp_path)

    def test_it_must_be_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b"X=\xff\n")

        assert "byte 2 is not UTF-8" in error_of(tmp_path)


class TestProduction:
    def test_refuses_the_default_database(self, tmp_path: Path) -> None:
        assert error_of(tmp_path, OPAL_ENVIRONMENT="production") == (
            "the environment is production (environment variable OPAL_ENVIRONMENT), "
            f"but database.url is the SQLite file {tmp_path}/opal_suite.db\n"
            "  where: default\n"
            "  mend:  set OPAL_DATABASE__URL or DATABASE_URL, or write database.url in the YAML file"
        )

    @pytest.mark.parametrize("url", ["sqlite:////srv/opal_suite.db", "sqlite+aiosqlite:///file:opal_suite.db?uri=true"])
    def test_refuses_it_however_it_is_written(self, url: str, tmp_path: Path) -> None:
        assert "is the SQLite file" in error_of(tmp_path, "environment: Production\n", DATABASE_URL=url)

    def test_refuses_it_as_parts(self, tmp_path: Path) -> None:
        text = "environment: production\ndatabase: {driver: sqlite, name: opal_suite.db}\n"

        assert f"database.name is the SQLite file {tmp_path}/config/opal_suite.db" in error_of(tmp_path, text)

    def test_accepts_another(self, tmp_path: Path) -> None:
        assert load(tmp_path, "environment: production\n", DATABASE_URL="sqlite:////srv/other.db").is_production


def test_settings_are_described_with_origins_and_without_secrets(tmp_path: Path) -> None:
    text = "database: {url: 'postgresql://a:hunter2@db/x', migration_url: {env: DIRECT}, replicas: [{url: 'x://a:hunter2@b'}]}\n"

    rows = describe(load(tmp_path, text, OPAL_LOCKS__WAIT="5m"))

    assert ("database.url", "postgresql://a:********@db/x", "config/opal.yaml:1") in rows
    assert ("database.migration_url", "{env: DIRECT}", "config/opal.yaml:1") in rows
    assert ("database.replicas[0].url", "x://a:********@b", "config/opal.yaml:1") in rows
    assert ("locks.wait", "300s", "environment variable OPAL_LOCKS__WAIT") in rows
    assert ("database.routing.wait", "50ms", "default") in rows
    assert "hunter2" not in str(rows)


def test_the_place_of_a_cloud_sql_instance_is_known(tmp_path: Path) -> None:
    text = "database:\n  cloud_sql:\n    database: d\n    instance: my-project:europe-west1:suite\n    user: u\n"
    assert load(tmp_path, text).place_of("default") == "config/opal.yaml:4"


def test_a_replica_may_be_a_cloud_sql_instance(tmp_path: Path) -> None:
    instance = "{instance: 'my-project:europe-west1:copy', database: d, user: u}"
    [replica] = load(
        tmp_path, f"database: {{url: 'x:', replicas: [{{cloud_sql: {instance}, weight: 2}}]}}\n"
    ).database.replicas
    assert replica.cloud_sql is not None
    assert (replica.cloud_sql.instance, replica.weight) == ("my-project:europe-west1:copy", 2)


def test_what_is_set_but_not_used_yet_is_named(tmp_path: Path) -> None:
    text = "database: {url: 'x://y', replicas: [{url: 'x://a'}], routing: {reads: replica}}\nchecks: {silence: {}}\n"

    assert reserved_in_use(load(tmp_path, text, OPAL_BINDS__A__URL="x://y")) == [
        "database.replicas",
        "database.routing",
        "checks",
    ]


def test_an_error_of_settings_made_directly_shows_no_value() -> None:
    wrong: Any = {"url": "x://", "pasword": "hunter2"}

    with pytest.raises(ValidationError) as caught:
        Settings(database=wrong)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
class TestProfiles:
    def test_each_one_loads(self, path: Path) -> None:
        assert load_settings(path, environ={}, directory=path.parent).config_file == path

    def test_each_one_fits_the_schema(self, path: Path) -> None:
        jsonschema.validate(yaml.safe_load(path.read_text()), settings_schema())


def test_the_laptop_profile_keeps_its_file_in_the_root_of_the_project() -> None:
    settings = load_settings(PROFILES[0].parent / "opal.yaml", environ={}, directory=Path("/"))

    assert url_of(settings.database) == f"sqlite:///{PROFILES[0].parent.parent}/opal_suite.db"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("locks: {wait: 5}", True),
        ("locks: {wait: 5m}", True),
        ("locks: {wait: soon}", False),
        ("database: {password: {file: x}}", True),
        ("database: {password: {gcp: x}}", True),
        ("database: {password: {vault: x}}", False),
        ("database: {pasword: x}", False),
        ("database:", False),
        ("sub_apps: {enabled: all}", True),
        ("sub_apps: {enabled: [core]}", True),
        ("sub_apps: {enabled: none}", False),
        ("binds: {default: {url: x}}", False),
    ],
)
def test_the_schema_agrees_with_the_settings(text: str, fits: bool) -> None:
    errors = list(jsonschema.Draft202012Validator(settings_schema()).iter_errors(yaml.safe_load(text)))

    assert (not errors) is fits


def test_the_schema_is_json_and_describes_every_key() -> None:
    schema = json.loads(json.dumps(settings_schema()))

    jsonschema.Draft202012Validator.check_schema(schema)
    described = [key for part in [schema, *schema["$defs"].values()] for key in part["properties"].items()]
    assert [key for key, part in described if not {"description", "$ref"} & set(part)] == []


def test_what_is_wrong_with_a_section_is_said_with_the_lines_that_it_is_about(tmp_path: Path) -> None:
    text = "database:\n  cloud_sql:\n    instance: p-r:europe-west1:a\n    database: x\n    user: u\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{text}    password: x\n    ip_type: psc\n    iam_auth: true\n")
    assert [problem.where for problem in caught.value.problems] == ["config/opal.yaml:8 and config/opal.yaml:6"]
