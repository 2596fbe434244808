"""`make calibrate --compare_observers`: what is compared, over how many samples, and the table of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engineroom import asking, registry
from engineroom.actions import observers as action
from engineroom.actions.work import Work
from engineroom.benchmarks.digits import Digits
from engineroom.calibrators.modelopt import CALIBRATOR as MODELOPT
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.run_args import Request, parse
from engineroom.steps import calibrate, observers, preprocess

KEPT = "calibration/digits/observers-digits-reference.json"


@pytest.fixture(autouse=True)
def only_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the tests make out of build/, and ModelOpt, which takes long, out of the comparison."""
    for module in (calibrate, observers):
        monkeypatch.setattr(module, "CALIBRATION", tmp_path / "calibration")
    for each in (asking, preprocess):
        monkeypatch.setattr(each, "PREPROCESSED_DATA", tmp_path / "samples")
    monkeypatch.setattr(MODELOPT, "modules", ("no_such_package",), raising=False)


def compared(machine: Machine, *words: str) -> int:
    """Compare the observers of the digits."""
    request = parse(words, extras=action.FLAGS)
    return action.compare(request, [Work(registry.get("benchmarks", "digits").load().BENCHMARK, request, machine)])


@pytest.mark.parametrize(
    ("words", "limit"),
    [(["--compare_observers"], "all"), (["--compare_observers", "--json"], "all"), (["--compare_observers=70"], "70")],
)
def test_the_flag_may_stand_alone(words: list[str], limit: str) -> None:
    assert parse(words, extras=action.FLAGS).extras["compare_observers"] == limit


@pytest.mark.parametrize("wrong", ["0", "-3", "some", "1.5", "²"])
def test_a_number_that_is_none_is_refused(machine: Machine, wrong: str) -> None:
    with pytest.raises(RequestError, match="must be a whole number from 1 to"):
        compared(machine, f"--compare_observers={wrong}")


def test_every_observer_has_a_row_beside_the_float_model(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(machine, "--compare_observers=100") == 0
    said = capsys.readouterr()
    rows = [line.split()[:2] for line in said.out.splitlines() if "%" in line]
    assert rows[1:] == [["onnxruntime", "minmax"], ["onnxruntime", "entropy"], ["onnxruntime", "percentile"]]
    assert rows[0][0] == "float" and "100 samples" in said.out
    assert 'not compared: the calibrator modelopt (make install RUN_ARGS="--extra=modelopt")' in said.err


@pytest.mark.parametrize(
    ("judged_by_float", "scores"), [(False, "accuracy lost agrees with fp32"), (True, "agrees with fp32 lost")]
)
def test_where_labels_mean_nothing_the_table_has_an_agreement_and_no_accuracy(
    machine: Machine,
    judged_by_float: bool,
    scores: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Digits, "judged_by_float", judged_by_float)
    assert compared(machine, "--compare_observers=30", "--calibrator=onnxruntime") == 0
    [head] = [line.split() for line in capsys.readouterr().out.splitlines() if "observer " in line]
    assert " ".join(head) == f"calibrator observer {scores} calibrated in"


def test_json_is_what_is_kept(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(machine, "--compare_observers=50", "--json", "--calibrator=onnxruntime") == 0
    [printed] = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / KEPT).read_text())
    assert printed["samples"] == 50 and len(printed["rows"]) == 3


def test_a_plan_makes_nothing(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request: Request = parse(["--compare_observers", "--plan"], extras=action.FLAGS)
    work = Work(registry.get("benchmarks", "digits").load().BENCHMARK, request, machine)
    assert action.compare(request, [work]) == 0
    assert [need.kind.value for need in work.needs.values()].count("calibration") == 3
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
