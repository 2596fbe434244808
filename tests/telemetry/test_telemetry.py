"""What is seen of the machine beside a run: on made-up machines, on this one, and with an NVML that never answers."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pynvml
import pytest
from machine_records import EVENT_REASONS

from engineroom import telemetry
from engineroom.runs import TelemetrySummary
from engineroom.telemetry import Telemetry, gpus
from engineroom.telemetry.host import HostWatch
from engineroom.telemetry.summary import Window, summarize

if TYPE_CHECKING:
    from machine_records import Record

TICKS = os.sysconf("SC_CLK_TCK")
HARNESS, OURS = 70, 60


class Host:
    """A machine of two cores in one package, whose counters can be moved on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cpu = {"busy": 100.0, "idle": 900.0, "steal": 5.0}  # seconds
        self.write("proc/loadavg", "0.50 0.40 0.30 1/100 4242")
        self.write("proc/meminfo", "MemTotal: 2000 kB\nMemAvailable:    1000 kB")
        self.write(f"proc/{HARNESS}/status", "VmPeak: 9 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB")
        self.write(f"proc/{OURS}/task/{OURS}/children", f"{HARNESS} ")
        self.write("proc/self/cgroup", "0::/")
        for cpu in (0, 1):
            folder = f"sys/devices/system/cpu/cpu{cpu}"
            self.write(f"{folder}/cpufreq/scaling_cur_freq", f"{2_000_000 + 1_000_000 * cpu}")
            self.write(f"{folder}/topology/physical_package_id", "0")
            self.write(f"{folder}/topology/core_id", str(cpu))
        self.heat(0, 0, 0)
        self.write("sys/fs/cgroup/cpu.stat", "usage_usec 1\nthrottled_usec 1000000")
        self.write("sys/class/powercap/intel-rapl:0/name", "package-0")
        self.write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "1000000000")
        self.write("sys/class/powercap/intel-rapl:0:0/name", "core")  # a part of the package: counted with it
        self.write("sys/class/powercap/intel-rapl:0:0/energy_uj", "7")
        self.write("sys/class/powercap/intel-rapl:1/name", "psys")
        self.write("sys/class/powercap/intel-rapl:1/energy_uj", "7")
        self.energy(900)
        self.spend(ours=0, harness=0)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def heat(self, core_0: int, core_1: int, package: int) -> None:
        for cpu, count in enumerate((core_0, core_1)):
            folder = f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
            self.write(f"{folder}/core_throttle_count", str(count))
            self.write(f"{folder}/package_throttle_count", str(package))

    def energy(self, joules: int) -> None:
        self.write("sys/class/powercap/intel-rapl:0/energy_uj", f"{joules * 1_000_000}")

    def spend(self, *, ours: float, harness: float, busy: float = 0, idle: float = 0, steal: float = 0) -> None:
        """Let so many seconds pass in all; `ours` and `harness` are those of the processes since their starts."""
        for name, seconds in (("busy", busy), ("idle", idle), ("steal", steal)):
            self.cpu[name] += seconds
        ticks = {name: int(seconds * TICKS) for name, seconds in self.cpu.items()}
        system = ticks["busy"] // 4
        words = [ticks["busy"] - system, 0, system, ticks["idle"], 0, 0, 0, ticks["steal"], 0, 0]
        self.write("proc/stat", f"cpu  {' '.join(map(str, words))}\ncpu0 1 2 3")
        for pid, seconds in ((OURS, ours), (HARNESS, harness)):
            times = f"{int(seconds * TICKS / 2)} {int(seconds * TICKS / 2)} 0 0"
            self.write(f"proc/{pid}/stat", f"{pid} (a) name) S 1 2 3 4 5 6 7 8 9 10 {times} 20 0")


def row(watch: HostWatch, now_s: float) -> dict[str, object]:
    return dict(zip(HostWatch.COLUMNS, watch.row(now_s), strict=True))


def test_a_row_tells_ours_from_others_and_what_was_stolen(tmp_path: Path) -> None:
    host = Host(tmp_path)
    watch = HostWatch(HARNESS, OURS, tmp_path)
    first = row(watch, 10.0)
    assert (first["cpu_percent"], first["other_cpus"]) == ("", "")  # there is no time before it
    host.spend(ours=0.1, harness=0.7, busy=1.2, idle=0.6, steal=0.2)
    host.heat(2, 3, 4)
    host.energy(920)
    host.write("sys/fs/cgroup/cpu.stat", "throttled_usec 1250000")
    assert row(watch, 11.0) == {
        "cpu_percent": "60.0",
        "steal_percent": "10.0",
        "other_cpus": "0.400",
        "cpu_mhz": 2500,
        "cpu_throttles": 9,  # both cores', and the package's once
        "cgroup_throttled_s": "0.250",
        "load_1min": "0.50",
        "memory_available_bytes": 1_024_000,
        "harness_cpu_percent": "80.0",
        "harness_rss_bytes": 204_800,
        "harness_peak_rss_bytes": 307_200,
        "cpu_energy_j": "20.000",
    }


def test_the_energy_counter_wraps_around(tmp_path: Path) -> None:
    host = Host(tmp_path)
    watch = HostWatch(HARNESS, OURS, tmp_path)
    host.energy(990)
    assert row(watch, 1.0)["cpu_energy_j"] == "90.000"
    host.energy(40)  # of 1,000
    assert row(watch, 2.0)["cpu_energy_j"] == "140.000"


def test_a_machine_that_tells_nothing_gives_empty_rows(tmp_path: Path) -> None:
    watch = HostWatch(HARNESS, OURS, tmp_path)
    for second in (1.0, 2.0):
        assert set(row(watch, second).values()) == {""}


def test_this_machine_tells_and_descendants_are_ours(tmp_path: Path) -> None:
    watch = HostWatch(os.getpid(), os.getpid(), Path("/"))
    begin = time.monotonic()
    watch.row(begin)
    grandchild = "import os, time\nwhile time.process_time() < 0.4: pass\nprint(os.times()[:2])"
    child = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {grandchild!r}], text=True))"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    used_s = sum(float(word) for word in done.stdout.strip(" ()\n").split(","))
    end = time.monotonic()
    now = row(watch, end)
    ours_s = float(str(now["harness_cpu_percent"])) / 100 * (end - begin)
    assert ours_s >= 0.9 * used_s > 0.2
    memory = psutil.Process().memory_info().rss
    assert abs(float(str(now["harness_rss_bytes"])) - memory) < 0.2 * memory
    assert float(str(now["memory_available_bytes"])) == pytest.approx(psutil.virtual_memory().available, rel=0.5)


# GPUs


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look twenty times a second."""
    monkeypatch.setattr(telemetry, "PERIOD_S", 0.05)


def watched(
    folder: Path, root: Path, nvml: Any, *, rows: int, at_most_s: float = 20
) -> tuple[list[dict[str, str]], float]:
    """Watch as a run does until there are so many rows of GPUs; return them and the longest that a call took."""
    folder.mkdir(exist_ok=True)
    longest, begin, path = 0.0, time.monotonic(), folder / telemetry.GPU
    with Telemetry(folder / telemetry.HOST, os.getpid(), root=root, nvml=nvml) as samples:
        while time.monotonic() < begin + at_most_s and len(_read(path)) < rows:
            called = time.monotonic()
            samples.sample()
            longest = max(longest, time.monotonic() - called)
            time.sleep(0.01)
        closing = time.monotonic()
    return _read(path), max(longest, time.monotonic() - closing)


def _read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []


@pytest.mark.usefixtures("quickly")
def test_gpus_are_seen_as_nvml_tells_them(tmp_path: Path, record: Callable[[str], Record]) -> None:
    double: Any = record("dgx_h200").nvml()
    reasons = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    double.nvmlDeviceGetCurrentClocksEventReasons = lambda handle: reasons
    double.nvmlDeviceGetPowerUsage = lambda handle: 612_500
    double.nvmlDeviceGetTotalEnergyConsumption = lambda handle: 1_000_000
    double.nvmlDeviceGetTemperature = lambda handle, sensor: 71
    double.nvmlDeviceGetClockInfo = lambda handle, clock: {1: 1980, 2: 3201}[clock]
    double.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(used=7)
    double.nvmlDeviceGetUtilizationRates = lambda handle: SimpleNamespace(gpu=99, memory=40)
    rows, _ = watched(tmp_path / "run", record("dgx_h200").root, double, rows=8)
    assert [each["gpu"] for each in rows[:8]] == [str(number) for number in range(8)]
    assert len({each["uuid"] for each in rows}) == 8
    assert (rows[0]["power_w"], rows[0]["energy_j"], rows[0]["temperature_c"]) == ("612.5", "1000.0", "71")
    assert (rows[0]["utilization_percent"], rows[0]["throttle_reasons"]) == ("99", "sw_power_cap hw_thermal_slowdown")
    assert (rows[0]["sm_clock_mhz"], rows[0]["memory_clock_mhz"], rows[0]["memory_used_bytes"]) == ("1980", "3201", "7")


def test_every_reason_of_nvml_has_its_word() -> None:
    assert {bit: word for word, bit in EVENT_REASONS.items()} == gpus.REASONS


@pytest.mark.usefixtures("quickly")
def test_a_gpu_that_does_not_tell_its_power_leaves_it_empty(tmp_path: Path, record: Callable[[str], Record]) -> None:
    rows, _ = watched(tmp_path / "run", record("dgx_h200").root, record("dgx_h200").nvml(), rows=8)
    assert rows and {(each["power_w"], each["temperature_c"]) for each in rows} == {("", "")}


class Stuck:
    """An NVML that stops answering: at once, or after so many questions for the power."""

    def __init__(self, double: Any, after: int | None) -> None:
        self._double, self._left, self.release = double, after, threading.Event()

    def __getattr__(self, name: str) -> Any:
        if self._left is None:
            self.release.wait(30)
        return getattr(self._double, name)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:  # noqa: N802  (its name)
        assert self._left is not None
        self._left -= 1
        if self._left < 0:
            self.release.wait(30)
        return 100_000


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("after", [None, 10])
def test_an_nvml_that_hangs_stalls_nothing_and_is_told(
    tmp_path: Path, record: Callable[[str], Record], after: int | None
) -> None:
    stuck, folder = Stuck(record("dgx_h200").nvml(), after), tmp_path / "run"
    rows, longest = watched(folder, record("dgx_h200").root, stuck, rows=after or 1, at_most_s=20 if after else 0.3)
    more, longer = watched(folder, record("dgx_h200").root, stuck, rows=99, at_most_s=0.3)
    stuck.release.set()
    assert len(rows) == len(more) == (after or 0)
    assert max(longest, longer) < 5  # a wait for it would be 30 s long
    if after is None:
        told = summarize(folder, Window(0, 0, 0)).disturbances
        assert "NVML did not answer: nothing is known of the GPUs" in told


def test_where_no_driver_is_nothing_is_asked(tmp_path: Path) -> None:
    assert watched(tmp_path / "run", tmp_path, None, rows=1, at_most_s=0.05)[0] == []
    assert not (tmp_path / "run" / telemetry.GPU).exists()


# The summary


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def summary(
    folder: Path, window: Window, gpu: dict[str, object] | None = None, **columns: list[object]
) -> TelemetrySummary:
    """Sum up rows, a second apart from second 100 on, with these columns; `gpu` holds for each second."""
    count = len(next(iter(columns.values())))
    times = [f"{100 + second}.000" for second in range(count)]
    write_rows(
        folder / telemetry.HOST,
        [{"monotonic_s": at, **{name: column[i] for name, column in columns.items()}} for i, at in enumerate(times)],
    )
    if gpu:
        usual = {"gpu": 0, "uuid": "GPU-x", "throttle_reasons": ""}
        write_rows(folder / telemetry.GPU, [{"monotonic_s": at, **usual, **gpu} for at in times])
    return summarize(folder, window)


def test_only_the_test_itself_counts(tmp_path: Path) -> None:
    """Loading before it and reckoning behind it are another load."""
    found = summary(tmp_path, Window(101.4, 104.4, 9), cpu_mhz=[1, 2, 3, 4, 5, 6, 7])
    assert (found.rows, found.official) == (3, False)
    mhz = found.host["cpu_mhz"]
    assert (mhz.min, mhz.median, mhz.max) == (3, 4, 5)
    short = summary(tmp_path, Window(101.1, 101.2, 9), cpu_mhz=[1, 2, 3])
    assert short.rows == 3


def test_energy_per_sample_is_mean_power_over_the_test(tmp_path: Path) -> None:
    """The processors take 50 W, the GPU 300 W, for the 8 s in which 2,800 samples are answered."""
    window = Window(101.0, 109.0, 2800)
    energy = summary(tmp_path, window, {"power_w": 300.0}, cpu_energy_j=[50.0 * second for second in range(12)]).energy
    assert energy and (energy.joules, energy.joules_per_sample) == (2800.0, 1.0)
    assert energy.counted == ("processor packages by RAPL", "GPU 0 by NVML")
    assert summary(tmp_path, Window(101.0, 104.0, 9), cpu_energy_j=[1.0] * 6).energy is None  # too short to say
    (tmp_path / telemetry.GPU).unlink()
    assert summary(tmp_path, window, cpu_mhz=[1] * 12).energy is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"steal_percent": [0, 3, 6, 3]}, "other virtual machines took 3% of the CPU time, up to 6%"),
        ({"steal_percent": [0, 1, 2, 1]}, None),
        ({"other_cpus": [3000] * 4}, "other processes took 3000.0 of "),
        ({"other_cpus": [0.01] * 4}, None),
        ({"cpu_throttles": [5, 5, 6, 7]}, "heat slowed the processor down 2 times"),
        ({"cpu_throttles": [5] * 4}, None),
        ({"cgroup_throttled_s": [0.0, 0.5, 1.0, 1.5]}, "a CPU quota held the run back for 1.5 s"),
        ({"cgroup_throttled_s": [0.0, 0.0, 0.0, 0.01]}, None),
        (
            {"cpu_mhz": [1] * 4, "gpu": {"throttle_reasons": "sw_power_cap sw_thermal_slowdown"}},
            "GPU 0 was slowed down in 4 of 4 s: sw_thermal_slowdown",
        ),
        ({"cpu_mhz": [1] * 4, "gpu": {"throttle_reasons": "sw_power_cap"}}, None),  # its usual state at full load
    ],
)
def test_what_disturbs_a_run_is_told(tmp_path: Path, columns: dict[str, Any], said: str | None) -> None:
    told = summary(tmp_path, Window(0, 0, 0), **columns).disturbances
    assert [each.startswith(said) for each in told] == [True] if said else told == ()


def test_an_nvml_that_fell_silent_is_told(tmp_path: Path) -> None:
    summary(tmp_path, Window(0, 0, 0), {"power_w": 300.0}, cpu_mhz=[1] * 3)
    write_rows(tmp_path / telemetry.HOST, [{"monotonic_s": f"{second}", "cpu_mhz": 1} for second in (100, 120)])
    told = summarize(tmp_path, Window(0, 0, 0)).disturbances
    assert told == ("NVML gave no more answers 18 s before the end",)


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / telemetry.HOST
    path.write_text("elapsed_s,monotonic_s,cpu_mhz\n0.0,100.0,2000\n1.0,101.0,2100\n2.0,1")
    assert summarize(tmp_path, Window(0, 0, 0)).rows == 2
    assert summarize(tmp_path, Window(100.0, 130.0, 9)).disturbances == (
        "telemetry.csv tells nothing of the last 29 s",
    )
    path.unlink()
    assert summarize(tmp_path, Window(0, 0, 0)) == TelemetrySummary(rows=0, host={})
    assert summarize(tmp_path, Window(100.0, 130.0, 9)).disturbances == (
        "telemetry.csv tells nothing of the last 30 s",
    )


@pytest.mark.usefixtures("quickly")
def test_a_file_that_cannot_grow_ends_the_telemetry_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, limits = tmp_path / telemetry.HOST, resource.getrlimit(resource.RLIMIT_FSIZE)
    with Telemetry(path, os.getpid(), root=tmp_path) as samples:
        samples.sample()
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        try:
            for _ in range(3):
                time.sleep(2 * telemetry.PERIOD_S)
                samples.sample()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(_read(path)) >= 1
    said = "warning: telemetry.csv ends here: File too large; the test goes on without telemetry\n"
    assert capsys.readouterr().err == said
