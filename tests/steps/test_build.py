"""An engine is built in a process of its own, once per content, and a failure is told in the library's words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engineroom.artifacts import Artifact, State
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.config import RunConfig
from engineroom.detection import Machine
from engineroom.engines.torch import ENGINE as TORCH
from engineroom.errors import EngineError, RequestError
from engineroom.paths import sha256_file
from engineroom.steps import build, recipes
from engineroom.terms import Precision, Scenario, TestMode

CONFIG = RunConfig(
    benchmark="digits",
    system="s",
    scenario=Scenario.OFFLINE,
    test_mode=TestMode.PERFORMANCE_ONLY,
    engine="fixed_delay",
    precision=Precision.FP32,
    batch_size=4,
    instances=1,
    threads_per_instance=1,
    fixed_delay_us=250,
)


@pytest.fixture(autouse=True)
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the tests make out of build/."""
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")
    return tmp_path / "engines"


def _config(**changes: Any) -> RunConfig:
    return msgspec.structs.replace(CONFIG, **changes)


def _built(machine: Machine, config: RunConfig = CONFIG, model: Path = MODEL) -> Artifact:
    sha256 = sha256_file(model)
    values = build.values_of(BENCHMARK, config, model, sha256)
    inputs = build.inputs_of(BENCHMARK, config, machine, sha256, "none", recipes.digest(build.RECIPE, "s"))
    return build.build(config, inputs, lambda: recipes.render(build.RECIPE, "s", values))


def test_an_engine_is_built_once_and_hands_over_its_options(machine: Machine) -> None:
    made, again = _built(machine), _built(machine)
    assert (made.reused, again.reused) == (False, True)
    assert build.options_of(again) == {"delay_us": "250"}
    assert json.loads(again.file(build.RECIPE).read_text())["batch_size"] == 4


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"config": _config(batch_size=8)}, "batch_size: 4 -> 8"),
        ({"config": _config(fixed_delay_us=9)}, "delay_us: 250 -> 9"),
        ({"model": MODEL.with_name("train.py")}, "model: [0-9a-f]{12} -> [0-9a-f]{12}"),
        ({"cpu": "Another CPU"}, "CPU: Test CPU avx2 -> Another CPU avx2"),
    ],
)
def test_what_an_engine_depends_on_makes_a_new_one(machine: Machine, change: dict[str, Any], why: str) -> None:
    first = _built(machine)
    other = replace(machine, cpu=replace(machine.cpu, model=change.pop("cpu", machine.cpu.model)))
    made = _built(other, **change)
    assert not made.reused
    assert re.fullmatch(why, made.why)
    assert made.key != first.key


def test_our_own_files_that_an_engine_names_belong_to_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "exporter.py"
    source.write_text("one way\n")
    monkeypatch.setattr("engineroom.engines.fixed_delay.ENGINE.sources", (source,), raising=True)
    first = _built(machine)
    assert _built(machine).reused
    source.write_text("another way\n")
    assert re.fullmatch("code: [0-9a-f]{12} -> [0-9a-f]{12}", _built(machine).why)
    assert first.key != _built(machine).key


def test_torch_is_keyed_by_what_turns_onnx_into_its_programs() -> None:
    assert {path.name for path in TORCH.sources} == {"from_onnx.py", "qdq.py"}


def test_what_it_does_not_depend_on_does_not(machine: Machine) -> None:
    _built(machine)
    assert _built(replace(machine, memory_bytes=1), _config(min_duration=9, test_mode=TestMode.ACCURACY_ONLY)).reused


def test_a_file_among_the_options_is_named_by_its_full_path(machine: Machine) -> None:
    made = _built(machine, _config(engine="openvino"))
    blob = Path(build.options_of(made)["blob"])
    assert blob.is_absolute()
    assert blob.parent == made.folder
    assert blob.stat().st_size == made.files["model.blob"]["bytes"] > 0


def test_a_corrupt_model_is_told_in_one_line(machine: Machine, tmp_path: Path, engines: Path) -> None:
    model = tmp_path / "corrupt.onnx"
    model.write_bytes(MODEL.read_bytes()[:1000])
    with pytest.raises(EngineError) as caught:
        _built(machine, _config(engine="openvino"), model)
    assert str(caught.value).startswith(f"{model}: OpenVINO cannot read this model: ")
    assert "\n" not in caught.value.what
    assert not list(engines.rglob("manifest.json"))


def _child(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a script stand for the process that builds."""
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\nimport json, time\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", r"was ended by SIGKILL; out of memory\?"),
        ("raise ValueError('no such kernel')", "ended with status 1: ValueError: no such kernel"),
        ("print(42)", "ended with status 0: it said nothing"),
        ("print('[]')", "ended with status 0: it said nothing"),
    ],
)
def test_a_build_that_dies_is_told(
    machine: Machine, tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    _child(tmp_path, monkeypatch, script)
    with pytest.raises(EngineError, match=f"building the fixed_delay engine of digits Offline in fp32 {said}"):
        _built(machine)
    assert not list(engines.rglob("manifest.json"))


def test_a_build_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "STOP_S", 0)
    _child(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(EngineError, match=r"took longer than 0\.5 s and was ended\n.*--engine_build_limit_s"):
        build._make("the engine", "{}", tmp_path, 0.5)


def test_a_build_has_time_to_stop_by_itself_before_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "STOP_S", 60)
    _child(tmp_path, monkeypatch, "time.sleep(1)\nopen('stored', 'w')\nprint('{\"stopped\": true}')\nexit(3)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match=r"took longer than 0\.5 s and was ended"):
        build._make("the engine", "{}", tmp_path, 0.5)
    assert (tmp_path / "stored").exists()


def test_progress_and_lines_reach_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"progress": [0.5, "Timing 1 of 2"]}, {"say": "by hand: trtexec"}, {"options": {"plan": "./model.plan"}}]
    _child(tmp_path, monkeypatch, "".join(f"print({json.dumps(line)!r}, flush=True)\n" for line in lines))
    assert build._make("the engine", "{}", tmp_path, 30) == {"options": {"plan": "./model.plan"}}
    assert "by hand: trtexec\n" in capsys.readouterr().err


def test_an_interrupted_build_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(tmp_path, monkeypatch, 'print(\'{"say": "x"}\', flush=True)\ntime.sleep(60)')
    started: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def popen(*args: Any, **kwargs: Any) -> Any:
        started.append(real(*args, **kwargs))
        return started[-1]

    def interrupt(text: str) -> None:
        if text == "x":
            raise KeyboardInterrupt

    monkeypatch.setattr(build.subprocess, "Popen", popen)
    monkeypatch.setattr(build.terminal, "say", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build._make("the engine", "{}", tmp_path, 30)
    assert [process.poll() is not None for process in started] == [True]


def test_an_engine_whose_library_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engineroom.engines.onnxruntime.ENGINE.modules", ("no_such_library",), raising=True)
    with pytest.raises(RequestError, match=r"the engine onnxruntime needs no_such_library, .*\n.*--engine=onnxruntime"):
        build.engine_of(_config(engine="onnxruntime"))


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(RequestError, match=r"engine: unknown engine 'openvin'\n  did you mean openvino\?"):
        build.engine_of(_config(engine="openvin"))


def test_a_model_that_changed_since_the_recipe_was_written_is_refused(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(MODEL.read_bytes())
    values = {"model": str(model), "model_sha256": sha256_file(model), "engine": "null", "precision": "fp32"}
    recipe = json.dumps({**values, "batch_size": 1, "inputs": [], "outputs": [], "settings": {}})
    model.write_bytes(b"another model")
    with pytest.raises(EngineError, match=r"model\.onnx: the model's SHA-256 is \w{64}, the recipe wants \w{64}"):
        build.build(CONFIG, {"model": "x"}, lambda: recipe)


def test_an_engines_score_is_remembered_with_it_for_these_samples_and_this_target(machine: Machine) -> None:
    engine = _built(machine)
    assert build.known_accuracy(engine, "samples", "", 98.0) is None
    for value, met in ((98.0, True), (97.9, False)):
        build.remember_accuracy(engine, build.AccuracyRecord("samples", "", 98.0, value, "a run"))
        assert build.known_accuracy(_built(machine), "samples", "", 98.0) is met
        assert build.known_accuracy(engine, "other samples", "", 98.0) is None
        assert build.known_accuracy(engine, "samples", "the answers of a float model", 98.0) is None
        assert build.known_accuracy(engine, "samples", "", 99.0) is None
    planned = replace(engine, state=State.TO_MAKE)
    assert build.known_accuracy(planned, "samples", "", 98.0) is None  # it will be another engine
    for damaged in ("", "[]", "{}", "3"):
        engine.file(build.ACCURACY).write_text(damaged)
        assert build.known_accuracy(engine, "samples", "", 98.0) is None
