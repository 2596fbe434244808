"""Checkouts to run and to break: copies with a build/ of their own, and the packages and the harness of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("code", "configs", "data_maps", "systems", "requirements")
FILES = ("tasks.py", "invoke.yaml", "pyproject.toml", "Makefile", "README.md")
MADE = ("preprocessed_data", "calibration", "engines")

# As root no permission stops anybody; without its capabilities root is an ordinary user.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
# A quick test: as short as LoadGen still calls VALID, and with room for a machine that stands still now and then.
QUICK = "--min_duration=300 --probe_s=0.2 --server_target_qps=5000 --server_target_latency_ns=1000000000"


@dataclass(frozen=True)
class Done:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Checkout:
    """A checkout of its own in `root`."""

    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "build" / "runs"

    def start(
        self, task: str, run_args: str = "", *, unprivileged: bool = False, **variables: str
    ) -> subprocess.Popen[str]:
        """Start a task as make does, in a process group of its own: a terminal interrupts a whole group."""
        environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.Popen(
            [*(UNPRIVILEGED if unprivileged else ()), self.root / "build/venv/bin/inv", task],
            cwd=self.root,
            env={**environ, **variables, "RUN_ARGS": run_args},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def inv(self, task: str, run_args: str = "", *, unprivileged: bool = False, **variables: str) -> Done:
        """Run a task to its end. Whatever happens, nobody shall see a traceback, and a failure's code stands last."""
        process = self.start(task, run_args, unprivileged=unprivileged, **variables)
        out, err = process.communicate(timeout=300)
        done = Done(process.returncode, out, err)
        assert "Traceback" not in done.text, done.text
        if done.code:
            assert done.err.splitlines()[-1] == f"exit code {done.code}", done.text
        return done

    def good(self, task: str, run_args: str = "", **variables: str) -> Done:
        """Run a task that must succeed."""
        done = self.inv(task, run_args, **variables)
        assert done.code == 0, done.text
        return done

    def results(self) -> dict[Path, dict[str, Any]]:
        """Return each finished run's folder with its result."""
        return {path.parent: json.loads(path.read_text()) for path in sorted(self.runs.glob("*/result.json"))}

    def result(self) -> dict[str, Any]:
        """Return the newest result."""
        return list(self.results().values())[-1]

    def partial(self) -> list[Path]:
        """Return the folders of unfinished runs."""
        return sorted(self.runs.glob("*.partial"))

    def artifact(self, pattern: str) -> Path:
        """Return the one artifact folder below build/ that `pattern` finds."""
        (manifest,) = (self.root / "build").glob(f"{pattern}/*/manifest.json")
        return manifest.parent


def copy_checkout(source: Path, folder: Path) -> Checkout:
    """Copy the sources in `source` and what was made there, except runs, to `folder`."""
    for name in SOURCES:
        shutil.copytree(source / name, folder / name)
    for name in FILES:
        shutil.copy2(source / name, folder)
    for name in MADE if source != ROOT else ():
        if (source / "build" / name).is_dir():
            shutil.copytree(source / "build" / name, folder / "build" / name)
    _make_venv(folder)
    _copy_native(folder)
    return Checkout(folder)


def _make_venv(folder: Path) -> None:
    """Make a venv that has the installed packages, but `engineroom` from `folder`."""
    packages = sysconfig.get_path("purelib")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "build" / "venv")}))
    site.mkdir(parents=True)
    (site / "checkout.pth").write_text(f"{folder / 'code'}\n{packages}\n", encoding="utf-8")
    binaries = folder / "build" / "venv" / "bin"
    binaries.mkdir()
    for name in ("python", "cmake", "ninja"):
        (binaries / name).symlink_to(Path(sys.prefix) / "bin" / name)
    home = Path(sys.base_prefix) / "bin"
    (folder / "build/venv/pyvenv.cfg").write_text(f"home = {home}\nversion = {sys.version.split()[0]}\n")
    inv = binaries / "inv"
    start = "from invoke.main import program\nif __name__ == '__main__':  # processes that it spawns import it too\n"
    inv.write_text(f"#!{binaries / 'python'}\n{start}    program.run()\n", encoding="utf-8")
    inv.chmod(0o755)


def _copy_native(folder: Path) -> None:
    """Take over the compiled harness: the stamp is told that the Python of this venv is the one it was built for."""
    shutil.copytree(ROOT / "build" / "lib", folder / "build" / "lib")
    stamp = folder / "build" / "lib" / "native.json"
    record = json.loads(stamp.read_text())
    record["inputs"]["Python"] = record["inputs"]["Python"].replace(sys.prefix, str(folder / "build" / "venv"))
    stamp.write_text(json.dumps(record))
    (folder / "build" / "loadgen").symlink_to(ROOT / "build" / "loadgen")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return the checkout that all tests share which only add runs to it. Nothing is made in it yet."""
    subprocess.run([Path(sys.prefix) / "bin" / "inv", "build_harness"], cwd=ROOT, check=True)
    return copy_checkout(ROOT, tmp_path_factory.mktemp("house") / "checkout")


@pytest.fixture(scope="session", name="copy_checkout")
def copy_checkout_fixture() -> Callable[[Path, Path], Checkout]:
    """Return the function that copies a checkout."""
    return copy_checkout


@dataclass(frozen=True)
class Matrix:
    """What one call left that ran every scenario in both modes: its output, and the runs by scenario and mode."""

    done: Done
    runs: Mapping[tuple[str, str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def matrix(house: Checkout) -> Callable[[str], Matrix]:
    """Return the function that runs a precision's matrix, or returns what it left when it was run before."""
    ran: dict[str, Matrix] = {}

    def run(precision: str) -> Matrix:
        if precision not in ran:
            before = set(house.results())
            done = house.good("run_harness", f"--precision={precision} {QUICK}")
            new = {path: result for path, result in house.results().items() if path not in before}
            runs = {(result["scenario"], result["test_mode"]): (path, result) for path, result in new.items()}
            ran[precision] = Matrix(done, runs)
        return ran[precision]

    return run


@pytest.fixture(scope="session")
def furnished(house: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout with data, calibration, and the engines of Offline in both precisions. Only to be copied."""
    checkout = copy_checkout(ROOT, tmp_path_factory.mktemp("furnished") / "checkout")
    checkout.good("preprocess_data")
    for precision in ("int8", "fp32"):
        checkout.good("generate_engines", f"--scenarios=Offline --precision={precision}")
    return checkout


@pytest.fixture
def copy(furnished: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """Return a copy of `furnished` to break."""
    yield copy_checkout(furnished.root, tmp_path / "checkout")
    for folder, _, _ in os.walk(tmp_path):  # pytest cannot remove what a test has left closed
        Path(folder).chmod(0o755)
