"""Finds the highest rate at which a test is VALID."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt


def highest(valid: Callable[[float], bool], low: float, high: float, to: float) -> float | None:
    """Return the highest rate from `low` on that was found `valid`, or None if not even `low` is.

    Bisects in proportion below `high`, which is known not to be valid, until the rate is known to the factor `to` > 1.
    """
    if not valid(low):
        return None
    while high > low * to:
        middle = sqrt(low * high)
        if valid(middle):
            low = middle
        else:
            high = middle
    return low
