"""In which order the sub-apps come, and the tables of each: the same everywhere, every time."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import PluginError, Problem
from opal_registry.ownership.references import find_target, iter_sources


class CycleError(PluginError):
    """Sub-apps that need each other in a circle.

    Attributes:
        path: The names around the circle; the first one comes again at the end.
    """

    def __init__(self, path: list[str]) -> None:
        mend = "let one of them do without the other: drop the requirement or the foreign key that closes the circle"
        super().__init__(Problem(f"the sub-apps need each other in a circle: {' -> '.join(path)}", mend=mend))
        self.path = tuple(path)


def order(needs: Mapping[str, Iterable[str]], key: Callable[[str], Any] = str) -> list[str]:
    """Sort names so that each comes after what it needs; among those that could come next, the first by key does.

    Args:
        needs: For each name the names it needs; needs that are no key are passed over.
        key: What names are compared by; the names themselves unless given.

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
    needed_by: dict[str, list[str]] = {}
    for name, wanted in waits.items():
        for need in wanted:
            needed_by.setdefault(need, []).append(name)
    ready = [(key(name), name) for name, wanted in waits.items() if not wanted]
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        ordered.append(done := heapq.heappop(ready)[1])
        for name in needed_by.get(done, ()):
            waits[name].remove(done)
            if not waits[name]:
                heapq.heappush(ready, (key(name), name))
    if len(ordered) < len(waits):
        raise CycleError(_circle({name: wanted for name, wanted in waits.items() if wanted}))
    return ordered


def closure(needs: Mapping[str, Sequence[str]], app: str) -> set[str]:
    """A sub-app and all that it needs; all if none is given."""
    if not app:
        return set(needs)
    found, waiting = set[str](), [app]
    while waiting:
        name = waiting.pop()
        if name in needs and name not in found:
            found.add(name)
            waiting += needs[name]
    return found


def _circle(waits: Mapping[str, set[str]]) -> list[str]:
    """One circle among names that all still wait: whoever follows the needs must come back to where they were."""
    path: list[str] = []
    name = min(waits)
    while name not in path:
        path.append(name)
        name = min(waits[name])
    return [*path[path.index(name) :], name]


def order_tables(
    tables: Sequence[sa.Table], twins: Mapping[sa.Table, sa.Table] | None = None
) -> tuple[tuple[sa.Table, ...], tuple[sa.ForeignKeyConstraint, ...]]:
    """Sort the tables of one sub-app, on however many ``MetaData``, so that each comes after what it needs.

    Args:
        tables: The tables and views.
        twins: Other definitions of some of these tables, each with the one that is among them.

    Returns:
        The tables, and the foreign keys that can only be added when all of them are there: those that say ``use_alter``,
        those between tables that refer to each other in a circle, and those of a table to itself whose columns only an
        index covers, which comes after the table.

    Example:
        >>> metadata = sa.MetaData()
        >>> notes = sa.Table("notes", metadata, sa.Column("task", sa.ForeignKey("tasks.id")))
        >>> tasks = sa.Table("tasks", metadata, sa.Column("id", sa.Integer, primary_key=True))
        >>> [table.name for table in order_tables([notes, tasks])[0]]
        ['tasks', 'notes']
    """
    waiting = sorted(tables, key=lambda table: table.key)
    needs = {table: _needs(table, twins or {}) for table in waiting}
    late = {key for table in waiting for key in table.foreign_key_constraints if key.use_alter or _awaits_index(key)}
    ordered: list[sa.Table] = []
    while waiting:
        left = set(waiting)
        ready = [table for table in waiting if left.isdisjoint(needs[table])]
        if not ready:
            late |= _cut_circles(left, needs)
        ordered += ready
        waiting = [table for table in waiting if table not in ready]
    return tuple(ordered), tuple(sorted(late, key=lambda key: (key.table.key, tuple(key.column_keys))))


def _awaits_index(key: sa.ForeignKeyConstraint) -> bool:
    """Whether a table refers to columns of its own that are unique by an index, and not by a part of the table itself."""
    table = key.table
    if any(find_target(element) is not table for element in key.elements):
        return False
    columns = {element.column for element in key.elements}
    unique = (item for item in table.constraints if isinstance(item, (sa.PrimaryKeyConstraint, sa.UniqueConstraint)))
    is_covered = any(columns == set(item.columns) for item in unique)
    return not is_covered and any(columns == set(index.columns) for index in table.indexes)


Needs = dict[sa.Table, list[sa.ForeignKeyConstraint]]
"""What a table must come after, and the foreign keys that say so; none where a view or its author does."""


def _needs(table: sa.Table, twins: Mapping[sa.Table, sa.Table]) -> Needs:
    needs: Needs = {twins.get(other, other): [] for other in (*iter_sources(table), *table._extra_dependencies)}
    for constraint in table.foreign_key_constraints:
        target = find_target(constraint.elements[0])
        if target is not None and not constraint.use_alter:
            needs.setdefault(twins.get(target, target), []).append(constraint)
    needs.pop(table, None)
    return needs


def _cut_circles(left: set[sa.Table], needs: Mapping[sa.Table, Needs]) -> set[sa.ForeignKeyConstraint]:
    """Let the tables that refer to each other in a circle do without each other, and return the foreign keys that they lack."""
    circle: set[sa.Table] = set()
    while circle != left:
        circle, left = left, {table for table in left if any(table in needs[other] for other in left)}
    return {key for table in circle for other in circle for key in needs[table].pop(other, ())}
