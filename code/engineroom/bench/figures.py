"""Figures beside their peers: values taken in turn, medians, and what the limit says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median, quantiles
from typing import TypeVar

from engineroom import terminal

Taken = TypeVar("Taken")


class Comparison(StrEnum):
    """How a value stands to its peer's. A ratio has to reach its limit, the others must not exceed it."""

    RATIO = "ratio"
    DIFFERENCE = "difference"
    ALONE = "alone"

    def of(self, ours: float, peer: float) -> float:
        """Compare one value with its peer's."""
        match self:
            case Comparison.RATIO:
                return ours / peer
            case Comparison.DIFFERENCE:
                return ours - peer
        return ours


@dataclass(frozen=True)
class Figure:
    """One row: values in `unit`, taken in pairs with those of `beside`; no limit where it is only to be known."""

    name: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    beside: str = ""
    comparison: Comparison = Comparison.ALONE
    limit: float | None = None

    @property
    def value(self) -> float:
        """The medians compared: that of our values with that of the peer's."""
        return self.comparison.of(median(self.ours), median(self.peer) if self.peer else 0.0)

    @property
    def middle_half(self) -> tuple[float, float]:
        """The quartiles of the pairs, each compared for itself: how far the machine's noise moves the value."""
        each = [self.comparison.of(*pair) for pair in zip(self.ours, self.peer or self.ours, strict=True)]
        if len(each) == 1:
            return each[0], each[0]
        low, _, high = quantiles(each, n=4, method="inclusive")
        return low, high

    @property
    def met(self) -> bool | None:
        """Whether the value keeps its limit; None without one."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.comparison is Comparison.RATIO else self.value <= self.limit

    @property
    def verdict(self) -> str:
        """The word for the table: met, over (more than the limit), or below (less than a ratio has to reach)."""
        if self.met is None:
            return ""
        return "met" if self.met else "below" if self.comparison is Comparison.RATIO else "over"


def interleaved(title: str, rounds: int, take: Mapping[str, Callable[[], Taken]]) -> dict[str, tuple[Taken, ...]]:
    """Take every value once a round, each second round backwards: what drifts on the machine meets all alike."""
    taken: dict[str, list[Taken]] = {name: [] for name in take}
    order = list(take)
    with terminal.progress(title, rounds * len(order)) as update:
        for number in range(rounds):
            for place, name in enumerate(order if number % 2 == 0 else reversed(order)):
                update(number * len(order) + place, f"{name}, round {number + 1} of {rounds}")
                taken[name].append(take[name]())
    return {name: tuple(values) for name, values in taken.items()}
