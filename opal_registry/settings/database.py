"""The shape of one configured database: how it is reached, and how connections to it are kept.

Fields marked ``reserved`` are checked but not acted upon by this release.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from opal_registry.secrets import Secret
from opal_registry.settings.kinds import Duration, Host, Port, PositiveDuration, Section, Text, Whole, fault

DEFAULT_URL = "sqlite:///./opal_suite.db"
FORMS: dict[str, tuple[str, ...]] = {
    "url": ("url",),
    "parts": ("driver", "host", "port", "name"),
    "cloud_sql": ("cloud_sql",),
}
"""The ways to say how a database is reached, and the keys that say it; they exclude each other."""


RESERVED: dict[str, Any] = {"reserved": True}


class SslSettings(Section):
    """Encryption of the connection; what each mode means is PostgreSQL's definition (libpq's ``sslmode``)."""

    mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """How much is demanded; in production: verify-full."""
    root_cert: Text | None = None
    """The certificate of the authority that signed the server's; relative to the file that names it."""
    cert: Text | None = None
    """The client's certificate."""
    key: Text | None = None
    """The file with the client's private key."""

    @model_validator(mode="after")
    def _cert_and_key_belong_together(self) -> Self:
        if (self.cert is None) != (self.key is None):
            missing = "key" if self.key is None else "cert"
            raise fault(f"lacks {missing}", "write both cert and key, or neither")
        if self.root_cert is not None and not self.verifies:
            mode = "without mode" if self.mode is None else f"with mode: {self.mode}"
            raise fault(f"has root_cert, at which nobody looks {mode}", "write mode: verify-full", at=("root_cert",))
        return self

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate is verified; ``require`` does so too where there is a ``root_cert``, as with libpq."""
        return self.mode in {"verify-ca", "verify-full"} or (self.mode == "require" and self.root_cert is not None)

    @property
    def libpq(self) -> dict[str, str]:
        """The same in the words of libpq, for which ``require`` verifies only if the file is there.

        Example:
            >>> SslSettings(mode="require", root_cert="ca.pem").libpq
            {'sslmode': 'verify-ca', 'sslrootcert': 'ca.pem'}
        """
        mode = "verify-ca" if self.mode == "require" and self.verifies else self.mode
        given = {"sslmode": mode, "sslrootcert": self.root_cert, "sslcert": self.cert, "sslkey": self.key}
        return {name: value for name, value in given.items() if value is not None}


CONNECTION_NAME = r"^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]*:[a-z][a-z0-9-]*[0-9]:[a-z][a-z0-9-]*$"
"""What Google calls a connection name; the name of every region ends with a digit, which that of no placeholder does."""

SERVICE_ACCOUNT = ".gserviceaccount.com"
DRIVERS = {"postgresql": ("pg8000", "psycopg", "asyncpg"), "mysql": ("pymysql",)}
"""The drivers that Google's connector works with, by engine."""


class CloudSqlSettings(Section):
    """A Google Cloud SQL instance, reached through Google's own connector (``opal-registry[cloudsql]``)."""

    instance: Annotated[str, Field(pattern=CONNECTION_NAME, examples=["my-project:europe-west1:suite"])]
    """The instance's connection name: project:region:name."""
    engine: Literal["postgresql", "mysql"] = "postgresql"
    """The database engine of the instance."""
    database: Text
    """The database in it."""
    user: Text
    """Who connects; with iam_auth, for PostgreSQL the account without .gserviceaccount.com, for MySQL what stands before the @."""
    password: Secret | None = None
    """The password; not with iam_auth."""
    iam_auth: bool = False
    """Whether to sign in with the identity of the service account, without a password."""
    ip_type: Literal["public", "private", "psc"] = "public"
    """Which address of the instance to use."""
    driver: Literal["pg8000", "psycopg", "asyncpg", "pymysql"] | None = None
    """The Python driver: pg8000 or psycopg, asyncpg for asyncio; for MySQL pymysql."""
    refresh: Literal["lazy", "background"] = "lazy"
    """When certificates are renewed: lazy when somebody connects, as it must be on Cloud Run; background ahead of time."""
    credentials: Secret | None = None
    """The JSON of Google's credentials, such as {file: key.json}; else those of the environment (ADC)."""
    impersonate: Annotated[Text | None, Field(examples=["opal@my-project.iam.gserviceaccount.com"])] = None
    """The service account that those credentials shall act as."""
    api_endpoint: Annotated[Text | None, Field(examples=["https://sqladmin.googleapis.com"])] = None
    """Another address of the Cloud SQL Admin API, without a slash at its end."""

    @field_validator("api_endpoint")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s]+", value):
            raise fault(f"cannot be {value!r:.60}", "write it as https://host, with nothing behind that")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.driver is not None and self.driver not in DRIVERS[self.engine]:
            raise fault(
                f"has driver {self.driver} for engine {self.engine}",
                f"write {' or '.join(DRIVERS[self.engine])}",
                at=("driver",),
            )
        if self.iam_auth and self.password is not None:
            raise fault("has both iam_auth and password", "remove one of them", at=("iam_auth", "password"))
        if self.iam_auth and self.user != self._iam_user:
            what = f"has user {self.user}, whom {self.engine} knows by a shorter name"
            raise fault(what, f"write {self._iam_user}", at=("user",))
        return self

    @property
    def _iam_user(self) -> str:
        return self.user.partition("@")[0] if self.engine == "mysql" else self.user.removesuffix(SERVICE_ACCOUNT)


class Connection(Section):
    """How a database is reached: ``url``, or the parts, or ``cloud_sql``."""

    url: Annotated[
        Secret | None, Field(examples=["sqlite:///./opal_suite.db", "postgresql://app@db.example/suite"])
    ] = None
    """A SQLAlchemy URL. A relative SQLite path is relative to the file that names it."""
    driver: Annotated[Text | None, Field(examples=["postgresql", "postgresql+psycopg", "mysql+pymysql"])] = None
    """The dialect and driver, as before :// in a URL."""
    host: Host | None = None
    """The server's name or address, or the directory of its socket."""
    port: Port | None = None
    """The server's port, if not the usual one."""
    name: Text | None = None
    """The name of the database; for SQLite the path of its file."""
    user: Text | None = None
    """Who connects; fills in what url lacks."""
    password: Secret | None = None
    """The password as text or, better, a reference; fills in what url lacks."""
    ssl: SslSettings | None = None
    """Encryption of the connection."""
    cloud_sql: CloudSqlSettings | None = None
    """A Google Cloud SQL instance."""

    @property
    def form(self) -> str | None:
        """Which of ``url``, ``parts`` and ``cloud_sql`` says how the database is reached."""
        return next(iter(self._forms()), None)

    def _forms(self) -> list[str]:
        return [form for form, keys in FORMS.items() if any(getattr(self, key) is not None for key in keys)]

    @model_validator(mode="after")
    def _one_complete_form(self) -> Self:
        forms = self._forms()
        if len(forms) > 1:
            keys = [key for form in forms for key in FORMS[form] if getattr(self, key) is not None]
            raise fault(
                f"says in several ways how to connect: {', '.join(keys)}",
                "keep url, or the parts, or cloud_sql",
                forms=True,
            )
        if forms == ["parts"]:
            self._check_parts()
        if forms == ["cloud_sql"]:
            beside = [key for key in ("user", "password", "ssl") if getattr(self, key) is not None]
            if beside:
                raise fault(
                    f"has {', '.join(beside)} beside cloud_sql",
                    "user and password go inside cloud_sql; ssl is its own",
                    at=beside,
                )
        return self

    def _check_parts(self) -> None:
        given = ", ".join(key for key in FORMS["parts"] if getattr(self, key) is not None)
        for key, example in (("driver", "postgresql"), ("name", "opal_suite")):
            if getattr(self, key) is None:
                raise fault(
                    f"has {given} but no {key}", f"add {key}, such as {key}: {example}; or write url alone", parts=True
                )


class ReplicaSettings(Connection):
    """A copy of the database that may be read."""

    weight: Annotated[Whole, Field(ge=0, le=1000)] = 1
    """Its share of the reads, relative to the others."""

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if self.form is None:
            raise fault("does not say how to connect", "write url, or the parts, or cloud_sql")
        return self


class PoolSettings(Section):
    """The connections that a process keeps open to one database."""

    kind: Literal["queue", "none", "static", "singleton", "assertion"] | None = None
    """How they are kept, as SQLAlchemy's pools do: queue, or static for a database in memory, if it is not set."""
    size: Annotated[Whole, Field(ge=1, le=1000)] = 5
    """How many are kept."""
    max_overflow: Annotated[Whole, Field(ge=0, le=1000)] = 10
    """How many more are opened when all are in use."""
    timeout: Duration = 30.0
    """How long to wait for a free one."""
    recycle: PositiveDuration = 1800.0
    """After how long a connection is replaced."""
    ping_after: Duration = 1.0
    """After how long unused a connection is tested before use; 0 is always."""
    leak_after: Duration = 60.0
    """After how long in use a connection is reported, with who has it; 0 is never."""
    pooler: Literal["none", "pgbouncer"] = "none"
    """What stands between the application and the server: PgBouncer, in transaction mode."""

    @model_validator(mode="after")
    def _counts_what_it_keeps(self) -> Self:
        counted = {None: {"size", "max_overflow"}, "queue": {"size", "max_overflow"}, "singleton": {"size"}}
        idle = sorted({"size", "max_overflow"} & self.model_fields_set - counted.get(self.kind, set()))
        if idle:
            raise fault(
                f"has kind: {self.kind}, which knows no {' and no '.join(idle)}",
                f"take {' and '.join(idle)} out, or choose kind: queue",
            )
        return self


class RoutingSettings(Section):
    """Which reads may go to replicas. Checked by this release, not yet used."""

    reads: Literal["primary", "replica"] = "primary"
    """Where reads go."""
    max_lag: Duration = 5.0
    """How far behind a replica may be."""
    wait: Duration = 0.05
    """How long to wait until a replica has caught up."""
    token_secret: Secret | None = None
    """What position tokens are signed with."""


class DatabaseSettings(Connection):
    """One database: how it is reached, and how connections to it are kept."""

    connect_timeout: PositiveDuration = 10.0
    """How long to wait for the server to answer when connecting."""
    network_timeout: Duration = 30.0
    """How long the network may be silent before a connection is given up; 0 leaves it to the system."""
    statement_timeout: PositiveDuration | None = None
    """How long one statement of an application may take; no limit but the server's own if it is not set."""
    application_name: Text | None = None
    """How the server shows a connection; else the sub-app, the host and the number of the process."""
    lazy_begin: bool = True
    """Whether a plain SELECT runs without a transaction, in one round trip, on PostgreSQL at READ COMMITTED."""
    pool: PoolSettings = PoolSettings()
    """The connections that are kept open."""
    migration_url: Annotated[Secret | None, Field(examples=["postgresql://opal_deploy@db.example/suite"])] = None
    """Another way to the same database, for DDL: past the pooler, or as another user. What it lacks is taken from url."""
    migration_role: Text | None = None
    """The role that makes tables, and so owns them: SET ROLE before DDL. Not for SQLite."""
    replicas: Annotated[list[ReplicaSettings], Field(json_schema_extra=RESERVED)] = []
    """Copies that may be read; checked, not yet used."""
    routing: Annotated[RoutingSettings, Field(json_schema_extra=RESERVED)] = RoutingSettings()
    """Which reads may go to replicas; checked, not yet used."""
