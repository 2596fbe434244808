"""Results of a scenario that was not run, from one that was: only at the edge, and only as the rules say.

MLCommons' checker infers a result itself where the log in a scenario's folder is another scenario's: so the runs of that
other scenario are staged in the missing one's place. Source: mlcommons/inference at b66003e1,
tools/submission/submission_checker/checks/performance_check.py, inferred_check and get_inferred_result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engineroom.steps.submission.choose import Chosen
from engineroom.terms import SAMPLES_PER_QUERY_MULTI_STREAM, Scenario

# The scenarios from which each can be inferred, the first one first.
SOURCES = {
    Scenario.MULTI_STREAM: (Scenario.SINGLE_STREAM,),
    Scenario.OFFLINE: (Scenario.MULTI_STREAM, Scenario.SINGLE_STREAM),
}
FORMULAS = {
    (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM): "8 times SingleStream's early-stopping estimate of the p99 latency",
    (Scenario.MULTI_STREAM, Scenario.OFFLINE): "8 samples over MultiStream's mean latency of a query",
    (Scenario.SINGLE_STREAM, Scenario.OFFLINE): "one sample over SingleStream's mean latency",
}
NS_PER_MS, NS_PER_S = 1e6, 1e9


def infer(scenario: Scenario, chosen: Mapping[Scenario, Chosen], category: str) -> Chosen | None:
    """Return the runs that stand for a scenario, or None if it cannot be inferred from what was run."""
    for source in SOURCES.get(scenario, ()) if category == "edge" else ():
        found = chosen.get(source)
        if found and found.inferred_from is None and value(source, scenario, found.performance.result.loadgen):
            return replace(found, inferred_from=source, audits={}, notes=())
    return None


def value(source: Scenario, scenario: Scenario, log: Mapping[str, Any]) -> float | None:
    """Return the inferred figure, in ms (MultiStream) or samples/s (Offline), from the log of `source`.

    None where the log does not have what it follows from: too few queries for an estimate of the p99.
    """
    if (source, scenario) == (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
        return SAMPLES_PER_QUERY_MULTI_STREAM * float(log.get("early_stopping_latency_ms") or 0) / NS_PER_MS or None
    if (source, scenario) == (Scenario.MULTI_STREAM, Scenario.OFFLINE):
        mean_ns = float(log.get("result_mean_query_latency_ns") or 0)
        return SAMPLES_PER_QUERY_MULTI_STREAM * NS_PER_S / mean_ns if mean_ns else None
    if (source, scenario) == (Scenario.SINGLE_STREAM, Scenario.OFFLINE):
        return float(log.get("result_qps_without_loadgen_overhead") or 0) or None
    return None
