"""The exit code of a row of the table is that of its worst run."""

from __future__ import annotations

import msgspec
import pytest

from engineroom.actions import run
from engineroom.errors import ExitCode
from engineroom.runs import PerformanceResult, Result
from engineroom.steps.report import Row

PERFORMANCE = PerformanceResult(metric="m", unit="u", value=1.0, valid=True, min_duration_s=1.0, samples=1)
RESULT = Result(
    benchmark="digits",
    scenario="Offline",
    test_mode="PerformanceOnly",
    system="s",
    engine="openvino",
    precision="int8",
    exit_code=0,
    started="now",
    seconds=1.0,
    performance=PERFORMANCE,
)


@pytest.mark.parametrize(("codes", "code"), [((0, 0, 0), ExitCode.GOOD), ((1, 0, 0), ExitCode.INVALID)])
def test_one_bad_run_of_several_decides(codes: tuple[int, ...], code: ExitCode) -> None:
    row = Row("digits", "Offline", "openvino", "int8", accuracy=RESULT)
    for value, each in enumerate(codes):
        measured = msgspec.structs.replace(PERFORMANCE, value=float(value), valid=not each)
        row.repeat(msgspec.structs.replace(RESULT, exit_code=each, performance=measured))
    assert row.performance and row.performance.exit_code == 0  # the one in the middle
    assert run._exit_code(row) == code
    row.failure = "died"
    assert run._exit_code(row) == ExitCode.ENGINE
