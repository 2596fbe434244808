"""The final table and its JSON say what was measured, and every remark stands there once."""

from __future__ import annotations

import json
import math
import re
import sys

import examples
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.runs import AccuracyResult, Energy, PerformanceResult, Result, Submittable, TelemetrySummary
from engineroom.steps.report import Row, line, notes, print_json, print_table, significant
from engineroom.terms import METRICS, Scenario


def _result(**parts: object) -> Result:
    return examples.result(notes=("digits is a quick start.",), **parts)


def _performance(value: float = 48312.4, valid: bool = True, reasons: tuple[str, ...] = ()) -> Result:
    performance = PerformanceResult(
        metric="throughput",
        unit="samples/s",
        value=value,
        valid=valid,
        reasons=reasons,
        min_duration_s=3.0,
        samples=24576,
    )
    return _result(performance=performance)


def _accuracy(value: float = 99.4, met: bool = True) -> Result:
    accuracy = AccuracyResult(
        metric="top-1", unit="%", value=value, target=98.604, reference=99.6, good=497, total=500, met=met
    )
    return _result(accuracy=accuracy)


def _row(engine: str = "openvino", **parts: object) -> Row:
    return Row("digits", "Offline", engine, "int8", **parts)  # type: ignore[arg-type]


def _line(capsys: pytest.CaptureFixture[str], row: Row) -> list[str]:
    print_table([row])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("digits  "))
    return re.split(" {2,}", line)


def test_a_good_run_fills_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _line(capsys, _row(performance=_performance(), accuracy=_accuracy())) == [
        "digits",
        "Offline",
        "openvino int8",
        "throughput 48,312 samples/s",
        "VALID",
        "99.400% (98.604%) met",
    ]


def test_a_near_miss_is_seen_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """493 of 500 is 98.6 %, and the target 98.604 %: two digits would show 98.60% missing 98.60%."""
    cells = _line(capsys, _row(accuracy=_accuracy(98.6, met=False)))
    assert cells[3:] == ["-", "-", "98.600% (98.604%) missed"]


def test_an_engine_that_does_not_run_the_model_has_no_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert _line(capsys, _row("null", performance=_performance()))[2] == "null"
    result = msgspec.structs.replace(_performance(), engine="fixed_delay")
    assert line(result).startswith("digits Offline, fixed_delay: throughput 48,312 samples/s, VALID")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "fixed_delay"])
@pytest.mark.parametrize("scenario", Scenario)
def test_the_table_fits_80_columns_and_breaks_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str, scenario: Scenario
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    metric = METRICS[scenario]
    good = _performance(valid=False, reasons=("a reason of many words " * 9,)).performance
    assert good
    row = Row("digits", scenario, engine, "int8", accuracy=_accuracy(98.6, met=False))
    row.performance = _result(performance=msgspec.structs.replace(good, metric=metric.name, unit=metric.unit))
    print_table([row])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 80
    wanted = ["digits", scenario, engine, *metric.name.split(), "48,312", metric.unit, "INVALID", "98.600%"]
    wanted += ["(98.604%)", "missed", "reason"]
    assert not set(wanted) - set(out.split())


def test_invalid_and_failed_runs_are_not_taken_for_results(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = ("Min duration satisfied : NO",)
    assert _line(capsys, _row(performance=_performance(valid=False, reasons=reasons)))[4] == "INVALID"
    none = _performance(value=0.0, valid=False)  # as LoadGen's logs have it where early stopping has too few queries
    assert _line(capsys, _row(performance=none))[3] == "throughput too few queries"
    assert "throughput too few queries, INVALID" in line(none)
    assert _line(capsys, _row(failure="engine died"))[3:] == ["-", "FAILED", "-"]


def test_each_remark_stands_below_the_table_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        _row(performance=_performance(valid=False, reasons=("too short",)), accuracy=_accuracy()),
        _row(performance=_performance(valid=True, reasons=("a hint of LoadGen's",)), accuracy=_accuracy()),
        _row(failure="x: the engine died\n  log: y"),
    ]
    expected = [
        "digits Offline is INVALID: too short",
        "digits is a quick start.",
        "digits Offline FAILED: x: the engine died\n  log: y",
    ]
    assert notes(rows) == expected
    print_table(rows)
    assert capsys.readouterr().out.endswith("\n".join(expected) + "\n")


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([_row(performance=_performance(), accuracy=_accuracy()), _row(failure="died")])
    good, failed = json.loads(capsys.readouterr().out)
    assert good["performance"]["performance"]["value"] == 48312.4
    assert good["accuracy"]["accuracy"]["met"] is True
    assert (failed["failure"], failed["performance"]) == ("died", None)


def _repeated(*values: float, invalid: int = 0) -> Row:
    row = _row(accuracy=_accuracy())
    for place, value in enumerate(values):
        row.repeat(msgspec.structs.replace(_performance(value, valid=place >= invalid), run=f"run {place}"))
    return row


def test_several_runs_show_their_median_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    row = _repeated(49000.0, 47000.0, 48000.0)
    assert _line(capsys, row)[3:5] == ["throughput, median of 3: 48,000 samples/s (47,000 to 49,000)", "VALID"]
    print_json([row])
    (plain,) = json.loads(capsys.readouterr().out)
    assert plain["performance"]["run"] == "run 2"  # the one in the middle
    assert plain["repeats"] == {
        "count": 3,
        "valid": 3,
        "unit": "samples/s",
        "median": 48000.0,
        "min": 47000.0,
        "max": 49000.0,
        "spread_percent": 4.17,
        "runs": ["run 0", "run 1", "run 2"],
    }
    assert _repeated(48312.4).repeats is None
    assert _line(capsys, _repeated(48312.4))[3] == "throughput 48,312 samples/s"


def test_one_invalid_run_of_several_is_no_valid_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert _line(capsys, _repeated(1.0, 2.0, 3.0, invalid=1))[4] == "INVALID 1 of 3"


def test_what_cannot_be_submitted_and_who_disturbed_a_run_stand_below(capsys: pytest.CaptureFixture[str]) -> None:
    rules = Submittable(round="v6.1", reasons=("not submittable: 10 s of 600 s", "open only: x"))
    seen = TelemetrySummary(
        rows=9,
        host={},
        energy=Energy(joules=2.0, joules_per_sample=0.012345, counted=("processor packages by RAPL",)),
        disturbances=("other processes took 1.0 of 2 CPUs, up to 2.0",),
    )
    performance = msgspec.structs.replace(_performance(), rules=rules, telemetry=seen, notes=())
    accuracy = msgspec.structs.replace(
        _accuracy(), rules=Submittable(round="v6.1", reasons=("open only: x",)), notes=()
    )
    assert notes([_row(performance=performance, accuracy=accuracy)]) == [
        "digits Offline: not submittable: 10 s of 600 s; open only: x (rules of v6.1)",
        "digits Offline: 0.01235 J a sample (processor packages by RAPL; unofficial)",
        "Disturbed while measured, so perhaps slower than it could be: "
        "digits Offline (other processes took 1.0 of 2 CPUs, up to 2.0)",
    ]


def test_of_many_disturbed_results_the_worst_of_each_kind_is_told() -> None:
    """Four results with all their words are a wall of text that nobody reads."""

    def row(scenario: str, *words: str) -> Row:
        seen = TelemetrySummary(rows=9, host={}, disturbances=words)
        performance = msgspec.structs.replace(_performance(), telemetry=seen, notes=())
        return Row("digits", scenario, "openvino", "int8", performance=performance)

    rows = [
        row("SingleStream", "other processes took 1.0 of 2 CPUs, up to 2.0"),
        row("MultiStream", "other processes took 1.9 of 2 CPUs, up to 2.0", "heat slowed the processor down 9 times"),
        row("Server", "heat slowed the processor down 1,234 times"),
        row("Offline"),
    ]
    (told,) = notes(rows)
    assert told == (
        "Disturbed while measured, so perhaps slower than it could be: 3 of 4 results, at worst "
        "other processes took 1.9 of 2 CPUs, up to 2.0 (digits MultiStream); "
        "heat slowed the processor down 1,234 times (digits Server). Each result.json has its own"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.02134, "0.02134"),
        (0.111, "0.1110"),
        (0.99996, "1.000"),
        (1, "1.000"),
        (9.9996, "10.00"),
        (12.5, "12.50"),
        (999.96, "1,000"),
        (1234.4, "1,234"),
        (48310.2, "48,310"),
        (1234567.8, "1,234,568"),
        (-12.5, "-12.50"),
        (0.00001234, "1.234e-05"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_figures_have_four_significant_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


@given(st.floats(-1e300, 1e300))
def test_a_shown_figure_is_the_measured_one(value: float) -> None:
    assert math.isclose(float(significant(value).replace(",", "")), value, rel_tol=5.1e-4, abs_tol=1e-320)
