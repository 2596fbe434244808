"""The Makefile: its help, how it hands RUN_ARGS on, when it calls bootstrap, and what it says about a wrong target."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from engineroom import legacy

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    *("help", "info", "install", "wheelhouse", "shell", "clean", "clean_shallow"),
    *("test", "test_all", "test_gpu", "lint", "bench"),
    *("compare_engine", "verify_tensorrt", "builds"),
    *("build", "build_loadgen", "build_harness", "download_data", "download_model", "preprocess_data", "calibrate"),
    *("generate_engines", "run_harness", "run", "score", "config", "explain", "schemas", "import_nvidia_config"),
    *("submission", "stage_results", "truncate_results", "pack_submission", "export_submission"),
    *("check_submission", "summarize_results", "import_submission"),
    *("doctor", "add_system", "describe_system", "run_audit_harness", "run_audit_test01", "run_audit_test04"),
}

AWKWARD = [
    "--benchmarks=digits --scenarios=Offline,Server",
    "$HOME ${HOME} $(HOME) $$ $(shell touch pwned) $",
    "`touch pwned`; touch pwned & touch pwned | touch pwned",
    """'single' "double" \\ \\\\ back\\slash""",
    "first line\nsecond line\n",
    "# no comment, %, *, ?, ~, !, <, >, tab\t, ünïcödé",
    "",
]


def calls(checkout: Path) -> list[dict[str, Any]]:
    """Return what the recording `inv` wrote down."""
    record = checkout / "calls.jsonl"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def test_bare_make_prints_every_target_with_a_description_and_builds_nothing(checkout: Path, make: Any) -> None:
    done = make(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    described = dict(re.findall(r"^  (\w+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert described.keys() == TARGETS
    assert not (checkout / "build").exists()


def test_every_target_has_a_task_of_its_name() -> None:
    tree = ast.parse((ROOT / "tasks.py").read_text(encoding="utf-8"))
    tasks = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    assert tasks == TARGETS - {"help"}


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize("way", ["argument", "environment"])
def test_run_args_arrive_untouched(ready_checkout: Path, make: Any, value: str, way: str) -> None:
    if way == "argument":
        done = make(ready_checkout, "info", f"RUN_ARGS={value}")
    else:
        done = make(ready_checkout, "info", RUN_ARGS=value)
    assert done.returncode == 0, done.stderr
    (call,) = calls(ready_checkout)
    assert call["argv"] == ["info"]
    assert call["environ"]["RUN_ARGS"] == value
    assert not list(ready_checkout.rglob("pwned"))


def test_nothing_of_the_callers_python_or_make_reaches_a_task(ready_checkout: Path, make: Any) -> None:
    make(ready_checkout, "-j4", "info", PYTHONPATH="/strange", PYTHONHOME="/strange", VIRTUAL_ENV="/strange")
    (call,) = calls(ready_checkout)
    leaked = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"} & call[
        "environ"
    ].keys()
    assert not leaked


def test_another_folder_is_reached_by_its_name(ready_checkout: Path, make: Any) -> None:
    done = make(ready_checkout.parent, "-C", ready_checkout.name, "info")
    assert done.returncode == 0, done.stderr
    assert len(calls(ready_checkout)) == 1


def test_a_makefile_used_from_elsewhere_says_how_to_use_it(checkout: Path, make: Any) -> None:
    done = make(checkout.parent, "-f", str(checkout / "Makefile"))
    assert done.returncode == 2
    assert "make -C FOLDER" in done.stderr


def test_several_targets_run_one_after_the_other_under_j(ready_checkout: Path, make: Any) -> None:
    done = make(ready_checkout, "-j4", "lint", "info", "bench", RECORDER_SLEEP_S="0.1")
    assert done.returncode == 0, done.stderr
    made = calls(ready_checkout)
    assert [call["argv"] for call in made] == [["lint"], ["info"], ["bench"]]
    assert all(before["end"] <= after["begin"] for before, after in zip(made, made[1:], strict=False))


def test_a_failing_task_fails_make_and_its_exit_code_is_named(ready_checkout: Path, make: Any) -> None:
    done = make(ready_checkout, "info", RECORDER_EXIT="3")
    assert done.returncode == 2
    assert "Error 3" in done.stderr


@pytest.mark.parametrize(("typed", "meant"), [("run_harnes", "run_harness"), ("run-harness", "run_harness")])
def test_an_unknown_target_names_the_nearest(checkout: Path, make: Any, typed: str, meant: str) -> None:
    done = make(checkout, typed)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[:3] == [f"error: make {typed}: unknown target", f"  did you mean {meant}?", "exit code 2"]
    assert "Traceback" not in done.stderr


def test_nvidias_targets_say_what_is_instead(checkout: Path, make: Any) -> None:
    for target, said in (("link_dirs", "nothing to link"), ("run_harness_power", "power runs")):
        done = make(checkout, target)
        lines = done.stderr.splitlines()
        assert (done.returncode, lines[0], lines[2]) == (
            2,
            f"error: make {target}: no target of Engineroom",
            "exit code 2",
        )
        assert said in lines[1]


@pytest.mark.parametrize("typed", ["RUN_ARG=--force", "BENCHMARKS=a b", "run_args=--force"])
def test_a_variable_that_means_nothing_is_refused(ready_checkout: Path, make: Any, typed: str) -> None:
    done = make(ready_checkout, "info", typed)
    assert done.returncode == 2
    name = typed.partition("=")[0]
    assert f'{name}= means nothing here; flags stand in RUN_ARGS: make TARGET RUN_ARGS="' in done.stderr
    assert calls(ready_checkout) == []


def test_no_target_is_both_ours_and_nvidias() -> None:
    assert not set(legacy.TARGETS) & set(TARGETS)


def test_an_unknown_target_like_no_other_lists_all_and_reaches_no_shell(checkout: Path, make: Any) -> None:
    done = make(checkout, "x'; touch pwned; '")
    assert done.returncode == 2
    assert all(target in done.stderr for target in TARGETS)
    assert not (checkout / "pwned").exists()


# When bootstrap runs: with PYTHON=false it fails, so a success shows that it was not called.


def test_a_ready_venv_starts_no_bootstrap(ready_checkout: Path, make: Any) -> None:
    assert make(ready_checkout, "info", "PYTHON=false").returncode == 0


@pytest.mark.parametrize("change", ["lock", "bootstrap", "moved", "copied", "python", "unfinished"])
def test_a_venv_that_does_not_fit_starts_bootstrap(ready_checkout: Path, make: Any, change: str) -> None:
    checkout, venv = ready_checkout, ready_checkout / "build" / "venv"
    if change in ("lock", "bootstrap"):
        name = "requirements/base.lock" if change == "lock" else "code/engineroom/bootstrap.py"
        os.utime(checkout / name, (time.time() + 60, time.time() + 60))
    elif change == "moved":
        checkout = checkout.rename(checkout.with_name("moved"))
    elif change == "copied":
        checkout = Path(shutil.copytree(checkout, checkout.with_name("copied"), symlinks=True))
    elif change == "python":
        (venv / "bin" / "python").unlink()
        (venv / "bin" / "python").symlink_to("/nonexistent/python3.11")
    else:
        (venv / "ready").unlink()
    done = make(checkout, "info", "PYTHON=false")
    assert done.returncode == 2
    assert not calls(checkout)


def test_a_missing_python_is_named_with_what_mends_it(checkout: Path, make: Any) -> None:
    done = make(checkout, "info", "PYTHON=no-such-python")
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert said[0] == "error: no-such-python: not found"
    assert said[1].startswith("  install Python 3.11 or newer")
    assert said[2] == "exit code 2"


def test_the_ci_script_stops_at_the_first_failure(checkout: Path, tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "make").write_text('#!/bin/sh\necho "make $*; CI=$CI"\n[ "$1" != test ] || exit ${FAIL:-0}\n')
    (fake / "make").chmod(0o755)
    environ = {"PATH": f"{fake}:/usr/bin:/bin"}
    for extra, expected, code in (({}, ["test", "test_all"], 0), ({"FAIL": "2"}, ["test"], 2)):
        done = subprocess.run(
            [checkout / ".ci" / "run"], env={**environ, **extra}, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code
        assert [line for line in done.stdout.splitlines() if line.startswith("make ")] == [
            f"make {target}; CI=true" for target in expected
        ]
