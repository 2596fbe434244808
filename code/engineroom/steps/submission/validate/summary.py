"""A summary beside its detail log: what LoadGen says twice must be the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from engineroom.steps.submission.validate import rulebook
from engineroom.steps.submission.validate.case import STREAMS
from engineroom.steps.submission.validate.figures import PERCENTILES
from engineroom.steps.submission.validate.findings import Finding
from engineroom.steps.submission.validate.loadgen import TITLE, Log, Summary

SIX_DIGITS, CENTS = 2e-5, 0.0051  # how the summary rounds: as the log, or to two places
# LoadGen, results.cc and test_settings_internal.cc, LogSummary: the words there, and the key in the detail log.
COMMON = {
    "SUT name": "sut_name",
    "Scenario": "effective_scenario",
    "Mode": "effective_test_mode",
    "Result is": "result_validity",
    "samples_per_query": "effective_samples_per_query",
    "target_qps": "effective_target_qps",
    "max_async_queries": "effective_max_async_queries",
    "min_duration (ms)": "effective_min_duration_ms",
    "max_duration (ms)": "effective_max_duration_ms",
    "min_query_count": "effective_min_query_count",
    "max_query_count": "effective_max_query_count",
    "qsl_rng_seed": "effective_qsl_rng_seed",
    "sample_index_rng_seed": "effective_sample_index_rng_seed",
    "schedule_rng_seed": "effective_schedule_rng_seed",
    "accuracy_log_rng_seed": "effective_accuracy_log_rng_seed",
    "accuracy_log_probability": "effective_accuracy_log_probability",
    "accuracy_log_sampling_target": "effective_accuracy_log_sampling_target",
    "print_timestamps": "effective_print_timestamps",
    "performance_issue_unique": "effective_performance_issue_unique",
    "performance_issue_same": "effective_performance_issue_same",
    "performance_issue_same_index": "effective_performance_issue_same_index",
    "performance_sample_count": "effective_performance_sample_count",
    "Min duration satisfied": "result_min_duration_met",
    "Min queries satisfied": "result_min_queries_met",
    "Early stopping satisfied": "early_stopping_met",
}
# Only of some tests. What of it is a result, the log has where the summary has it.
OPTIONAL = {
    "target_latency (ns)": "effective_target_latency_ns",
    "Performance constraints satisfied": "result_perf_constraints_met",
    "Tokens per second": "result_tokens_per_second",
    "Tokens per second (inferred)": "result_inferred_tokens_per_second",
    "Completed tokens per second": "result_completed_tokens_per_second",
    "Completed tokens per second (inferred)": "result_inferred_completed_tokens_per_second",
    "ttft_latency (ns)": "requested_server_ttft_latency",
    "tpot_latency (ns)": "requested_server_tpot_latency",
    **{
        f"{name.title()} First Token latency (ns)": f"result_first_token_{name}_latency_ns"
        for name in ("min", "max", "mean")
    },
    **{
        f"{name.title()} Time {of} Output Token (ns)": f"result_time_to_output_token_{name}"
        for name in ("min", "max", "mean")
        for of in ("to", "per")  # as releases differ
    },
    **{
        f"{p} percentile first token latency (ns)": f"result_first_token_{p}_percentile_latency_ns" for p in PERCENTILES
    },
    **{
        f"{p} percentile time to output token (ns)": f"result_time_per_output_token_{p}_percentile_ns"
        for p in PERCENTILES
    },
}
BY_SCENARIO = {
    "SingleStream": {
        "QPS w/ loadgen overhead": "result_qps_with_loadgen_overhead",
        "QPS w/o loadgen overhead": "result_qps_without_loadgen_overhead",
    },
    "Server": {
        "Completed samples per second": "result_completed_samples_per_sec",
        "Performance constraints satisfied": "result_perf_constraints_met",
        "Scheduled samples per second": "result_scheduled_samples_per_sec",
    },
    "Offline": {"Samples per second": "result_samples_per_second"},
}
WORDS = {True: "Yes", False: "NO"}


@lru_cache(maxsize=64)  # what a log calls its scenario, and its percentile, may be anything
def _words(scenario: str, percentile: float | None) -> dict[str, tuple[str, bool]]:
    """Return the words of a summary, each with the log's key, and whether it is needed.

    `percentile` is the one with estimates, None if there are none.
    """
    estimates = {} if percentile is None else _estimates(scenario, percentile)
    needed = {**COMMON, **BY_SCENARIO.get(scenario, {}), **_latencies(scenario), **estimates}
    return {name: (key, name in needed) for name, key in {**needed, **OPTIONAL}.items()}


def _latencies(scenario: str) -> dict[str, str]:
    query = "query_" if scenario == "MultiStream" else ""
    per_query = "per_query_" if scenario == "MultiStream" else ""
    ends = {f"{name.title()} latency (ns)": f"result_{name}_{query}latency_ns" for name in ("min", "max", "mean")}
    return {
        **ends,
        **{f"{p} percentile latency (ns)": f"result_{p}_percentile_{per_query}latency_ns" for p in PERCENTILES},
    }


def _estimates(scenario: str, percentile: float) -> dict[str, str]:
    """Return the words about the percentile that counts, and its estimates, where latencies are not of tokens."""
    of, estimate = ("per_query_", "ms") if scenario == "MultiStream" else ("", "ss")
    found = {
        f"{percentile:.1f}th percentile latency (ns)": f"result_{percentile:.2f}_percentile_{of}latency_ns",
        f"Early stopping {percentile:.1f}th percentile estimate": f"early_stopping_latency_{estimate}",
    }
    also = {"Early stopping 99.0th percentile estimate": "early_stopping_latency_ms"} if estimate == "ss" else {}
    return {**also, **found}


def check(summary: Summary, log: Log) -> Iterator[Finding]:
    """Yield where the summary of a test is not what its detail log says."""
    yield from summary.findings
    if len(summary.counts) < 2:
        yield rulebook.SUMMARY_CUT.at(
            summary.file,
            found="it does not end with the number of errors and warnings",
            expected="No errors encountered during test.",
        )
    if not log.values:
        return
    for kind, counted in (("ERROR", log.num_errors), ("WARNING", log.num_warnings)):
        count = summary.counts.get(kind)
        if count is not None and (count == 0) != (counted == 0):
            name = f"{kind.lower()}s"
            yield rulebook.SUMMARY_OTHER.at(
                summary.file, name, found=f"{count} {name}", expected=f"{counted}, as in the log"
            )
    if "result_validity" not in log.values:
        # LoadGen, results.cc: a test without results has no more than the two lines about errors and warnings.
        if summary.title or summary.values:
            found = "the results of a performance test"
            yield rulebook.SUMMARY_OTHER.at(summary.file, found=found, expected="no results, as in the log")
        return
    if not summary.title:
        yield rulebook.SUMMARY_CUT.at(summary.file, found="no title", expected=TITLE)
    scenario = str(log.get("effective_scenario"))
    percentile: float | None = None
    if scenario in STREAMS and "early_stopping_result" in log.values:
        percentile = 100 * (log.number("effective_target_latency_percentile") or 0.0)
    words = _words(scenario, percentile)
    for name, (key, needed) in words.items():
        told, value = summary.values.get(name), log.values.get(key)
        if told != value and (told is None or value is None or not _agree(told, value)):
            yield from _differs(summary, name, key, log, needed=needed)
    for name, said, number in summary.others:
        if name in words and not _agree(said, log.get(words[name][0])):
            yield _other(summary, name, words[name][0], log, said, number)


def _differs(summary: Summary, name: str, key: str, log: Log, *, needed: bool) -> Iterator[Finding]:
    """Yield that a summary says something else than `key` in the log, or does not say what it needs to."""
    told, value = summary.values.get(name), log.values.get(key)
    if told is None:
        if needed and value is not None and not _no_estimate(key, value):
            yield rulebook.SUMMARY_CUT.at(summary.file, name, found="not there", expected=f"{name} : {value}")
    elif value is None:
        if name in OPTIONAL and key.startswith("result_") and key not in log.values:
            yield _other(summary, name, key, log, told, summary.lines[name])
    elif not _no_estimate(key, value):
        yield _other(summary, name, key, log, told, summary.lines[name])


def _no_estimate(key: str, value: object) -> bool:
    """Tell whether the log says that there were too few queries for an estimate."""
    return not value and key.startswith("early_stopping_latency")


def _other(summary: Summary, name: str, key: str, log: Log, told: str, number: int) -> Finding:
    expected = f"{log.get(key)}, as {key} in the log" if key in log.values else f"no such line: the log has no {key}"
    return rulebook.SUMMARY_OTHER.at(summary.file, f"line {number}, {name}", found=told, expected=expected)


def _agree(told: str, value: object) -> bool:
    if isinstance(value, bool):
        return told in (WORDS[value], str(int(value)))
    if isinstance(value, int) and told.isascii() and told.isdigit():
        return len(told) < 30 and int(told) == value
    if isinstance(value, int | float):
        try:
            number = float(told)
        except ValueError:
            return False
        return abs(number - value) <= max(CENTS, SIX_DIGITS * abs(value))
    return told == str(value).strip()
