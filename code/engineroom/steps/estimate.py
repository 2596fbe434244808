"""Estimates what a step will take: time, disk and memory, each with the word for where the figure comes from.

What was measured here comes first: how long an artifact took to make, how long an earlier test ran. Then what follows
from settings and sizes. What is left is a rough default, and says so.
"""

from __future__ import annotations

import csv
import glob
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from engineroom import artifacts, registry
from engineroom.config import RunConfig
from engineroom.config.rules import ACTIVATIONS
from engineroom.paths import RUNS
from engineroom.runs import RESULT
from engineroom.terms import SAMPLES_PER_QUERY_MULTI_STREAM, Scenario, TestMode

RECORDED = "recorded"
SETTINGS = "settings"
SIZES = "sizes"
ROUGH = "rough"
OVERHEAD = ""  # too little beside the rest to change where a sum is said to be from
MEANINGS = {
    RECORDED: "as it was here before",
    SETTINGS: "what the settings ask for",
    SIZES: "what the sizes of samples, engine and queries come to",
    ROUGH: "a default, as nothing was recorded here yet; it can be far off",
}

# Rough defaults. The figures of a virtual machine with 2 cores of an AMD EPYC stand behind them.
COMPILE_CORE_S = 200  # LoadGen and the harness, once
COMPILE_DISK_BYTES = 10_000_000
COMPILE_JOB_BYTES = 600_000_000  # of one compiler process
FETCH_BYTES_PER_S = 10e6
VERIFY_BYTES_PER_S = 100e6  # of a file that is hashed, and of what is unpacked
MAKE_BYTES_PER_S = 10e6  # synthetic images and weights
PREPROCESS_S, PREPROCESS_BYTES_PER_S = 0.3, 10e6  # of raw data, on one core
PREPROCESS_IMAGES_PER_S = 90  # of ImageNet, on one core
PREPROCESS_BYTES = 150_000_000  # of one process
ASK_BYTES_PER_S = 1e9  # of model, read once per sample
ANSWER_BYTES = 4  # a class and the end of its line
BUILD_BYTES_PER_S = 20e6  # of model
PYTHON_S, PYTHON_BYTES = 1.5, 150_000_000  # a process that imports an inference library
MODEL_COPIES = 4  # of the model, in memory while it is compiled or calibrated
START_S = 0.5  # from the start of the harness to the first query, and from the last one to the result
LOAD_BYTES_PER_S = 500e6  # of engine
HARNESS_BYTES = 65_000_000  # the harness with OpenVINO and a small model
LOG_BYTES = 150_000  # LoadGen's and ours
LOGGED_SAMPLE_BYTES = 100  # in LoadGen's accuracy log, beside the response, which is written in hex

# Offline, LoadGen adds a tenth to what it is told to expect, and that is up to 1.3 times what a probe found.
OFFLINE_SLACK = 1.1
OFFLINE_PROBED = (1.0, 1.5)  # times min_duration
SERVER_SLACK = 1.1  # queries arrive at random, and the last ones have to be answered
EARLIER_RUNS = 5  # the newest ones that count
FOLDERS_READ = 40  # the newest ones that are looked at


class Amount(msgspec.Struct, frozen=True):
    """Seconds or bytes: from `least` to `most`; None where nothing says how much it can become."""

    least: float
    most: float | None
    source: str

    @property
    def sure(self) -> float:
        """What it takes at least, as far as that is more than a rough default."""
        return 0.0 if self.source == ROUGH else self.least

    def times(self, count: int) -> Amount:
        """Return as many of it."""
        return self.tries(count, count)

    def tries(self, least: int, most: int) -> Amount:
        """Return at least `least` and at most `most` of it."""
        return Amount(least * self.least, None if self.most is None else most * self.most, self.source)


NOTHING = Amount(0, 0, "")


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a step takes: time, bytes that it adds to the disk, and its peak memory in bytes."""

    seconds: Amount = NOTHING
    disk_bytes: Amount = NOTHING
    memory_bytes: Amount = NOTHING

    def times(self, count: int) -> Cost:
        """Return the cost of as many such steps, one after another."""
        return self.tries(count, count)

    def tries(self, least: int, most: int) -> Cost:
        """Return the cost of a step that is done `least` to `most` times, one after another."""
        return Cost(
            seconds=self.seconds.tries(least, most),
            disk_bytes=self.disk_bytes.tries(least, most),
            memory_bytes=self.memory_bytes,
        )


def exactly(value: float, source: str) -> Amount:
    """Return an amount that is one figure."""
    return Amount(value, value, source)


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum; it is as rough as its roughest part."""
    parts = [amount for amount in amounts if amount != NOTHING]
    most = [amount.most for amount in parts]
    return Amount(
        sum(amount.least for amount in parts),
        None if None in most else sum(value for value in most if value is not None),
        _roughest(parts),
    )


def highest(amounts: Iterable[Amount]) -> Amount:
    """Return what is needed at most at a time, by steps that follow one another."""
    parts = [amount for amount in amounts if amount != NOTHING]
    if not parts:
        return NOTHING
    top = max(parts, key=_top)
    return Amount(max(amount.least for amount in parts), top.most, top.source)


def _top(amount: Amount) -> float:
    return math.inf if amount.most is None else amount.most


def _roughest(parts: Sequence[Amount]) -> str:
    used = {amount.source for amount in parts}
    return next((source for source in reversed(MEANINGS) if source in used), "")


# What is made once


def compiling(*, seconds_before: float | None, whole: bool, cores: int) -> Cost:
    """Return the cost of compiling the native harness. `seconds_before` is what the whole of it took here."""
    rough = exactly(COMPILE_CORE_S / cores, ROUGH)
    seconds = exactly(seconds_before, RECORDED) if seconds_before else rough
    return Cost(
        seconds=seconds if whole else Amount(0, seconds.most, seconds.source),
        disk_bytes=exactly(COMPILE_DISK_BYTES, ROUGH) if whole else NOTHING,
        memory_bytes=exactly(COMPILE_JOB_BYTES * cores, ROUGH),
    )


def fetching(size: int | None, *, unpacked: int = 0, about: bool = False) -> Cost:
    """Return the cost of fetching a file of `size` bytes, None if nobody knows, of which at most `unpacked` come out.

    `about` tells that `size` is no more than nearly so. Until it is unpacked, an archive takes room, too.
    """
    if size is None:
        return Cost(seconds=Amount(0, None, ROUGH), disk_bytes=Amount(0, None, SIZES))
    return Cost(
        seconds=exactly(size / FETCH_BYTES_PER_S + unpacked / VERIFY_BYTES_PER_S, ROUGH),
        disk_bytes=Amount(size, size + unpacked, ROUGH if about else SIZES),
    )


def registering(size: int | None, *, unpacked: int = 0) -> Cost:
    """Return the cost of verifying a file that somebody has, and of unpacking it. It is linked: it takes no room."""
    seconds = Amount(0, None, ROUGH) if size is None else exactly((size + unpacked) / VERIFY_BYTES_PER_S, ROUGH)
    return Cost(seconds=seconds, disk_bytes=Amount(0, unpacked, SIZES))


def preprocessing(*, images: int, data_bytes: int, array_bytes: int, cores: int) -> Cost:
    """Return the cost of turning raw data into arrays, which processes on `cores` cores write a piece at a time.

    The raw data are `images` files with an image each, and `data_bytes` of others.
    """
    core_s = images / PREPROCESS_IMAGES_PER_S + data_bytes / PREPROCESS_BYTES_PER_S
    return Cost(
        seconds=exactly(PREPROCESS_S + core_s / cores, ROUGH),
        disk_bytes=exactly(array_bytes, SIZES),
        memory_bytes=exactly(min(array_bytes + data_bytes, PREPROCESS_BYTES * cores), ROUGH),
    )


def calibrating(*, model_bytes: int, samples: int) -> Cost:
    """Return the cost of running `samples` through the float model and writing the quantized one."""
    return replace(asking(model_bytes=model_bytes, samples=samples), disk_bytes=exactly(model_bytes, ROUGH))


def asking(*, model_bytes: int, samples: int) -> Cost:
    """Return the cost of running `samples` through a model of `model_bytes` and keeping its answers."""
    return Cost(
        seconds=exactly(PYTHON_S + samples * model_bytes / ASK_BYTES_PER_S, ROUGH),
        disk_bytes=exactly(samples * ANSWER_BYTES, ROUGH),
        memory_bytes=exactly(PYTHON_BYTES + MODEL_COPIES * model_bytes, ROUGH),
    )


def building(*, model_bytes: int) -> Cost:
    """Return the cost of building one engine."""
    return Cost(
        seconds=exactly(PYTHON_S + model_bytes / BUILD_BYTES_PER_S, ROUGH),
        disk_bytes=exactly(model_bytes, ROUGH),
        memory_bytes=exactly(PYTHON_BYTES + MODEL_COPIES * model_bytes, ROUGH),
    )


def making(size: int) -> Cost:
    """Return the cost of a file that is made here, of about `size` bytes with what lies beside it."""
    return Cost(
        seconds=exactly(PYTHON_S + size / MAKE_BYTES_PER_S, ROUGH),
        disk_bytes=exactly(size, ROUGH),
        memory_bytes=exactly(PYTHON_BYTES + 2 * size, ROUGH),
    )


def as_recorded(cost: Cost, shelves: Iterable[Path], inputs: Mapping[str, str]) -> Cost:
    """Return `cost` with the time and size of what was made last, on the first of `shelves` that has something like it.

    What was made from another model or other data says nothing of what is to be made from `inputs`.
    """
    wanted = _decisive(inputs)
    for made in filter(None, (artifacts.newest(shelf, wanted) for shelf in shelves)):
        return Cost(
            seconds=cost.seconds if made.seconds is None else exactly(made.seconds, RECORDED),
            disk_bytes=cost.disk_bytes if cost.disk_bytes.source == SIZES else exactly(made.bytes, RECORDED),
            memory_bytes=cost.memory_bytes,
        )
    return cost


def _decisive(inputs: Mapping[str, str], *others: str) -> dict[str, str]:
    """Return those of the inputs of an artifact that decide how much time and room it takes, and `others`.

    The calibration stands for a model that is still to be quantized.
    """
    model = "calibration" if inputs.get("model") == artifacts.UNKNOWN and "calibration" in inputs else "model"
    return {name: inputs[name] for name in (model, "data", "inputs", "count", *others) if name in inputs}


# LoadGen tests


class Log(msgspec.Struct, frozen=True):
    """What LoadGen's own log said of an earlier run. Settings are those that were in effect."""

    effective_min_duration_ms: float | None = None
    effective_max_duration_ms: float | None = None
    effective_min_query_count: float | None = None
    effective_target_qps: float | None = None
    result_samples_per_second: float | None = None
    result_mean_latency_ns: float | None = None


class Counters(msgspec.Struct, frozen=True):
    """What the harness counted: `heartbeat_ns` has one place per worker."""

    heartbeat_ns: list[int] = []


class Earlier(msgspec.Struct, frozen=True):
    """What this module reads of an earlier run's result.json."""

    system: str
    test_mode: str
    engine: str
    precision: str
    seconds: float
    made_from: dict[str, str] = {}
    loadgen: Log = Log()
    counters: Counters = Counters()
    folder: str = ""
    audit: Any = None

    @property
    def rate(self) -> float | None:
        """Samples/s (Offline) or queries/s of a stream; None where the result has none."""
        latency_ns = self.loadgen.result_mean_latency_ns
        return self.loadgen.result_samples_per_second or (1e9 / latency_ns if latency_ns else None)


@dataclass(frozen=True)
class Workload:
    """One LoadGen test: its settings, and what they come to.

    `expected_rate` is what the settings expect, in samples/s (Offline) or queries/s, None if it is to be probed;
    `queries_bytes` the least and the most that queries generated ahead take; `array_bytes` the samples' arrays.
    """

    config: RunConfig
    samples: int
    response_bytes: int
    array_bytes: int
    engine_bytes: float
    min_duration_s: float
    expected_rate: float | None
    queries_bytes: tuple[int, int]

    @property
    def probes(self) -> bool:
        """Whether the test is preceded by a probe."""
        return self.config.test_mode is not TestMode.ACCURACY_ONLY and self.expected_rate is None


def earlier(config: RunConfig, inputs: Mapping[str, str], runs: Path = RUNS) -> list[Earlier]:
    """Return the earlier runs of this benchmark, scenario, engine with its settings, precision, batch size, instances.

    The newest come first. `inputs` is what the engine is made from: runs of another model do not count. Any test mode
    does, but no audit: the rate of a performance test says how long an accuracy test takes.
    """
    settings = registry.get("engines", config.engine).load().ENGINE.settings_of(config)
    wanted = _decisive(inputs, "batch_size", *settings)
    name = glob.escape(f"{config.system}-{config.benchmark}-{config.scenario}-")
    found = []
    for path in sorted(runs.glob(f"*-{name}*/{RESULT}"), reverse=True)[:FOLDERS_READ]:
        try:
            run = msgspec.json.decode(path.read_bytes(), type=Earlier)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            continue
        if not run.audit and _alike(run, config, wanted):
            found.append(replace(run, folder=str(path.parent)))
    return found


def _alike(run: Earlier, config: RunConfig, wanted: Mapping[str, str]) -> bool:
    ran = (run.system, run.engine, run.precision, len(run.counters.heartbeat_ns))
    asked = (config.system, config.engine, config.precision, config.instances)
    return ran == asked and artifacts.agree(run.made_from, wanted)


def rates(before: Iterable[Earlier]) -> tuple[float, float] | None:
    """Return the lowest and the highest rate of the newest earlier tests, or None if none says."""
    found = [run.rate for run in before if run.rate][:EARLIER_RUNS]
    return (min(found), max(found)) if found else None


def testing(work: Workload, before: Sequence[Earlier]) -> Cost:
    """Return the cost of one LoadGen test, with its probe."""
    same = [run for run in before if _same_test(run, work)][:EARLIER_RUNS]
    return Cost(
        seconds=total((_probe(work), _test_seconds(work, before, same))),
        disk_bytes=_folder_bytes(work, same),
        memory_bytes=_test_memory(work, same),
    )


def _same_test(run: Earlier, work: Workload) -> bool:
    """Tell whether an earlier run had the settings that decide how long it takes."""
    config, log = work.config, run.loadgen
    if run.test_mode != config.test_mode:
        return False
    if config.test_mode is TestMode.ACCURACY_ONLY:
        return config.scenario is not Scenario.SERVER or _near(log.effective_target_qps, work.expected_rate)
    offline = config.scenario is Scenario.OFFLINE  # there LoadGen counts samples, and one query
    return (
        _near(log.effective_min_duration_ms, 1000 * work.min_duration_s)
        and (offline or _near(log.effective_min_query_count, config.min_query_count))
        and _near(log.effective_max_duration_ms or None, config.max_duration)
        and _near(log.effective_target_qps, work.expected_rate)
    )


def _near(ran: float | None, wanted: float | None) -> bool:
    """Compare a setting with LoadGen's log, which rounds; what is not set or not logged is no difference."""
    return ran is None or wanted is None or abs(ran - wanted) <= 1e-3 * abs(wanted)


def _probe(work: Workload) -> Amount:
    return exactly(START_S + work.config.probe_s, OVERHEAD) if work.probes else NOTHING


def _test_seconds(work: Workload, before: Sequence[Earlier], same: Sequence[Earlier]) -> Amount:
    if same:
        return Amount(min(run.seconds for run in same), max(run.seconds for run in same), RECORDED)
    known = rates(before)
    parts = [exactly(START_S + work.engine_bytes / LOAD_BYTES_PER_S, OVERHEAD)]
    if work.config.test_mode is not TestMode.ACCURACY_ONLY:
        parts.append(_performance_seconds(work, known))
    if work.config.test_mode in (TestMode.ACCURACY_ONLY, TestMode.SUBMISSION_RUN):
        parts.append(_accuracy_seconds(work, known))
    return total(parts)


def _performance_seconds(work: Workload, known: tuple[float, float] | None) -> Amount:
    config, least, expected = work.config, work.min_duration_s, work.expected_rate
    if config.test_mode is TestMode.FIND_PEAK_PERFORMANCE:
        return Amount(least, None, SETTINGS)  # a search: it runs as many tests as it needs
    if config.scenario is Scenario.OFFLINE:
        return _offline_seconds(work, known)
    count = config.min_query_count or 0
    if config.scenario is Scenario.SERVER and expected:
        seconds = max(least, count / expected)
        amount = Amount(seconds, SERVER_SLACK * seconds, SETTINGS)
    elif known and config.scenario is not Scenario.SERVER:
        slowest, fastest = known
        amount = Amount(max(least, count / fastest), max(least, count / slowest), RECORDED)
    else:
        amount = Amount(least, None, SETTINGS)
    return _no_longer_than(config.max_duration, amount)


def _offline_seconds(work: Workload, known: tuple[float, float] | None) -> Amount:
    least, expected = work.min_duration_s, work.expected_rate
    count = work.config.min_query_count or 0
    if known is None:
        if expected is None:
            return Amount(least, None, SETTINGS)
        return exactly(max(count, OFFLINE_SLACK * expected * least) / expected, SETTINGS)
    slowest, fastest = known
    if expected is None:
        shortest, longest = OFFLINE_PROBED
        return Amount(max(count / fastest, shortest * least), max(count / slowest, longest * least), RECORDED)
    samples = max(count, OFFLINE_SLACK * expected * least)
    return Amount(samples / fastest, samples / slowest, RECORDED)


def _accuracy_seconds(work: Workload, known: tuple[float, float] | None) -> Amount:
    """An accuracy test issues each sample once; Server at its target rate."""
    scenario = work.config.scenario
    if scenario is Scenario.SERVER:
        if work.expected_rate is None:
            return Amount(0, None, ROUGH)
        seconds = work.samples / work.expected_rate
        return Amount(seconds, SERVER_SLACK * seconds, SETTINGS)
    if known is None:
        return Amount(0, None, ROUGH)
    slowest, fastest = known
    queries = work.samples / (SAMPLES_PER_QUERY_MULTI_STREAM if scenario is Scenario.MULTI_STREAM else 1)
    return Amount(queries / fastest, queries / slowest, RECORDED)


def _no_longer_than(max_duration: int | None, amount: Amount) -> Amount:
    if max_duration is None:
        return amount
    limit = max_duration / 1000
    return Amount(min(limit, amount.least), min(limit, amount.most or limit), amount.source)


def _folder_bytes(work: Workload, same: Sequence[Earlier]) -> Amount:
    if same:
        files = [path for path in Path(same[0].folder).rglob("*") if path.is_file()]
        return exactly(sum(path.stat().st_size for path in files), RECORDED)
    scored = work.config.test_mode in (TestMode.ACCURACY_ONLY, TestMode.SUBMISSION_RUN)
    return exactly(LOG_BYTES + scored * work.samples * (2 * work.response_bytes + LOGGED_SAMPLE_BYTES), ROUGH)


def _test_memory(work: Workload, same: Sequence[Earlier]) -> Amount:
    """Return the memory of one test: at most all its batches at once, each with what the network makes of it.

    The arrays are mapped: they take memory only while there is some to spare.
    """
    if peaks := [peak for run in same if (peak := _peak_bytes(Path(run.folder)))]:
        return Amount(min(peaks), max(peaks), RECORDED)
    least, most = work.queries_bytes
    needed = HARNESS_BYTES + work.engine_bytes
    sample_bytes = work.array_bytes / work.samples + work.response_bytes
    batches = work.config.instances * work.config.batch_size * sample_bytes
    return Amount(needed + least, needed + most + work.array_bytes + ACTIVATIONS * batches, SIZES)


def _peak_bytes(folder: Path) -> int | None:
    """Return the harness's peak memory as the kernel told telemetry once a second; None if it hardly did."""
    try:
        with (folder / "telemetry.csv").open(encoding="utf-8", newline="") as file:
            peaks = [int(peak) for row in csv.DictReader(file) if (peak := row["harness_peak_rss_bytes"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return max(peaks) if len(peaks) > 1 else None  # the first sample may still be of the shell that starts it


# What is free


def disk(path: Path) -> tuple[int, int]:
    """Return which file system `path` is or will be on, as a device number, and how many bytes are free there."""
    nearest = next(folder for folder in (path, *path.parents) if folder.is_dir())
    return nearest.stat().st_dev, shutil.disk_usage(nearest).free


def free_memory_bytes(limit_bytes: int, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the memory that is available, no more than `limit_bytes`, which this process may use."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return min(limit_bytes, 1024 * int(lines["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError, IndexError):
        return limit_bytes
