"""`make score`: the same score from the log alone, or a clear word on why there is none. The run stays as it was."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engineroom import responses, runs
from engineroom.actions import score as action
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK
from engineroom.config import Origin, Resolved, RunConfig
from engineroom.datasets import Dataset
from engineroom.errors import EngineError, Mistakes, RequestError
from engineroom.runs import Result
from engineroom.steps import accuracy
from engineroom.terms import Precision, Scenario, TestMode

RIGHT = list(Dataset("digits").labels(Part.EVALUATION))


def _log(labels: list[int]) -> str:
    """Return LoadGen's log of answers that name these classes."""
    answers = [struct.pack("<10f", *(float(index == label) for index in range(10))).hex() for label in labels]
    return json.dumps([{"seq_id": i, "qsl_idx": i, "data": data} for i, data in enumerate(answers)])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Return the function that writes a finished accuracy run of the digits, with so many wrong answers."""

    def finished(wrong: int = 2, *, mode: TestMode = TestMode.ACCURACY_ONLY, **changes: Any) -> Path:
        config = RunConfig(
            benchmark="digits",
            system="s",
            scenario=Scenario.OFFLINE,
            test_mode=mode,
            engine="openvino",
            precision=Precision.INT8,
            dataset="digits",
            batch_size=1,
            instances=1,
            threads_per_instance=1,
        )
        folder = runs.open_folder(config, runs=tmp_path)
        runs.write_config(folder, Resolved(config, {name: Origin("x") for name in config.__struct_fields__}))
        (folder / responses.LOG).write_text(_log([(each + (place < wrong)) % 10 for place, each in enumerate(RIGHT)]))
        scored = accuracy.score(BENCHMARK, folder, RIGHT)
        checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.*")}
        result = Result(
            benchmark="digits",
            scenario="Offline",
            test_mode=mode,
            system="s",
            engine="openvino",
            precision="int8",
            exit_code=0,
            started="now",
            seconds=1.0,
            accuracy=msgspec.structs.replace(scored, **changes),
            checksums=checksums,
        )
        return runs.finish(folder, result)

    return finished


def _state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_score_is_the_same_and_nothing_of_the_run_changes(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(wrong=2)
    before = _state(folder)
    assert action.score([str(folder), "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["accuracy"]["good"], told["accuracy"]["value"], told["differs"]) == (498, 99.6, [])
    assert _state(folder) == before
    assert (folder / "rescored/accuracy.txt").read_bytes() == (folder / "accuracy.txt").read_bytes()
    assert (folder / "rescored/predictions.txt").read_bytes() == (folder / "predictions.txt").read_bytes()


def test_several_runs_share_a_table_and_one_below_its_target_is_no_good(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert action.score([str(run(0)), str(run(7))]) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("  the same")]
    assert ["100.000% (98.604%) met" in rows[0], "98.600% (98.604%) missed" in rows[1]] == [True, True]


def test_a_result_that_says_otherwise_is_told_and_stays_as_it_is(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(wrong=2, good=500, value=100.0)
    recorded = (folder / "result.json").read_bytes()
    assert action.score([str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"{folder}: value was 100.0, is 99.6\n{folder}: good was 500, is 498\n" in out
    assert (folder / "result.json").read_bytes() == recorded


@pytest.mark.parametrize("name", [responses.LOG, accuracy.LABELS])
@pytest.mark.parametrize("how", ["edited", "cut off", "gone"])
def test_a_log_or_labels_that_are_not_the_runs_are_refused(run: Callable[..., Path], name: str, how: str) -> None:
    folder = run()
    path = folder / name
    text = path.read_text()
    path.write_text(text[: len(text) // 2] if how == "cut off" else text.replace("3", "5", 1))
    if how == "gone":
        path.unlink()
    said = "is not there" if how == "gone" else "is not what the run wrote.*\n.*run the test again"
    with pytest.raises(Mistakes, match=f"{name}: {said}"):
        action.score([str(folder)])
    assert not (folder / "rescored").exists()


def test_a_run_that_did_not_finish_is_scored_if_its_log_is_whole(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run()
    (folder / "result.json").unlink()
    assert action.score([str(folder)]) == 0
    assert "nothing: the run did not finish" in capsys.readouterr().out
    (folder / responses.LOG).write_text(_log(RIGHT)[:-100])
    with pytest.raises(EngineError, match="is no complete accuracy log"):
        action.score([str(folder)])
    (folder / accuracy.LABELS).write_text("3\nx\n")
    with pytest.raises((RequestError, EngineError)):
        action.score([str(folder)])


def test_what_is_no_accuracy_run_is_refused_all_at_once(run: Callable[..., Path], tmp_path: Path) -> None:
    performance = run(mode=TestMode.PERFORMANCE_ONLY)
    with pytest.raises(Mistakes) as caught:
        action.score([str(performance), str(tmp_path / "nowhere")])
    said = str(caught.value)
    assert "is no accuracy run" in said and "nowhere/run_config.yaml: cannot be read" in said
    with pytest.raises(RequestError, match="no run is named"):
        action.score([])
