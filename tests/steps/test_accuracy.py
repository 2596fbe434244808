"""An accuracy run is scored from LoadGen's log alone, and a log that is not whole is no score."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK
from engineroom.datasets import Dataset
from engineroom.errors import EngineError
from engineroom.responses import LOG
from engineroom.steps.accuracy import score

LABELS = Dataset("digits").labels(Part.EVALUATION)


def _logits(digit: int) -> str:
    return struct.pack("<10f", *(float(index == digit) for index in range(10))).hex().upper()


def _lines(wrong: int = 0) -> list[dict[str, object]]:
    """Return what LoadGen writes when all but the first `wrong` samples are answered rightly."""
    return [
        {"seq_id": index, "qsl_idx": index, "data": _logits((label + 1) % 10 if index < wrong else label)}
        for index, label in enumerate(LABELS)
    ]


def _score(folder: Path, lines: object) -> tuple[int, float, bool]:
    (folder / LOG).write_text(lines if isinstance(lines, str) else json.dumps(lines))
    result = score(BENCHMARK, folder, LABELS)
    return result.good, result.value, result.met


@pytest.mark.parametrize(("wrong", "met"), [(0, True), (6, True), (7, False), (500, False)])
def test_right_answers_are_counted_against_the_target(tmp_path: Path, wrong: int, met: bool) -> None:
    """The target is 99 % of 99.6 %: 494 of 500 reach it, 493 do not."""
    good = len(LABELS) - wrong
    assert _score(tmp_path, _lines(wrong)) == (good, 100 * good / len(LABELS), met)


def test_accuracy_txt_is_worded_as_mlcommons_scorers_do(tmp_path: Path) -> None:
    _score(tmp_path, _lines(2))
    assert (tmp_path / "accuracy.txt").read_text() == "accuracy=99.600%, good=498, total=500\n"


def test_the_order_of_answers_and_padding_do_not_count(tmp_path: Path) -> None:
    lines = _lines(3)
    assert _score(tmp_path, [*reversed(lines), lines[0], lines[7]]) == _score(tmp_path, lines)


def test_a_run_without_a_log_has_no_score(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=rf"{LOG}: cannot be read: No such file"):
        score(BENCHMARK, tmp_path, LABELS)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", f"{LOG}: is no complete accuracy log: "),
        (json.dumps(_lines())[:-20], f"{LOG}: is no complete accuracy log: "),
        ([{"qsl_idx": 0}], f"{LOG}: is no complete accuracy log: .*data"),
        ([{"qsl_idx": "x", "data": ""}], f"{LOG}: is no complete accuracy log: "),
        ([{"qsl_idx": 0, "data": "XY"}], f"{LOG}: is no complete accuracy log: non-hexadecimal"),
        (_lines()[:-1], "1 of 500 samples were never answered, first sample 499"),
        ([], "500 of 500 samples were never answered"),
        ([*_lines(), {"qsl_idx": 0, "data": _logits((LABELS[0] + 1) % 10)}], "sample 0 was answered twice"),
        ([{"qsl_idx": 500, "data": _logits(0)}], "an answer for sample 500"),
        ([{"qsl_idx": 0, "data": "00"}], "the answer for sample 0 has 1 bytes"),
        ([{"qsl_idx": 0, "data": "FFFFFFFF" * 10}], "NaN or an infinity"),
    ],
)
def test_a_log_that_is_not_whole_is_no_score(tmp_path: Path, lines: object, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        _score(tmp_path, lines)
    assert not (tmp_path / "accuracy.txt").exists()


def test_answers_are_compared_with_golden_ones_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOG).write_text(json.dumps(_lines(3)))
    assert score(BENCHMARK, tmp_path, LABELS).golden is None
    golden = [*LABELS[:2], 9 - LABELS[2], *LABELS[3:]]
    monkeypatch.setattr(Dataset, "golden", lambda self, benchmark: golden if benchmark == "digits" else None)
    found = score(BENCHMARK, tmp_path, LABELS).golden
    assert found is not None
    assert (found.agree, found.total) == (497, 500)
    assert [(each.golden, each.ours) for each in found.differing] == [
        (label, (LABELS[index] + 1) % 10) for index, label in enumerate(golden[:3])
    ]
    assert (tmp_path / "predictions.txt").read_text().splitlines()[3:] == [str(label) for label in LABELS[3:]]
