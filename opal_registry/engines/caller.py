"""Who a statement is for: the sub-app and the route of the request that is being answered.

Whatever answers requests says so; tags of queries, logs of slow ones and reports of leaks read it.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who uses the database now.

    Args:
        app: The sub-app whose code it is; empty if that is not known.
        route: The method and the path of the route, such as ``GET /users/{user_id}``; empty outside of a request.
    """

    app: str = ""
    route: str = ""


caller: ContextVar[Caller] = ContextVar("opal_registry_caller", default=Caller())  # noqa: B039 -- it cannot change
"""The caller of the current task or thread."""
