"""Says before a run which of its results could not be submitted, and why."""

from __future__ import annotations

from collections.abc import Iterable

from engineroom.actions.work import Work
from engineroom.config import RunConfig
from engineroom.runs import Submittable, in_one_line
from engineroom.steps import native, recipes, rules
from engineroom.terms import TestMode


def expected(work: Work, config: RunConfig) -> Submittable:
    """Return what the settings of a run alone allow."""
    version, _ = native.loadgen_pin()
    return rules.before(work.benchmark, config, recipes.loadgen_settings(config), version)


def remarks(asked: Iterable[Work], modes: Iterable[TestMode]) -> list[str]:
    """Return a line for runs that could not be submitted, and why; scenarios of the same reasons share it."""
    found: dict[tuple[str, str], list[str]] = {}
    for work in asked:
        for scenario in work.scenarios:
            why = in_one_line(expected(work, work.resolve(scenario, mode).config) for mode in modes)
            found.setdefault((work.benchmark.name, why), []).append(scenario)
    return [f"{name} {', '.join(scenarios)}: {why}" for (name, why), scenarios in found.items() if why]
