"""Samples become memory-mappable arrays, once per content of everything they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engineroom.artifacts import Artifact
from engineroom.benchmarks import Part, Progress
from engineroom.benchmarks.digits import BENCHMARK, Digits
from engineroom.errors import EngineError, RequestError
from engineroom.steps import fetch
from engineroom.steps import preprocess as step

DATA = fetch.check_data(BENCHMARK)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the tests make out of build/."""
    monkeypatch.setattr(step, "PREPROCESSED_DATA", tmp_path)
    return tmp_path


def _made(part: Part = Part.EVALUATION, data: dict[Path, str] = DATA, **switches: bool) -> Artifact:
    return step.preprocess(BENCHMARK, part, data, **switches)


@pytest.mark.parametrize("part", [Part.CALIBRATION, Part.EVALUATION])
def test_a_part_becomes_one_array_per_input_that_can_be_mapped(part: Part) -> None:
    made = _made(part)
    (spec,) = BENCHMARK.inputs
    array = np.load(made.file("input.npy"), mmap_mode="r")
    assert array.shape == (BENCHMARK.sample_count(part), *spec.shape)
    assert array.dtype == np.dtype(spec.dtype)
    assert array.flags.c_contiguous
    assert np.array_equal(array, BENCHMARK.preprocess(part, lambda done, total: None)["input"])


def test_samples_are_made_once_and_again_when_the_data_changes() -> None:
    first, again = _made(), _made()
    assert (first.reused, again.reused, again.key) == (False, True, first.key)
    changed = _made(data=dict.fromkeys(DATA, "0" * 64))
    assert changed.key != first.key
    assert changed.why.startswith("data: ")


def test_parts_never_share_a_shelf(shelf: Path) -> None:
    assert _made(Part.CALIBRATION).folder.parent != _made(Part.EVALUATION).folder.parent


def test_nothing_is_made_where_that_was_forbidden(shelf: Path) -> None:
    with pytest.raises(RequestError, match=r"the preprocessed evaluation data of digits has to be made"):
        _made(may_make=False)
    assert not list(shelf.iterdir())


class Wrong(Digits):
    """A benchmark that does not keep what its facts promise."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._arrays = arrays

    def preprocess(self, part: Part, progress: Progress) -> dict[str, Any]:
        return self._arrays


COUNT = BENCHMARK.sample_count(Part.EVALUATION)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "benchmark digits: input input was not made"),
        ({"input": np.zeros((COUNT, 8, 8), "float32")}, r"came out as float32 \(500, 8, 8\), must be float32"),
        ({"input": np.zeros((COUNT, 1, 8, 8), "float64")}, r"came out as float64 .*, must be float32 \(500, 1, 8, 8\)"),
        ({"input": np.zeros((COUNT - 1, 1, 8, 8), "float32")}, r"came out as float32 \(499,"),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_refused(shelf: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        step.preprocess(Wrong(arrays), Part.EVALUATION, DATA)
    assert not list(shelf.rglob("*.npy"))
