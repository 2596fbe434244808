"""What a person sees of `info` and `doctor`, and their exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engineroom import actions, detection, systems
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.steps import doctor as checking
from engineroom.steps import inventory
from engineroom.steps.doctor import look

# An engine of an overlay: it is found like ours, and wants a GPU.
GPU_ENGINE = """
from engineroom.engines import Engine
from engineroom.terms import Precision

class OnGpu(Engine):
    name = "on_gpu"
    native = False
    precisions = (Precision.FP32,)
    accelerator = "gpu"

ENGINE = OnGpu()
"""


def _act(name: str, *words: str) -> int:
    return actions.act("health", name, lambda: list(words))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """The machine is one without faults, and nothing is compiled."""
    monkeypatch.setattr(systems, "detect", lambda *arguments, **named: machine)
    monkeypatch.setattr(look, "compiled", lambda: checking.checks.Compiled("c++"))


# info


def test_info_is_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert _act("info") == 0
    assert "Toolchain" in capsys.readouterr().out
    assert _act("info", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"machine", "toolchain", "libraries", "packages", "benchmarks", "engines", "overlays"} <= found.keys()
    libraries = {item["name"]: item for item in found["libraries"]}
    assert libraries["LoadGen"]["version"].startswith("6.") and "native harness" in libraries
    for title, items in found.items():
        for item in items if isinstance(items, list) else ():
            assert item["name"] and None not in item.values(), title


@pytest.mark.parametrize("words", [("--diff", "{a}", "{b}"), ("--diff={a},{b}",), ("--json", "--diff", "{a}", "{b}")])
def test_two_runs_are_compared(
    words: tuple[str, ...], tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    record = inventory.environment(machine)
    for name, version in (("a", "3.11.7"), ("b", "3.12.1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "env.json").write_text(json.dumps({**record, "python": version}))
    assert _act("info", *(word.format(a=tmp_path / "a", b=tmp_path / "b") for word in words)) == 0
    out = capsys.readouterr().out
    assert "3.11.7" in out and "3.12.1" in out and "kernel" not in out
    if "--json" in words:
        found = json.loads(out)
        assert found["differences"] == {"engineroom": {"python": ["3.11.7", "3.12.1"]}} and found["equal"] is False


@pytest.mark.parametrize(
    "words", [("--diff",), ("--diff", "this"), ("--diff=",), ("--diff=a,b,c",), ("--diff", "--json")]
)
def test_a_comparison_needs_two(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert _act("info", *words) == 2
    err = capsys.readouterr().err
    assert "--diff: compares two" in err or "--diff: needs a value: --diff=A,B" in err


def test_a_third_name_and_an_unknown_flag_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert _act("info", "--diff", "this", "this", "that", "--jsn") == 2
    err = capsys.readouterr().err
    assert "'that' is no flag" in err and "did you mean --json?" in err


def test_systems_in_disorder_do_not_keep_from_seeing_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tie(*arguments: object, **named: object) -> Machine:
        raise RequestError("this machine matches a and b equally well", where="systems")

    monkeypatch.setattr(systems, "detect", tie)
    assert _act("info") == 0
    out, err = capsys.readouterr()
    assert "warning: systems: this machine matches a and b" in err
    assert detection.detect().cpu.model in out


# doctor


def test_a_machine_without_faults_is_good(quiet: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert _act("doctor", "--json") == 0
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert found["compiler"] == {
        "name": "compiler",
        "state": "good",
        "found": "c++ compiles and links C++20",
        "remedy": "",
    }
    assert found["request"]["state"] == found["benchmarks"]["state"] == found["engines"]["state"] == "good"
    assert {"disk", "memory", "GPU", "MIG", "ports", "docker", "folders", "harness"} <= found.keys()


def test_what_is_missing_is_exit_code_2_and_the_rest_is_seen(
    quiet: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(look, "compiled", lambda: None)
    monkeypatch.setattr(look, "memory_now", lambda: 1 // 0)
    assert _act("doctor") == 2
    out = capsys.readouterr().out
    assert "no C++ compiler on PATH" in out and "sudo apt-get install g++" in out
    assert "this check itself failed: ZeroDivisionError" in out
    assert "model and data are here: digits" in out


def test_a_gpu_is_missing_only_if_an_engine_asked_for_needs_it(
    quiet: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "on_gpu.py").write_text(GPU_ENGINE)
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path))
    assert _act("doctor") == 0
    assert "nothing that was asked for needs one" in capsys.readouterr().out
    assert _act("doctor", "--engine=on_gpu", "--precision=fp32") == 2
    assert "on_gpu needs one" in capsys.readouterr().out


def test_an_overlay_that_is_gone_is_named_and_the_other_checks_are_made(
    quiet: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path / "gone"))
    assert _act("doctor") == 2
    out = capsys.readouterr().out
    assert "unset ENGINEROOM_PATH" in out and "compiles and links" in out


def test_a_disk_that_is_too_small_is_found_by_what_the_plan_needs(
    quiet: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    assert _act("doctor", "--force", "--scenarios=Offline", "--json") == 2
    disk = next(check for check in json.loads(capsys.readouterr().out) if check["name"] == "disk")
    assert disk["state"] == "missing" and "needed, 10 bytes free" in disk["found"]


def test_a_mistake_in_the_request_is_told_as_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert _act("doctor", "--benchmarks=digit") == 2
    err = capsys.readouterr().err
    assert "unknown benchmark 'digit'" in err and "did you mean digits?" in err


def test_help_lists_the_flags_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert _act("doctor", "--help") == 0
    out = capsys.readouterr().out
    assert "--benchmarks" in out and "--engine" in out
    assert _act("info", "--help") == 0
    assert "--diff=A,B" in capsys.readouterr().out
