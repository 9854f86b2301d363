"""The tables that the whole suite shares: ``users``, owned by the built-in sub-app ``core``."""

import sqlalchemy as sa
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.mutable import MutableList

from opal_registry.base import Base
from opal_registry.mixins import Timestamps

BCRYPT_BYTES = 72
"""bcrypt reads this many bytes of a password; the original suite cut longer ones, newer libraries refuse them."""

_hashes = PasswordHash((Argon2Hasher(), BcryptHasher()))


class User(Timestamps, Base):
    """A person or a machine that signs in to any application of the suite.

    ``hashed_password`` is not loaded with the row, and reading it unasked raises: no other sub-app needs it.

    Example:
        >>> user = User(username="ada")
        >>> user.set_password("correct horse")
        >>> user.check_password("correct horse"), user.check_password("wrong")
        (True, False)
    """

    __tablename__ = "users"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    username: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True)
    email: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(120), unique=True)
    hashed_password: sa_orm.Mapped[str | None] = sa_orm.mapped_column(
        sa.String(256), deferred=True, deferred_raiseload=True
    )
    first_name: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(80))
    last_name: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(80))
    is_active: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())
    roles: sa_orm.Mapped[list[str]] = sa_orm.mapped_column(MutableList.as_mutable(sa.JSON()), default=list)

    def set_password(self, password: str) -> None:
        """Store the argon2 hash of a password; nothing is sent to the database before the next flush.

        Raises:
            ValueError: If the password is empty.
        """
        if not password:
            raise ValueError("a password must not be empty")
        self.hashed_password = _hashes.hash(password)

    def check_password(self, password: str) -> bool:
        """Whether this is the user's password; a hash of an older kind is replaced by an argon2 one.

        Where the hash is not loaded, it is read through the session that the user belongs to (under asyncio: inside
        ``await session.run_sync(...)``, or load the user with ``undefer(User.hashed_password)``).
        """
        stored = self._stored_hash()
        if not stored or not password:
            return False
        if BcryptHasher.identify(stored):
            password_bytes = password.encode()[:BCRYPT_BYTES]
            if not BcryptHasher().verify(password_bytes, stored):
                return False
            self.set_password(password)
            return True
        try:
            matches, newer = _hashes.verify_and_update(password, stored)
        except UnknownHashError:
            return False
        if newer is not None:
            self.hashed_password = newer
        return matches

    def _stored_hash(self) -> str | None:
        if "hashed_password" in sa.inspect(self).dict:
            return self.hashed_password
        session = sa_orm.object_session(self)
        if session is None:
            return None
        return session.scalar(sa.select(User.hashed_password).where(User.id == self.id))

    def __repr__(self) -> str:
        return f"<User {self.id}: {self.username}>"
