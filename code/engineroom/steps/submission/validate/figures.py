"""Whether the figures of a performance test are possible: each follows from others that LoadGen logs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from engineroom.steps.submission.validate import detail, rulebook
from engineroom.steps.submission.validate.findings import Finding
from engineroom.steps.submission.validate.loadgen import Log

PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
# What of a test is sorted by size: the lowest, the percentiles, the highest; and the mean between the ends.
_NAMES = {
    "latency": (
        "result_min_latency_ns",
        "result_{}_percentile_latency_ns",
        "result_max_latency_ns",
        "result_mean_latency_ns",
    ),
    "query latency": (
        "result_min_query_latency_ns",
        "result_{}_percentile_per_query_latency_ns",
        "result_max_query_latency_ns",
        "result_mean_query_latency_ns",
    ),
    "first token": (
        "result_first_token_min_latency_ns",
        "result_first_token_{}_percentile_latency_ns",
        "result_first_token_max_latency_ns",
        "result_first_token_mean_latency_ns",
    ),
    "time per token": (
        "result_time_to_output_token_min",
        "result_time_per_output_token_{}_percentile_ns",
        "result_time_to_output_token_max",
        "result_time_to_output_token_mean",
    ),
}
SERIES = {
    what: ((low, *(middle.format(each) for each in PERCENTILES), high), mean)
    for what, (low, middle, high, mean) in _NAMES.items()
}
SIX_DIGITS = 2e-5  # LoadGen writes six significant digits
CLOCKS = 0.02  # between two of its clocks, as a part, and in seconds
CLOCKS_S = 2.0
NS = 1e9
PAUSES = 1.1  # of a stream's time to that of its queries
BEYOND_INT64 = 2.0**63
MANY = 1000  # queries at random times, whose rate is that which was asked for


def check(log: Log, scenario: str) -> Iterator[Finding]:
    """Yield the figures that cannot be. `scenario` is the one that ran."""
    for what, (keys, mean) in SERIES.items():
        yield from _sorted(log, keys, mean, what)
    yield from _rates(log, scenario)
    yield from _clock(log, scenario)
    yield from _early_stopping(log, scenario)


def samples(log: Log) -> float | None:
    """Return how many samples the test had."""
    queries, each = log.number("result_query_count"), log.number("generated_samples_per_query")
    return queries * each if queries and each else None


def lasted_s(log: Log, scenario: str) -> float | None:
    """Return how long the test lasted, in seconds, as LoadGen itself measures it to judge the duration."""
    count = log.number("result_query_count") or 0.0
    if scenario == "Offline":
        return _over(log.number("result_max_latency_ns"), NS)
    if scenario == "SingleStream":
        return _over(count - 1, log.number("result_qps_with_loadgen_overhead"))
    if scenario == "MultiStream":  # between its queries time passes that no figure counts
        queries_s = _over(count * (log.number("result_mean_query_latency_ns") or 0.0), NS)
        return max(queries_s, min(wall_s(log) or 0.0, queries_s * PAUSES)) if queries_s else None
    return _over(count - 1, log.number("result_scheduled_samples_per_sec"))


def wall_s(log: Log) -> float | None:
    """Return the seconds between power_begin and power_end, None if they tell none."""
    begin, end = (detail.moment(log, key) for key in ("power_begin", "power_end"))
    return (end - begin).total_seconds() if begin and end and end >= begin else None


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _sorted(log: Log, keys: Sequence[str], mean: str, what: str) -> Iterator[Finding]:
    known = [(key, number) for key in keys if (number := log.number(key)) is not None]
    for (before, less), (after, more) in pairwise(known):
        if less > more:
            yield log.at(rulebook.FIGURES, after, expected=f"a {what} of at least {less:.0f}, that of {before}")
    least, most, between = log.number(keys[0]), log.number(keys[-1]), log.number(mean)
    if least is None or most is None or between is None:
        return
    if (samples(log) or 0.0) * most > BEYOND_INT64:  # LoadGen's sum overflows
        return
    if not least <= between <= most:
        yield log.at(rulebook.FIGURES, mean, expected=f"a mean from {least:.0f} to {most:.0f}")


def _rates(log: Log, scenario: str) -> Iterator[Finding]:
    """LoadGen, results.cc, LogDetail: how each rate is made."""
    if scenario == "SingleStream":
        yield from _stream_rates(log)
    if scenario == "Offline":
        follows = _over(samples(log), _over(log.number("result_max_latency_ns"), NS))
        yield from _equal(log, "result_samples_per_second", follows, "samples / longest latency")
    if scenario == "Server":
        yield from _server_rates(log)


def _stream_rates(log: Log) -> Iterator[Finding]:
    count, mean = log.number("result_query_count"), log.number("result_mean_latency_ns")
    alone, key = log.number("result_qps_without_loadgen_overhead"), "result_qps_with_loadgen_overhead"
    yield from _equal(log, "result_qps_without_loadgen_overhead", _over(NS, mean), "1 / mean latency")
    with_overhead = log.number(key)
    if alone and with_overhead and count and with_overhead > alone * (1 + 1 / count + SIX_DIGITS):
        yield log.at(rulebook.FIGURES, key, expected=f"at most {alone}, without overhead")


def _server_rates(log: Log) -> Iterator[Finding]:
    count, target = log.number("result_query_count"), log.number("effective_target_qps")
    scheduled, completed = (log.number(f"result_{name}_samples_per_sec") for name in ("scheduled", "completed"))
    if scheduled and completed and completed > scheduled * (1 + SIX_DIGITS):
        expected = f"at most {scheduled}, as scheduled"
        yield log.at(rulebook.FIGURES, "result_completed_samples_per_sec", expected=expected)
    late = log.number("result_overlatency_query_count")
    if count and late and late > count:
        yield log.at(rulebook.FIGURES, "result_overlatency_query_count", expected=f"at most {count:.0f} queries")
    if target and scheduled and count and count > MANY and not _is_near(scheduled, target):
        yield log.at(rulebook.FIGURES, "result_scheduled_samples_per_sec", expected=f"near {target}, the target")
    generated, span = log.number("generated_query_count"), log.number("generated_query_duration")
    if span and target and generated and generated > MANY and not _is_near(generated / (span / NS), target):
        yield log.at(rulebook.FIGURES, "generated_query_duration", expected=f"a rate near {target}, the target")


def _is_near(rate: float, target: float) -> bool:
    """Tell whether a rate of queries that come at random can be that of a target."""
    return 0.8 < rate / target < 1.25


def _equal(log: Log, key: str, follows: float | None, how: str) -> Iterator[Finding]:
    told = log.number(key)
    if told is not None and follows is not None and abs(told - follows) > SIX_DIGITS * max(told, follows):
        yield log.at(rulebook.FIGURES, key, expected=f"{follows:.6g}: {how}")


def _clock(log: Log, scenario: str) -> Iterator[Finding]:
    """Hold the time on the wall, between power_begin and power_end, against the figures."""
    wall = wall_s(log)
    if wall is None:
        return
    lasted, more = lasted_s(log, scenario), 0.0
    if scenario == "Server":  # until the last query that was issued is done; others may be done later
        count = log.number("result_query_count") or 0.0
        lasted = _over(count - 1, log.number("result_completed_samples_per_sec"))
        more = (log.number("result_max_latency_ns") or 0.0) / NS
    if lasted is not None and not -CLOCKS_S - CLOCKS * lasted <= wall - lasted <= CLOCKS_S + CLOCKS * lasted + more:
        yield log.at(rulebook.LOG_TIME, "power_end", expected=f"{lasted:.1f} s after power_begin, by the figures")
    if log.end_ms and wall * 1e3 > log.end_ms + 1e3 * CLOCKS_S:
        yield log.at(rulebook.LOG_TIME, "power_end", expected=f"at most {log.end_ms / 1e3:.1f} s after power_begin")


ESTIMATE = re.compile(r"Early stopping ([0-9.]+)th percentile estimate: (\d{1,18})")
PROCESSED = re.compile(r"Processed at least \d+ queries \((\d{1,18})\)")
ESTIMATES = {
    "SingleStream": ("early_stopping_latency_ss", "early_stopping_latency_ms"),
    "MultiStream": ("early_stopping_latency_ms",),
}


def _early_stopping(log: Log, scenario: str) -> Iterator[Finding]:
    """The estimate of a percentile is at least the percentile itself, and stands in LoadGen's words, too."""
    told = log.get("early_stopping_result")
    if not isinstance(told, str) or scenario not in ESTIMATES:
        return
    words = [float(each) for _, each in ESTIMATE.findall(told)]
    for key, said in zip(ESTIMATES[scenario], words, strict=False):
        if log.number(key) != said:
            yield log.at(rulebook.FIGURES, key, expected=f"{said:.0f}, as in early_stopping_result")
    processed = PROCESSED.search(told)
    if processed and log.number("result_query_count") != float(processed[1]):
        yield log.at(rulebook.FIGURES, "result_query_count", expected=f"{processed[1]}, as in early_stopping_result")
    per_query = (
        "result_{}_percentile_per_query_latency_ns" if scenario == "MultiStream" else "result_{}_percentile_latency_ns"
    )
    target = f"{100 * (log.number('effective_target_latency_percentile') or 0.0):.2f}"
    of = dict.fromkeys(ESTIMATES[scenario], "99.00") | {ESTIMATES[scenario][0]: target}
    for key in ESTIMATES[scenario]:
        estimate, least = log.number(key), log.number(per_query.format(of[key]))
        most = log.number("result_max_query_latency_ns" if scenario == "MultiStream" else "result_max_latency_ns")
        if estimate and least is not None and most is not None and not least <= estimate <= most:
            yield log.at(
                rulebook.FIGURES, key, expected=f"from {least:.0f}, the percentile, to {most:.0f}, the highest"
            )
