"""What a user is told before a run: which results could not be submitted, in as few lines as the reasons allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engineroom import registry
from engineroom.actions.rulebook import remark_on, remarks
from engineroom.actions.work import Work
from engineroom.detection import Machine
from engineroom.run_args import Request
from engineroom.terms import Scenario, TestMode

STREAMS = (Scenario.SINGLE_STREAM, Scenario.OFFLINE)


def told(machine: Machine, name: str, scenarios: tuple[Scenario, ...] = STREAMS, **more: Any) -> list[str]:
    """Return what is said of a benchmark with its own weights and data, which need not be here."""
    flags = {"engine": "openvino", **more.pop("overrides", {})}
    work = Work(
        registry.get("benchmarks", name).load().BENCHMARK,
        Request(scenarios=scenarios, overrides=flags, **more),
        machine,
    )
    return remarks([work])


@pytest.mark.parametrize("overrides", [{}, {"min_duration": "600000"}, {"server_target_latency_ns": "15000000"}])
def test_of_a_run_by_the_rules_nothing_is_said(machine: Machine, overrides: dict[str, str]) -> None:
    assert told(machine, "resnet50", overrides=overrides) == []


def test_scenarios_with_the_same_reasons_share_a_line(machine: Machine) -> None:
    assert told(machine, "resnet50", test_run=True) == [
        "resnet50 SingleStream, Offline: not submittable: 60 s of 600 s (rules of v6.1)"
    ]
    assert told(machine, "resnet50", (*STREAMS, Scenario.SERVER), overrides={"min_duration": "10000"})[1:] == [
        "resnet50 Server: not submittable: 10 s of 600 s; "
        "open only: v6.1 has no resnet50 Server (edge: SingleStream, MultiStream, Offline) (rules of v6.1)"
    ]


def test_what_is_no_mlperf_benchmark_says_so_once_in_its_notes(machine: Machine) -> None:
    assert told(machine, "digits", tuple(Scenario), test_run=True) == []


def test_a_recipe_is_judged_by_its_own_user_conf(machine: Machine, tmp_path: Path) -> None:
    benchmark = registry.get("benchmarks", "resnet50").load().BENCHMARK
    request = Request(scenarios=STREAMS, overrides={"engine": "openvino"})
    config = Work(benchmark, request, machine).resolve(Scenario.OFFLINE, TestMode.PERFORMANCE_ONLY).config
    user_conf = tmp_path / "user.conf"
    user_conf.write_text("*.Offline.min_duration = 600000\n")
    assert remark_on(benchmark, config, user_conf) == ""
    user_conf.write_text("*.Offline.min_duration = 10000\n")
    assert remark_on(benchmark, config, user_conf) == (
        "resnet50 Offline: not submittable: 10 s of 600 s (rules of v6.1)"
    )
