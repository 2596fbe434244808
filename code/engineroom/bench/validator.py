"""How long it takes to judge a submission as large as a whole round, and the memory of all processes that do it."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from engineroom import rounds, terminal
from engineroom.bench import product, trees
from engineroom.bench.figures import Figure
from engineroom.errors import EngineError

RESULTS = 1437  # of the round v5.1
LOG_BYTES = 1 << 20  # of the detail logs of each performance and accuracy run, at least
LIMIT_S, LIMIT_MB = 10.0, 500.0
CORES = 2
INTERVAL_S = 0.5  # to add up the pages of a process takes it and us milliseconds
MB = 1e6


def measure(pairs: int) -> list[Figure]:
    """Return seconds and megabytes of `pairs` judgements of one tree, each in a process of its own on two cores.

    Raises EngineError if one finds anything.
    """
    round_name = rounds.names()[-1]
    with product.scratch() as folder:
        tree = folder / "submission"
        with terminal.progress("writing a made-up round", RESULTS) as update:
            for done in trees.many(tree, round_name, RESULTS, LOG_BYTES):
                update(done, f"{done:,} of {RESULTS:,} results")
        os.sync()  # else it is written to the disk while it is judged
        with terminal.progress("judging it", pairs) as update:
            taken = []
            for number in range(pairs):
                update(number, "")
                taken.append(_judged(tree, round_name))
    seconds, peaks_mb = zip(*taken, strict=True)
    name = f"judging {RESULTS:,} results"
    return [Figure(name, "s", seconds, limit=LIMIT_S), Figure(f"{name}, memory", "MB", peaks_mb, limit=LIMIT_MB)]


def _judged(tree: Path, round_name: str) -> tuple[float, float]:
    """Judge a tree; return the seconds, and the highest sum of what all its processes have for themselves, in MB."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    begin, peak_mb = time.perf_counter(), 0.0
    with subprocess.Popen(
        [product.INV, "check_submission"],
        env=product.environment([str(tree), f"--round={round_name}"]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509
    ) as process:
        while process.poll() is None:
            peak_mb = max(peak_mb, _memory_mb(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(INTERVAL_S)
        seconds = time.perf_counter() - begin
    if process.returncode:
        raise EngineError(f"finds something in a made-up round, or failed: exit code {process.returncode}")
    return seconds, peak_mb


def _memory_mb(pid: int) -> float:
    """Return the memory of a process and its children: pages that they share count in each one's part."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        return 0.0  # it has just ended
    return total / MB
