"""A calibration is made once, and says by itself how it was done, well enough to be done again."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engineroom import qdq, run_args, versions
from engineroom.artifacts import Artifact, State
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL, MODEL_SHA256, Digits
from engineroom.calibrators import Settings
from engineroom.calibrators.onnxruntime import CALIBRATOR
from engineroom.errors import RequestError
from engineroom.paths import DATA_MAPS
from engineroom.steps import calibrate as step
from engineroom.steps import fetch, preprocess
from engineroom.terms import Observer


@pytest.fixture(autouse=True)
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the tests make out of build/."""
    monkeypatch.setattr(step, "CALIBRATION", tmp_path / "calibration")
    monkeypatch.setattr(preprocess, "PREPROCESSED_DATA", tmp_path / "samples")


@pytest.fixture(name="samples")
def samples_fixture() -> Artifact:
    """The preprocessed calibration samples."""
    return preprocess.preprocess(BENCHMARK, Part.CALIBRATION, fetch.check_data(BENCHMARK), cores=1)


def calibrated(samples: Artifact, settings: Settings = Settings(), **switches: bool) -> Artifact:  # noqa: B008
    """Return the calibration of the digits."""
    return step.calibrate(BENCHMARK, "onnxruntime", MODEL_SHA256, samples, settings, **switches)


def test_whatever_changes_the_outcome_makes_another_calibration(samples: Artifact) -> None:
    every = [
        Settings(),
        Settings(Observer.ENTROPY),
        Settings(Observer.PERCENTILE, 99.9),
        Settings(Observer.PERCENTILE, 99.99),
        Settings(float_layers=("logits",)),
    ]
    assert len({calibrated(samples, settings, plan=True).key for settings in every}) == len(every)
    assert calibrated(samples).state is State.MADE
    assert calibrated(samples).state is State.REUSED
    ignored = Settings(percentile=99.9)  # which the observer minmax does not look at
    assert calibrated(samples, ignored).state is State.REUSED
    assert calibrated(samples, every[1], plan=True).why == "observer: minmax -> entropy"


def test_the_account_tells_what_was_done(samples: Artifact) -> None:
    made = calibrated(samples, Settings(Observer.PERCENTILE, 99.9, ("wid*", "logits")))
    text = made.file(step.ACCOUNT).read_text(encoding="utf-8")
    sha256 = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (MODEL, made.file(step.MODEL))}
    list_sha256 = hashlib.sha256((DATA_MAPS / "digits" / "cal_map.txt").read_bytes()).hexdigest()
    for said in (
        f"`code/models/digits/digits.onnx`, SHA-256 `{sha256[MODEL]}`",
        f"SHA-256 `{sha256[made.file(step.MODEL)]}`",
        "Samples: 200, of the data set digits",
        f"`data_maps/digits/cal_map.txt`, SHA-256 `{list_sha256}`",
        f"`onnxruntime`: onnxruntime {__import__('onnxruntime').__version__}, onnx {onnx.__version__}",
        "99.9% of the magnitudes",
        "Layers in int8: 4 of 6: stem_sum, left_sum, right, hidden_sum\n",
        "Layers in float: widen_sum, logits (asked for: wid* logits)",
    ):
        assert said in text
    assert "{" not in text and "\n\n\n" not in text


def test_the_account_names_the_build_of_onnx_runtime_that_is_here(
    samples: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"onnxruntime-gpu": "1.31.1", "onnx": "1.23.2"}
    monkeypatch.setattr(versions, "of_distribution", lambda name: here.get(name, versions.NOT_INSTALLED))
    text = calibrated(samples).file(step.ACCOUNT).read_text(encoding="utf-8")
    assert "the calibrator `onnxruntime`: onnxruntime-gpu 1.31.1, onnx 1.23.2." in text


def test_the_account_names_every_file_of_the_model(samples: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    model = onnx.load(MODEL)
    onnx.save(model, folder / "own.onnx", save_as_external_data=True, location="own.weights", size_threshold=0)
    own = Digits()
    own.model_file = lambda: (folder / "own.onnx", "of both")  # type: ignore[method-assign]
    made = step.calibrate(own, "onnxruntime", "of both", samples)
    text = made.file(step.ACCOUNT).read_text(encoding="utf-8")
    for said, name in (("Float model", "own.onnx"), ("Its weights", "own.weights")):
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert f"- {said}: `{folder / name}`, SHA-256 `{sha256}`\n" in text
    assert "of both" not in text
    assert made.file(step.RANGES).read_bytes() == calibrated(samples).file(step.RANGES).read_bytes()


def test_the_table_of_ranges_is_that_of_the_file(samples: Artifact) -> None:
    made = calibrated(samples)
    rows = [line.strip("| ").split(" | ") for line in made.file(step.ACCOUNT).read_text().splitlines() if "| `" in line]
    model = onnx.load(made.file(step.MODEL))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = {node.input[0]: constants[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    ranges = json.loads(made.file(step.RANGES).read_text())
    assert {name.strip("`") for name, *_ in rows} == scales.keys()
    for name, low, high, scale in rows:
        bare = name.strip("`")
        assert float(scale) == pytest.approx(float(scales[bare]), rel=1e-5)
        assert [float(low), float(high)] == pytest.approx(ranges[bare], rel=1e-5)
        assert float(scale) == pytest.approx(np.abs(ranges[bare]).max() / 127, rel=1e-5)  # the formula it states


def test_the_command_asks_for_the_same_again(samples: Artifact) -> None:
    settings = Settings(Observer.PERCENTILE, 99.95, ("wid*", "logits"))
    made = calibrated(samples, settings)
    command = made.facts["command"]
    assert f"    {command}\n" in made.file(step.ACCOUNT).read_text(encoding="utf-8")
    make, target, assigned = shlex.split(command)
    assert (make, target) == ("make", "calibrate")
    request = run_args.parse(run_args.split(assigned.removeprefix("RUN_ARGS=")))
    assert request.benchmarks == ("digits",)
    assert request.overrides == {
        "dataset": "digits",
        "weights": "reference",
        "calibrator": "onnxruntime",
        "calibration_list": "1",
        "observer": "percentile",
        "observer_percentile": "99.95",
        "float_layers": "wid*,logits",
    }


def test_which_of_two_lists_was_used_is_told(samples: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists are ImageNet's; the samples are the digits', for nobody may ship the images."""
    monkeypatch.setattr(type(BENCHMARK), "for_calibration", lambda self: self)
    monkeypatch.setattr(type(BENCHMARK), "dataset", "imagenet")
    keys = set()
    for number, part, file in (
        (1, Part.CALIBRATION, "cal_map.txt"),
        (2, Part.CALIBRATION_OPTION_2, "cal_map_option_2.txt"),
    ):
        listed = Artifact(
            samples.folder, {**samples.inputs, "part": part.value}, samples.files, samples.facts, State.MADE, ""
        )
        made = calibrated(listed)
        text = made.file(step.ACCOUNT).read_text(encoding="utf-8")
        assert f"`data_maps/imagenet/{file}`" in text and f"calibration list {number}" in text
        assert f"The list is MLPerf's, option {number}" in text
        assert f"--calibration_list={number}" in made.facts["command"]
        keys.add(made.key)
    assert len(keys) == 2


def test_a_calibrator_that_is_not_installed_says_how_it_is(samples: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CALIBRATOR, "modules", ("no_such_package",), raising=False)
    monkeypatch.setattr(CALIBRATOR, "extra", "modelopt", raising=False)
    with pytest.raises(RequestError, match="needs no_such_package, not installed here") as caught:
        calibrated(samples)
    assert caught.value.mend == 'make install RUN_ARGS="--extra=modelopt"'


def test_an_observer_that_a_calibrator_has_not_is_refused(samples: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CALIBRATOR, "observers", (Observer.MINMAX, Observer.ENTROPY), raising=False)
    with pytest.raises(RequestError, match="onnxruntime has no observer percentile") as caught:
        calibrated(samples, Settings(Observer.PERCENTILE), plan=True)
    assert caught.value.mend == "it has minmax, entropy"


def test_wrong_layer_names_are_all_told_and_nothing_is_left(samples: Artifact, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'hiden_sum'\n  did you mean hidden_sum\?\n.*'x\*'"):
        calibrated(samples, Settings(float_layers=("hiden_sum", "x*")))
    assert not list((tmp_path / "calibration").glob("*/*/*"))


def test_what_was_made_obeys_the_rules(samples: Artifact) -> None:
    assert qdq.violations(calibrated(samples).file(step.MODEL)) == []
