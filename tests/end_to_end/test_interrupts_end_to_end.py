"""What is cut short: by Ctrl-C and its like in every phase, by a signal to the child, by an engine that hangs."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engineroom.steps.harness import Counters, read_log

if TYPE_CHECKING:
    import subprocess

    from conftest import Checkout

# Accuracy is done in a moment; performance then lasts longer than any test waits.
LONG = (
    "--engine=fixed_delay --fixed_delay_us=100 --scenarios=Server --test_mode=AccuracyOnly,PerformanceOnly "
    "--server_target_qps=2000 --min_duration=120000 --watchdog_s=3"
)
PATIENCE_S = 60.0
Begun = Callable[["Checkout", str], bool]


class Running:
    """A run_harness whose performance test is under way, and the child that runs LoadGen."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.others = set(checkout.partial())
        self.parent: subprocess.Popen[str] = checkout.start("run_harness", LONG)
        wait_until(self._is_under_way)
        (self.folder,) = set(checkout.partial()) - self.others
        (self.child,) = [
            process
            for process in psutil.Process(self.parent.pid).children(recursive=True)
            if "engineroom.child" in process.cmdline()
        ]

    def _is_under_way(self) -> bool:
        assert self.parent.poll() is None, self.parent.communicate()
        return under_way(self.checkout, self.others)

    def ended(self) -> tuple[int, str, str]:
        """Return the parent's exit code, stdout and stderr."""
        out, err = self.parent.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in out + err
        return self.parent.returncode, out, err


@pytest.fixture
def running(house: Checkout) -> Iterator[Running]:
    run = Running(house)
    yield run
    run.parent.kill()
    run.parent.wait()
    for folder in set(house.partial()) - run.others:  # other tests expect none
        folder.rename(folder.with_suffix(".interrupted"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), id="Ctrl-C at a terminal"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGINT), id="SIGINT"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), id="SIGTERM"),
    ],
)
def test_an_interrupt_ends_the_child_and_shows_what_was_finished(
    running: Running, interrupt: Callable[[int], None]
) -> None:
    interrupt(running.parent.pid)
    code, out, err = running.ended()
    assert code == 130
    assert "interrupted" in err and err.splitlines()[-1] == "exit code 130"
    assert not running.child.is_running()
    assert running.folder.is_dir() and not (running.folder / "result.json").exists()
    rows = [line for line in out.splitlines() if line.startswith("digits  ")]
    assert len(rows) == 1 and "missed" in rows[0], "the accuracy run was finished"


def test_a_child_that_is_killed_is_a_failure_of_the_harness(running: Running) -> None:
    running.child.kill()
    code, out, err = running.ended()
    assert code == 3
    folder = f"build/runs/{running.folder.name}"
    assert f"failed: {folder}: the harness was ended by SIGKILL; out of memory?" in err
    assert f"{folder}/harness.log" in err
    assert "FAILED" in out
    assert running.folder.is_dir() and not (running.folder / "result.json").exists()
    with Counters(running.folder / "counters.bin") as counters:
        assert counters.value("completed_samples") > 10, "the counters outlive the crash"


def test_the_child_dies_with_its_parent(running: Running) -> None:
    running.parent.kill()
    wait_until(lambda: not is_alive(running.child))
    assert running.folder.is_dir() and not (running.folder / "result.json").exists()


@pytest.mark.heavy
def test_a_child_that_cannot_watch_itself_is_ended_by_its_parent(running: Running) -> None:
    running.child.suspend()
    code, _, err = running.ended()
    assert code == 3
    assert "the harness made no progress for " in err and running.folder.name in err
    assert not running.child.is_running()


@pytest.mark.heavy
@pytest.mark.parametrize("scenario", ["SingleStream", "Offline"])
def test_an_engine_that_hangs_is_ended_by_the_watchdog(house: Checkout, scenario: str) -> None:
    before = set(house.partial())
    begin = time.monotonic()
    asked = f"--engine=fixed_delay --fixed_delay_us=60000000 --watchdog_s=0.5 --scenarios={scenario}"
    done = house.inv("run_harness", f"{asked} --test_mode=AccuracyOnly")
    assert time.monotonic() - begin < 20
    assert done.code == 3
    assert "watchdog: worker 0 has been inside the engine for" in done.err
    assert "use smaller batches or raise it" in done.err
    assert "FAILED" in done.out
    (folder,) = set(house.partial()) - before
    assert (folder / "error.json").is_file()
    folder.rename(folder.with_suffix(".failed"))


SLOW_TO_SCORE = """
import time
from engineroom.benchmarks.digits import Digits

class SlowToScore(Digits):
    name = "slow_to_score"

    def score(self, responses, labels):
        while True:
            time.sleep(1)

BENCHMARK = SlowToScore()
"""
PERFORMANCE = "--scenarios=Offline --test_mode=PerformanceOnly"
ACCURACY = "--engine=fixed_delay --scenarios=Offline --test_mode=AccuracyOnly"


def in_phase(number: int) -> Begun:
    """Return what tells whether a run's counters have reached a phase: 1 warm-up, 3 LoadGen's logs, 4 done."""

    def begun(checkout: Checkout, words: str) -> bool:
        return any(counter(folder, "phase") == number for folder in checkout.partial())

    return begun


# The task, its flags, and what tells, from the checkout and from the words of all processes, that the phase has begun.
PHASES: dict[str, tuple[str, str, Begun]] = {
    "set-up": ("build_harness", "", lambda checkout, words: "ninja" in words),
    "calibration": (
        "calibrate",
        "--benchmarks=digits --force",
        lambda checkout, words: any(checkout.root.glob("build/calibration/digits/.*.partial")),
    ),
    "engine build": (
        "generate_engines",
        "--benchmarks=digits --scenarios=Offline --precision=fp32 --force",
        lambda checkout, words: "engineroom.build_engine" in words,
    ),
    "probe": (
        "run_harness",
        f"--engine=fixed_delay {PERFORMANCE} --probe_s=20",
        lambda checkout, words: "--probe" in words,
    ),
    "warm-up": ("run_harness", f"{ACCURACY} --fixed_delay_us=5000000", in_phase(1)),
    "logs": (
        "run_harness",
        f"--engine=null {PERFORMANCE} --offline_expected_qps=3000000 --min_duration=1000",
        in_phase(3),
    ),
    "scoring": (
        "run_harness",
        f"{ACCURACY} --benchmarks=slow_to_score",
        in_phase(4),
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupt_in_any_phase_leaves_no_process_and_loses_nothing(
    copy: Checkout, tmp_path: Path, phase: str, number: signal.Signals
) -> None:
    task, run_args, begun = PHASES[phase]
    if phase == "set-up":
        shutil.rmtree(copy.root / "build" / "lib")
    plugins = tmp_path / "overlay" / "benchmarks"
    plugins.mkdir(parents=True)
    (plugins / "slow_to_score.py").write_text(SLOW_TO_SCORE)
    made = manifests(copy)
    parent = copy.start(task, run_args, ENGINEROOM_PATH=str(plugins.parent))
    wait_until(lambda: begun(copy, words_of(parent)))
    started = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, number)
    out, err = parent.communicate(timeout=PATIENCE_S)
    assert parent.returncode == 130 and "Traceback" not in out + err
    assert err.splitlines()[-2:] == ["interrupted; what had been finished stays", "exit code 130"]
    wait_until(lambda: not any(map(is_alive, started)))
    assert not copy.results()
    assert made <= manifests(copy)


@pytest.mark.heavy
def test_an_engine_build_dies_with_its_parent(copy: Checkout) -> None:
    task, run_args, begun = PHASES["engine build"]
    parent = copy.start(task, run_args)
    wait_until(lambda: begun(copy, words_of(parent)))
    started = psutil.Process(parent.pid).children(recursive=True)
    made = manifests(copy)
    parent.kill()
    parent.communicate()
    wait_until(lambda: not any(map(is_alive, started)))
    assert manifests(copy) == made
    copy.good(task, run_args.replace("--force", ""))


@pytest.mark.heavy
def test_a_terminal_that_goes_away_ends_the_run(house: Checkout) -> None:
    others = set(house.partial())
    inv = house.root / "build/venv/bin/inv"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(house.root)
        os.execve(inv, [inv, "run_harness"], {**os.environ, "TERM": "xterm", "RUN_ARGS": LONG})
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()  # who reads nothing stops who writes
    wait_until(lambda: under_way(house, others))
    started = psutil.Process(pid).children(recursive=True)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    wait_until(lambda: not any(map(is_alive, started)))
    (folder,) = set(house.partial()) - others
    assert not (folder / "result.json").exists()
    folder.rename(folder.with_suffix(".interrupted"))


def test_settings_that_lie_about_are_not_picked_up(house: Checkout, tmp_path: Path) -> None:
    stray = "*.*.mode = 1\n*.*.accuracy_log_sampling_target = 7\n*.*.min_query_count = 3\n*.*.qsl_rng_seed = 1\n"
    names = ("audit.config", "user.conf", "mlperf.conf")
    for name in names:
        (house.root / name).write_text(stray)
        (tmp_path / name).write_text(stray)
    asked = "--scenarios=SingleStream --precision=fp32 --test_mode=PerformanceOnly --min_duration=300"
    house.good("run_harness", asked, HOME=str(tmp_path))
    for name in names:
        (house.root / name).unlink()
    log = read_log(list(house.results())[-1])
    assert log["effective_test_mode"] == "PerformanceOnly"
    assert log["effective_accuracy_log_sampling_target"] == 0
    assert log["effective_qsl_rng_seed"] == 2085463073848966840
    assert log["effective_min_query_count"] != 3
    assert not [key for key in log if "audit" in key]


def under_way(checkout: Checkout, others: Collection[Path]) -> bool:
    """Tell whether a performance test is running that is none of the `others`."""
    new = [folder for folder in set(checkout.partial()) - set(others) if "-PerformanceOnly" in folder.name]
    return bool(new) and counter(new[0], "completed_samples") > 10


def counter(folder: Path, name: str) -> int:
    """Return one of a run's counters."""
    with Counters(folder / "counters.bin") as counters:
        return counters.value(name)


def words_of(parent: subprocess.Popen[str]) -> str:
    """Return the command lines of all that `parent` has started."""
    assert parent.poll() is None, parent.communicate()
    words: list[str] = []
    for process in psutil.Process(parent.pid).children(recursive=True):
        with suppress(psutil.Error):
            words += process.cmdline()
    return " ".join(words)


def manifests(checkout: Checkout) -> set[Path]:
    """Return what was made in a checkout: each manifest is the last file of something that is complete."""
    return set((checkout.root / "build").glob("[cep]*/**/[!.]*/manifest.json"))


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that has ended, but that nobody has asked about yet, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def drain(terminal: int) -> None:
    """Read what is written to a terminal, for as long as it is there."""
    with suppress(OSError):
        while os.read(terminal, 4096):
            continue


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
