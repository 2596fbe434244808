"""Uses Engineroom as a person does, by its commands, and reads what they leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engineroom import detail_log, terminal
from engineroom.config import RunConfig
from engineroom.errors import EngineError, ExitCode
from engineroom.paths import NATIVE, ROOT, VENV, display
from engineroom.shell import quoted
from engineroom.steps import recipes

INV = str(VENV / "bin" / "inv")
TIMEOUT_S = 1800.0


def environment(run_args: Sequence[str] = ()) -> dict[str, str]:
    """Return our environment with another RUN_ARGS: our own says what to measure."""
    return {**os.environ, "RUN_ARGS": quoted(run_args)}


def seconds(argv: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> float:
    """Run a command, unseen, and return the wall time it took. Raises EngineError if it fails."""
    begin = time.perf_counter()
    _run(argv, cwd=cwd, env=env or environment())
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Ran:
    """What one `inv run_harness` of one scenario left: its wall time and its runs, by "performance" and "accuracy"."""

    wall_s: float
    folders: Mapping[str, Path]
    results: Mapping[str, dict[str, Any]]


@contextmanager
def run_harness(*flags: str, benchmark: str = "digits", expect_valid: bool = True) -> Iterator[Ran]:
    """Run a benchmark in one scenario and yield what came out; its run folders are removed at the end.

    An INVALID run is warned of, unless one is as good as a VALID one to the caller: its figure still says something.
    Raises EngineError for every other failure.
    """
    words = (f"--benchmarks={benchmark}", *flags, "--json")
    begin = time.perf_counter()
    done = _run([INV, "run_harness"], env=environment(words), accepted=(ExitCode.GOOD, ExitCode.INVALID))
    wall_s = time.perf_counter() - begin
    try:
        (row,) = json.loads(done.stdout)
    except ValueError:
        raise EngineError("printed no table", where=f"inv run_harness, {quoted(words)}", mend=_tail(done)) from None
    results = {kind: row[kind] for kind in ("performance", "accuracy") if row[kind]}
    folders = {kind: ROOT / result["run"] for kind, result in results.items()}
    if done.returncode and expect_valid:
        terminal.warn(f"a run counts, though it is INVALID or misses its accuracy target: {quoted(words)}")
    try:
        yield Ran(wall_s, folders, results)
    finally:
        for result in results.values():
            for run in filter(None, (result["run"], result["replaces"])):
                shutil.rmtree(ROOT / run)


def loadgen_seconds(folder: Path) -> float:
    """Return LoadGen's own time: from the first to the last line of its detail log, which counts from StartTest on."""
    mark = detail_log.MARK
    with (folder / detail_log.NAME).open("rb") as lines:
        times_ms = [json.loads(line.removeprefix(mark))["time_ms"] for line in lines if line.startswith(mark)]
    return (float(times_ms[-1]) - float(times_ms[0])) / 1000


def write_user_conf(
    path: Path, config: RunConfig, changes: Mapping[str, float] | None = None, *, model: str = "*"
) -> None:
    """Write LoadGen's settings as `config` has them, with `changes`, for its model `model` (*: for any)."""
    settings = {**recipes.loadgen_settings(config), **(changes or {})}
    lines = (f"{model}.{config.scenario}.{key} = {value}\n" for key, value in settings.items())
    path.write_text("".join(lines), encoding="utf-8")


def bare_null_sut(config: RunConfig, folder: Path, **changes: float) -> list[str]:
    """Return the command that runs LoadGen without Engineroom, on the settings of `config` with `changes`.

    The system under test answers at once. LoadGen's logs go to `folder`.
    """
    user_conf = folder / "user.conf"
    write_user_conf(user_conf, config, changes)
    program = str(NATIVE / "bare_null_sut")
    return [program, config.scenario, str(user_conf), str(folder), str(config.batch_size), str(config.instances)]


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="engineroom-bench-") as folder:
        yield Path(folder)


def peak_rss_bytes(argv: Sequence[str]) -> float:
    """Run a command and return the most memory it had resident. Raises EngineError if it fails."""
    done = _run([str(VENV / "bin" / "python"), "-I", "-S", "-c", _PEAK, *argv])
    return float(done.stdout.splitlines()[-1]) * 1024


# The kernel counts a process's peak from before its exec, when it still shared its parent's memory: so a small
# interpreter of about 10 MB starts the command, not this one.
_PEAK = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Run a command unseen and return what it printed. Raises EngineError if it fails."""
    return _run(argv, env=env).stdout


def _run(
    argv: Sequence[str],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (ExitCode.GOOD,),
) -> subprocess.CompletedProcess[str]:
    # To files, not through pipes: reading along would take CPU time from what is measured.
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            code = subprocess.run(
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=TIMEOUT_S, check=False
            ).returncode
        except OSError as error:
            raise EngineError(f"cannot start {argv[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise EngineError(f"did not end within {TIMEOUT_S:.0f} s", where=quoted(argv)) from None
        out.seek(0)
        err.seek(0)
        done = subprocess.CompletedProcess[str](list(argv), code, out.read(), err.read())
    if code not in accepted:
        where = f"{quoted(argv)}, in {display(cwd)}" if cwd != ROOT else quoted(argv)
        raise EngineError(f"ended with status {code}", where=where, mend=_tail(done))
    return done


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n  ".join((done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-5:])
