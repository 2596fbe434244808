"""Trials: real runs of the parent, the child and LoadGen, with an engine that fails as it is told."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engineroom import runs
from engineroom.config import RunConfig
from engineroom.errors import EngineError, ExitCode
from engineroom.paths import LIB
from engineroom.steps import harness, recipes
from engineroom.terms import Scenario, TestMode

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SAMPLES = 200
BATCH_SIZE = 4
# Short tests: LoadGen need not call them VALID.
FAST = "*.SingleStream.target_latency = 1\n*.Server.target_qps = 1000\n*.Offline.target_qps = 1000\n"
FAULTY = '''
"""Doubles its input; from its batch number `at` on it fails instead, as the option `fault` says."""

import ctypes, os, signal, subprocess, time
import numpy as np

ENGINE = None


def throw(x):
    raise RuntimeError("out of luck")


def leave_a_program(x, **how):
    subprocess.Popen(["sleep", "600"], **how)
    throw(x)


class Stubborn:
    """Hangs or crashes when nobody needs it any more."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, arrays):
        return [2 * arrays[0]]

    def __del__(self):
        time.sleep(600) if self.fault == "hangs in the end" else ctypes.string_at(0)


FAULTS = {
    "throws": throw,
    "no output": lambda x: [],
    "wrong shape": lambda x: [x[:, :2]],
    "too few samples": lambda x: [x[1:]],
    "NaN": lambda x: [x * np.float32("nan")],
    "hangs": lambda x: time.sleep(600),
    "segmentation fault": lambda x: ctypes.string_at(0),
    "abort": lambda x: os.abort(),
    "leaves": lambda x: os._exit(0),
    "memory": lambda x: [np.empty(1 << 50, np.uint8)],
    "killed": lambda x: os.kill(os.getpid(), signal.SIGKILL),
    "leaves a program": leave_a_program,
    "leaves a program in a session of its own": lambda x: leave_a_program(x, start_new_session=True),
}


def open_session(options, inputs, outputs):
    fault, at, calls = options["fault"], int(options["at"]), 0
    if fault == "load":
        raise RuntimeError("no licence")
    if fault == "exits":
        raise SystemExit(0)
    if fault.endswith("in the end"):
        return Stubborn(fault)

    def infer(arrays):
        nonlocal calls
        calls += 1
        return FAULTS[fault](arrays[0]) if calls >= at else [2 * arrays[0]]

    return infer
'''


@dataclass
class Trial:
    """One run, prepared as the product does it: `recipe`, `user_conf` and `shell_lines` may be changed before `run`."""

    config: RunConfig
    folder: Path
    recipe: dict[str, Any]
    user_conf: str
    overlay: Path
    shell_lines: str = ""  # of run.sh, before the child starts

    def run(self) -> dict[str, Any]:
        """Run the test; return the counters."""
        values = {
            "lib": str(LIB),
            "overlays": str(self.overlay),
            "python": sys.executable,
            "audit": None,
            **self.recipe,
        }
        script = recipes.render("run.sh", self.config.system, values)
        recipe = self.folder / runs.RECIPE
        (recipe / "run.sh").write_text(script.replace("set -eu\n", f"set -eu\n{self.shell_lines}\n"))
        (recipe / "harness.json").write_text(json.dumps(self.recipe))
        (recipe / "user.conf").write_text(self.user_conf)
        return harness.run_test(self.config, self.folder)

    def fails(self) -> EngineError:
        """Run the test, which must fail; the run must not look finished. Return the error."""
        with pytest.raises(EngineError) as raised:
            self.run()
        assert raised.value.code is ExitCode.ENGINE
        assert self.folder.name.endswith(runs.PARTIAL) and not (self.folder / runs.RESULT).exists()
        return raised.value


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with samples and an overlay that has the engine `faulty`."""
    folder = tmp_path_factory.mktemp("trials")
    np.save(folder / "input.npy", np.arange(3 * SAMPLES, dtype=np.float32).reshape(SAMPLES, 3))
    (folder / "engines").mkdir()
    (folder / "engines" / "faulty.py").write_text(FAULTY)
    return folder


@pytest.fixture
def left_running() -> Iterator[Callable[[], list[psutil.Process]]]:
    """Return the function that tells which processes have been started and are still there.

    What has lost its parent would go to init and be seen no more: so it comes to this process.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    before = psutil.Process().children(recursive=True)

    def left() -> list[psutil.Process]:
        started = [each for each in psutil.Process().children(recursive=True) if each not in before]
        return psutil.wait_procs(started, timeout=3)[1]  # what has just been killed may need a moment

    yield left
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def trial(
    place: Path, tmp_path: Path, left_running: Callable[[], list[psutil.Process]]
) -> Iterator[Callable[..., Trial]]:
    """Return the function that prepares a trial; with a `fault` its engine is `faulty`, else `null`.

    When the test ends, no process of its trials may be left.
    """

    def prepare(
        scenario: str = "Offline",
        fault: str = "",
        *,
        at: int = 1,
        mode: str = "PerformanceOnly",
        ms: int = 50,
        **more: Any,
    ) -> Trial:
        batch_size = 1 if scenario == "SingleStream" else BATCH_SIZE
        config = RunConfig(
            benchmark="trial",
            scenario=Scenario(scenario),
            test_mode=TestMode(mode),
            system="here",
            batch_size=batch_size,
            instances=1,
            threads_per_instance=1,
            min_duration=ms,
            watchdog_s=more.get("watchdog_s", 20.0),
        )
        options = {"fault": fault, "at": str(at)} if fault else {}
        recipe = {
            **{
                name: getattr(config, name)
                for name in ("benchmark", "scenario", "test_mode", "batch_size", "instances")
            },
            "inputs": [{"name": "x", "dtype": "float32", "shape": [3], "path": str(place / "input.npy")}],
            "outputs": [{"name": "double", "dtype": "float32", "shape": [3]}],
            "answer_offset": 0,
            "total_sample_count": SAMPLES,
            "performance_sample_count": SAMPLES,
            "user_conf": "user.conf",
            "engine": {"name": "faulty" if fault else "null", "options": options},
            "watchdog_s": config.watchdog_s,
            **more,
        }
        conf = f"{FAST}*.*.min_duration = {ms}\n*.*.min_query_count = 1\n"
        return Trial(config, runs.open_folder(config, runs=tmp_path / "runs"), recipe, conf, place)

    yield prepare
    assert not left_running()
