"""The verbs between a model with its data and an engine: what they do over several parts and benchmarks."""

from __future__ import annotations

import pytest

from engineroom.actions import engines
from engineroom.actions.work import Work
from engineroom.benchmarks import Part
from engineroom.errors import Mistakes, RequestError


def test_what_is_wrong_with_each_part_is_told_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(work: Work, part: Part) -> None:
        raise Mistakes([RequestError("is empty", where=f"{part}_{number}.JPEG") for number in (1, 2)])

    monkeypatch.setattr(Work, "part", bad)
    with pytest.raises(Mistakes) as caught:
        engines.preprocess_data(["--benchmarks=digits"])
    assert str(caught.value).splitlines() == [
        f"{part}_{number}.JPEG: is empty" for part in (Part.CALIBRATION, Part.EVALUATION) for number in (1, 2)
    ]
