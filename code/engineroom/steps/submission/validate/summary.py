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
OPTIONAL = {
    "target_latency (ns)": "effective_target_latency_ns",
    "Performance constraints satisfied": "result_perf_constraints_met",
    "Tokens per second": "result_tokens_per_second",
    "Completed tokens per second": "result_completed_tokens_per_second",
    "ttft_latency (ns)": "requested_server_ttft_latency",
    "tpot_latency (ns)": "requested_server_tpot_latency",
    "Min First Token latency (ns)": "result_first_token_min_latency_ns",
    "Max First Token latency (ns)": "result_first_token_max_latency_ns",
    "Mean First Token latency (ns)": "result_first_token_mean_latency_ns",
    "Min Time to Output Token (ns)": "result_time_to_output_token_min",
    "Max Time to Output Token (ns)": "result_time_to_output_token_max",
    "Mean Time to Output Token (ns)": "result_time_to_output_token_mean",
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
        "Scheduled samples per second": "result_scheduled_samples_per_sec",
    },
    "Offline": {"Samples per second": "result_samples_per_second"},
}
WORDS = {True: "Yes", False: "NO"}


@lru_cache(maxsize=16)  # what a log calls its scenario may be anything
def _needed(scenario: str) -> dict[str, str]:
    return {**COMMON, **BY_SCENARIO.get(scenario, {}), **_latencies(scenario)}


def _latencies(scenario: str) -> dict[str, str]:
    query = "query_" if scenario == "MultiStream" else ""
    per_query = "per_query_" if scenario == "MultiStream" else ""
    ends = {f"{name.title()} latency (ns)": f"result_{name}_{query}latency_ns" for name in ("min", "max", "mean")}
    return {
        **ends,
        **{f"{p} percentile latency (ns)": f"result_{p}_percentile_{per_query}latency_ns" for p in PERCENTILES},
    }


def _estimates(log: Log, scenario: str) -> dict[str, str]:
    """Return the words about the percentile that counts, and its estimates, where latencies are not of tokens."""
    target = 100 * (log.number("effective_target_latency_percentile") or 0.0)
    of, estimate = ("per_query_", "ms") if scenario == "MultiStream" else ("", "ss")
    found = {
        f"{target:.1f}th percentile latency (ns)": f"result_{target:.2f}_percentile_{of}latency_ns",
        f"Early stopping {target:.1f}th percentile estimate": f"early_stopping_latency_{estimate}",
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
        told = summary.counts.get(kind)
        if told is not None and (told == 0) != (counted == 0):
            name = f"{kind.lower()}s"
            yield rulebook.SUMMARY_OTHER.at(
                summary.file, name, found=f"{told} {name}", expected=f"{counted}, as in the log"
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
    needed = _needed(scenario)
    if scenario in STREAMS and "early_stopping_result" in log.values:
        needed = needed | _estimates(log, scenario)
    for name, key in (needed | OPTIONAL).items():
        value, said = log.values.get(key), summary.values.get(name)
        if value is not None and (said is None or not _agree(said, value)):
            yield from _differs(summary, name, key, value, needed=name in needed)


def _differs(summary: Summary, name: str, key: str, value: object, *, needed: bool) -> Iterator[Finding]:
    """Yield that a summary says something else than `key` in the log, or does not say what it needs to."""
    if key.startswith("early_stopping_latency") and not value:
        return
    if name not in summary.values:
        if needed:
            yield rulebook.SUMMARY_CUT.at(summary.file, name, found="not there", expected=f"{name} : {value}")
        return
    where, found = f"line {summary.lines[name]}, {name}", summary.values[name]
    yield rulebook.SUMMARY_OTHER.at(summary.file, where, found=found, expected=f"{value}, as {key} in the log")


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
