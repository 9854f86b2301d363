"""The hooks that a plugin may implement, and the marker to implement them with.

Each docstring holds a complete example: copy it, change the names, done. Only :func:`opal_sub_apps` is needed for a
sub-app; the others are optional. A hook that takes ``sub_app`` is called for the plugin's own sub-apps only.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

from opal_registry.sub_app import SubApp

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy import orm as sa_orm

PROJECT = "opal_registry"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def opal_sub_apps() -> Iterable[SubApp]:
    """Contribute sub-apps: yield one :class:`~opal_registry.SubApp` each.

    Keep the module light. Models are named as text, and imported when they are needed.

    Example:
        In ``standupbot/opal.py``, with ``standupbot = "standupbot.opal"`` under
        ``[project.entry-points.opal_registry]`` in ``pyproject.toml``::

            from opal_registry import SubApp, hookimpl

            @hookimpl
            def opal_sub_apps():
                yield SubApp(name="standupbot", models=("standupbot.models",), requires=("core>=1.0",))
    """
    raise AssertionError("a hookspec is never called")


@hookspec
def opal_engine_created(engine: "sa.Engine", bind: str) -> None:
    """Look at, or listen to, an engine that was just made; nothing is connected yet.

    Args:
        engine: The new engine; for an async engine, its ``sync_engine``. The one that DDL goes through is told as well.
        bind: The key of the configured database it belongs to, such as ``default``.

    Example:
        Log every statement that takes longer than a second::

            import sqlalchemy as sa
            from opal_registry import hookimpl

            @hookimpl
            def opal_engine_created(engine, bind):
                sa.event.listen(engine, "before_cursor_execute", start_the_clock)
                sa.event.listen(engine, "after_cursor_execute", complain_if_slow)
    """


@hookspec
def opal_tables_created(connection: "sa.Connection", sub_app: SubApp, tables: "Sequence[sa.Table]") -> None:
    """Finish the sub-app's new tables, inside the transaction that created them.

    Args:
        connection: The connection that created them; it must not be committed or closed.
        sub_app: The plugin's own sub-app.
        tables: What was created just now, in order of creation; never empty.

    Example:
        Add a trigger where the database is PostgreSQL::

            import sqlalchemy as sa
            from opal_registry import hookimpl

            @hookimpl
            def opal_tables_created(connection, sub_app, tables):
                if connection.dialect.name == "postgresql":
                    connection.execute(sa.text("CREATE TRIGGER ..."))
    """


@hookspec
def opal_seed(session: "sa_orm.Session", sub_app: SubApp) -> None:
    """Put the sub-app's first rows in. Called again after each change of version, so it must be idempotent.

    Args:
        session: A session inside a savepoint of the run's transaction; ``commit`` releases the savepoint only. To put rows
            in, and then to roll back or close the session without a commit and leave it at that, is an error: nothing would be there, and the
            sub-app would count as seeded.
        sub_app: The plugin's own sub-app.

    Example:
        ::

            from opal_registry import hookimpl

            @hookimpl
            def opal_seed(session, sub_app):
                from standupbot.models import Team

                if session.query(Team).filter_by(name="everybody").first() is None:
                    session.add(Team(name="everybody"))
    """


@hookspec
def opal_checks(context: object) -> Iterable[object]:
    """Contribute results to ``opal-db check``.

    The hook is declared so that a plugin may implement it already; it is called from the release that brings the
    command.

    Args:
        context: What may be looked at: the registry, and a read-only connection.

    Example:
        ::

            from opal_registry import hookimpl

            @hookimpl
            def opal_checks(context):
                return ()
    """
    raise AssertionError("a hookspec is never called")
