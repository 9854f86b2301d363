"""Secrets that lie in the keyring of a system or at Google: found, or their absence explained."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest
from keyring.backends import fail

from opal_registry.errors import ConfigError
from opal_registry.secrets import Secret
from opal_registry.settings.sources import describe, load_settings
from tests.secret_manager import SecretManager

NAME = "projects/opal/secrets/db/versions/latest"


class Ring(keyring.backend.KeyringBackend):
    """A keyring that lasts as long as a test, registered as others are."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: dict[tuple[str, str], str] = {}
        self.error: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        if self.error is not None:
            raise self.error
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.held[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, ring = keyring.get_keyring(), Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretManager]:
    with SecretManager().running() as manager:
        monkeypatch.setattr("opal_registry.references.make_client", manager.make_client)
        yield manager


def error_of(secret: Secret) -> str:
    with pytest.raises(ConfigError) as caught:
        secret.get_secret_value()
    return str(caught.value)


class TestTheKeyring:
    def test_holds_a_password(self, ring: Ring, tmp_path: Path) -> None:
        keyring.set_password("opal/suite", "app", "hunter2\n")
        environ = {"DATABASE_URL": "postgresql://app@db/suite", "OPAL_DATABASE__PASSWORD__KEYRING": "opal/suite/app"}
        settings = load_settings(environ=environ, directory=tmp_path)

        assert settings.database.password is not None
        assert settings.database.password.get_secret_value() == "hunter2"
        assert ("database.password", "{keyring: opal/suite/app}") in [entry[:2] for entry in describe(settings)]

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (None, "the keyring holds nothing of 'app' for 'opal'\n  mend:  keyring set opal app"),
            (keyring.errors.KeyringLocked("no"), "the keyring is locked\n  mend:  unlock it"),
            (OSError("secret: hunter2"), r"the keyring cannot be read (OSError)"),
        ],
    )
    def test_that_does_not_give_it_away(self, error: Exception | None, said: str, ring: Ring) -> None:
        ring.error = error

        assert said in error_of(Secret(keyring="opal/app"))
        assert "hunter2" not in error_of(Secret(keyring="opal/app"))

    def test_that_is_not_there(self, ring: Ring) -> None:
        keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]

        assert "this system has no keyring" in error_of(Secret(keyring="opal/app"))

    def test_needs_to_know_whose_it_is(self) -> None:
        assert "write {keyring: SERVICE/USER}" in error_of(Secret(keyring="opal"))


class TestSecretManager:
    @pytest.mark.parametrize(
        ("written", "asked"),
        [
            ("db", NAME),
            ("projects/opal/secrets/db", NAME),
            ("projects/opal/secrets/db/versions/7", "projects/opal/secrets/db/versions/7"),
            (
                "projects/opal/locations/europe-west1/secrets/db",
                "projects/opal/locations/europe-west1/secrets/db/versions/latest",
            ),
        ],
    )
    def test_is_asked_once_for_a_secret(self, written: str, asked: str, manager: SecretManager) -> None:
        manager.secrets[asked] = "hunter2\n"
        secret = Secret(gcp=written, environ={"GOOGLE_CLOUD_PROJECT": "opal"})

        assert [secret.get_secret_value() for _ in range(3)] == ["hunter2"] * 3
        assert manager.asked == [asked]

    @pytest.mark.parametrize(
        ("held", "said"),
        [
            (404, "there is no such secret or version\n  where: opal.yaml:4\n  mend:  gcloud secrets versions list"),
            (403, "this account may not read it\n  where: opal.yaml:4\n  mend:  grant it roles/secretmanager"),
            (400, "the version is disabled or destroyed"),
            ("", "is empty"),
            ("\n", "is empty"),
            (b"\xff\xfe", "is not UTF-8 text"),
        ],
    )
    def test_that_gives_nothing_says_why(self, held: str | bytes | int, said: str, manager: SecretManager) -> None:
        manager.secrets[NAME] = held
        secret = Secret(gcp="projects/opal/secrets/db", key="database.password", where="opal.yaml:4")

        error = error_of(secret)
        assert error.startswith("database.password: the secret projects/opal/secrets/db")
        assert said in error

    def test_that_cannot_be_reached(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = SecretManager(port=1)
        monkeypatch.setattr("opal_registry.references.make_client", away.make_client)

        assert "Google cannot be reached (" in error_of(Secret(gcp="projects/opal/secrets/db"))

    def test_needs_credentials(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

        error = error_of(Secret(gcp="projects/opal/secrets/db"))
        assert "there are no credentials of Google here\n  mend:  gcloud auth application-default login" in error

    @pytest.mark.parametrize("name", ["a b", "projects/opal", "db/versions/3"])
    def test_needs_a_name(self, name: str) -> None:
        assert "write its NAME, or projects/PROJECT/secrets/NAME" in error_of(Secret(gcp=name))


@pytest.mark.parametrize(("kind", "extra"), [("keyring", "keyring"), ("gcp", "gcp")])
def test_a_library_that_is_missing_is_named(kind: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    assert f"pip install 'opal-registry[{extra}]'" in error_of(Secret.parse({kind: "opal/app"}))
