"""The plan of a statement that was just run: asked for on its own connection, with its own parameters, without running it again."""

import logging
import time
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.in_transaction import is_open

EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN ", "mariadb": "EXPLAIN "}
PAUSE = 60.0
"""So many seconds the plan of a statement is not asked for again."""

KEPT = 500
"""Of so many statements it is known when they were explained."""

logger = logging.getLogger("opal_registry")


class Explainer:
    """Asks an engine's database for plans.

    Args:
        dialect: The engine's.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._asked: dict[str, float] = {}

    def explain(self, context: Any) -> str:
        """The plan of a statement, line by line; empty where there is none, or it was told not long ago.

        Args:
            context: That of its execution, which has just ended.
        """
        statement = str(context.statement)
        if not self._is_due(statement) or context.executemany or context._is_server_side or not _has_plan(statement):
            return ""
        try:
            return self._ask(context, EXPLAIN[self._dialect.name] + statement)
        except Exception as error:  # noqa: BLE001 -- a plan is not worth a request
            logger.info("no plan of a slow query: %s", type(error).__name__)
            return ""

    def _is_due(self, statement: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get(statement, float("-inf")) < PAUSE:
            return False
        if len(self._asked) >= KEPT:
            self._asked.clear()
        self._asked[statement] = now
        return True

    def _ask(self, context: Any, question: str) -> str:
        """Within a savepoint on PostgreSQL: an error would end the transaction otherwise."""
        connection = context.root_connection.connection
        guards = self._dialect.name == "postgresql" and is_open(self._dialect, connection)
        cursor = connection.cursor()
        try:
            if guards:
                cursor.execute("SAVEPOINT opal_plan")
            try:
                self._dialect.do_execute(cursor, question, context.parameters[0], None)
                rows = cursor.fetchall()
            except BaseException:
                if guards:
                    cursor.execute("ROLLBACK TO SAVEPOINT opal_plan")
                raise
            finally:
                if guards:
                    cursor.execute("RELEASE SAVEPOINT opal_plan")
        finally:
            cursor.close()
        return "\n".join(" ".join(str(value) for value in row if value is not None) for row in rows)


def _has_plan(statement: str) -> bool:
    """Of several statements in one string EXPLAIN would take the first, and the others would be run again."""
    is_one = ";" not in statement.rstrip("; \n")
    return is_one and statement.lstrip(" \n(").upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))
