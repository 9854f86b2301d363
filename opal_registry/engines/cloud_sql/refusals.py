"""What Google's connector, its API and its credentials say when no connection comes about, in plain words."""

import re
from collections.abc import Iterator

from opal_registry.engines.errors.failures import Meaning

GRANT = "gcloud projects add-iam-policy-binding PROJECT --member serviceAccount:... --role"
SIGN_IN = "gcloud auth application-default login"
CLOCK = "set this machine's clock (NTP); if it is right, the instance's own certificate has expired: gcloud sql ssl server-ca-certs list"


def _refusal(text: str, what: str, mend: str) -> Meaning:
    return Meaning("", text, what, mend)


REFUSALS = (
    _refusal(r"region was mismatched", "the instance is in another region", "correct the region in database.cloud_sql.instance: gcloud sql instances describe NAME --format 'value(connectionName)'"),
    _refusal(r"^ClientResponseError: 40[34].*(accessNotConfigured|has not been used|is disabled)", "the Cloud SQL Admin API is not enabled in the project", "gcloud services enable sqladmin.googleapis.com"),
    _refusal(r"^ClientResponseError: 404", "there is no such instance", "correct project and name in database.cloud_sql.instance: gcloud sql instances list"),
    _refusal(r"^ClientResponseError: 403", "this account may not connect to the instance, or there is none of that name", f"{GRANT} roles/cloudsql.client (with iam_auth roles/cloudsql.instanceUser, too), or correct database.cloud_sql.instance"),
    _refusal(r"^ClientResponseError: 401", "Google does not accept the credentials", f"{SIGN_IN}, or renew database.cloud_sql.credentials"),
    _refusal(r"^ClientResponseError: 429", "the project has used up its requests to the Cloud SQL Admin API", "wait a minute; let fewer processes start at once"),
    _refusal(r"^ClientResponseError: 5\d\d", "Google's API fails", "run the command again; https://status.cloud.google.com says what is known"),
    _refusal(r"^ClientResponseError", "Google's API refuses the request", "gcloud sql instances describe NAME says what state the instance is in"),
    _refusal(r"^CloudSQLIPTypeError", "the instance has no address of the kind that is asked for", "correct database.cloud_sql.ip_type, or give the instance one: gcloud sql instances patch NAME --assign-ip (public), --network (private)"),
    _refusal(r"^IncompatibleDriverError", "the instance is of another database engine", "correct database.cloud_sql.engine (and driver)"),
    _refusal(r"^AutoIAMAuthNotSupported", "the instance knows no IAM users", "set database.cloud_sql.iam_auth to false, and give a password"),
    _refusal(r"^(MalformedError|DefaultCredentialsError.*(Failed to load|valid (type|json)))", "the credentials are not what Google made", "give the file of database.cloud_sql.credentials as Google made it"),
    _refusal(r"^DefaultCredentialsError", "no credentials of Google are to be found", f"{SIGN_IN} on your own machine, let the service run as a service account on Google Cloud, or set database.cloud_sql.credentials"),
    _refusal(r"^RefreshError.*(reasonable timeframe|short-lived|\biat\b|\bexp\b|clock)", "Google's credentials are refused, because this machine's clock is wrong", "set the clock (NTP)"),
    _refusal(r"^RefreshError.*impersonated", "the account may not act as the one of database.cloud_sql.impersonate", "gcloud iam service-accounts add-iam-policy-binding THAT_ACCOUNT --member ... --role roles/iam.serviceAccountTokenCreator"),
    _refusal(r"^(RefreshError|ReauthFailError)", "Google's credentials have expired, or are revoked", f"{SIGN_IN}, or renew database.cloud_sql.credentials; a wrong clock makes them look so, too"),
    _refusal(r"^ValueError.*universe domain", "the credentials are of another of Google's universes", "set GOOGLE_CLOUD_UNIVERSE_DOMAIN, or give credentials of this one"),
    _refusal(r"certificate[ _](is not yet valid|has expired|appears|expired|not.yet.valid)|Certficate appears to be expired", "a certificate is not valid at this time", CLOCK),
    _refusal(r"closed the connection unexpectedly|closed in the middle of operation|EOF occurred in violation", "the instance cut the connection while it was made", "see whether it runs (gcloud sql instances describe NAME); or this machine's clock is wrong (NTP), so that certificates look expired"),
    _refusal(r"^\w*(SSL|TLS)\w*Error", "the encryption with the instance cannot be agreed on", "something stands between, or the instance demands another certificate: see docs/cloud-sql.md"),
    _refusal(r"^ConnectorLoopError|attached to a different loop", "an engine is used in another event loop than its own", "ask the registry for the engine in the loop that uses it: async_engine()"),
    _refusal(r"^TransportError", "Google's token server does not answer", "check the network, and whether this machine may reach googleapis.com"),
    _refusal(r"^(Client\w*Error|Server\w*Error|InvalidUrl\w*|gaierror|ContentTypeError)", "the Cloud SQL Admin API does not answer", "check the network and its DNS, whether this machine may reach sqladmin.googleapis.com, or correct database.cloud_sql.api_endpoint"),
    _refusal(r"^TimeoutError", "no connection came about in time", "let this machine reach port 3307 of the instance (private, psc: from its network) and sqladmin.googleapis.com, or raise database.connect_timeout"),
    _refusal(r"^(ConnectionError|Connection\w+Error|OSError)", "the instance does not answer at its address", "see whether it runs (gcloud sql instances describe NAME), and let this machine reach its port 3307"),
    _refusal(r"^(ClosedConnectorError|CacheClosedError|CancelledError)|Event loop is closed", "the connector was closed while somebody connected", "close the registry after its last use"),
)  # fmt: skip
"""By what an error says after the name of its class; the first one that fits counts."""

NOT_UNDERSTOOD = _refusal(
    "",
    "what Google's API answers cannot be understood",
    "see whether something answers in its place, such as a proxy, and correct database.cloud_sql.api_endpoint if it is set",
)
"""What it means that the connector stumbles over an answer."""

NO_IAM_USER = _refusal(
    "",
    "the instance does not let this account in",
    "gcloud sql users create USER --instance NAME --type cloud_iam_service_account, and grant roles/cloudsql.instanceUser; or correct database.cloud_sql.user",
)
"""What a refusal means where an account signs in without a password."""


def find_refusal(error: BaseException) -> Meaning | None:
    """What an error means that is not the driver's own, or whose cause is not.

    Args:
        error: What came of an attempt to connect.

    Returns:
        None for what the database or its driver says, which is known by its own name.

    Example:
        >>> find_refusal(TimeoutError()).what
        'no connection came about in time'
        >>> find_refusal(LookupError("no such user")) is None
        True
    """
    said = [f"{type(each).__name__}: {each}" for each in _iter_causes(error)]
    return next((refusal for refusal in REFUSALS if any(re.search(refusal.text, text) for text in said)), None)


def _iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
