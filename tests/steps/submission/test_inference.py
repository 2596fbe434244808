"""Results that stand by another scenario's: only where the round allows it, and where nothing was run instead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from desk import MULTI, OFFLINE, SINGLE, WHO, refused, staged, tree

from engineroom.terms import Scenario

if TYPE_CHECKING:
    from conftest import Runs


def test_at_the_edge_what_was_not_run_is_inferred(made: Runs, tmp_path: Path) -> None:
    made.pair(SINGLE)
    staged()
    results = tree(tmp_path) / "results/bench/resnet50"
    multi, offline = ((results / each / "README.md").read_text() for each in (MULTI, OFFLINE))
    assert "p99 latency of 8 samples 84 ms" in multi and "from SingleStream, 8 * early_stopping_latency_ms" in multi
    assert "throughput 100 samples/s" in offline and "the logs are those of SingleStream" in offline
    source = results / SINGLE / "performance/run_1/mlperf_log_detail.txt"
    assert (results / OFFLINE / "performance/run_1/mlperf_log_detail.txt").read_bytes() == source.read_bytes()


def test_nothing_is_inferred_from_too_few_queries_or_in_a_datacenter(made: Runs) -> None:
    made.pair(SINGLE, log={"early_stopping_latency_ms": 0, "result_qps_without_loadgen_overhead": 0})
    assert "resnet50 MultiStream: has no performance run that fits" in refused()
    assert "v6.1 has no resnet50 in the category datacenter" in refused((*WHO[:2], "--category=datacenter"))


def test_a_system_of_both_categories_infers_what_only_the_edge_asks_for(made: Runs, tmp_path: Path) -> None:
    both = (*WHO[:2], "--category=both")
    for scenario in (SINGLE, Scenario.SERVER):
        made.pair(scenario)
    staged(both)
    results = tree(tmp_path) / "results/bench/resnet50"
    assert "from SingleStream" in (results / MULTI / "README.md").read_text()
    assert "from SingleStream" in (results / OFFLINE / "README.md").read_text()


def test_what_the_datacenter_asks_for_is_measured_even_if_the_edge_may_infer_it(made: Runs, tmp_path: Path) -> None:
    """In v5.0 both categories have resnet50 Offline."""
    both = (*WHO[:2], "--category=both", "--round=v5.0")
    for scenario in (SINGLE, Scenario.SERVER):
        made.pair(scenario, round="v5.0")
    assert "resnet50 Offline: has no performance run that fits" in refused(both)
    made.pair(OFFLINE, round="v5.0")
    staged(both)
    assert (
        "from SingleStream"
        in (tree(tmp_path, "v5.0") / "measurements/bench/resnet50/MultiStream/README.md").read_text()
    )
