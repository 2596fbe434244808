"""Says before a run which of its results could not be submitted, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from engineroom.actions.work import Work
from engineroom.benchmarks import Benchmark
from engineroom.config import RunConfig
from engineroom.runs import Submittable, in_one_line
from engineroom.steps import native, recipes, rules


def remarks(asked: Iterable[Work]) -> list[str]:
    """Return a line for runs that could not be submitted, and why; scenarios of the same reasons share it."""
    found: dict[tuple[str, str], list[str]] = {}
    for work in asked:
        for scenario in work.scenarios:
            configs = [work.resolve(scenario, mode).config for mode in work.request.test_modes]
            why = in_one_line(_of_settings(work.benchmark, config) for config in configs)
            found.setdefault((work.benchmark.name, why), []).append(scenario)
    return [f"{name} {', '.join(scenarios)}: {why}" for (name, why), scenarios in found.items() if why]


def refused(asked: Iterable[Work], division: str) -> list[str]:
    """Return a line for each test that its settings alone keep from a division, and why."""
    found: dict[str, None] = {}
    for work in asked:
        for scenario in work.scenarios:
            for mode in work.request.test_modes:
                verdict = _of_settings(work.benchmark, work.resolve(scenario, mode).config)
                if division not in verdict.divisions:
                    found[f"{work.benchmark.name} {scenario}: {'; '.join(verdict.reasons)}"] = None
    return list(found)


def remark_on(benchmark: Benchmark, config: RunConfig, user_conf: Path) -> str:
    """Return the line for a run by a user.conf that is there already and may have been edited; "" if there is none."""
    settings = rules.read_user_conf(user_conf, config.benchmark, config.scenario)
    why = in_one_line([_judged(benchmark, config, settings)])
    return f"{benchmark.name} {config.scenario}: {why}" if why else ""


def _of_settings(benchmark: Benchmark, config: RunConfig) -> Submittable:
    return _judged(benchmark, config, recipes.loadgen_settings(config))


def _judged(benchmark: Benchmark, config: RunConfig, user_conf: Mapping[str, float]) -> Submittable:
    """Return what the settings of a run alone allow."""
    version, _ = native.loadgen_pin()
    return rules.before(benchmark, config, user_conf, version)
