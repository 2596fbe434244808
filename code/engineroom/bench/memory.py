"""Resident memory of a run, beside what it cannot do without: model, samples, and what LoadGen generates ahead."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from engineroom import runs
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.config import RunConfig
from engineroom.steps import native
from engineroom.terms import Scenario

SCENARIOS = (Scenario.OFFLINE, Scenario.SINGLE_STREAM)  # where LoadGen generates most ahead
LIMIT_MB = 300.0
MB = 1e6
PEER = "model, samples, queries"
# Next to nothing: LoadGen without queries. Milliseconds and samples/s; SingleStream's rate follows from its latency.
ONE_QUERY: dict[Scenario, dict[str, float]] = {
    Scenario.OFFLINE: {"min_duration": 0, "min_query_count": 1, "target_qps": 1},
    Scenario.SINGLE_STREAM: {"min_duration": 0, "min_query_count": 64, "target_latency": 1000},
}


def measure(pairs: int) -> list[Figure]:
    """Return the peak of the harness's process in the performance test of each scenario."""
    native.build_program("bare_null_sut")
    return [_figure(scenario, pairs) for scenario in SCENARIOS]


def _figure(scenario: Scenario, pairs: int) -> Figure:
    flags = (f"--scenarios={scenario}", "--test_mode=PerformanceOnly", "--engine=openvino")
    with product.run_harness(*flags) as ran, product.scratch() as folder:
        run = ran.folders["performance"]
        config = runs.read_config(run).config
        command = ["/bin/sh", str(run / runs.RECIPE / "run.sh"), str(folder)]
        given_mb = _given_bytes(run) / MB
        take = {
            "engineroom": partial(_peak_mb, command),
            "LoadGen": partial(_ahead_mb, config, folder),
        }
        taken = interleaved(f"memory, {scenario}", pairs, take)
    peer = tuple(given_mb + ahead_mb for ahead_mb in taken["LoadGen"])
    name = f"peak memory, {scenario}"
    return Figure(name, "MB", taken["engineroom"], peer, PEER, Comparison.DIFFERENCE, LIMIT_MB)


def _given_bytes(run: Path) -> int:
    """Return the size of the engine's and the samples' files."""
    harness = json.loads((run / runs.RECIPE / "harness.json").read_text(encoding="utf-8"))
    files = [harness["engine"]["options"]["blob"], *(tensor["path"] for tensor in harness["inputs"])]
    return sum(Path(name).stat().st_size for name in files)


def _ahead_mb(config: RunConfig, folder: Path) -> float:
    """Return what LoadGen alone takes for this run's queries: its peak with them less its peak without."""
    queries_mb = _peak_mb(product.bare_null_sut(config, folder))
    return queries_mb - _peak_mb(product.bare_null_sut(config, folder, **ONE_QUERY[config.scenario]))


def _peak_mb(command: list[str]) -> float:
    return product.peak_rss_bytes(command) / MB
