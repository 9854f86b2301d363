"""The one file that proves the order of the sources."""

from pathlib import Path
from typing import Any

import pytest

from opal_registry.errors import ConfigError
from opal_registry.settings.model import Settings
from opal_registry.settings.sources import PRECEDENCE, load_settings

ORDER = [
    ("argument", "argument"),
    ("OPAL_ variable", "environment variable OPAL_DATABASE__URL"),
    ("DATABASE_URL", "variable DATABASE_URL"),
    ("SQLALCHEMY_DATABASE_URL", "variable SQLALCHEMY_DATABASE_URL"),
    (".env OPAL_ variable", ".env:3"),
    (".env DATABASE_URL", ".env:2"),
    (".env SQLALCHEMY_DATABASE_URL", ".env:1"),
    ("secret file", "secret file {directory}/secrets/opal_database__url"),
    ("legacy secret file", "secret file {directory}/secrets/database_url"),
    ("file", "config/opal.yaml:2"),
    ("default", "default"),
]


def load_without_the_first(count: int, directory: Path) -> Settings:
    """Set the URL in every source but the ``count`` highest ones."""
    used = [name for name, _ in ORDER[count:]]
    url = "postgresql://{}/x".format
    (directory / "config").mkdir()
    (directory / "secrets").mkdir()
    dotenv = [
        f"SQLALCHEMY_DATABASE_URL={url('e3')}" if ".env SQLALCHEMY_DATABASE_URL" in used else "",
        f"DATABASE_URL={url('e2')}" if ".env DATABASE_URL" in used else "",
        f"OPAL_DATABASE__URL={url('e1')}" if ".env OPAL_ variable" in used else "",
    ]
    (directory / ".env").write_text("\n".join(dotenv))
    if "secret file" in used:
        (directory / "secrets/opal_database__url").write_text(url("s"))
    if "legacy secret file" in used:
        (directory / "secrets/database_url").write_text(url("s"))
    if "file" in used:
        (directory / "config/opal.yaml").write_text(f"database:\n  url: {url('y')}\n")
    names = {
        "OPAL_DATABASE__URL": "OPAL_ variable",
        "DATABASE_URL": "DATABASE_URL",
        "SQLALCHEMY_DATABASE_URL": "SQLALCHEMY_DATABASE_URL",
    }
    environ = {name: url("v") for name, source in names.items() if source in used}
    arguments: dict[str, Any] = {"database": {"url": url("a")}} if "argument" in used else {}
    return load_settings(environ={"OPAL_SECRETS_DIR": "secrets", **environ}, directory=directory, **arguments)


@pytest.mark.parametrize("count", range(len(ORDER)), ids=[name for name, _ in ORDER])
def test_each_source_wins_when_all_above_it_are_silent(count: int, tmp_path: Path) -> None:
    settings = load_without_the_first(count, tmp_path)

    assert str(settings.origin("database", "url")) == ORDER[count][1].format(directory=tmp_path)


def test_the_order_is_data() -> None:
    assert [name for name, _ in PRECEDENCE] == [
        "arguments",
        "environment variables: OPAL_*, then DATABASE_URL, then SQLALCHEMY_DATABASE_URL",
        "the same variables in .env",
        "files named like the variables in $OPAL_SECRETS_DIR, else /run/secrets",
        "the YAML file",
    ]


def make_file(directory: Path, text: str, name: str = "opal") -> Path:
    path = directory / "config" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_sections_are_merged_key_by_key(tmp_path: Path) -> None:
    make_file(tmp_path, "database: {url: 'postgresql://db/x', pool: {size: 3, timeout: 9s}}\n")

    settings = load_settings(environ={"OPAL_DATABASE__POOL__SIZE": "7"}, directory=tmp_path)

    assert (settings.database.pool.size, settings.database.pool.timeout) == (7, 9)
    assert str(settings.origin("database", "pool", "size")) == "environment variable OPAL_DATABASE__POOL__SIZE"
    assert str(settings.origin("database", "pool", "timeout")) == "config/opal.yaml:1"


def test_lists_are_replaced_not_merged(tmp_path: Path) -> None:
    make_file(tmp_path, "sub_apps: {disabled: [one, two]}\n")

    settings = load_settings(environ={"OPAL_SUB_APPS__DISABLED": "three"}, directory=tmp_path)

    assert settings.sub_apps.disabled == ["three"]


def test_references_are_replaced_not_merged(tmp_path: Path) -> None:
    make_file(tmp_path, "database: {url: 'postgresql://db/x', password: {file: pw}}\n")

    settings = load_settings(environ={"OPAL_DATABASE__PASSWORD__ENV": "PW", "PW": "hunter2"}, directory=tmp_path)

    assert settings.database.password is not None
    assert settings.database.password.reference == "{env: PW}"
    assert settings.database.password.get_secret_value() == "hunter2"


PARTS = "database: {driver: postgresql, host: db, name: suite, user: app, password: yaml, pool: {size: 3}}\n"


def test_a_url_from_above_replaces_the_parts_below_and_keeps_the_rest(tmp_path: Path) -> None:
    make_file(tmp_path, PARTS)

    settings = load_settings(environ={"DATABASE_URL": "postgresql://other/suite"}, directory=tmp_path)

    assert settings.database.form == "url"
    assert settings.database.host is None
    assert settings.database.user == "app"
    assert settings.database.pool.size == 3


def test_a_sqlite_url_from_above_needs_no_credentials_from_below(tmp_path: Path) -> None:
    make_file(tmp_path, PARTS)

    settings = load_settings(environ={"DATABASE_URL": "sqlite://"}, directory=tmp_path)

    assert (settings.database.user, settings.database.password) == (None, None)


def test_a_url_takes_its_password_from_a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/OPAL_DATABASE__PASSWORD").write_text("hunter2\n")
    environ = {"DATABASE_URL": "postgresql://app@db/suite", "OPAL_SECRETS_DIR": str(tmp_path / "run")}

    settings = load_settings(environ=environ, directory=tmp_path)

    assert settings.database.password is not None
    assert settings.database.password.get_secret_value() == "hunter2"


def test_one_part_from_above_changes_one_part(tmp_path: Path) -> None:
    make_file(tmp_path, PARTS)

    settings = load_settings(environ={"OPAL_DATABASE__HOST": "other"}, directory=tmp_path)

    assert (settings.database.driver, settings.database.host) == ("postgresql", "other")


def test_parts_from_above_that_are_not_enough_say_what_was_set_aside(tmp_path: Path) -> None:
    make_file(tmp_path, "database:\n  url: postgresql://db/suite\n")

    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"OPAL_DATABASE__HOST": "other"}, directory=tmp_path)

    assert str(caught.value) == (
        "database has host but no driver\n"
        "  where: environment variable OPAL_DATABASE__HOST\n"
        "  mend:  add driver, such as driver: postgresql; or write url alone; "
        "set aside because of it: database.url (config/opal.yaml:2)"
    )


def test_one_source_cannot_say_it_in_two_ways(tmp_path: Path) -> None:
    make_file(tmp_path, "database:\n  url: postgresql://db/suite\n  driver: postgresql\n  name: suite\n")

    with pytest.raises(ConfigError) as caught:
        load_settings(environ={}, directory=tmp_path)

    assert str(caught.value) == (
        "database says in several ways how to connect: url and driver\n"
        "  where: config/opal.yaml:2 and config/opal.yaml:3\n"
        "  mend:  keep url, or the parts (driver, host, port, name), or cloud_sql"
    )


def test_an_argument_that_is_none_is_not_given(tmp_path: Path) -> None:
    settings = load_settings(environ={"OPAL_LOCKS__WAIT": "5s"}, directory=tmp_path, locks={"wait": None})

    assert settings.locks.wait == 5


class TestTheFile:
    def test_config_comes_first(self, tmp_path: Path) -> None:
        make_file(tmp_path, "environment: one\n", "one")
        make_file(tmp_path, "environment: two\n", "two")

        settings = load_settings("config/one.yaml", environ={"OPAL_CONFIG": "config/two.yaml"}, directory=tmp_path)

        assert settings.config_file == tmp_path / "config/one.yaml"
        assert settings.environment == "one"

    def test_opal_config_comes_before_opal_env_which_still_names_the_environment(self, tmp_path: Path) -> None:
        make_file(tmp_path, "environment: two\n", "two")

        settings = load_settings(environ={"OPAL_CONFIG": "config/two.yaml", "OPAL_ENV": "staging"}, directory=tmp_path)

        assert settings.config_file == tmp_path / "config/two.yaml"
        assert settings.environment == "staging"

    def test_opal_env_names_a_profile(self, tmp_path: Path) -> None:
        make_file(tmp_path, "environment: opal\n")
        make_file(tmp_path, "locks: {wait: 1s}\n", "staging")

        settings = load_settings(environ={"OPAL_ENV": "staging"}, directory=tmp_path)

        assert (settings.environment, settings.locks.wait) == ("staging", 1)

    def test_both_may_be_in_dotenv(self, tmp_path: Path) -> None:
        make_file(tmp_path, "locks: {wait: 1s}\n", "staging")
        (tmp_path / ".env").write_text("OPAL_ENV=staging\n")

        settings = load_settings(environ={}, directory=tmp_path)

        assert (settings.locks.wait, str(settings.origin("environment"))) == (1, ".env:1")

    def test_no_file_is_fine(self, tmp_path: Path) -> None:
        settings = load_settings(environ={}, directory=tmp_path)

        assert settings.config_file is None
        assert settings.database.url is not None
        assert settings.database.url.get_secret_value() == f"sqlite:///{tmp_path}/opal_suite.db"

    def test_a_named_file_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load_settings("nowhere.yaml", environ={}, directory=tmp_path)

        assert str(caught.value) == (
            f"--config names nowhere.yaml, but there is no {tmp_path}/nowhere.yaml\n"
            "  where: --config\n"
            "  mend:  correct the path, or create the file"
        )

    def test_a_named_profile_must_exist(self, tmp_path: Path) -> None:
        make_file(tmp_path, "environment: a\n", "opal")
        make_file(tmp_path, "environment: a\n", "staging")

        with pytest.raises(ConfigError) as caught:
            load_settings(environ={"OPAL_ENV": "prod"}, directory=tmp_path)

        assert str(caught.value) == (
            f"OPAL_ENV is prod, but there is no {tmp_path}/config/prod.yaml\n"
            "  where: environment variable OPAL_ENV\n"
            "  mend:  choose one of opal, staging; or create it; or name a file with OPAL_CONFIG"
        )

    @pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".", "x\0y"])
    def test_a_profile_has_a_plain_name(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="OPAL_ENV cannot be"):
            load_settings(environ={"OPAL_ENV": name}, directory=tmp_path)

    def test_an_empty_opal_config_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="OPAL_CONFIG is empty"):
            load_settings(environ={"OPAL_CONFIG": ""}, directory=tmp_path)


def test_a_direct_connection_goes_when_the_url_beside_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    text = "database:\n  url: postgresql://pooler/live\n  migration_url: postgresql://live/live\n"
    (tmp_path / "config/opal.yaml").write_text(text)

    staging = load_settings(environ={"DATABASE_URL": "postgresql://staging/opal"}, directory=tmp_path)
    live = load_settings(environ={"OPAL_DATABASE__POOL__SIZE": "3"}, directory=tmp_path)

    assert staging.database.migration_url is None
    assert live.database.migration_url is not None


def test_a_direct_connection_alone_comes_on_top_of_any_url(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/opal.yaml").write_text("database:\n  url: postgresql://pooler/live\n")
    environ = {"OPAL_DATABASE__MIGRATION_URL": "postgresql://live/live"}

    found = load_settings(environ=environ, directory=tmp_path).database.migration_url

    assert found is not None
    assert found.get_secret_value() == "postgresql://live/live"
