"""Sums a run's telemetry up: ranges, energy, and what of others or of heat disturbed the run. Unofficial."""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engineroom.runs import Energy, GpuSummary, Range, TelemetrySummary
from engineroom.telemetry import GPU, HOST, PERIOD_S

# From these shares on a run counts as disturbed. An idle machine shows less than half of each: timers, daemons, us.
STEAL_SHARE = 0.02  # of all CPU time
OTHERS_SHARE = 0.05  # of the machine's CPUs
HELD_SHARE = 0.01  # of the time
SILENCE_S = 5.0  # NVML answers within milliseconds
ENERGY_S_MIN = 5.0  # below, the seconds between two rows are too large a part

HOST_RANGES = (
    *("cpu_percent", "steal_percent", "other_cpus", "cpu_mhz", "load_1min"),
    *("memory_available_bytes", "harness_cpu_percent", "harness_rss_bytes"),
)
GPU_RANGES = (
    *("sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_w"),
    *("utilization_percent", "memory_used_bytes"),
)
SLOWED = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Window:
    """The test proper, by CLOCK_MONOTONIC: what lies before is loading, what lies behind LoadGen's reckoning."""

    begin_s: float
    end_s: float
    samples: int

    def of(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows within; each speaks of the second before it, so the first of them starts half in."""
        half = PERIOD_S / 2
        return [row for row in rows if self.begin_s + half <= float(row["monotonic_s"]) <= self.end_s + half]


def summarize(folder: Path, window: Window) -> TelemetrySummary:
    """Sum up the telemetry in a run's folder. A test too short to have rows of its own counts with all there are."""
    every = _rows(folder / HOST)
    rows, gpus = window.of(every) or every, _by_gpu(folder / GPU, window)
    told = [*_of_host(rows), *(words for rows_of in gpus.values() for words in _of_gpu(rows_of))]
    told += [*_silence(folder / GPU, every), *_missing(every, window)]
    return TelemetrySummary(
        rows=len(rows),
        host=_ranges(rows, HOST_RANGES),
        gpus=tuple(_gpu(rows_of) for rows_of in gpus.values()),
        energy=_energy(rows, gpus, window),
        disturbances=tuple(told),
    )


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]  # a row that was cut off
    except OSError:
        return []


def _by_gpu(path: Path, window: Window) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    every = _rows(path)
    for row in window.of(every) or every:
        found.setdefault(row["gpu"], []).append(row)
    return found


def _numbers(rows: Iterable[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name)]


def _ranges(rows: Sequence[Row], columns: Iterable[str]) -> dict[str, Range]:
    found = ((name, _numbers(rows, name)) for name in columns)
    return {name: Range(min(each), statistics.median(each), max(each)) for name, each in found if each}


def _gpu(rows: Sequence[Row]) -> GpuSummary:
    reasons = [reason for row in rows for reason in row["throttle_reasons"].split()]
    return GpuSummary(
        gpu=int(rows[0]["gpu"]),
        uuid=rows[0]["uuid"],
        ranges=_ranges(rows, GPU_RANGES),
        slowed_s={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
    )


# Energy


def _energy(rows: Sequence[Row], gpus: Mapping[str, Sequence[Row]], window: Window) -> Energy | None:
    """Return mean power times the test's length: the counters are read once a second, the test begins in between."""
    known = {"processor packages by RAPL": _watts(rows, "cpu_energy_j")}
    for name, rows_of in gpus.items():
        known[f"GPU {name} by NVML"] = _watts(rows_of, "energy_j") or _mean(_numbers(rows_of, "power_w"))
    counted = {name: watts for name, watts in known.items() if watts is not None}
    seconds = window.end_s - window.begin_s
    if not counted or seconds < ENERGY_S_MIN or not window.samples:
        return None
    joules = seconds * sum(counted.values())
    return Energy(
        joules=round(joules, 3),
        joules_per_sample=float(f"{joules / window.samples:.4g}"),
        counted=tuple(counted),
    )


def _watts(rows: Sequence[Row], counter: str) -> float | None:
    known = [row for row in rows if row.get(counter)]
    if len(known) < 2:
        return None
    first, last = known[0], known[-1]
    return (float(last[counter]) - float(first[counter])) / (float(last["monotonic_s"]) - float(first["monotonic_s"]))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


# Disturbances


def _of_host(rows: Sequence[Row]) -> Iterator[str]:
    cpus = os.cpu_count() or 1
    steal, others = _numbers(rows, "steal_percent"), _numbers(rows, "other_cpus")
    if steal and statistics.fmean(steal) > 100 * STEAL_SHARE:
        yield f"other virtual machines took {statistics.fmean(steal):.0f}% of the CPU time, up to {max(steal):.0f}%"
    if others and statistics.fmean(others) > OTHERS_SHARE * cpus:
        yield f"other processes took {statistics.fmean(others):.1f} of {cpus} CPUs, up to {max(others):.1f}"
    if throttles := _risen(rows, "cpu_throttles"):
        yield f"heat slowed the processor down {throttles:,.0f} times"
    if (held := _risen(rows, "cgroup_throttled_s")) > HELD_SHARE * PERIOD_S * len(rows):
        yield f"a CPU quota held the run back for {held:.1f} s"


def _of_gpu(rows: Sequence[Row]) -> Iterator[str]:
    slowed = [row for row in rows if set(row["throttle_reasons"].split()) & set(SLOWED)]
    if slowed:
        named = dict.fromkeys(word for row in slowed for word in row["throttle_reasons"].split() if word in SLOWED)
        yield f"GPU {rows[0]['gpu']} was slowed down in {len(slowed)} of {len(rows)} s: {', '.join(named)}"


def _silence(path: Path, host: Sequence[Row]) -> Iterator[str]:
    """Tell of GPUs that were there and of which NVML said nothing, or nothing more."""
    rows, last_s = _rows(path), float(host[-1]["monotonic_s"]) if host else 0.0
    if path.exists() and not rows:
        yield "NVML did not answer: nothing is known of the GPUs"
    elif rows and last_s - float(rows[-1]["monotonic_s"]) > SILENCE_S:
        yield f"NVML gave no more answers {last_s - float(rows[-1]['monotonic_s']):.0f} s before the end"


def _missing(host: Sequence[Row], window: Window) -> Iterator[str]:
    """Tell of a telemetry that ended before the test did, as on a full disk."""
    last_s = max(window.begin_s, float(host[-1]["monotonic_s"])) if host else window.begin_s
    if window.end_s - last_s > SILENCE_S:
        yield f"{HOST} tells nothing of the last {window.end_s - last_s:.0f} s"


def _risen(rows: Sequence[Row], counter: str) -> float:
    values = _numbers(rows, counter)
    return values[-1] - values[0] if values else 0.0
