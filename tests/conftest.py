"""What tests share: a copy of the checkout to break, and the one wheelhouse that heavy tests install from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from engineroom.detection import Cpu, Machine

if TYPE_CHECKING:
    from machine_records import Record

Done = subprocess.CompletedProcess[str]
Make = Callable[..., Done]

ROOT = Path(__file__).resolve().parents[1]

# Whoever starts the tests in the background may have them ignore Ctrl-C, and what they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup; a handler is not inherited, and we still live on
    signal.signal(signal.SIGHUP, lambda number, frame: None)

# The machines that run the tests are shared and noisy: a slow example is no failure.
settings.register_profile("engineroom", deadline=None)
settings.load_profile("engineroom")

# Stands for Invoke: writes down how it was called, so that a test needs no installed venv.
RECORDER = """#!{python}
import json, os, sys, time
record = {{"argv": sys.argv[1:], "environ": dict(os.environ), "begin": time.time()}}
time.sleep(float(os.environ.get("RECORDER_SLEEP_S", "0")))
record["end"] = time.time()
with open("calls.jsonl", "a") as file:
    file.write(json.dumps(record) + "\\n")
sys.exit(int(os.environ.get("RECORDER_EXIT", "0")))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the checkout without build/, in a folder whose name has a space."""
    return copy_checkout(tmp_path / "a checkout")


def copy_checkout(folder: Path) -> Path:
    """Copy what belongs to the checkout, and nothing generated, into `folder`."""
    generated = shutil.ignore_patterns("build", ".git", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=generated)
    return folder


@pytest.fixture
def ready_checkout(checkout: Path) -> Path:
    """Return a checkout whose build/venv looks ready to make; its `inv` only records how it was called."""
    venv = checkout / "build" / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "checkout").symlink_to(checkout)
    inv = venv / "bin" / "inv"
    inv.write_text(RECORDER.format(python=sys.executable), encoding="utf-8")
    inv.chmod(0o755)
    (venv / "ready").write_text("", encoding="utf-8")
    return checkout


@pytest.fixture(name="make")
def make_fixture() -> Make:
    """Return the function that runs make."""
    return make


@pytest.fixture(name="command")
def command_fixture() -> Make:
    """Return the function that runs any program."""
    return command


def make(folder: Path, *arguments: str, **environ: str) -> Done:
    """Run make in `folder` with nothing in the environment but PATH, HOME and `environ`."""
    return command(["make", *arguments], folder, **environ)


def command(argv: Sequence[str | Path], folder: Path, *, stdin: str = "", **environ: str) -> Done:
    """Run `argv` in `folder` with nothing in the environment but PATH, HOME and `environ`."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(argv, cwd=folder, env={**plain, **environ}, input=stdin, capture_output=True, text=True)


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a wheelhouse that `make wheelhouse` filled in a checkout of its own."""
    folder = copy_checkout(tmp_path_factory.mktemp("wheelhouse") / "checkout")
    done = make(folder, "wheelhouse")
    assert done.returncode == 0, done.stderr
    yield folder / "build" / "wheelhouse"
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """Return a machine of four cores without a GPU, so that no test depends on the one it runs on."""
    cpu = Cpu(
        "Test CPU", architecture="x86_64", cores=4, threads=8, usable=tuple(range(8)), usable_cores=4, isa=("avx2",)
    )
    return Machine(cpu, 8 << 30, 8 << 30, system="test_system", operating_system="Linux", kernel="6.0")


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Record]:
    """Return the function that expands a machine record of tests/spoofs by its name, once."""
    from machine_records import expand

    found: dict[str, Record] = {}

    def expanded(name: str) -> Record:
        if name not in found:
            found[name] = expand(name, tmp_path_factory.mktemp(name))
        return found[name]

    return expanded
