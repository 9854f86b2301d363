"""The places that hold secrets: files, variables, the keyring of a system, Google Secret Manager.

Each is read when it is asked for, by a library that is imported then.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opal_registry.errors import ConfigError, Problem
from opal_registry.extras import MissingExtraError, is_installed

MAX_BYTES = 1024 * 1024
PATIENCE = 10.0
"""Seconds that Google has to answer."""

FULL_NAME = re.compile(
    r"projects/[^/]+/(?:locations/(?P<location>[a-z0-9-]+)/)?secrets/[\w-]+(?P<version>/versions/[\w-]+)?"
)
SHORT_NAME = re.compile(r"[\w-]+")
PROJECT_VARIABLES = ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")

SIGN_IN = "gcloud auth application-default login, or let the service run as an account that may read it"
REFUSALS: dict[str, tuple[str, str]] = {
    "NotFound": ("there is no such secret or version", "gcloud secrets versions list NAME"),
    "PermissionDenied": ("this account may not read it", "grant it roles/secretmanager.secretAccessor"),
    "Forbidden": ("this account may not read it", "grant it roles/secretmanager.secretAccessor"),
    "FailedPrecondition": (
        "the version is disabled or destroyed",
        "gcloud secrets versions enable, or name another one",
    ),
    "BadRequest": ("the version is disabled or destroyed", "gcloud secrets versions enable, or name another one"),
    "Unauthenticated": ("Google does not accept the credentials", SIGN_IN),
    "Unauthorized": ("Google does not accept the credentials", SIGN_IN),
    "RefreshError": ("Google's credentials have expired, or are revoked", SIGN_IN),
    "IsADirectoryError": ("GOOGLE_APPLICATION_CREDENTIALS is a directory", "name the file of the credentials in it"),
    "DefaultCredentialsError": ("there are no credentials of Google here", SIGN_IN),
}
"""What errors of Google's libraries mean, by name; whatever else there is, Google cannot be reached."""


def read(kind: str, target: str, environ: Mapping[str, str] | None = None) -> str:
    """Read a secret where it lies; one newline at its end does not belong to it.

    Args:
        kind: Which place, one of :data:`READERS`.
        target: Where in that place.
        environ: Where variables are looked up; the environment of the process unless given.

    Raises:
        ConfigError: If it cannot be read, or is empty.

    Example:
        >>> read("env", "DB_PASSWORD", {"DB_PASSWORD": "hunter2"})
        'hunter2'
    """
    what, text = READERS[kind](target, os.environ if environ is None else environ)
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text.strip():
        raise _error(f"{what} is empty", "write the secret into it")
    return text


def _read_env(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    what = f"the environment variable {name}"
    if name not in environ:
        raise _error(f"{what} is not set", f"set {name}")
    return what, environ[name]


def _read_file(target: str, _environ: Mapping[str, str]) -> tuple[str, str]:
    path = Path(target)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise _error(f"the file {path} does not exist", "create it, or correct the reference") from None
    except IsADirectoryError:
        raise _error(f"{path} is a directory", "name the file in it that holds the secret") from None
    except UnicodeDecodeError:
        raise _error(f"the file {path} is not UTF-8 text", "store the secret as UTF-8 text") from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not a path"
        raise _error(f"the file {path} cannot be read: {reason}", "let this user read it") from None
    if len(data) > MAX_BYTES:
        raise _error(f"the file {path} is larger than 1 MiB", "name the file that holds only the secret")
    return f"the file {path}", text


def _read_keyring(target: str, _environ: Mapping[str, str]) -> tuple[str, str]:
    service, _, user = target.rpartition("/")
    if not service or not user:
        raise _error(f"{{keyring: {target}}} does not say whose it is", "write {keyring: SERVICE/USER}")
    if not is_installed("keyring"):
        raise MissingExtraError.of("the keyring needs a library that is not installed", "keyring")
    import keyring
    from keyring import errors

    what = f"what the keyring holds of {user!r} for {service!r}"
    try:
        found = keyring.get_password(service, user)
    except errors.NoKeyringError:
        mend = "install one that Python's keyring knows (keyring --list-backends), or take {file: path} or {env: NAME}"
        raise _error("this system has no keyring", mend) from None
    except errors.KeyringLocked:
        raise _error("the keyring is locked", "unlock it, or take {file: path} or {env: NAME}") from None
    except Exception as error:  # noqa: BLE001 -- each system's own
        raise _error(f"the keyring cannot be read ({type(error).__name__})", "try it by hand: keyring get") from None
    if found is None:
        raise _error(f"the keyring holds nothing of {user!r} for {service!r}", f"keyring set {service} {user}")
    return what, found


def _read_gcp(target: str, environ: Mapping[str, str]) -> tuple[str, str]:
    if not is_installed("google.cloud.secretmanager"):
        raise MissingExtraError.of("Google Secret Manager needs a library that is not installed", "gcp")
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        name, location = _find_name(target, environ)
        answer = make_client(location).access_secret_version(name=name, timeout=PATIENCE, retry=None)
        return f"the secret {name}", answer.payload.data.decode()
    except UnicodeDecodeError:
        raise _error(f"the secret {target} is not UTF-8 text", "store the secret as UTF-8 text") from None
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        unknown = (f"Google cannot be reached ({type(error).__name__})", "look at the network, then try again")
        said, mend = REFUSALS.get(type(error).__name__, unknown)
        raise _error(f"the secret {target}: {said}", mend) from None


def _find_name(target: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The full name of a version of a secret, and its location if it is kept in one; the newest version is ``latest``."""
    if SHORT_NAME.fullmatch(target):
        target = f"projects/{_find_project(environ)}/secrets/{target}"
    match = FULL_NAME.fullmatch(target)
    if match is None:
        mend = "write its NAME, or projects/PROJECT/secrets/NAME, or that and /versions/VERSION"
        raise _error(f"{{gcp: {target}}} is not the name of a secret", mend)
    return target if match["version"] else f"{target}/versions/latest", match["location"] or ""


def _find_project(environ: Mapping[str, str]) -> str:
    import google.auth

    named = next((environ[name] for name in PROJECT_VARIABLES if environ.get(name)), None)
    project = named or google.auth.default()[1]
    if project is None:
        mend = f"set {PROJECT_VARIABLES[0]}, or write projects/PROJECT/secrets/NAME"
        raise _error("a short name of a secret needs a project, and the credentials of Google name none", mend)
    return str(project)


def make_client(location: str) -> Any:
    """The client of Google Secret Manager, over HTTP: that of gRPC leaves threads behind, which do not survive a fork.

    Args:
        location: Where the secret is kept; empty if Google decides.
    """
    from google.cloud import secretmanager

    options = {"api_endpoint": f"secretmanager.{location}.rep.googleapis.com"} if location else None
    return secretmanager.SecretManagerServiceClient(transport="rest", client_options=options)


def _error(what: str, mend: str) -> ConfigError:
    return ConfigError(Problem(what, mend=mend))


READERS: dict[str, Callable[[str, Mapping[str, str]], tuple[str, str]]] = {
    "file": _read_file,
    "env": _read_env,
    "keyring": _read_keyring,
    "gcp": _read_gcp,
}
"""What reads a place; says how to call what it read, and its text."""

DESCRIPTIONS = {
    "file": "A file that holds the secret; relative to the file that names it.",
    "env": "An environment variable that holds the secret.",
    "keyring": "SERVICE/USER in the keyring of the system; needs opal-registry[keyring].",
    "gcp": "The name of a secret in Google Secret Manager, or projects/PROJECT/secrets/NAME, with or without /versions/VERSION; "
    "needs opal-registry[gcp].",
}
