"""A row of the table: its exit code is that of its worst run, and what fails in it ends no other row."""

from __future__ import annotations

from typing import Any

import examples
import msgspec
import pytest

from engineroom.actions import mishaps, run
from engineroom.errors import EngineError, ExitCode, RequestError
from engineroom.runs import PerformanceResult
from engineroom.steps.report import Row
from engineroom.terms import Scenario

PERFORMANCE = PerformanceResult(metric="m", unit="u", value=1.0, valid=True, min_duration_s=1.0, samples=1)
RESULT = examples.result(performance=PERFORMANCE)


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


def failed(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Row:
    """Return a row whose performance test was finished before `error` came."""
    row = Row("digits", "Offline", "openvino", "int8", performance=RESULT)

    def measure(*_: Any) -> None:
        raise error

    monkeypatch.setattr(run, "_measure_row", measure)
    any_work: Any = None
    run._run_scenario(any_work, Scenario.OFFLINE, row)
    return row


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EngineError("died", mend="log: x"), ExitCode.ENGINE, "died\n  log: x"),
        (
            RequestError("there is no space left to write this", where="y"),
            ExitCode.REQUEST,
            "y: there is no space left",
        ),
        (OSError(28, "No space left on device", "/x"), ExitCode.ENGINE, "No space left on device: '/x'"),
        (MemoryError("Unable to allocate 6.00 TiB"), ExitCode.ENGINE, "MemoryError: Unable to allocate 6.00 TiB"),
        (BrokenPipeError(32, "of a child"), ExitCode.ENGINE, "of a child"),
    ],
)
def test_whatever_fails_ends_its_row_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: ExitCode, said: str
) -> None:
    monkeypatch.delenv(mishaps.TRACEBACK, raising=False)
    row = failed(monkeypatch, error)
    assert said in str(row.failure) and row.performance is RESULT
    assert run._exit_code(row) == code
    err = capsys.readouterr().err
    assert err.startswith("digits Offline failed: ") and said in err and "Traceback" not in err


def test_an_interrupt_ends_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        failed(monkeypatch, KeyboardInterrupt())
