"""Observers choose ranges: everything, most of the magnitudes, or what loses the least information."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engineroom.calibrators._observers import BINS, Observed
from engineroom.terms import Observer

Floats = npt.NDArray[np.float32]


def chosen(observer: Observer, *batches: Floats, percentile: float = 99.9) -> tuple[float, float]:
    """Return the range that an observer chooses for values that come in batches."""
    observed = Observed(observer)
    for batch in batches:
        observed.add(batch)
    return observed.range(percentile)


@pytest.fixture
def values() -> Floats:
    """100,000 normal values, and one far away."""
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    values[500] = 40.0
    return values


def test_minmax_covers_everything(values: Floats) -> None:
    assert chosen(Observer.MINMAX, values[:50_000], values[50_000:]) == (values.min(), 40.0)


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_is_that_of_the_magnitudes(values: Floats, percentile: float) -> None:
    low, high = chosen(Observer.PERCENTILE, *np.split(values, 10), percentile=percentile)
    wanted = np.percentile(np.abs(values), percentile)
    assert high == pytest.approx(wanted, abs=2 * 64 / BINS) and low == -high


def quantization_error(values: Floats, most: float) -> float:
    """Return the mean absolute error of int8 with this range."""
    step = most / 127
    return float(np.abs((values / step).round().clip(-127, 127) * step - values).mean())


def test_entropy_clips_the_outlier_and_loses_less(values: Floats) -> None:
    low, high = chosen(Observer.ENTROPY, values)
    assert 2.5 < high < 15
    assert quantization_error(values, high) < quantization_error(values, 40.0) / 2


def test_entropy_keeps_all_of_evenly_spread_values() -> None:
    values = np.linspace(-3, 5, 100_001, dtype=np.float32)
    assert chosen(Observer.ENTROPY, values) == pytest.approx((-3, 5), rel=0.03)


@pytest.mark.parametrize("observer", Observer)
def test_a_rectified_tensor_has_no_range_below_zero(observer: Observer, values: Floats) -> None:
    low, high = chosen(observer, np.maximum(values, 0))
    assert low == 0 and high > 2


@pytest.mark.parametrize("observer", [Observer.PERCENTILE, Observer.ENTROPY])
def test_ranges_do_not_depend_on_the_order_of_small_and_large_batches(observer: Observer, values: Floats) -> None:
    batches = [values * scale for scale in (0.01, 1, 0.3)]
    ranges = [chosen(observer, *order, percentile=99.99) for order in (batches, batches[::-1])]
    assert ranges[0] == pytest.approx(ranges[1], rel=0.2)


@pytest.mark.parametrize("observer", Observer)
def test_nothing_but_zeros_is_a_range_too(observer: Observer) -> None:
    zeros = np.zeros(10, np.float32)
    assert chosen(observer, zeros) == (0, 0)
    assert chosen(observer, zeros, zeros + 1, percentile=100)[1] == pytest.approx(1)


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_values_that_are_no_numbers_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="infinite or not a number"):
        Observed(Observer.MINMAX).add(np.array([1, wrong], np.float32))
