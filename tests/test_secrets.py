"""What must not be seen is not seen; what is referred to is found, or its absence explained."""

import pickle
from pathlib import Path

import pytest

from opal_registry.engines.factory import make_engine
from opal_registry.errors import ConfigError
from opal_registry.secrets import Secret, mask_url
from opal_registry.settings.sources import describe, load_settings
from tests.databases import database_of

HARD = [
    "12345",
    "null",
    "{x",
    '"quoted"',
    "'single'",
    "[1]",
    "p%40@:/#?&=",
    "  spaces  ",
    "$HOME ${HOME}",
    "back\\slash\\n",
    "pässwörd→☃",
    "two\nlines",
    "true",
    "#hash",
    "1e5",
    "\ttab",
]


def password_of(directory: Path, **environ: str) -> str:
    url = {"DATABASE_URL": "postgresql://app@db/suite"}
    settings = load_settings(environ=url | environ, directory=directory)
    assert settings.database.password is not None
    return settings.database.password.get_secret_value()


@pytest.mark.parametrize("password", HARD)
class TestAnyPasswordSurvives:
    def test_from_an_argument(self, password: str, tmp_path: Path) -> None:
        settings = load_settings(environ={}, directory=tmp_path, database={"url": "x://", "password": password})

        assert settings.database.password == Secret(password)

    def test_from_the_environment(self, password: str, tmp_path: Path) -> None:
        assert password_of(tmp_path, OPAL_DATABASE__PASSWORD=password) == password

    def test_from_dotenv_in_single_quotes(self, password: str, tmp_path: Path) -> None:
        quoted = password.replace("\\", "\\\\").replace("'", "\\'")
        (tmp_path / ".env").write_text(f"OPAL_DATABASE__PASSWORD='{quoted}'\n")

        assert password_of(tmp_path) == password

    def test_from_a_secret_file(self, password: str, tmp_path: Path) -> None:
        (tmp_path / "opal_database__password").write_text(password + "\n")

        assert password_of(tmp_path, OPAL_SECRETS_DIR=str(tmp_path)) == password

    def test_from_a_reference_to_a_file(self, password: str, tmp_path: Path) -> None:
        (tmp_path / "pw").write_text(password)

        assert password_of(tmp_path, OPAL_DATABASE__PASSWORD__FILE="pw") == password

    def test_from_a_reference_to_a_variable(self, password: str, tmp_path: Path) -> None:
        assert password_of(tmp_path, OPAL_DATABASE__PASSWORD__ENV="PW", PW=password) == password

    def test_from_yaml_in_quotes(self, password: str, tmp_path: Path) -> None:
        (tmp_path / "config").mkdir()
        text = password.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        (tmp_path / "config/opal.yaml").write_text(f'database: {{password: "{text}"}}\n')

        assert password_of(tmp_path) == password

    def test_and_is_not_shown(self, password: str, tmp_path: Path) -> None:
        settings = load_settings(environ={}, directory=tmp_path, database={"url": "x://", "password": password})

        assert ("database.password", "********", "argument") in describe(settings)
        assert f"password={Secret(password)!r}" in repr(settings)
        assert password not in repr(Secret(password)).replace("Secret('********')", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:hunter2@db:5432/suite", "postgresql://app:********@db:5432/suite"),
        ("postgresql://app@db/suite", "postgresql://app@db/suite"),
        ("postgresql://:hunter2@db/suite", "postgresql://:********@db/suite"),
        ("postgresql://app:hun@ter/2#x@db/suite", "postgresql://app:********@db/suite"),
        ("postgresql://app:hun?ter2@db/suite", "postgresql://app:********@db/suite"),
        ("postgresql://db/suite?user=a&password=hunter2&x=1", "postgresql://db/suite?user=a&password=********&x=1"),
        ("mysql://db/suite?SSL_Token=hunter2", "mysql://db/suite?SSL_Token=********"),
        ("sqlite:////srv/a:b@c.db", "sqlite:////srv/a:b@c.db"),
        ("sqlite://", "sqlite://"),
        ("hunter2", "********"),
        ("hunter2 x://y", "********"),
    ],
)
def test_urls_are_shown_without_their_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:hunter2", "postgresql://app:********"),
        ("postgresql://app:hunter2127.0.0.1:5432/x", "postgresql://app:********"),
        ("postgresql+psycopg://:hunter2:5432/x", "postgresql+psycopg://:********"),
        ("postgresql://[::1]:5432/x", "postgresql://[::1]:5432/x"),
        ("postgresql://a:5432,b:5433/x", "postgresql://a:5432,b:5433/x"),
        (
            "postgresql://db/x?options=-c%20a.password=hunter2&sslmode=require",
            "postgresql://db/x?options=********&sslmode=require",
        ),
        ("postgresql://db/x?options=-c%20search_path=opal", "postgresql://db/x?options=-c%20search_path=opal"),
    ],
)
def test_a_password_is_hidden_where_the_host_is_missing_too(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_a_pickle_holds_a_reference_and_not_what_it_led_to() -> None:
    environ = {"DB_PASSWORD": "hunter2", "OTHER": "hunter3"}
    secret = Secret(env="DB_PASSWORD", environ=environ, key="database.password", where="opal.yaml:3")
    assert secret.get_secret_value() == "hunter2"
    pickled = pickle.dumps(secret)
    assert b"hunter" not in pickled
    again = pickle.loads(pickled)
    assert (again, again.key, again.where) == (secret, "database.password", "opal.yaml:3")
    assert pickle.loads(pickle.dumps(Secret("hunter2"))).get_secret_value() == "hunter2"


def test_a_byte_order_mark_is_none_of_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_bytes(b"\xef\xbb\xbfhunter2\r\n")
    assert Secret(file=str(file)).get_secret_value() == "hunter2"


@pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
def test_a_nul_in_a_secret_is_refused_and_sent_to_nobody(driver: str, tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_bytes(b"hunter2\0")
    settings = database_of(
        f"postgresql+{driver}://app@127.0.0.1:1/x", password={"file": str(file)}, ssl={"mode": "require"}
    )
    with pytest.raises(ConfigError, match="the password holds a character that cannot be seen"):
        make_engine(settings)


def test_one_newline_at_the_end_of_a_file_does_not_belong_to_the_secret(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b" hunter2 \n\r\n")

    assert Secret(file=str(tmp_path / "pw")).get_secret_value() == " hunter2 \n"


class TestAReferenceThatLeadsNowhere:
    def error_of(self, secret: Secret) -> str:
        with pytest.raises(ConfigError) as caught:
            secret.get_secret_value()
        return str(caught.value)

    def test_names_the_key_the_file_and_the_place(self, tmp_path: Path) -> None:
        path = tmp_path / "pw"

        assert self.error_of(Secret(file=str(path), key="database.password", where="opal.yaml:4")) == (
            f"database.password: the file {path} does not exist\n"
            "  where: opal.yaml:4\n"
            "  mend:  create it, or correct the reference"
        )

    def test_because_the_file_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "pw").write_text("\n")

        assert "is empty" in self.error_of(Secret(file=str(tmp_path / "pw")))

    def test_because_it_is_a_directory(self, tmp_path: Path) -> None:
        assert "is a directory" in self.error_of(Secret(file=str(tmp_path)))

    def test_because_it_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "pw").write_bytes(b"\xff\xfehunter2")

        error = self.error_of(Secret(file=str(tmp_path / "pw")))
        assert "is not UTF-8 text" in error
        assert "hunter2" not in error

    def test_because_it_has_no_end(self) -> None:
        assert "is larger than 1 MiB" in self.error_of(Secret(file="/dev/zero"))

    def test_because_its_path_goes_through_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("x")

        assert "cannot be read: Not a directory" in self.error_of(Secret(file=str(tmp_path / "a" / "b")))

    @pytest.mark.parametrize(
        ("environ", "state", "mend"),
        [
            ({}, "is not set", "set PW"),
            ({"PW": ""}, "is empty", "write the secret into it"),
            ({"PW": "\n"}, "is empty", "write the secret into it"),
        ],
    )
    def test_because_of_the_variable(self, environ: dict[str, str], state: str, mend: str) -> None:
        error = self.error_of(Secret(env="PW", environ=environ, key="database.password", where="opal.yaml:4"))

        assert error == (
            f"database.password: the environment variable PW {state}\n  where: opal.yaml:4\n  mend:  {mend}"
        )


def test_a_variable_that_is_referred_to_may_be_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPAL_DATABASE_PASSWORD=hunter2\n")

    assert password_of(tmp_path, OPAL_DATABASE__PASSWORD__ENV="OPAL_DATABASE_PASSWORD") == "hunter2"


def test_looking_at_a_configuration_needs_no_secret(tmp_path: Path) -> None:
    settings = load_settings(
        environ={}, directory=tmp_path, database={"url": "postgresql://db/x", "password": {"file": "missing"}}
    )

    assert ("database.password", f"{{file: {tmp_path}/missing}}", "argument") in describe(settings)


@pytest.mark.parametrize(
    "value", [{"vault": "x"}, {"gcp": ""}, {"file": ""}, {"file": 5}, {}, {"file": "a", "env": "b"}]
)
def test_other_references_are_refused_with_what_is_allowed(value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\{file: path\}, \{env: NAME\}, \{keyring: SERVICE/USER\} or \{gcp: NAME\}"):
        load_settings(environ={}, directory=tmp_path, database={"url": "x://", "password": value})


def test_a_secret_is_one_thing() -> None:
    with pytest.raises(TypeError, match="one of"):
        Secret("a", file="b")
