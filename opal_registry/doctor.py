"""What may go wrong between an application and its databases, looked for before it does. Changes nothing."""

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from opal_registry.budget import Budget
from opal_registry.engines.encryption import find_encryption, find_encryption_async, judge_encryption
from opal_registry.engines.errors.failures import explained, of_bind
from opal_registry.engines.factory import for_looking, make_async_engine
from opal_registry.engines.mysql import NAMES as MYSQL
from opal_registry.engines.url import is_async, make_url
from opal_registry.errors import DatabaseError
from opal_registry.ping import Pulse, ping_one
from opal_registry.registry import Registry
from opal_registry.settings.database import DatabaseSettings, PoolSettings
from opal_registry.settings.model import DeploymentSettings

POSTGRES_LIMITS = sa.text(
    "SELECT least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true), '0')::int,"
    " nullif(rolconnlimit, -1), nullif(datconnlimit, -1))"
    " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
)
MYSQL_LIMITS = sa.text(
    "SELECT CASE WHEN @@max_user_connections > 0 THEN least(@@max_connections, @@max_user_connections)"
    " ELSE @@max_connections END"
)
POSTGRES_IDLE = sa.text(
    "SELECT extract(epoch FROM coalesce(current_setting('idle_session_timeout', true), '0')::interval)"
)
MYSQL_IDLE = sa.text("SELECT @@wait_timeout")
"""After how many seconds the server closes a connection that is not used; 0 for never, as before PostgreSQL 14."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found at one database.

    Args:
        bind: The key of the database.
        check: What was looked at.
        what: What was found.
        mend: What to do about it; nothing, where all is well.
    """

    bind: str
    check: str
    what: str
    mend: str = ""

    @property
    def state(self) -> Literal["fine", "finding"]:
        """Whether there is something to do."""
        return "finding" if self.mend else "fine"


@dataclass(frozen=True, slots=True)
class Patient:
    """A database that is looked at.

    Args:
        bind: Its key.
        pulse: Its first answer.
        settings: How it is reached.
        deployment: How often the application runs.
        pools: Those of all databases on the same server.
        connection: One to it, as the application's.
    """

    bind: str
    pulse: Pulse
    settings: DatabaseSettings
    deployment: DeploymentSettings
    pools: tuple[PoolSettings, ...]
    connection: sa.Connection

    @property
    def dialect(self) -> str:
        """Which kind of database it is, MySQL for both of its kinds."""
        name = self.connection.dialect.name
        return "mysql" if name in MYSQL else name

    def ask(self, statement: sa.TextClause) -> Any:
        """The one value that a statement returns."""
        return self.connection.execute(statement).scalar()


Outcome = tuple[str, str]
"""What was found, and what to do about it; that is empty where all is well."""

Check = Callable[[Patient], Iterator[Outcome]]
"""Looks at a database, and says what it found; nothing, where the question has no meaning there."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found at all databases.

    Args:
        findings: By database, in the order of the checks.
        errors: Of databases that did not answer, or refused a question.
    """

    findings: tuple[Finding, ...]
    errors: tuple[DatabaseError, ...]

    @property
    def exit_code(self) -> int:
        """0 fine, 1 something to do, 4 a database did not answer."""
        if self.errors:
            return self.errors[0].exit_code
        return int(any(finding.mend for finding in self.findings))


def examine(registry: Registry) -> Diagnosis:
    """Look at every configured database; what is wrong with one keeps nobody from looking at the next."""
    findings: list[Finding] = []
    errors: list[DatabaseError] = []
    for bind in registry.settings.databases:
        try:
            with of_bind(bind):
                findings += _examine(registry, bind)
        except DatabaseError as error:
            errors.append(error)
    return Diagnosis(tuple(findings), tuple(errors))


def _examine(registry: Registry, bind: str) -> Iterator[Finding]:
    engine, settings = registry.engine(bind), registry.settings
    pulse = ping_one(bind, engine)
    pools = tuple(settings.databases[other].pool for other in settings.databases if _same_server(registry, other, bind))
    with explained(engine.url), for_looking(engine).connect() as connection:
        patient = Patient(bind, pulse, settings.databases[bind], settings.deployment, pools, connection)
        for name, check in CHECKS.items():
            for what, mend in check(patient):
                yield Finding(bind, name, what, mend)
            connection.rollback()


def _same_server(registry: Registry, one: str, other: str) -> bool:
    return _find_server(registry, one) == _find_server(registry, other)


def _find_server(registry: Registry, bind: str) -> tuple[object, ...]:
    url = registry.engine(bind).url
    return url.get_backend_name(), url.host or url.query.get("host"), url.port


def check_answer(patient: Patient) -> Iterator[Outcome]:
    """What answers, and how fast."""
    yield f"{patient.pulse.server} answers in {patient.pulse.milliseconds:.1f} ms, {patient.pulse.url}", ""


def check_pool(patient: Patient) -> Iterator[Outcome]:
    """Whether the pool is one for applications."""
    kind = patient.settings.pool.kind
    if patient.dialect == "sqlite" or kind not in {"static", "singleton", "assertion"}:
        return
    mend = "take pool.kind out, or choose queue or none"
    yield f"pool.kind is {kind}, which is not for requests that a server answers at the same time", mend


def check_budget(patient: Patient) -> Iterator[Outcome]:
    """Whether the server has the connections that the application may open."""
    limits = {"postgresql": POSTGRES_LIMITS, "mysql": MYSQL_LIMITS}.get(patient.dialect)
    if limits is None:
        return
    budget = Budget(patient.deployment, patient.pools, int(patient.ask(limits)))
    if budget.wanted == math.inf:
        yield (
            f"the application may open as many connections as it uses (pool.kind: none); the server has {budget.room} for it",
            "",
        )
    elif patient.settings.pool.pooler != "none":
        yield f"the application may open {budget.sum}; the pooler has to take them (max_client_conn)", ""
    elif budget.fits:
        yield f"the application may open {budget.sum}; the server has {budget.room} for it", ""
    else:
        yield f"the application may open {budget.sum}, but the server has {budget.room} for it", budget.mend


def check_age(patient: Patient) -> Iterator[Outcome]:
    """Whether connections are replaced before the server closes them."""
    if patient.dialect == "sqlite" or patient.settings.pool.kind == "none":
        return
    is_mysql = patient.dialect == "mysql"
    limit = float(patient.ask(MYSQL_IDLE if is_mysql else POSTGRES_IDLE))
    recycle, name = patient.settings.pool.recycle, "wait_timeout" if is_mysql else "idle_session_timeout"
    if 0 < limit <= recycle:
        what = (
            f"the server closes a connection that was idle for {limit:g} s ({name}), and pool.recycle is {recycle:g} s"
        )
        yield what, f"set pool.recycle to less than {limit:g} s"
    else:
        yield f"a connection is replaced after {recycle:g} s, before the server would close it", ""


def check_pooler(patient: Patient) -> Iterator[Outcome]:
    """Whether a pooler stands where the settings say, which can be told from the number of the server's process."""
    if patient.connection.dialect.driver != "psycopg":
        return
    driver: Any = patient.connection.connection.driver_connection
    is_direct = driver.info.backend_pid == patient.ask(sa.text("SELECT pg_backend_pid()"))
    is_said = patient.settings.pool.pooler != "none"
    if is_direct and is_said:
        yield (
            "pool.pooler is pgbouncer, but the connection leads to the server",
            "correct the address, or take pool.pooler out",
        )
    elif not is_direct and not is_said:
        yield "a pooler stands before the server, and the settings do not say so", "set pool.pooler to pgbouncer"


def check_encryption(patient: Patient) -> Iterator[Outcome]:
    """Whether anybody on the way can read what is said, or say it in the server's place."""
    if patient.dialect == "sqlite":
        return
    settings = patient.settings
    if is_async(settings):
        found = asyncio.run(find_encryption_async(make_async_engine(settings)))
    else:
        found = find_encryption(patient.connection)
    yield judge_encryption(found, settings, make_url(settings, use_async=is_async(settings)))


CHECKS: dict[str, Check] = {
    "answer": check_answer,
    "pool": check_pool,
    "budget": check_budget,
    "age": check_age,
    "pooler": check_pooler,
    "encryption": check_encryption,
}
"""What is looked at, in this order, by the name that a finding bears."""
