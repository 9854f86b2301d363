"""Whose word Google takes when somebody connects to Cloud SQL."""

import json
import warnings
from typing import TYPE_CHECKING, Any

from opal_registry.errors import ConfigError, Problem
from opal_registry.secrets import Secret
from opal_registry.settings.database import CloudSqlSettings

if TYPE_CHECKING:  # of the extra "cloudsql"
    from google.auth.credentials import Credentials

SCOPES = ["https://www.googleapis.com/auth/sqlservice.admin"]
TO_IMPERSONATE = ["https://www.googleapis.com/auth/cloud-platform"]


def load_credentials(settings: CloudSqlSettings) -> "Credentials":
    """Whose word Google shall take; may ask the machine's metadata server who it is.

    Args:
        settings: Which ones; those of the environment, if it says nothing.

    Raises:
        ConfigError: If they are no JSON.
        google.auth.exceptions.GoogleAuthError: If there are none, or Google did not make them.
    """
    from google.auth import default, impersonated_credentials, load_credentials_from_dict

    scopes = TO_IMPERSONATE if settings.impersonate else SCOPES
    make: Any = impersonated_credentials.Credentials
    if settings.credentials is None:
        found, _ = default(scopes=scopes)
    else:
        load: Any = load_credentials_from_dict
        with warnings.catch_warnings():  # of what strangers hand in: this is the operator's own
            warnings.simplefilter("ignore", DeprecationWarning)
            found, _ = load(parse(settings.credentials), scopes=scopes)
    loaded: Credentials = make(found, settings.impersonate, SCOPES) if settings.impersonate else found
    return loaded


def parse(secret: Secret) -> dict[str, Any]:
    """What credentials say that are given in the configuration.

    Raises:
        ConfigError: If they are no JSON.
    """
    try:
        found = json.loads(secret.get_secret_value())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        what = f"{secret.key or 'cloud_sql.credentials'} is not the JSON of Google's credentials"
        raise ConfigError(Problem(what, secret.where, "give the file that Google made, such as {file: key.json}"))
    return found


def refresh(credentials: "Credentials") -> None:
    """Fetch a token, unless there is one that lasts for a while.

    Raises:
        google.auth.exceptions.GoogleAuthError: If Google gives none.
    """
    from google.auth.credentials import TokenState
    from google.auth.transport.requests import Request

    if credentials.token_state != TokenState.FRESH:
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
