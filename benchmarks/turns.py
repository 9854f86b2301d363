"""Ways of doing the same: each works in turn, in short batches, so that what else the machine does falls on all alike."""

import statistics
from collections.abc import Callable

BATCH = 100
"""Transactions in one turn."""

Ways = dict[str, Callable[[], float]]
"""What runs one batch and says how many seconds it took, by its title."""


def compare(ways: Ways, rounds: int, *, to: str) -> dict[str, tuple[float, float]]:
    """Microseconds of one transaction, by way, and the median ratio to another way in the same round.

    Args:
        ways: All of them.
        rounds: How many batches each runs.
        to: The title of the other way.
    """
    for run in ways.values():
        run()  # modules are imported, the connection is made
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in list(ways)[:: 1 if number % 2 else -1]:
            found[way].append(ways[way]())
    return {way: (statistics.median(times) / BATCH * 1e6, _ratio(times, found[to])) for way, times in found.items()}


def _ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(times, others, strict=True))
