"""The yardstick of Server: the simulated queue beside queueing theory, and the search for the highest VALID rate."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.bench.search import highest
from engineroom.bench.server import _official_ms, arrivals, highest_rate, latencies


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_one_server_makes_queries_wait_as_long_as_the_formula_for_m_d_1_says(load: float) -> None:
    """Pollaczek and Khinchin: with equal service times s the mean wait is load * s / (2 (1 - load))."""
    service_s = 0.02
    waits = latencies(arrivals(load / service_s, 1_000_000), service_s, servers=1) - service_s
    assert waits.mean() == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.02)


@given(st.integers(1, 7), st.floats(0.1, 1.3), st.integers(1, 300))
def test_several_servers_are_those_of_a_simulation_by_events(servers: int, load: float, queries: int) -> None:
    arrived = arrivals(load * servers, queries)
    free = [0.0] * servers
    expected = []
    for at in arrived:
        done = max(at, heapq.heappop(free)) + 1.0
        heapq.heappush(free, done)
        expected.append(done - at)
    assert latencies(arrived, 1.0, servers) == pytest.approx(np.array(expected))


def test_the_highest_rate_keeps_the_limit_and_little_more_does_not() -> None:
    service_s, servers, limit_s = 1e-3, 2, 1e-2
    rate = highest_rate(service_s, servers, limit_s)
    late = [np.quantile(latencies(arrivals(rate * more, 200_000), service_s, servers), 0.99) for more in (1, 1.01)]
    assert late[0] <= limit_s < late[1]
    assert 0.8 < rate * service_s / servers < 1
    assert highest_rate(0.05, servers, limit_s) == 0, "no queue makes a query faster than its service"


@given(st.floats(1, 1000), st.floats(1.001, 4))
def test_search_finds_the_rate_to_the_factor_it_promises(limit: float, to: float) -> None:
    tried: list[float] = []

    def valid(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = highest(valid, 2, 500, to)
    assert len(tried) <= 2 + max(0, math.log2(math.log(250) / math.log(to)))
    if limit < 2:
        assert found is None
    else:
        assert found is not None
        assert found <= limit < 500 or found < 500 <= limit
        assert min(limit, 500) <= found * to * (1 + 1e-9)


def test_the_official_limit_is_the_newest_rounds() -> None:
    assert (_official_ms("resnet50"), _official_ms("digits")) == (15, None)
