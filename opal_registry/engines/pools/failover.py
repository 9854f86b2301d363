"""Connections to a server that has become a standby are left, though nobody has cut them."""

import sqlalchemy as sa

from opal_registry.engines.errors.failures import find_code
from opal_registry.engines.sqlite import OPTION

READ_ONLY = {"25006", "1290", "1836"}
"""How PostgreSQL and MySQL say that they do not write: read-only transaction, ``--read-only``, read-only mode."""


def leave_standbys(engine: sa.Engine) -> None:
    """Replace the connections of a pool when the server says that it does not write any more, as after a switch-over.

    The next ones lead to the primary, where the URL or the network knows the way (``target_session_attrs=read-write``). What was
    declared read-only is refused by every server, and leaves the connections as they are.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """

    def look(error: sa.ExceptionContext) -> None:
        meant = error.connection.get_execution_options() if error.connection is not None else {}
        is_meant = meant.get(OPTION) == "read_only" or meant.get("postgresql_readonly")
        if not is_meant and find_code(error.original_exception) in READ_ONLY:
            error.is_disconnect = True

    sa.event.listen(engine, "handle_error", look)
