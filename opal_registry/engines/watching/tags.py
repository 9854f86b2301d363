"""Comments by which a server's own tools name who sent a statement, as sqlcommenter writes them."""

import functools
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from opal_registry.engines.caller import Caller, caller


def tag(engine: sa.Engine) -> None:
    """Let each statement of an engine say at its end for which sub-app and route it is.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """
    preparer: Any = engine.dialect.identifier_preparer
    doubled = preparer._double_percents  # pg8000 is said to take %%, but leaves it as it is

    def add(
        _connection: object,
        _cursor: object,
        statement: str,
        parameters: Any,
        context: Any,
        _many: bool,  # noqa: FBT001
    ) -> tuple[str, Any]:
        as_they_are = context is not None and context.no_parameters
        return statement + make_tag(caller.get(), doubled=doubled and not as_they_are), parameters

    sa.event.listen(engine, "before_cursor_execute", add, retval=True)


@functools.lru_cache(maxsize=1024)
def make_tag(who: Caller, *, doubled: bool = False) -> str:
    """The comment, with the space before it; empty if nothing is known.

    The format is that of sqlcommenter (https://google.github.io/sqlcommenter/spec): values are URL-encoded, so that none
    of them can end the comment.

    Args:
        who: Whom it names.
        doubled: Whether the driver takes ``%%`` for a percent sign.

    Example:
        >>> make_tag(Caller("standupbot", "GET /users/{user_id}"))
        " /*application='standupbot',route='GET%20%2Fusers%2F%7Buser_id%7D'*/"
    """
    pairs = {"application": who.app, "route": who.route}
    text = ",".join(f"{name}='{quote(value, safe='')}'" for name, value in pairs.items() if value)
    shown = f" /*{text}*/" if text else ""
    return shown.replace("%", "%%") if doubled else shown
