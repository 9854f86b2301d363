"""Who a statement is for: the sub-app and the route of the request that is being answered.

Whatever answers requests says so; tags of queries, logs of slow ones and reports of leaks read it.
"""

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from types import FrameType

LIBRARIES = {
    *(
        "anyio",
        "asyncio",
        "concurrent",
        "contextlib",
        "fastapi",
        "functools",
        "opal_registry",
        "sqlalchemy",
        "starlette",
    ),
    *("click", "gunicorn", "httpx", "hypercorn", "threading", "typer", "uvicorn"),
}
"""Whose lines nobody can mend; the place that is shown is the first outside of them."""


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


def find_place() -> str:
    """The file and line from which we are called, outside of libraries; empty if there is none."""
    return next(_iter_places(), "")


def find_stack(most: int) -> str:
    """The places from which we are called, outside of libraries, the innermost first.

    Args:
        most: How many at most.
    """
    return " < ".join(islice(_iter_places(), most))


def _iter_places() -> Iterator[str]:
    for frame in _iter_frames():
        if frame.f_globals.get("__name__", "").partition(".")[0] not in LIBRARIES:
            yield f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _iter_frames() -> Iterator[FrameType]:
    """The frames of this call, the innermost first, and on into the task that waits for this greenlet."""
    greenlet = sys.modules.get("greenlet")
    current = greenlet.getcurrent() if greenlet else None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and current is not None and (current := current.parent) is not None:
            frame = current.gr_frame
