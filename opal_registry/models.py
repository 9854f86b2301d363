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
            ValueError: If the password is empty, or no text that UTF-8 can hold.
        """
        if not password:
            raise ValueError("a password must not be empty")
        self.hashed_password = _hashes.hash(password)

    def check_password(self, password: str) -> bool:
        """Whether this is the user's password; a hash of an older kind is replaced by an argon2 one.

        Where the hash is not loaded, it is read through the session that the user belongs to (under asyncio: inside
        ``await session.run_sync(...)``, or load the user with ``undefer(User.hashed_password)``).

        Raises:
            DetachedInstanceError: If the hash is not loaded and there is no session to load it through.
        """
        stored = self._stored_hash()
        if not stored or not password:
            return False
        try:
            matches, newer = _verify(password, stored)
        except (UnknownHashError, ValueError):  # the hash is of no known kind, or one of the texts is not Unicode
            return False
        if newer is not None:
            self.hashed_password = newer
        return matches

    def _stored_hash(self) -> str | None:
        state = sa.inspect(self)
        if "hashed_password" in state.dict or state.transient:
            return self.hashed_password
        session = sa_orm.object_session(self)
        if session is None:
            what = "its hashed_password is not loaded, and it belongs to no session to load it through"
            raise sa_orm.exc.DetachedInstanceError(f"{self!r} cannot check a password: {what}")
        query = sa.select(User.hashed_password).where(User.id == self.id)
        return session.execute(query).scalar()

    def __repr__(self) -> str:
        loaded = sa.inspect(self).dict
        return f"<User {loaded.get('id')}: {loaded.get('username')}>"


def _verify(password: str, stored: str) -> tuple[bool, str | None]:
    """Whether a password fits a hash, and the hash to store in its place if it does and another one is better."""
    if not BcryptHasher.identify(stored):
        return _hashes.verify_and_update(password, stored)
    matches = BcryptHasher().verify(password.encode()[:BCRYPT_BYTES], stored)
    return matches, _hashes.hash(password) if matches else None
