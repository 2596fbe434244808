"""What is written and not measured: descriptions of systems, README.md with its commands, what was done to a model."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desk import CLOSED, EDGE, MULTI, OFFLINE, SINGLE, WHO, all_scenarios, files, refused, staged, tree

from engineroom import rounds, run_args
from engineroom.actions import staging
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK as DIGITS
from engineroom.benchmarks.digits import MODEL_SHA256
from engineroom.benchmarks.resnet50 import BENCHMARK as RESNET50
from engineroom.calibrators import Settings
from engineroom.config.values import convert
from engineroom.errors import EngineroomError
from engineroom.paths import DATA_MAPS, ROOT
from engineroom.steps import calibrate, fetch, preprocess
from engineroom.steps.submission import documents, stage
from engineroom.steps.submission.layout import Place, Tree
from engineroom.terms import Observer, Precision, TestMode

if TYPE_CHECKING:
    from conftest import Runs


def test_a_system_that_is_staged_already_keeps_its_name(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    staged()
    shutil.copytree(tree(tmp_path) / "results/bench/resnet50", tree(tmp_path) / "results/bench/bert-99")
    path = tree(tmp_path) / "systems/bench.json"
    path.write_text(path.read_text().replace("Test CPU", "Another CPU"))
    assert "two systems bear the name bench: host_processor_model_name is 'Another CPU' there" in refused()


@pytest.mark.parametrize(
    "name", ["host_memory_capacity", "host_processor_core_count", "number_of_nodes", "accelerators_per_node"]
)
def test_another_machine_of_the_same_name_is_told_by_any_of_its_parts(tmp_path: Path, name: str) -> None:
    item, root, layout = another_benchmark(tmp_path, {name: "1"})
    with pytest.raises(EngineroomError, match=f"two systems bear the name bench: {name} is '1' there, '2' now"):
        stage._description(root, layout, replace(item, description=described({name: "2"})))


def test_a_systems_description_names_the_frameworks_of_all_its_results(tmp_path: Path) -> None:
    item, root, layout = another_benchmark(tmp_path, {"framework": "TensorRT 10, PyTorch 2"})
    now = replace(item, description=described({"framework": "PyTorch 2, OpenVINO 2026"}))
    assert json.loads(stage._description(root, layout, now))["framework"] == "TensorRT 10, PyTorch 2, OpenVINO 2026"
    with pytest.raises(EngineroomError, match="has results of the category edge there, now it is datacenter"):
        stage._description(root, layout, replace(item, description=described({"system_type": "datacenter"})))


def described(told: dict[str, str]) -> str:
    return json.dumps({**dict.fromkeys(stage.SAME_SYSTEM, "x"), "framework": "", "system_type": "edge", **told})


def another_benchmark(root: Path, told: dict[str, str]) -> tuple[stage.Item, Path, Tree]:
    """Return an item of a system that another benchmark has results of, with this description."""
    layout = Tree(rounds.read("v6.1").layout, "open", "Acme")
    (root / layout.results(Place("bench", "bert-99", "Offline"))).mkdir(parents=True)
    path = root / layout.system("bench")
    path.parent.mkdir(parents=True)
    path.write_text(described(told))
    return stage.Item("bench", RESNET50, {}, described({})), root, layout


def test_a_description_that_lacks_what_only_a_person_knows_is_refused(
    made: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engineroom.actions import staging

    all_scenarios(made)
    monkeypatch.setattr(staging.systems, "read_all", dict)
    said = refused()
    assert (
        "systems/bench.yaml: a submission needs these fields" in said
        and "cooling" in said
        and "make add_system" in said
    )


def test_whether_a_model_of_ones_own_was_retrained_is_never_guessed(made: Runs, tmp_path: Path) -> None:
    from engineroom.steps.submission import documents, entry

    own = RESNET50.variant("imagenet", RESNET50.weights)
    own.own_model = tmp_path / "mine.onnx"
    settings = entry.read_settings({"submitter": "Acme"}, tmp_path)
    with pytest.raises(EngineroomError, match="mine.onnx was trained further"):
        documents.retraining(own, entry.entry_of(settings, "v6.1", rehearsal=False))
    assert documents.retraining(own, entry.entry_of(settings, "v6.1", rehearsal=True)) == "unknown (rehearsal)"
    (tmp_path / "submission.yaml").write_text("submitter: Acme\nretraining: no\n")
    for flags, said in (({}, "no"), ({"retraining": "yes"}, "yes")):
        told = entry.entry_of(entry.read_settings(flags, tmp_path), "v6.1", rehearsal=False)
        assert documents.retraining(own, told) == said
        assert documents.retraining(RESNET50, told) == "no"


def typed(readme: str) -> list[tuple[list[str], run_args.Request]]:
    """Return the make targets of each command in a README.md, and what they are asked for, as the tasks parse it."""
    block = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert block
    words = [shlex.split(line) for line in block[1].splitlines() if line.startswith("make ")]
    targets = [[word for word in line[1:] if "=" not in word] for line in words]
    known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {target for line in targets for target in line} <= {*known}
    flags = [next(word.removeprefix("RUN_ARGS=") for word in line if word.startswith("RUN_ARGS=")) for line in words]
    return [(names, run_args.parse(run_args.split(text))) for names, text in zip(targets, flags, strict=True)]


def test_every_command_of_a_results_readme_is_one_that_can_be_typed(made: Runs, tmp_path: Path) -> None:
    known: dict[str, Any] = {
        "batch_size": 4,
        "cpus": (0, 1, 2),
        "pin_workers": True,
        "float_layers": ("stage 1.*", "fc"),
        "watchdog_s": 12.5,
    }
    for scenario in EDGE:
        made.audited(scenario, **known)
    staged(CLOSED)
    readme = (tree(tmp_path, division="closed") / "results/bench/resnet50/Offline/README.md").read_text()
    prepare, performance, accuracy, *audits = typed(readme)
    assert prepare[0] == ["download_model", "download_data"]
    assert [names for names, _ in (performance, accuracy, *audits)] == [
        ["run_harness"],
        ["run_harness"],
        ["run_audit_test01"],
        ["run_audit_test04"],
    ]
    for _, request in (performance, accuracy, *audits):
        assert (request.benchmarks, request.scenarios) == (("resnet50",), (OFFLINE,))
        for name, value in {**known, "dataset": "imagenet", "engine": "openvino", "precision": "fp32"}.items():
            assert convert(name, request.overrides[name], from_text=True) == value
    assert performance[1].test_modes == (TestMode.PERFORMANCE_ONLY,)
    assert all(request.test_modes == run_args.Request.test_modes for _, request in audits)  # an audit refuses any


def test_a_model_and_an_overlay_of_ones_own_can_be_put_back(
    made: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was scrubbed from a command is explained, and the overlay is published beside the code."""
    own = RESNET50.variant("imagenet", RESNET50.weights)
    own.own_model = Path("/home/jdoe/mine.onnx")
    monkeypatch.setattr(staging, "benchmark_of", lambda config: own)
    overlay = tmp_path / "jdoe-lab"
    for name in ("configs/bench/resnet50.yaml", "engines/mine.py", ".git/config"):
        (overlay / name).parent.mkdir(parents=True, exist_ok=True)
        (overlay / name).write_text("# by jdoe\n")
    for scenario in EDGE:
        made.pair(scenario, overlays=(overlay,), model_path="/home/jdoe/mine.onnx", divisions=("open",))
    assert "engines/mine.py:1: holds a user: jdoe" in refused(WHO, "--retraining=yes")
    (overlay / "engines/mine.py").write_text("# by me\n")
    for path in made.folder.iterdir():
        shutil.rmtree(path)
    for scenario in EDGE:
        made.pair(scenario, overlays=(overlay,), model_path="/home/jdoe/mine.onnx", divisions=("open",))
    staged(WHO, "--retraining=yes")
    place = tree(tmp_path) / "results/bench/resnet50/Offline"
    readme = (place / "README.md").read_text()
    prepare, performance, _ = typed(readme)
    assert prepare[0] == ["download_data"] and performance[1].overrides["model_path"] == "<path-1>"
    assert "put the path of your copy of it there" in readme
    assert "- `<path-1>`: a path on the machine that it ran on; put the path there" in readme
    (name,) = re.findall(r"^export ENGINEROOM_PATH=\.\./(overlay-\w+)$", readme, re.MULTILINE)
    published = tree(tmp_path) / "src" / name
    assert files(published) == {"configs/bench/resnet50.yaml": b"# by <user-1>\n", "engines/mine.py": b"# by me\n"}
    assert json.loads((place / "measurements.json").read_text())["retraining"] == "yes"
    (overlay / "engines/mine.py").write_text("changed\n")
    shutil.rmtree(published)
    assert "this overlay is no longer what the run used" in refused(WHO, "--retraining=yes")


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the key of a calibration of the digits, which lies where that of resnet50 would."""
    monkeypatch.setattr(calibrate, "CALIBRATION", tmp_path / "calibration")
    monkeypatch.setattr(preprocess, "PREPROCESSED_DATA", tmp_path / "samples")
    monkeypatch.setattr(documents, "CALIBRATION", tmp_path / "calibration")
    samples = preprocess.preprocess(DIGITS, Part.CALIBRATION, fetch.check_data(DIGITS), cores=1)
    settings = Settings(Observer.PERCENTILE, 99.9, ("wid*", "logits"))
    made = calibrate.calibrate(DIGITS, "onnxruntime", MODEL_SHA256, samples, settings)
    made.folder.parent.rename(tmp_path / "calibration/resnet50")
    return made.key


def test_calibration_md_says_how_an_int8_model_was_quantized(made: Runs, tmp_path: Path, calibrated: str) -> None:
    for scenario in (SINGLE, OFFLINE):
        made.pair(scenario, precision=Precision.INT8, made_from={"calibration": calibrated})
    made.pair(MULTI)  # in another precision: its part stands beside
    staged()
    folder = tree(tmp_path) / "documentation"
    assert "[bench-resnet50](bench-resnet50-calibration.md)" in (folder / "calibration.md").read_text()
    text = (folder / "bench-resnet50-calibration.md").read_text()
    assert text.startswith("# resnet50 on bench\n")
    sha256 = hashlib.sha256((DATA_MAPS / "digits/cal_map.txt").read_bytes()).hexdigest()
    for said in (
        f"- List: `data_maps/digits/cal_map.txt`, SHA-256 `{sha256}`",
        "- Samples: 200, of the data set digits; no others were seen",
        "- Observer: 99.9% of the magnitudes, the others are clipped (percentile)",
        "- Layers in int8: 4 of 6: stem_sum, left_sum, right, hidden_sum",
        "- Layers in float: widen_sum, logits (asked for: wid* logits)",
    ):
        assert text.count(said) == 1, said
    assert "SingleStream, Offline:\n\n# How digits.onnx of digits was quantized" in text, "told once"
    assert "MultiStream: the model ran in fp32; nothing was quantized or calibrated." in text
    measured = json.loads((tree(tmp_path) / "results/bench/resnet50/Offline/measurements.json").read_text())
    assert measured["weight_data_types"] == "int8"
    assert "documentation/calibration.md" in measured["weight_transformations"]


def test_a_calibration_whose_account_is_gone_is_refused(made: Runs, tmp_path: Path, calibrated: str) -> None:
    for scenario in EDGE:
        made.pair(scenario, precision=Precision.INT8, made_from={"calibration": calibrated})
    (tmp_path / "calibration/resnet50" / calibrated / "calibration.md").unlink()
    assert re.search(r"calibration.md: is gone: it says how the model of .* was quantized\n.*make calibrate", refused())
    assert not (tmp_path / "submission/v6.1").exists()
