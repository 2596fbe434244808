"""This machine, whichever it is, is detected quickly, and as other programs see it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engineroom import detection
from engineroom.paths import CODE

Records = Callable[[str], Any]
LIMIT_S = 0.3


def _run(*command: str) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


def _median_s(work: Callable[[], object]) -> float:
    def once() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return statistics.median(once() for _ in range(5))


def test_it_is_detected_quickly() -> None:
    assert _median_s(detection.detect) < LIMIT_S


def test_a_machine_of_224_cpus_and_8_gpus_is_detected_quickly(record: Records) -> None:
    machine = record("dgx_h200")
    # As long as the machine's own: the record's list of instruction sets is cut short.
    cpuinfo = machine.root / "proc/cpuinfo"
    whole = cpuinfo.read_text().replace("flags\t\t: ", "flags\t\t: " + "some_flag " * 120)
    assert len(whole) > 300_000
    short = cpuinfo.read_text()
    cpuinfo.write_text(whole)
    try:
        assert _median_s(machine.detect) < LIMIT_S
    finally:
        cpuinfo.write_text(short)


def test_a_machine_without_gpus_loads_nothing_for_them(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from engineroom import detection
assert not detection.detect(Path(sys.argv[1])).gpus
print(*sys.modules)
"""
    command = [sys.executable, "-c", code, tmp_path]
    environ = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert not {"pynvml", "psutil", "numpy"} & set(done.stdout.split())


def test_lscpu_agrees() -> None:
    fields = {item["field"].rstrip(":"): item["data"] for item in _flat(json.loads(_run("lscpu", "-J"))["lscpu"])}
    cpu = detection.detect().cpu
    assert cpu.threads == int(fields["CPU(s)"])
    assert cpu.architecture == fields["Architecture"]
    if cpu.architecture == "x86_64" and not cpu.kinds:
        assert cpu.vendor == fields["Vendor ID"]
        assert cpu.model == " ".join(fields["Model name"].split())
        assert cpu.sockets == int(fields["Socket(s)"])
        assert cpu.cores == int(fields["Socket(s)"]) * int(fields["Core(s) per socket"])


def test_lscpu_agrees_about_caches() -> None:
    found = {(cache.level, cache.kind): 0 for cache in detection.detect().cpu.caches}
    for cache in detection.detect().cpu.caches:
        found[cache.level, cache.kind] += cache.size_bytes * cache.count
    caches = json.loads(_run("lscpu", "-C", "-B", "-J"))["caches"]
    assert found == {(int(cache["level"]), cache["type"].lower()): int(cache["all-size"]) for cache in caches}


def _flat(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for item in items for each in (item, *_flat(item.get("children", [])))]


def test_nproc_agrees() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(["nproc"], capture_output=True, text=True, check=True, env=environ)
    found = detection.detect()
    # From coreutils 9.8 on, nproc too honours the quota.
    allowed = {len(found.cpu.usable), max(1, int(found.limits.cpus or len(found.cpu.usable)))}
    assert int(done.stdout) in allowed


def test_free_agrees() -> None:
    memory, swap = (line.split() for line in _run("free", "-b").splitlines()[1:3])
    found = detection.detect()
    if found.memory_nodes:
        pytest.skip("free counts the GPU's memory, too")
    assert (found.memory_total_bytes, found.swap_bytes) == (int(memory[1]), int(swap[1]))


def test_psutil_agrees() -> None:
    found = detection.detect()
    assert found.cpu.threads == psutil.cpu_count()
    assert found.cpu.cores == psutil.cpu_count(logical=False) or found.cpu.architecture != "x86_64"
    assert {nic.name for nic in found.nics} <= {*psutil.net_if_addrs(), *psutil.net_if_stats()}
    assert set(found.cpu.usable) == set(psutil.Process().cpu_affinity() or ())


def test_affinity_is_honoured() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    os.sched_setaffinity(0, {one})
    try:
        cpu = detection.detect().cpu
    finally:
        os.sched_setaffinity(0, before)
    assert (cpu.usable, cpu.usable_cores) == ((one,), 1)


def test_the_kernels_names_agree() -> None:
    found = detection.detect()
    assert found.kernel == os.uname().release
    assert found.cpu.architecture == os.uname().machine
