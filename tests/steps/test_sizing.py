"""What LoadGen is told to expect: enough for the whole test, no more than memory holds."""

from __future__ import annotations

from typing import Any

import examples
import pytest

from engineroom.config import Origin, Resolved, RunConfig
from engineroom.runs import PerformanceResult, Probe, Result
from engineroom.steps import sizing
from engineroom.terms import Scenario, TestMode

MEMORY = 8 << 30


def resolved(scenario: Scenario, **changes: Any) -> Resolved:
    config = examples.config(**{"scenario": scenario, "batch_size": 1, "min_duration": 3000, **changes})
    return Resolved(config, dict.fromkeys(RunConfig.__struct_fields__, Origin("default")))


def probe(rate: float = 1000.0, latency_ns: float = 1e6) -> Probe:
    return Probe(rate, latency_ns, 1, 0.5)


def result(scenario: Scenario, rate: float, *, long_enough: bool) -> Result:
    figure = PerformanceResult(metric="", unit="", value=rate, valid=long_enough, min_duration_s=3.0, samples=1)
    log = {"result_min_duration_met": long_enough, "result_samples_per_second": rate}
    return examples.result(scenario=scenario, engine="null", performance=figure, loadgen=log)


def test_offline_expects_more_than_the_probe_saw_and_streams_a_shorter_latency() -> None:
    offline = sizing.sized(resolved(Scenario.OFFLINE), probe(rate=1000.0), MEMORY)
    assert 1100 <= (offline.config.offline_expected_qps or 0) <= 1500
    stream = sizing.sized(resolved(Scenario.SINGLE_STREAM), probe(latency_ns=1e6), MEMORY)
    assert 200_000 <= (stream.config.single_stream_expected_latency_ns or 0) <= 700_000
    assert "1,000 samples/s" in stream.origins["single_stream_expected_latency_ns"].text


@pytest.mark.parametrize("scenario", [Scenario.OFFLINE, Scenario.SINGLE_STREAM, Scenario.SERVER])
@pytest.mark.parametrize("min_duration", [3000, 600_000])
def test_an_engine_that_answers_at_once_does_not_fill_the_memory(scenario: Scenario, min_duration: int) -> None:
    """LoadGen 6.0 takes some 100 bytes for each sample it generates ahead: a quarter of 8 GiB holds 20 million."""
    config = sizing.sized(resolved(scenario, min_duration=min_duration), probe(1e9, 1.0), MEMORY).config
    latency_ns = config.single_stream_expected_latency_ns
    rate = config.offline_expected_qps or config.server_target_qps or 1e9 / (latency_ns or 1)
    assert rate * min_duration / 1000 <= 20e6


def test_a_test_that_was_too_short_is_sized_by_itself_once() -> None:
    first = sizing.sized(resolved(Scenario.OFFLINE), probe(rate=1000.0), MEMORY)
    assert sizing.after_short_test(first, result(Scenario.OFFLINE, 4000.0, long_enough=True), MEMORY) is None
    fastest = sizing.sized(resolved(Scenario.SINGLE_STREAM), probe(1e7, latency_ns=100), MEMORY)
    stream = sizing.after_short_test(fastest, result(Scenario.SINGLE_STREAM, 6e5, long_enough=False), MEMORY)
    assert stream and 1e9 / (stream.config.single_stream_expected_latency_ns or 1) >= 2 * 6e5
    again = sizing.after_short_test(first, result(Scenario.OFFLINE, 4000.0, long_enough=False), MEMORY)
    assert again is not None
    assert (again.config.offline_expected_qps or 0) >= 4400
    assert sizing.after_short_test(again, result(Scenario.OFFLINE, 9000.0, long_enough=False), MEMORY) is None


def test_a_servers_accuracy_is_not_asked_for_at_loadgens_one_query_a_second() -> None:
    """The others issue all at once, or each query after the last one's answer."""
    probed = {
        scenario: sizing.needs_probe(resolved(scenario, test_mode=TestMode.ACCURACY_ONLY).config)
        for scenario in Scenario
    }
    assert probed == {scenario: scenario is Scenario.SERVER for scenario in Scenario}
    told = resolved(Scenario.SERVER, test_mode=TestMode.ACCURACY_ONLY, server_target_qps=50.0)
    assert not sizing.needs_probe(told.config)


def test_what_a_person_said_to_expect_stays() -> None:
    told = resolved(Scenario.OFFLINE, offline_expected_qps=10.0)
    assert not sizing.needs_probe(told.config)
    assert sizing.after_short_test(told, result(Scenario.OFFLINE, 4000.0, long_enough=False), MEMORY) is None


def test_what_memory_bounds_is_not_run_again() -> None:
    first = sizing.sized(resolved(Scenario.OFFLINE), probe(rate=1e9), MEMORY)
    assert sizing.after_short_test(first, result(Scenario.OFFLINE, 1e8, long_enough=False), MEMORY) is None


def test_what_is_not_set_lasts_as_long_as_loadgen_wants() -> None:
    config = resolved(Scenario.OFFLINE, min_duration=None).config
    assert sizing.min_duration_s(config) == 600
    sized = sizing.sized(resolved(Scenario.SERVER, min_duration=None), probe(1e9, 1.0), MEMORY).config
    assert (sized.server_target_qps or 0) * 600 <= 20e6


def test_memory_for_queries_follows_from_what_is_expected() -> None:
    told = resolved(Scenario.SERVER, server_target_qps=1000.0, min_duration=60_000).config
    assert sizing.queries_bytes(told, None, MEMORY) == (30_000_000, 30_000_000)
    stream = resolved(Scenario.SINGLE_STREAM, single_stream_expected_latency_ns=1_000_000, min_duration=60_000).config
    assert sizing.queries_bytes(stream, None, MEMORY) == (30_000_000, 30_000_000)
    least, most = sizing.queries_bytes(resolved(Scenario.OFFLINE, min_query_count=24_576).config, None, MEMORY)
    assert least == 24_576 * 110
    assert most == pytest.approx(sizing.MEMORY_SHARE * MEMORY)
    least, most = sizing.queries_bytes(resolved(Scenario.OFFLINE).config, (1e4, 2e4), MEMORY)
    for rate in (1e4, 2e4):
        expected = sizing.sized(resolved(Scenario.OFFLINE), probe(rate), MEMORY).config.offline_expected_qps or 0
        assert least <= expected * 3 * 110 <= most
