"""Runs one LoadGen test in one child process and watches it; reads LoadGen's word from its log."""

from __future__ import annotations

import json
import mmap
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from engineroom import detail_log, processes, shell, terminal
from engineroom.child import PARENT_VARIABLE
from engineroom.config import RunConfig
from engineroom.errors import EngineError, RequestError
from engineroom.paths import display
from engineroom.runs import RECIPE, PerformanceResult, Probe
from engineroom.telemetry import Telemetry
from engineroom.terms import METRICS, Scenario, TestMode

POLL_S = 0.1
RATE_WINDOW_S = 1.0
LOAD_FACTOR = 10  # as in monitor.cc: an engine of many gigabytes may take minutes to load
AFTER_WATCHDOG_S = 15.0  # the child's own watchdog comes first; the parent's SIGKILL is for when it cannot act
END_S = 10.0  # so long the kernel may take to end a child: one that it holds in a driver's call never ends
FULL_BYTES = 1 << 16  # a disk with less room may have had none for the child's words
CHILD_LOG = "harness.log"
LEFT_BEHIND = ("counters.bin", "error.json")  # by the probe: must not be taken for the test's
BATCH_SIZES = "batch_size_histogram"
DURATIONS = ("queue_time_histogram", "compute_time_histogram")
FINGERPRINTS = ("issued_fingerprint", "answered_fingerprint")
DONE = 4  # Phase::kDone of monitor.h
LISTS = ("heartbeat_ns", "worker_samples", BATCH_SIZES)  # counters with a place per worker or size


def probe(config: RunConfig, folder: Path) -> Probe:
    """Measure, without LoadGen, how fast the engine is here. Raises EngineError if it fails."""
    with terminal.progress(f"probe {_title(config)}", 1), _told(folder):
        _run_child(config, folder, ["--probe", str(config.probe_s)], lambda counters: None, telemetry=None)
    return msgspec.json.decode((folder / "probe.json").read_bytes(), type=Probe)


def run_test(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Run the test that `folder`/recipe describes and return the harness's counters.

    Raises EngineError with the child's own error record, its signal, or the stall that the parent saw.
    """
    rate = _Rate()
    with terminal.progress(_title(config), 1) as update, _told(folder):
        return _run_child(
            config,
            folder,
            [],
            lambda counters: update(*_progress_of(config, counters, rate)),
            telemetry=folder / "telemetry.csv",
        )


def read_log(folder: Path) -> dict[str, Any]:
    """Return the first value of each key in LoadGen's detail log. Raises EngineError if it is not complete."""
    try:
        return detail_log.read(folder / detail_log.NAME, whole=True)
    except RequestError as error:  # a log of our own test: not the request failed, but the test
        raise EngineError(error.what, where=error.where, mend=error.mend) from None


def performance(config: RunConfig, log: dict[str, Any], counters: dict[str, Any]) -> PerformanceResult:
    """Return the figure of a performance run from LoadGen's log. VALID is LoadGen's word, never ours."""
    metric = METRICS[config.scenario]
    if "result_validity" not in log or metric.key not in log:
        raise EngineError(f"LoadGen's log has no {metric.key}: the test did not end properly", where=detail_log.NAME)
    said = [log.get("result_invalid_reason")]
    if not log.get("early_stopping_met", True):
        said.append(log["early_stopping_result"])
    reasons = [" ".join(str(text).split()) for text in said if text]
    return PerformanceResult(
        metric=metric.name,
        unit=metric.unit,
        value=float(log[metric.key]) * metric.scale,
        valid=log["result_validity"] == "VALID",
        reasons=tuple(reasons),
        min_duration_s=float(log.get("effective_min_duration_ms", 0)) / 1000,
        samples=int(counters.get("completed_samples", 0)),
    )


def _title(config: RunConfig) -> str:
    words = {TestMode.PERFORMANCE_ONLY: "performance", TestMode.ACCURACY_ONLY: "accuracy"}
    mode = words.get(config.test_mode, config.test_mode.value)
    return f"{config.benchmark} {config.scenario} {mode}, {config.engine} {config.precision}"


class _Rate:
    """The current rate: over about the last second, so that a slow-down shows while it lasts."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def per_second(self, done: int) -> float:
        """Note how much is done by now and return the rate."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= RATE_WINDOW_S:
            self._marks.popleft()
        first_s, first_done = self._marks[0]
        return (done - first_done) / max(now - first_s, POLL_S / 2)


def _progress_of(config: RunConfig, counters: Counters, rate: _Rate) -> tuple[float, str]:
    """Return the part of the test that is done and the words beside the bar."""
    done, issued = counters.value("completed_samples"), counters.value("issued_samples")
    begin = counters.value("test_start_ns")
    if not begin:
        return 0.0, "loading" if not counters.value("phase") else "warming up"
    elapsed = max(1e-3, time.monotonic() - begin / 1e9)
    wanted = 0.0 if config.test_mode is TestMode.ACCURACY_ONLY else (config.min_duration or 0) / 1000
    text = f"{elapsed:.0f}{f' of {wanted:g}' if wanted else ''} s, {done:,} samples, {rate.per_second(done):,.0f}/s"
    if config.scenario is Scenario.OFFLINE or not wanted:  # all is issued at once: what is answered is what is done
        return done / max(issued, 1), text
    return elapsed / wanted, text


class Counters:
    """The harness's counters, read from the file that it keeps memory-mapped; they outlive a crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None
        self._fields: dict[str, list[int]] = {}
        self._bounds_ns: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._map is not None:
            self._map.close()

    def value(self, name: str) -> int:
        """Return one counter, or 0 while the child has not made the file yet."""
        values = self.values(name)
        return values[0] if values else 0

    def values(self, name: str) -> list[int]:
        """Return a counter with several places, such as one per worker."""
        if not self._opened() or name not in self._fields or self._map is None:
            return []
        offset, count = self._fields[name]
        return [int.from_bytes(self._map[at : at + 8], "little") for at in range(offset, offset + 8 * count, 8)]

    def all(self) -> dict[str, Any]:
        """Return every counter, in the shape of result.json.

        The sizes of batches beyond the largest that occurred are left out, and so are durations below the shortest and
        above the longest: `counts[i]` are from `bounds_ns[i]` on and below `bounds_ns[i + 1]`.
        """
        return {name: self._shaped(name, self.values(name)) for name in self._fields} if self._opened() else {}

    def _shaped(self, name: str, values: list[int]) -> Any:
        used = [place for place, value in enumerate(values) if value] or [0]
        if name in DURATIONS:
            first, end = used[0], used[-1] + 1
            return {"bounds_ns": self._bounds_ns[first : end + 1], "counts": values[first:end]}
        if name in FINGERPRINTS:
            return f"{values[0]:016x}"  # more digits than a reader of JSON may keep of a number
        if name == BATCH_SIZES:
            return values[: used[-1] + 1]
        return values if name in LISTS else values[0]

    def _opened(self) -> bool:
        if self._map is None:
            try:
                with self._path.open("rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                header = json.loads(self._map[: self._map.find(b"\n")])
                self._fields, self._bounds_ns = header["fields"], header["duration_bounds_ns"]
            except (OSError, ValueError):  # not there yet, or not complete yet
                self._map = None
        return self._map is not None


def _run_child(
    config: RunConfig,
    folder: Path,
    arguments: list[str],
    show: Callable[[Counters], None],
    *,
    telemetry: Path | None,
) -> dict[str, Any]:
    command = ["/bin/sh", str(folder / RECIPE / "run.sh"), str(folder), *arguments]
    for name in LEFT_BEHIND:
        (folder / name).unlink(missing_ok=True)
    with (
        (folder / CHILD_LOG).open("ab") as log,
        Counters(folder / "counters.bin") as counters,
        _child(command, log) as child,
        Telemetry(telemetry, child.pid) if telemetry else nullcontext() as samples,
    ):
        stall = _Stall(config)
        while child.poll() is None:
            if not folder.is_dir():  # what LoadGen logs would go nowhere: why wait for the end of it?
                raise _removed(folder)
            show(counters)
            if samples:
                samples.sample()
            if waited := stall.seconds(counters):
                raise EngineError(
                    f"the harness made no progress for {waited:.0f} s and was ended",
                    where=display(folder),
                    mend="if the engine needs so long to load, raise watchdog_s; loading may take ten times as long",
                )
            _wait(child)
        found = counters.all()
    if child.returncode or found.get("phase") != DONE:
        raise _failure(folder, child.returncode)
    return found


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what the system refuses, such as room on the disk or a process, into a failure of this one test."""
    try:
        yield
    except BrokenPipeError:  # whoever read our words has gone: that ends more than a test
        raise
    except OSError as error:
        if not folder.is_dir():
            raise _removed(folder) from error
        what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        raise EngineError(
            f"the test cannot go on: {what}", where=display(folder), mend="mend that, then run it again"
        ) from error


@contextmanager
def _child(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start the child in a session of its own, so that Ctrl-C reaches only us.

    However we leave, it ends too, and with it all of its session: whatever it has started, but what left that session.
    """
    shell.show(command)
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=_environment()
    )
    with suppress(OSError):  # if memory runs out, the harness is what the kernel should end, not the user's desktop
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
    try:
        with _guard(child.pid):
            yield child
    finally:
        processes.end_session(child.pid)
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            terminal.warn(f"process {child.pid} does not end: the kernel waits for a driver or a disk")


@contextmanager
def _guard(session: int) -> Iterator[None]:
    """Have a process at hand that ends a session as soon as we are killed: the kernel would end its leader only."""
    command = [sys.executable, "-I", "-S", processes.__file__, str(session)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as guard:
        try:
            yield
        finally:
            guard.kill()


def _environment() -> dict[str, str]:
    """Pass on the environment without what would change which Python code the child runs; tell it whom to follow."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "RUN_ARGS")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, PARENT_VARIABLE: str(os.getpid())}


def _wait(child: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        child.wait(POLL_S)


class _Stall:
    """Notices a child that stands still although its own watchdog should have ended it."""

    def __init__(self, config: RunConfig) -> None:
        self._watchdog_s = config.watchdog_s
        self._seen: tuple[int, ...] | None = None
        self._since = time.monotonic()

    def seconds(self, counters: Counters) -> float:
        """Return how long nothing has moved if that is too long, else 0."""
        published = counters.value("published_ns")
        state = (published, counters.value("phase"), counters.value("completed_samples"))
        now = time.monotonic()
        if state != self._seen:
            self._seen, self._since = state, now
        pending = counters.value("issued_samples") > counters.value("completed_samples")
        # The child publishes ten times a second whatever it does, so once it has begun any standstill is one.
        limit = self._watchdog_s * (1 if published or pending else LOAD_FACTOR) + AFTER_WATCHDOG_S
        return now - self._since if now - self._since > limit else 0.0


def _failure(folder: Path, status: int) -> EngineError:
    """Say why the child failed: its own record, else its signal, else its last words."""
    if not folder.is_dir():
        return _removed(folder)
    log = display(folder / CHILD_LOG)
    try:
        record = json.loads((folder / "error.json").read_text(encoding="utf-8"))
        return EngineError(
            str(record["what"]), where=f"{display(folder)}: {record['where']}", mend=record.get("mend") or f"log: {log}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if name := processes.signal_of(status):
        return EngineError(f"the harness was ended by {name}", where=display(folder), mend=f"log: {log}")
    words = (folder / CHILD_LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not words and shutil.disk_usage(folder).free < FULL_BYTES:
        return EngineError(
            f"the harness ended with status {status}, and there is no space left for its words",
            where=display(folder),
            mend=f"see what is free: df -h {shlex.quote(str(folder))}",
        )
    how = f"ended with status {status}" if status else "left before its work was done"  # an engine that calls exit()
    last = words[-1] if words else "it said nothing"
    return EngineError(f"the harness {how}: {last}", where=display(folder), mend=f"log: {log}")


def _removed(folder: Path) -> EngineError:
    return EngineError("the run's folder was removed while it ran", where=display(folder), mend="run it again")
