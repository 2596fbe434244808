"""Extras, cleaning up, the shell, and an installation from the wheelhouse alone."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engineroom.detection.machine import Container
from engineroom.errors import RequestError
from engineroom.steps import setup

NO_INDEX = "http://127.0.0.1:9/simple"  # the discard port: refused at once, as an index is that cannot be reached
RESULTS = ("build/runs/a-run", "build/submission")
DOWNLOADS = ("build/data", "build/models", "build/loadgen", "build/wheelhouse")
MADE = ("build/lib", "build/native", "build/engines", "build/calibration", "build/preprocessed_data")


def step(call: str) -> list[str | Path]:
    """Return the command that calls a function of the step in the checkout where it runs."""
    code = f"""import sys; sys.path.insert(0, "code")
from engineroom.steps import setup
from engineroom.errors import EngineroomError
try: setup.{call}
except EngineroomError as error: print(error, file=sys.stderr); sys.exit(error.code)"""
    return [sys.executable, "-c", code]


@pytest.fixture
def full(ready_checkout: Path) -> Path:
    """Return a checkout with something in every folder of build/."""
    for folder in (*RESULTS, *DOWNLOADS, *MADE):
        (ready_checkout / folder).mkdir(parents=True)
        (ready_checkout / folder / "file").write_bytes(b"x" * 1_500_000)
    return ready_checkout


def left(checkout: Path) -> set[str]:
    """Return which of the folders are still there."""
    folders = {*RESULTS, *DOWNLOADS, *MADE, "build/venv"}
    return {folder for folder in folders if (checkout / folder).exists()}


def test_an_unknown_extra_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="--extra: unknown extra 'tirch'\n  did you mean torch?"):
        setup.install("tirch")


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="--engine: unknown engine 'liter'\n  did you mean litert"):
        setup.install_for("liter")


def test_an_engine_without_an_extra_is_there_already(capsys: pytest.CaptureFixture[str]) -> None:
    setup.install_for("openvino")
    assert "needs no extra" in capsys.readouterr().err


def test_in_an_ngc_container_its_own_tensorrt_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = tmp_path / "dist-packages", tmp_path / "site-packages"
    ours.mkdir()
    for name, version in (("tensorrt", "10.9.0.34"), ("another", "1.0")):
        about = theirs / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (theirs / name).mkdir()
        (theirs / name / "__init__.py").write_text(f"__version__ = '{version}'\n")
        (about / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (about / "RECORD").write_text(f"{name}/__init__.py,,\n{about.name}/METADATA,,\n../../../bin/{name},,\n")
    asked: list[str] = []
    monkeypatch.setattr(setup.container, "detect", lambda root, environ: Container("docker", ngc="TensorRT 25.03"))
    monkeypatch.setattr(setup, "_folders_of_base", lambda: [str(theirs)])
    monkeypatch.setattr(setup.sysconfig, "get_path", lambda name: str(ours))
    monkeypatch.setattr(setup, "BUILD", tmp_path)
    monkeypatch.setattr(setup.packages, "install", lambda lock: asked.append(lock.read_text()))
    for _ in range(2):
        setup.install_for("tensorrt")
    assert sorted(path.name for path in ours.iterdir()) == ["tensorrt", "tensorrt-10.9.0.34.dist-info"]
    assert (ours / "tensorrt" / "__init__.py").read_text() == "__version__ = '10.9.0.34'\n"
    assert "tensorrt 10.9.0.34 is that of this container, TensorRT 25.03" in capsys.readouterr().err
    assert "tensorrt" not in asked[0] and "cuda-bindings==" in asked[0], "what it has not is installed"


def test_clean_keeps_what_was_measured_and_downloaded(full: Path, command: Any) -> None:
    done = command(step("clean()"), full)
    assert done.returncode == 0, done.stderr
    assert left(full) == {*RESULTS, *DOWNLOADS}
    assert "removed build/engines (1.5 MB)" in done.stdout
    assert "kept: build/runs (1.5 MB)" in done.stdout


def test_clean_shallow_keeps_all_but_what_is_compiled_and_rendered(full: Path, command: Any) -> None:
    done = command(step("clean_shallow()"), full)
    assert done.returncode == 0, done.stderr
    assert left(full) == {*RESULTS, *DOWNLOADS, *MADE, "build/venv"} - {"build/lib", "build/native"}


@pytest.mark.parametrize("what", ["results", "data"])
def test_without_a_terminal_nothing_precious_is_removed(full: Path, command: Any, what: str) -> None:
    before = left(full)
    done = command(step(f"clean({what}=True)"), full, stdin="build/runs build/submission\n")
    assert done.returncode == 2
    assert "needs a confirmation typed at a terminal" in done.stderr
    assert left(full) == before


@pytest.mark.parametrize(
    ("typed", "code", "gone"),
    [
        ("build/runs build/submission\n", 0, set(RESULTS)),
        *[(typed, 2, set()) for typed in ("yes\n", "\n", "\x04")],  # the last is Ctrl-D
    ],
)
def test_results_go_only_if_their_names_are_typed(full: Path, typed: str, code: int, gone: set[str]) -> None:
    before = left(full)
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(step("clean(results=True)"), cwd=full, stdin=terminal, stdout=subprocess.DEVNULL)
    os.write(keyboard, typed.encode())
    assert process.wait() == code
    os.close(keyboard)
    os.close(terminal)
    assert (left(full) == before) if code else (left(full) == set(DOWNLOADS))
    assert not gone & left(full)


def test_a_folder_that_was_linked_elsewhere_is_emptied_and_stays_linked(
    full: Path, command: Any, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "big disk"
    (full / "build" / "engines").rename(elsewhere)
    (full / "build" / "engines").symlink_to(elsewhere)
    done = command(step("clean()"), full)
    assert done.returncode == 0, done.stderr
    assert (full / "build" / "engines").is_symlink()
    assert not list(elsewhere.iterdir())


def test_the_shell_finds_venv_and_native_module(ready_checkout: Path, command: Any) -> None:
    activate = ready_checkout / "build" / "venv" / "bin" / "activate"
    activate.write_text(f"VIRTUAL_ENV='{activate.parents[1]}'; PATH=\"$VIRTUAL_ENV/bin:$PATH\"\n", encoding="utf-8")
    typed = 'command -v inv; echo "$PYTHONPATH"; echo "$PS1"; echo "${BASH_ENV-unset}"\n'
    done = command(step("shell()"), ready_checkout, stdin=typed)
    assert done.returncode == 0, done.stderr
    inv, path, prompt, environment = done.stdout.splitlines()
    assert inv == str(activate.with_name("inv"))
    assert path == str(ready_checkout / "build" / "lib")
    assert prompt.startswith("(engineroom) ")
    assert environment == "unset"


# Without a network


@pytest.mark.heavy
def test_a_fresh_checkout_installs_builds_and_tests_from_the_wheelhouse_alone(
    checkout: Path, make: Any, wheelhouse: Path
) -> None:
    assert list(wheelhouse.glob("mlcommons_loadgen-*.tar.gz"))
    (checkout / "build").mkdir()
    (checkout / "build" / "wheelhouse").symlink_to(wheelhouse)
    alone = {"PIP_INDEX_URL": NO_INDEX, "PIP_RETRIES": "0"}
    done = make(checkout, "build", **alone)
    assert done.returncode == 0, done.stderr
    assert re.search(r"install the locked packages from \S+/wheelhouse", done.stderr)
    assert list((checkout / "build" / "lib").glob("engineroom_native*.so"))
    done = make(checkout, "install", "RUN_ARGS=--extra=test", **alone)
    assert done.returncode == 0, done.stderr
    assert (checkout / "build" / "venv" / "bin" / "pytest").is_file()


@pytest.mark.heavy
def test_a_wheelhouse_is_filled_again_after_an_interruption(command: Any, wheelhouse: Path) -> None:
    checkout = wheelhouse.parents[1]
    files = {path.name: path.stat().st_mtime_ns for path in wheelhouse.iterdir()}
    partial = wheelhouse.rename(wheelhouse.with_name("wheelhouse.partial"))
    lost = max(partial.iterdir(), key=lambda path: path.stat().st_size)
    lost.unlink()
    (partial / "old-1.0-py3-none-any.whl").write_bytes(b"of an earlier lock")
    done = command(step("wheelhouse()"), checkout)
    assert done.returncode == 0, done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in wheelhouse.iterdir()}
    assert after.keys() == files.keys()
    assert [name for name in files if files[name] != after[name]] == [lost.name]
