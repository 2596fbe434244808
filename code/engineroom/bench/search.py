"""Finds the highest rate at which a test is VALID."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt


def highest(valid: Callable[[float], bool], low: float, high: float, steps: int) -> float | None:
    """Return the highest rate from `low` to `high` that was found `valid`, or None if not even `low` is.

    Bisects in proportion: after `steps` of them the rate is known to a factor of (high / low) ** (1 / 2**steps).
    """
    if not valid(low):
        return None
    if valid(high):
        return high
    for _ in range(steps):
        middle = sqrt(low * high)
        if valid(middle):
            low = middle
        else:
            high = middle
    return low
