"""Observers: what decides, from the values of a tensor, the range that int8 shall cover. Values beyond are clipped.

A histogram is of magnitudes, for quantization is symmetric. It has a fixed number of bins, whose width doubles as
larger values come: memory stays the same however many samples there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engineroom.terms import Observer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]

BINS = 2048
LEVELS = 128  # magnitudes that int8 can tell apart
_CANDIDATE_STEP = 8  # bins between the thresholds that are tried: 0.4% of the range


class Observed:
    """What was seen of one tensor."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._low, self._high = float("inf"), float("-inf")
        self._counts: Counts | None = None
        self._width = 0.0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Take more values into account. Raises ValueError if one of them is no finite number."""
        import numpy as np

        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("a value is infinite or not a number")
        self._low, self._high = min(self._low, low), max(self._high, high)
        if self._observer is not Observer.MINMAX:
            self._count(np.abs(values).ravel(), max(-low, high))

    def range(self, percentile: float) -> tuple[float, float]:
        """Return the range to be covered; `percentile` counts for that observer only."""
        if self._counts is None or not self._width:
            return self._low, self._high
        bins = (
            _percentile(self._counts, percentile) if self._observer is Observer.PERCENTILE else _entropy(self._counts)
        )
        most = bins * self._width
        return max(self._low, -most), min(self._high, most)

    def _count(self, magnitudes: npt.NDArray[np.float32], most: float) -> None:
        import numpy as np

        if self._counts is None:
            self._counts = np.zeros(BINS, np.int64)
        if not self._width:
            self._counts[0] += 0 if most else magnitudes.size
            if not most:
                return
            self._width = most / BINS
        while most > BINS * self._width:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self._width *= 2
        bins = np.minimum((magnitudes * np.float32(1 / self._width)).astype(np.int32), BINS - 1)
        self._counts += np.bincount(bins, minlength=BINS)


def _percentile(counts: Counts, percentile: float) -> int:
    """Return how many bins hold so many percent of the values."""
    import numpy as np

    return int(np.searchsorted(counts.cumsum(), percentile / 100 * counts.sum())) + 1


def _entropy(counts: Counts) -> int:
    """Return how many bins to cover so that quantizing loses the least information.

    Migacz 2017, "8-bit Inference with TensorRT" (GTC S7310): the least Kullback-Leibler divergence between the values,
    those beyond the threshold counted to the last bin, and what is left of them in `LEVELS` steps. Zeros are left
    out: every threshold keeps them exactly, and after a rectifier they would hide the rest.
    """
    import numpy as np

    counts = counts.copy()
    counts[0] = 0
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else BINS
    tried = [*range(LEVELS, used, _CANDIDATE_STEP), used]
    divergences = [_divergence(counts, threshold) for threshold in tried]
    best: int = tried[int(np.argmin(divergences))]
    return best


def _divergence(counts: Counts, threshold: int) -> float:
    import numpy as np

    kept = counts[:threshold]
    clipped = kept.astype(np.float64)
    clipped[-1] += counts[threshold:].sum()
    steps = np.arange(threshold) * LEVELS // threshold
    occupied = kept > 0
    shared = np.bincount(steps, kept, LEVELS) / np.maximum(np.bincount(steps, occupied, LEVELS), 1)
    left = np.where(occupied, shared[steps], 0.0)
    if not left.any() or (clipped[-1] and not left[-1]):
        return float("inf")  # what is clipped falls where the quantized values have none
    return float((clipped[occupied] * np.log(clipped[occupied] / left[occupied])).sum() / clipped.sum()) - float(
        np.log(clipped.sum() / left.sum())
    )
