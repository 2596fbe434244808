"""Seeded weights: the same everywhere, of the variance asked for, and balanced."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from engineroom.networks.weights import draw


def test_the_bytes_are_the_recorded_ones() -> None:
    found = hashlib.sha256(draw(1, 2, (5, 3, 3, 3), 1.5).tobytes()).hexdigest()
    assert found == "9efd611229512ea6b951f74449ab06cdb668c996d6f19a536dabdf8b88562548"


def test_variance_and_balance() -> None:
    weights = draw(7, 0, (64, 32, 3, 3), 2.0)
    assert weights.var() == pytest.approx(4 / (32 * 9), rel=0.02)
    channels = weights.reshape(64, -1).astype(np.float64)
    assert np.abs(channels.sum(axis=1)).max() < 1e-5
    standard = np.sort(channels.ravel()) / channels.std()
    assert np.quantile(standard, [0.159, 0.841]) == pytest.approx([-1, 1], abs=0.03)  # a normal's one deviation


def test_layers_and_seeds_are_independent() -> None:
    one, layer, seed = (draw(*numbers, (16, 64), 1.0).ravel() for numbers in [(1, 0), (1, 1), (2, 0)])
    assert np.abs(np.corrcoef([one, layer, seed])[np.triu_indices(3, 1)]).max() < 0.1
