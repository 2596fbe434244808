"""Reads the host's load, clocks, throttling, memory and energy from /proc and /sys.

Sources: proc(5); Linux's Documentation: admin-guide/cgroup-v2 (cpu.stat), admin-guide/pm/cpufreq, power/powercap;
the counters of arch/x86/kernel/cpu/mce/therm_throt.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engineroom.detection import cgroup
from engineroom.detection.files import names, number, text, value

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CLOCKS_READ = 8  # of so many CPUs: reading a clock can interrupt the CPU that it is of
CPUS = "sys/devices/system/cpu"
PACKAGES = "sys/class/powercap"  # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it; AMD's bear the same name


@dataclass(frozen=True)
class Times:
    """CPU seconds since the start: of all CPUs busy, stolen by the hypervisor, in all, and of our processes."""

    at_s: float
    busy_s: float
    steal_s: float
    total_s: float
    ours_s: float


class HostWatch:
    """One row of the host's state at a time. What cannot be read is empty."""

    COLUMNS = (
        "cpu_percent",
        "steal_percent",
        "other_cpus",  # CPUs' worth of work that is not ours
        "cpu_mhz",
        "cpu_throttles",  # times that heat slowed cores or packages down, since the run began
        "cgroup_throttled_s",  # time that a CPU quota held us back, since the run began
        "load_1min",
        "memory_available_bytes",
        "harness_cpu_percent",  # of one CPU; our own watching included
        "harness_rss_bytes",
        "harness_peak_rss_bytes",
        "cpu_energy_j",  # of the processors' packages, since the run began
    )

    def __init__(self, harness: int, ours: int, root: Path) -> None:
        """Watch the process `harness`; `ours` is the process whose descendants, and which itself, are our load."""
        self._root, self._harness, self._ours = root, harness, ours
        self._clocks = _some([root / CPUS / name / "cpufreq/scaling_cur_freq" for name in _cpus(root)])
        self._throttles = list(_throttle_files(root))
        self._cgroups = cgroup.cpu_stats(root)
        self._energy = [Energy(root / PACKAGES / name) for name in _packages(root)]
        self._throttles_before, self._held_before_s = self._throttle_count(), self._held_s()
        self._last: Times | None = None

    def row(self, now_s: float) -> tuple[object, ...]:
        """Return the values of COLUMNS. Shares are over the time since the last row."""
        rss, peak = _memory(text(self._root / f"proc/{self._harness}/status"))
        busy, steal, others, ours = self._shares(now_s)
        return (
            busy,
            steal,
            others,
            self._mhz(),
            self._throttle_count() - self._throttles_before if self._throttles else "",
            f"{self._held_s() - self._held_before_s:.3f}" if self._cgroups else "",
            (text(self._root / "proc/loadavg").split() or [""])[0],
            _field(text(self._root / "proc/meminfo"), "MemAvailable"),
            ours,
            rss,
            peak,
            f"{sum(package.joules() for package in self._energy):.3f}" if self._energy else "",
        )

    def _shares(self, now_s: float) -> tuple[object, ...]:
        last, self._last = self._last, _times(self._root, self._ours, self._harness, now_s)
        if last is None or self._last is None:
            return "", "", "", ""
        total, elapsed = self._last.total_s - last.total_s, self._last.at_s - last.at_s
        busy, steal = self._last.busy_s - last.busy_s, self._last.steal_s - last.steal_s
        ours = self._last.ours_s - last.ours_s
        if total <= 0 or elapsed <= 0:
            return "", "", "", ""
        others = max(0.0, busy - ours) / elapsed
        return f"{100 * busy / total:.1f}", f"{100 * steal / total:.1f}", f"{others:.3f}", f"{100 * ours / elapsed:.1f}"

    def _mhz(self) -> object:
        khz = [found for path in self._clocks if (found := number(value(str(path))))]
        if khz:
            return round(sum(khz) / len(khz) / 1000)
        lines = [line for line in text(self._root / "proc/cpuinfo").splitlines() if line.startswith("cpu MHz")]
        mhz = [float(line.partition(":")[2]) for line in lines]
        return round(sum(mhz) / len(mhz)) if mhz else ""

    def _throttle_count(self) -> int:
        return sum(number(value(str(path))) or 0 for path in self._throttles)

    def _held_s(self) -> float:
        """Return how long a quota held our group, or one above it, back: the longest counts, they overlap."""
        return max((_throttled_s(text(path)) for path in self._cgroups), default=0.0)


class Energy:
    """The energy that one package has taken since this was made, from a counter that wraps around."""

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range_uj = number(value(str(folder / "max_energy_range_uj"))) or 0
        self._last_uj, self._sum_uj = number(value(str(self._counter))) or 0, 0

    def joules(self) -> float:
        """Return the joules so far. Two calls must lie closer than the counter takes to wrap, a minute and more."""
        now = number(value(str(self._counter)))
        if now is not None:
            step = now - self._last_uj
            self._sum_uj += step if step >= 0 else step + self._range_uj
            self._last_uj = now
        return self._sum_uj / 1e6


def _times(root: Path, ours: int, harness: int, now_s: float) -> Times | None:
    words = (text(root / "proc/stat").splitlines() or [""])[0].split()
    ticks = [int(word) for word in words[1:9] if word.isdigit()]
    if len(ticks) < 8:
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = ticks  # guests' time is within user and nice
    busy = user + nice + system + irq + softirq
    mine = sum(_ticks(text(root / f"proc/{pid}/stat")) for pid in {*_tree(root, ours), harness})
    in_s = [count / TICKS_PER_S for count in (busy, steal, busy + idle + iowait + steal, mine)]
    return Times(now_s, *in_s)


def _tree(root: Path, pid: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    yield pid
    for task in names(root / f"proc/{pid}/task"):
        for child in text(root / f"proc/{pid}/task/{task}/children").split():
            yield from _tree(root, int(child))


def _ticks(stat: str) -> int:
    """Return the CPU time of a process and of the children that it has waited for; 0 for one that has ended."""
    fields = stat.rpartition(")")[2].split()  # its name, in parentheses, may hold anything
    return sum(int(each) for each in fields[11:15])


def _memory(status: str) -> tuple[object, object]:
    return _field(status, "VmRSS"), _field(status, "VmHWM")


def _field(lines: str, name: str) -> object:
    """Return the bytes that a line like "VmRSS:  123 kB" tells."""
    for line in lines.splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * (number(line.split()[1]) or 0)
    return ""


def _cpus(root: Path) -> list[str]:
    return [name for name in names(root / CPUS) if name.startswith("cpu") and name[3:].isdigit()]


def _some(paths: list[Path]) -> list[Path]:
    """Return at most CLOCKS_READ of the files, spread over all."""
    step = max(1, len(paths) // CLOCKS_READ)
    return [path for path in paths[::step] if path.exists()][:CLOCKS_READ]


def _throttle_files(root: Path) -> Iterator[Path]:
    """Yield each core's counter, and each package's once: all its CPUs show the same one."""
    seen: set[str] = set()
    for name in _cpus(root):
        folder, topology = root / CPUS / name / "thermal_throttle", root / CPUS / name / "topology"
        package, core = text(topology / "physical_package_id"), text(topology / "core_id")
        for file, place in (("core_throttle_count", f"{package}/{core}"), ("package_throttle_count", package)):
            if place not in seen and (folder / file).exists():
                seen.add(place)
                yield folder / file


def _packages(root: Path) -> Iterator[str]:
    """Yield the packages whose counter may be read, which many systems leave to root."""
    for name in names(root / PACKAGES):
        folder = root / PACKAGES / name
        is_package = name.startswith("intel-rapl:") and text(folder / "name").startswith("package")
        if is_package and number(value(str(folder / "energy_uj"))) is not None:
            yield name


def _throttled_s(stat: str) -> float:
    """Return the time of a cpu.stat: in microseconds in version 2, in nanoseconds in version 1."""
    words = dict(line.split(None, 1) for line in stat.splitlines() if " " in line)
    return int(words.get("throttled_usec", 0)) / 1e6 or int(words.get("throttled_time", 0)) / 1e9
