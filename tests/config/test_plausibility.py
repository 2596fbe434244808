"""Values that are allowed but hardly meant are warned of, and each warning names what the value stands beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engineroom import registry
from engineroom.config import resolve
from engineroom.config.plausibility import beside_measured, family
from engineroom.config.rules import Context
from engineroom.detection import Machine
from engineroom.paths import CONFIGS
from engineroom.terms import Scenario, TestMode

Warn = Callable[..., list[str]]


@pytest.fixture
def warn(tmp_path: Path, machine: Machine) -> Warn:
    """Return a function that writes settings files by "folder/name" and returns the warnings of one run."""

    def run(
        files: dict[str, str] | None = None,
        *,
        system: str = "H200x8",
        scenario: Scenario = Scenario.SERVER,
        sample_bytes: int = 0,
        **overrides: str,
    ) -> list[str]:
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        context = Context("b", scenario, replace(machine, system=system), sample_bytes=sample_bytes)
        found = resolve(context, TestMode.PERFORMANCE_ONLY, overrides, configs=[tmp_path])
        return [warning.replace(f"{tmp_path}/", "") for warning in found.warnings]

    return run


def test_a_digit_that_is_missing_beside_the_other_scenario_is_noticed(warn: Warn) -> None:
    files = {"H200x8/b.yaml": "Offline:\n  offline_expected_qps: 480000\nServer:\n  server_target_qps: 53000\n"}
    assert warn(files) == [
        "H200x8/b.yaml:4: server_target_qps is 53,000, which does not go with offline_expected_qps 480,000 in "
        "H200x8/b.yaml:2: 53,000 beside 480,000 samples/s"
    ]
    assert warn(files, scenario=Scenario.OFFLINE) == warn(files), "a request for both scenarios says it once"


def test_a_flag_far_from_the_systems_own_file_is_noticed(warn: Warn) -> None:
    files = {"H200x8/b.yaml": "Server:\n  server_target_qps: 480000\n"}
    assert warn(files, server_target_qps="53000") == [
        "--server_target_qps: server_target_qps is 53,000, 1/9.1 of the 480,000 in H200x8/b.yaml:2"
    ]
    assert warn(files, server_target_qps="530000") == []


@pytest.mark.parametrize("section", ["common", "Server"])
@pytest.mark.parametrize("name", ["b.yaml", "b.tuned.yaml"])
def test_a_figure_counts_wherever_it_was_said(warn: Warn, name: str, section: str) -> None:
    (said,) = warn({f"H200x8/{name}": f"{section}:\n  server_target_qps: 480000\n"}, server_target_qps="53000")
    assert said.endswith(f"53,000, 1/9.1 of the 480,000 in H200x8/{name}:2")


def test_a_sibling_with_fewer_of_the_same_gpus_is_compared_per_gpu(warn: Warn) -> None:
    files = {
        "H200x1/b.yaml": "Server:\n  server_target_qps: 60000\n",
        "L4x8/b.yaml": "Server:\n  server_target_qps: 900\n",
        "H200x8/b.yaml": "Server:\n  server_target_qps: 53000\n",
    }
    assert warn(files) == [
        "H200x8/b.yaml:2: server_target_qps is 53,000, 1/9.1 of the 60,000 for H200x1 in H200x1/b.yaml:2"
    ]
    assert warn({"H200x8/b.yaml": "Server:\n  server_target_qps: 430000\n"}) == []


@pytest.mark.parametrize(
    ("offline", "server"), [(756_960, 632_229), (13_158, 12_198), (5_589, 3_527), (503_000, 379_000), (74.3, 45.0)]
)
def test_published_pairs_of_rates_are_no_warning(warn: Warn, offline: float, server: float) -> None:
    """ResNet-50 of 8x H200 (v4.1), L4 (v3.0), A100 1g.10gb (v2.1); BERT and RetinaNet of the last."""
    text = f"Offline:\n  offline_expected_qps: {offline}\nServer:\n  server_target_qps: {server}\n"
    for scenario in (Scenario.OFFLINE, Scenario.SERVER):
        assert warn({"A/b.yaml": text}, system="A", scenario=scenario) == []


def test_a_stream_faster_than_offline_is_noticed(warn: Warn) -> None:
    files = {
        "A/b.yaml": "Offline:\n  offline_expected_qps: 100\nSingleStream:\n  single_stream_expected_latency_ns: 1 ms\n"
    }
    (said,) = warn(files, system="A", scenario=Scenario.SINGLE_STREAM)
    assert said.endswith("1,000 beside 100 samples/s")


def test_what_is_unusual_says_the_usual_range(warn: Warn) -> None:
    assert warn(min_duration="60", instances="1", scenario=Scenario.OFFLINE) == [
        "--min_duration: min_duration is 60; usual is 1,000 to 7,200,000 ms"
    ]


@pytest.mark.parametrize("scenario", Scenario)
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"min_duration": "600000"},
        {"min_duration": "10 min", "max_duration": "0"},
        {"batch_size": "128"},
        {"threads_per_instance": "2"},
        {"instances": "1"},
        {"cpus": "0"},
        {"server_target_qps": "100"},
        {"server_target_latency_ns": "15 ms"},
        {"engine": "null"},
        {"watchdog_s": "120"},
    ],
    ids=str,
)
def test_ordinary_flags_of_the_quick_start_are_no_warning(
    machine: Machine, scenario: Scenario, flags: dict[str, str]
) -> None:
    digits = registry.get("benchmarks", "digits").load().BENCHMARK
    context = Context("digits", scenario, machine, quick_start=True, sample_bytes=digits.sample_bytes)
    assert resolve(context, TestMode.PERFORMANCE_ONLY, flags, configs=[CONFIGS]).warnings == ()


def test_more_than_the_machine_has_is_noticed(warn: Warn) -> None:
    assert warn(instances="4", threads_per_instance="4") == [
        "--instances, --threads_per_instance: 4 instances of 4 threads are more than the 4 usable cores"
    ]
    (said,) = warn(scenario=Scenario.OFFLINE, batch_size="16384", sample_bytes=1 << 20)
    assert (
        said == "--batch_size: 4 batches of 16,384 samples alone take 64.0 GiB, more than the 8.0 GiB of this machine"
    )


def test_our_own_and_other_peoples_mistakes_are_no_reason_to_fail(warn: Warn) -> None:
    """A broken file of another system is that system's matter."""
    files = {"H200x1/b.yaml": "Server: [", "L4x1/b.yaml": "Server:\n  nonsense: 1\n"}
    assert warn(files, server_target_qps="100") == []


def test_what_the_machine_reached_before_is_a_sibling_too(machine: Machine, tmp_path: Path) -> None:
    def said(scenario: Scenario, rate: float, **overrides: str) -> str | None:
        context = Context("b", scenario, machine)
        found = resolve(context, TestMode.PERFORMANCE_ONLY, overrides, configs=[tmp_path])
        origins = {name: origin.text for name, origin in found.origins.items()}
        return beside_measured(found.config, origins, rate, "build/runs/x")

    assert said(Scenario.OFFLINE, 480_000, offline_expected_qps="53000") == (
        "--offline_expected_qps: offline_expected_qps is 53,000, which is 1/9.1 of the 480,000 samples/s "
        "that this machine reached in build/runs/x"
    )
    assert said(Scenario.OFFLINE, 480_000, offline_expected_qps="400000") is None
    assert said(Scenario.SINGLE_STREAM, 1000, single_stream_expected_latency_ns="1 ms") is None
    assert "10.0 times the 1,000 queries/s" in str(
        said(Scenario.SINGLE_STREAM, 1000, single_stream_expected_latency_ns="100 us")
    )
    assert said(Scenario.SERVER, 1_000_000, server_target_qps="1") is None
    assert said(Scenario.OFFLINE, 1) is None


def test_the_family_of_a_system() -> None:
    assert family("H200x8") == ("H200", 8)
    assert family("AMD_EPYC-2c") == ("AMD_EPYC-2c", 1)
    assert family("2xIntel_Xeon") == ("2xIntel_Xeon", 1)
