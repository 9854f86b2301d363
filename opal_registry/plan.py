"""In which order the sub-apps come: the same everywhere, every time."""

import heapq
from collections.abc import Iterable, Mapping

from opal_registry.errors import PluginError, Problem


class CycleError(PluginError):
    """Sub-apps that need each other in a circle.

    Attributes:
        path: The names around the circle; the first one comes again at the end.
    """

    def __init__(self, path: list[str]) -> None:
        mend = "let one of them do without the other: drop the requirement or the foreign key that closes the circle"
        super().__init__(Problem(f"the sub-apps need each other in a circle: {' -> '.join(path)}", mend=mend))
        self.path = tuple(path)


def order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Sort names so that each comes after what it needs; among equals the first by name comes first.

    Args:
        needs: For each name the names it needs; needs that are no key are passed over.

    Raises:
        CycleError: If the needs form a circle.

    Example:
        >>> order({"standupbot": ["core"], "core": [], "buildpilot": ["core"]})
        ['core', 'buildpilot', 'standupbot']
        >>> order({"a": ["b"], "b": ["a"]})
        Traceback (most recent call last):
        ...
        opal_registry.plan.CycleError: the sub-apps need each other in a circle: a -> b -> a
          mend:  let one of them do without the other: drop the requirement or the foreign key that closes the circle
    """
    waits = {name: {need for need in wanted if need in needs and need != name} for name, wanted in needs.items()}
    ready = [name for name, wanted in waits.items() if not wanted]
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        done = heapq.heappop(ready)
        ordered.append(done)
        for name, wanted in waits.items():
            if done in wanted:
                wanted.remove(done)
                if not wanted:
                    heapq.heappush(ready, name)
    if len(ordered) < len(waits):
        raise CycleError(_circle({name: wanted for name, wanted in waits.items() if wanted}))
    return ordered


def _circle(waits: Mapping[str, set[str]]) -> list[str]:
    """One circle among names that all still wait: whoever follows the needs must come back to where they were."""
    path: list[str] = []
    name = min(waits)
    while name not in path:
        path.append(name)
        name = min(waits[name])
    return [*path[path.index(name) :], name]
