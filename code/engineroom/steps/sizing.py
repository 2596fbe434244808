"""Says what LoadGen should expect of an engine, from a short probe: LoadGen generates all queries ahead.

An expectation that is too low leaves the test short; one that is too high costs memory and, Offline, time.
"""

from __future__ import annotations

from engineroom.config import Resolved, RunConfig, fields
from engineroom.runs import Probe, Result
from engineroom.terms import Scenario, TestMode

# Queries issued one by one take LoadGen 6.0 at least about 1 us each, whatever answers them (2.8 us on a busy machine).
# Where it is faster, an engine that answers at once makes the first test too short, and the second is sized by that.
LOADGEN_QUERY_NS_MIN = 1_000
# What LoadGen 6.0.17 takes for each sample (Offline) or query generated ahead: the peak memory of a program that does
# nothing but answer ten million of them was 99 and 468 bytes each; MultiStream's queries have 8 samples.
LOADGEN_BYTES = {
    Scenario.SINGLE_STREAM: 500,
    Scenario.MULTI_STREAM: 1200,
    Scenario.SERVER: 500,
    Scenario.OFFLINE: 110,
}
PROBED = "rule probe"  # how the origin of a probed value begins
MEMORY_SHARE = 0.25  # of the machine's memory that LoadGen's queries may take

# Queries generated ahead beyond what the probe saw. Unused ones only cost memory, of which a short test needs little;
# in a long one a machine that was slow while it was probed evens out.
STREAM_MARGIN = 2.0
SHORT_STREAM_MARGIN = 4.0
SHORT_S = 60.0
OFFLINE_MARGIN = 1.3  # LoadGen adds a tenth: the machine may turn out 1.4 times as fast as while it was probed
SERVER_SHARE = 0.5  # of the probed throughput: queues grow without bound near the whole of it


def min_duration_s(config: RunConfig) -> float:
    """Return how long the performance test lasts at least: as it is set, else as LoadGen's own settings say.

    These, its built-in mlperf.conf, are those of the newest round, whichever round's rules the run is held against.
    """
    if config.min_duration is not None:
        return config.min_duration / 1000
    from engineroom import rounds  # read only where nothing is set, which is seldom

    return rounds.read(rounds.names()[-1]).duration.min_duration_ms / 1000


def expected_rate(config: RunConfig) -> float | None:
    """Return what the settings expect, in samples/s (Offline) or queries/s; None if it will be probed."""
    expected: float | None = getattr(config, fields.EXPECTED[config.scenario])
    if expected is None or config.scenario in (Scenario.SERVER, Scenario.OFFLINE):
        return expected
    return 1e9 / expected


def queries_bytes(config: RunConfig, before: tuple[float, float] | None, memory_bytes: int) -> tuple[int, int]:
    """Return the least and the most memory that what LoadGen generates ahead of a performance test will take.

    `before` is the lowest and the highest rate of earlier tests, in samples/s (Offline) or queries/s; None without any.
    """
    if config.test_mode is TestMode.ACCURACY_ONLY:
        return 0, 0  # each sample once, which is little
    count = config.min_query_count or 1
    seconds, bound = max(1.0, min_duration_s(config)), _rate_max(config, memory_bytes)
    expected = expected_rate(config)
    if expected is not None:
        slowest = fastest = expected
    else:  # to be probed: `sized` then takes some times the rate that it finds
        slowest, fastest = (before[0], min(bound, SHORT_STREAM_MARGIN * before[1])) if before else (0.0, bound)
    each = LOADGEN_BYTES[config.scenario]
    return int(each * max(count, slowest * seconds)), int(each * max(count, fastest * seconds))


def needs_probe(config: RunConfig) -> bool:
    """Tell whether a test lacks its expectation. An accuracy test issues each sample once, Server's at the target rate.

    LoadGen's own target of 1 query/s would make that 14 hours for ImageNet.
    """
    issues_by_rate = config.test_mode is not TestMode.ACCURACY_ONLY or config.scenario is Scenario.SERVER
    return issues_by_rate and getattr(config, fields.EXPECTED[config.scenario]) is None


def sized(resolved: Resolved, probe: Probe, memory_bytes: int) -> Resolved:
    """Return the settings with the expectation that `probe` suggests, no more than `memory_bytes` can hold."""
    config = resolved.config
    seconds = max(1.0, min_duration_s(config))
    rate_max = _rate_max(config, memory_bytes)
    match config.scenario:
        case Scenario.SINGLE_STREAM | Scenario.MULTI_STREAM:
            floor = max(LOADGEN_QUERY_NS_MIN, 1e9 / rate_max)
            margin = SHORT_STREAM_MARGIN if seconds < SHORT_S else STREAM_MARGIN
            value: float = round(max(probe.latency_p50_ns / margin, floor))
        case Scenario.SERVER:
            value = min(probe.samples_per_second * SERVER_SHARE, rate_max)
        case Scenario.OFFLINE:
            value = min(probe.samples_per_second * OFFLINE_MARGIN, rate_max)
    found = f"{probe.samples_per_second:,.0f} samples/s, {probe.latency_p50_ns:,.0f} ns a query"
    origin = f"{PROBED}: {found}, measured for {probe.seconds:.1f} s"
    return resolved.replace(origin, **{fields.EXPECTED[config.scenario]: value})


def _rate_max(config: RunConfig, memory_bytes: int) -> float:
    """Return the rate at which LoadGen's queries for the whole test fill their share of the memory."""
    seconds = max(1.0, min_duration_s(config))
    return MEMORY_SHARE * memory_bytes / LOADGEN_BYTES[config.scenario] / seconds


def after_short_test(resolved: Resolved, result: Result, memory_bytes: int) -> Resolved | None:
    """Return settings sized by the test itself, if it was too short because the probe had seen a slower machine.

    None if it was long enough, or if somebody had said what to expect: then INVALID is the answer.
    """
    config = resolved.config
    field = fields.EXPECTED[config.scenario]
    too_short = result.performance is not None and result.loadgen.get("result_min_duration_met") is False
    if not too_short or config.scenario is Scenario.SERVER or not resolved.origins[field].text.startswith(PROBED):
        return None
    if config.scenario is Scenario.OFFLINE:
        wanted = float(result.loadgen["result_samples_per_second"]) * OFFLINE_MARGIN
        value: float = min(wanted, _rate_max(config, memory_bytes))
    else:
        wanted = getattr(config, field) / SHORT_STREAM_MARGIN
        value = round(max(wanted, 1.0, 1e9 / _rate_max(config, memory_bytes)))
    if value == getattr(config, field):
        return None  # it is memory that bounds the test
    return resolved.replace(f"rule after_short_test: {result.run} was too short", **{field: value})
