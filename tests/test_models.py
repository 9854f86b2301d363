"""The shared ``User``: a hash that nobody loads by accident, and passwords of this suite and of the original one."""

import asyncio
from collections.abc import Iterator

import bcrypt
import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.init import init
from opal_registry.models import User
from opal_registry.registry import Registry
from tests.databases import registry_of

LONG = "é" * 50
"""A hundred bytes: more than bcrypt reads."""


def old_hash(password: str, prefix: str = "$2b$") -> str:
    """A hash as the original suite stored it; it cut what bcrypt does not read."""
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode().replace("$2b$", prefix)


def user_with(hashed: str | None) -> User:
    user = User(username="ada")
    user.hashed_password = hashed
    return user


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """A registry of a database with the table ``users``, in which there is Ada."""
    with registry_of(database_url) as registry:
        init(registry)
        with registry.session_scope() as session:
            ada = User(username="ada")
            ada.set_password("correct horse")
            session.add(ada)
        yield registry


def load(session: sa_orm.Session) -> User:
    return session.scalars(sa.select(User)).one()


def test_a_password_is_checked_through_the_session(registry: Registry) -> None:
    with registry.session_scope() as session:
        ada = load(session)
        assert ada.check_password("correct horse")
        assert not ada.check_password("correct horsf")
        assert not session.dirty


def test_the_hash_is_not_loaded_and_reading_it_raises(registry: Registry) -> None:
    with registry.session_scope() as session:
        ada = load(session)
        assert "hashed_password" not in sa.inspect(ada).dict
        with pytest.raises(sa.exc.InvalidRequestError, match="raiseload=True"):
            _ = ada.hashed_password


def test_the_hash_is_there_for_who_asks_for_it(registry: Registry) -> None:
    with registry.session_scope() as session:
        statement = sa.select(User).options(sa_orm.undefer(User.hashed_password))
        assert str(session.scalars(statement).one().hashed_password).startswith("$argon2id$")


def test_a_row_has_its_defaults(registry: Registry) -> None:
    with registry.session_scope() as session:
        ada = load(session)
        assert (ada.is_active, ada.roles, ada.email) == (True, [], None)
        assert ada.created_at.utcoffset() == ada.updated_at.utcoffset() is not None


def test_a_change_of_the_list_of_roles_is_noticed(registry: Registry) -> None:
    with registry.session_scope() as session:
        ada = load(session)
        ada.roles.append("admin")
    with registry.session_scope() as session:
        assert load(session).roles == ["admin"]


def test_a_username_is_unique(registry: Registry) -> None:
    with pytest.raises(sa.exc.IntegrityError), registry.session_scope() as session:
        session.add(User(username="ada"))


def test_a_table_filled_by_hand_gets_defaults_too(registry: Registry) -> None:
    with registry.session_scope() as session:
        session.execute(sa.text("INSERT INTO users (username, roles) VALUES ('bob', '[]')"))
        bob = session.scalars(sa.select(User).filter_by(username="bob")).one()
        assert bob.is_active
        assert bob.created_at is not None


def test_a_bcrypt_hash_is_replaced_at_the_next_login(registry: Registry) -> None:
    with registry.session_scope() as session:
        session.execute(sa.update(User).values(hashed_password=old_hash("from 2019")))
    with registry.session_scope() as session:
        assert not load(session).check_password("from 2020")
    with registry.session_scope() as session:
        assert load(session).check_password("from 2019")
    with registry.session_scope() as session:
        assert str(session.scalar(sa.select(User.hashed_password))).startswith("$argon2id$")
        assert load(session).check_password("from 2019")


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_every_kind_of_bcrypt_hash_fits(prefix: str) -> None:
    user = user_with(old_hash("from 2019", prefix))
    assert not user.check_password("from 2020")
    assert str(user.hashed_password).startswith(prefix)
    assert user.check_password("from 2019")
    assert str(user.hashed_password).startswith("$argon2id$")


def test_an_asyncio_session_checks_inside_run_sync(registry: Registry) -> None:
    async def login(password: str) -> bool:
        async with registry.async_session_scope() as session:
            ada = (await session.scalars(sa.select(User))).one()
            return await session.run_sync(lambda _: ada.check_password(password))

    async def both() -> tuple[bool, bool]:
        async with registry:
            return await login("correct horse"), await login("wrong")

    assert asyncio.run(both()) == (True, False)


def test_a_user_without_a_session_says_that_it_cannot_check(registry: Registry) -> None:
    with registry.session_factory() as session:
        ada = load(session)
    with pytest.raises(sa_orm.exc.DetachedInstanceError, match="hashed_password is not loaded"):
        ada.check_password("correct horse")


def test_a_new_user_checks_what_was_just_set() -> None:
    ada = User(username="ada")
    assert not ada.check_password("anything")
    ada.set_password(LONG)
    assert ada.check_password(LONG)
    assert not ada.check_password(LONG[:-1])


def test_a_long_password_of_the_original_suite_still_fits_and_counts_in_full_afterwards() -> None:
    user = user_with(old_hash(LONG))

    assert user.check_password(LONG)
    assert not user.check_password(LONG[:36])


@pytest.mark.parametrize(
    "hashed",
    [
        None,
        "",
        "plain",
        "é",
        "$2b$",
        "$2b$12$short",
        "$2b$99$" + "a" * 53,
        "$argon2id$x",
        "$argon2id$v=19$m=8,t=1,p=1$a$b",
    ],
)
def test_what_is_no_hash_fits_nothing(hashed: str | None) -> None:
    for password in ("plain", "", "x"):
        assert not user_with(hashed).check_password(password)


@pytest.mark.parametrize(
    "password", ["", "\0", "a\0b", "\ud800", "x" * 100_000], ids=["empty", "zero", "zero inside", "surrogate", "long"]
)
@pytest.mark.parametrize("hashed", [old_hash("secret"), None], ids=["bcrypt", "new"])
def test_odd_passwords_are_just_wrong(password: str, hashed: str | None) -> None:
    user = user_with(hashed)
    if hashed is None:
        user.set_password("secret")

    assert not user.check_password(password)


def test_nobody_gets_an_empty_password() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        User(username="ada").set_password("")


def test_what_a_user_is_shown_as_does_not_touch_the_database() -> None:
    assert repr(User(username="ada")) == "<User None: ada>"
