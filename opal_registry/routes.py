"""What the dependencies of a FastAPI route need, read once from what FastAPI knows of the route; FastAPI is not imported."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

LENDS, IN_THREADS = "opal_lends", "opal_in_threads"
"""What lends sessions says until when (the ``function`` has returned, the ``response`` is sent), and whether they block a thread."""

KEPT = "opal_needs"
"""Where a route keeps what was found."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one request needs.

    Args:
        sessions: How many sessions at once, each of which takes a connection.
        threads: Whether anything of it runs in a thread of FastAPI's, and may wait for a connection there.
        outlives: Whether something that goes on when the response has been sent uses a session of the endpoint.
    """

    sessions: int = 1
    threads: bool = True
    outlives: bool = False


def find_needs(scope: dict[str, Any]) -> Needs:
    """What a request needs, as far as it is known.

    Args:
        scope: Of the request, as ASGI has it, and with FastAPI's ``route``.

    Example:
        >>> find_needs({"type": "http"})
        Needs(sessions=1, threads=True, outlives=False)
    """
    route = scope.get("route")
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return Needs()
    kept: dict[str, Any] = vars(route)
    if KEPT not in kept:
        kept[KEPT] = _look(dependant)
    found: Needs = kept[KEPT]
    return found


def _look(dependant: Any) -> Needs:
    everything = list(_walk(dependant))
    lenders = [each for each in everything if _lends(each)]
    others = [each.call for each in everything if not _lends(each) and each.call is not None]
    shared = {each.call for each in lenders if each.use_cache}
    return Needs(
        sessions=max(1, len(shared) + sum(not each.use_cache for each in lenders)),
        threads=any(getattr(each.call, IN_THREADS, False) for each in lenders) and not all(map(_is_async, others)),
        outlives=any(_outlives(each) for each in everything),
    )


def _walk(dependant: Any) -> Iterator[Any]:
    yield dependant
    for each in dependant.dependencies:
        yield from _walk(each)


def _lends(dependant: Any) -> str:
    return str(getattr(dependant.call, LENDS, ""))


def _outlives(dependant: Any) -> bool:
    """Whether the rest of a generator is run after the response, with a session that would have ended by then."""
    if dependant.scope == "function" or not _is(
        dependant.call, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    ):
        return False
    return any(_lends(each) == "function" for each in _walk(dependant))


def _is_async(call: Callable[..., Any]) -> bool:
    return _is(call, inspect.iscoroutinefunction, inspect.isasyncgenfunction)


def _is(call: Any, *kinds: Callable[[Any], bool]) -> bool:
    plain = inspect.unwrap(call) if call is not None else None
    return any(kind(each) for kind in kinds for each in (plain, getattr(plain, "__call__", None)))  # noqa: B004
