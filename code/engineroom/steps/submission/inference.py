"""Results of a scenario that was not run, from one that was: only where the rules of the round allow it.

MLCommons' checker infers a result itself where the log in a scenario's folder is another scenario's: so the runs of
that other scenario are staged in the missing one's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from engineroom.rounds import Inferred, Way
from engineroom.steps.submission.choose import Chosen
from engineroom.terms import METRICS, Scenario


def infer(scenario: Scenario, chosen: Mapping[Scenario, Chosen], ways: Iterable[Way]) -> Chosen | None:
    """Return the runs that stand for a scenario, or None if it cannot be inferred from what was run.

    `ways` are those that the round allows (rounds.Round.inferences), the best one first.
    """
    for way in ways:
        source = Scenario(way.by)
        found = chosen.get(source) if way.scenario == scenario else None
        if found and found.inferred_from is None and value(way, found.performance.result.loadgen):
            return replace(found, inferred_from=source, notes=())
    return None


def value(way: Way, log: Mapping[str, Any]) -> float | None:
    """Return the inferred figure in the unit of METRICS, from the log of the scenario that was run.

    None where the log does not have what it follows from: LoadGen's 0 says that it had too few queries to estimate.
    """
    known = float(log.get(way.field) or 0)
    if not known:
        return None
    return (way.factor / known if way.inverse else way.factor * known) * METRICS[Scenario(way.scenario)].scale


def way_of(source: Scenario, scenario: str, rules: Inferred) -> Way:
    """Return how a scenario follows from another."""
    return next(way for way in rules.ways if (way.by, way.scenario) == (source, scenario))


def in_words(way: Way) -> str:
    """Return the formula: "8 * early_stopping_latency_ms"."""
    return f"{way.factor:g} {'/' if way.inverse else '*'} {way.field}"
