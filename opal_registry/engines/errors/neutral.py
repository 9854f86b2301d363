"""Errors of databases by what they mean, the same on every database and with every driver.

Each is the class of SQLAlchemy's that one would catch without them, so that ``except IntegrityError`` goes on to work;
and it is raised in place of it also where a driver calls the same thing something else (asyncpg, pg8000), or a database
does (a CHECK of MariaDB).
"""

from dataclasses import dataclass

import sqlalchemy as sa


class ConnectError(sa.exc.OperationalError):
    """No connection came about: nobody answers, or the server does not let us in."""


class ConnectionLostError(sa.exc.OperationalError):
    """The connection was lost in the middle of a transaction, of which nothing stays; ``connection_invalidated`` is true."""


class DeadlockError(sa.exc.OperationalError):
    """Two transactions waited for each other, and the database ended this one; run the whole of it again."""


class SerializationError(sa.exc.OperationalError):
    """What this transaction has read is no longer true, so that it may not go on; run the whole of it again."""


class StatementTimeoutError(sa.exc.OperationalError):
    """The server ended the statement: it took longer than it may, or somebody told the server to."""


class LockWaitError(sa.exc.OperationalError):
    """Another transaction keeps a lock for longer than this one may wait."""


class InDoubtError(ConnectionLostError):
    """The connection was lost while the COMMIT was under way: nobody knows whether it took effect.

    It is never tried again. Look whether the work was done, or write it so that a repetition does no harm.
    """


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rule of a table a row breaks; what the database does not say is empty.

    Args:
        name: The constraint's name, or that of its index.
        table: The table's, without its schema.
        columns: The columns' names.
    """

    name: str = ""
    table: str = ""
    columns: tuple[str, ...] = ()


class ConstraintError(sa.exc.IntegrityError):
    """A row breaks a rule of its table; those that are not of a kind below, such as EXCLUDE.

    Attributes:
        rule: Which rule, as far as the database says.
    """

    rule = Rule()


class UniqueError(ConstraintError):
    """There is such a row already."""


class ForeignKeyError(ConstraintError):
    """A row refers to one that is not there, or one that others refer to was to be taken away."""


class NotNullError(ConstraintError):
    """A column that needs a value got none."""


class CheckError(ConstraintError):
    """A row breaks a CHECK."""
