"""`make add_system` and `make describe_system`, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engineroom.paths import OVERLAYS
from engineroom.systems import description_fields

Done = subprocess.CompletedProcess[str]


@pytest.fixture(name="inv")
def inv_fixture(checkout: Path) -> Callable[..., Done]:
    """Return a function that runs a task in a copy of the checkout, and shows what it changed there."""

    def inv(task: str, run_args: str = "", **environ: str) -> Done:
        plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**plain, "PYTHONPATH": str(checkout / "code"), "PYTHONDONTWRITEBYTECODE": "1", **environ}
        return subprocess.run(
            [sys.executable, "-m", "invoke", task],
            cwd=checkout,
            env={**environment, "RUN_ARGS": run_args},
            capture_output=True,
            text=True,
        )

    return inv


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_a_system_is_added_and_nothing_else_is_written(inv: Callable[..., Done], checkout: Path) -> None:
    before = _files(checkout)
    done = inv("add_system", "--id=mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote systems/mine.yaml: this machine is now mine\n")
    assert _files(checkout) - before == {Path("systems/mine.yaml")}
    described = inv("describe_system")
    assert described.stdout.startswith("mine (systems/mine.yaml)\n")


def test_a_recognised_machine_is_not_added_again(inv: Callable[..., Done], checkout: Path) -> None:
    assert inv("add_system", "--id=mine").returncode == 0
    done = inv("add_system", "--id=yours")
    assert done.returncode == 2
    assert "error: systems/mine.yaml: this machine is recognised already, as mine" in done.stderr
    assert not (checkout / "systems/yours.yaml").exists()
    path = checkout / "systems/mine.yaml"
    path.write_text(path.read_text().replace("sockets: ", "sockets: 0..") + "  cooling: liquid  # since May\n")
    again = inv("add_system", "--id=mine --force --json")
    assert path.read_text().endswith("  cooling: liquid  # since May\n")
    assert "sockets: 0.." not in path.read_text().replace("#   sockets: 0..", "")
    assert json.loads(again.stdout) == {"system": "mine", "path": "systems/mine.yaml", "changed": True}


def test_the_description_is_json_on_request_and_in_a_file(inv: Callable[..., Done], checkout: Path) -> None:
    done = inv("describe_system", "--json --output='of mine.json'")
    assert (done.returncode, done.stderr) == (0, "wrote of mine.json\n")
    assert (checkout / "of mine.json").read_text() == done.stdout
    assert tuple(json.loads(done.stdout)) == description_fields()


def test_the_table_says_how_each_field_is_known_and_what_is_lacking(inv: Callable[..., Done], checkout: Path) -> None:
    overlay = checkout.parent / "overlay"
    for folder, cooling in ((checkout, "air"), (overlay, "liquid")):
        (folder / "systems").mkdir(parents=True, exist_ok=True)
        (folder / "systems" / "one.yaml").write_text(f"description:\n  cooling: {cooling}\n")
    done = inv("describe_system", "--system=One", **{OVERLAYS: str(overlay)})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"one ({overlay}/systems/one.yaml, which replaces systems/one.yaml)"
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert rows["cooling"].split()[:3] == ["cooling", "liquid", "asserted:"]
    assert "detected: /proc/cpuinfo" in rows["host_processors_per_node"]
    assert "unknown: required" in rows["submitter"]
    assert lines[-1].split()[:3] == ["submitter,", "division,", "system_type,"]


@pytest.mark.parametrize(
    ("task", "run_args", "said"),
    [
        ("describe_system", "--output=", "RUN_ARGS: --output"),
        ("describe_system", "--output=code", "RUN_ARGS: --output=code: is no name for a file"),
        ("describe_system", "--output=Makefile/x", "is in the way: it is no folder"),
        ("describe_system", "--engine=openvin", "unknown engine 'openvin'\n  did you mean openvino?"),
        ("describe_system", "--system=H200x9", "--system: unknown system 'H200x9'\n  did you mean H200x8?"),
        ("describe_system", "--sytem=H200x8", "unknown flag --sytem\n  did you mean --system?"),
        ("add_system", "--id='$(touch pwned)'", "--id: the name of a system is '$(touch pwned)', must be letters"),
        ("add_system", "--id", "needs a value"),
    ],
)
def test_what_cannot_be_done_is_one_message(
    inv: Callable[..., Done], checkout: Path, task: str, run_args: str, said: str
) -> None:
    before = _files(checkout)
    done = inv(task, run_args)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert _files(checkout) == before
