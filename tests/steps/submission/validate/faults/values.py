"""The figures and settings in the log of a performance test."""

from __future__ import annotations

import re
from typing import Any

from faults import Change, Faults, Sound

FAULTS = Faults()
add = FAULTS.add


VALUES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "effective_qsl_rng_seed": (1, ("seeds",)),
    "effective_sample_index_rng_seed": (1, ("seeds",)),
    "effective_schedule_rng_seed": (0, ("seeds",)),
    "requested_qsl_rng_seed": (1, ("requested-effective",)),
    "requested_sample_index_rng_seed": (1, ("requested-effective",)),
    "requested_schedule_rng_seed": (1, ("requested-effective",)),
    "effective_min_duration_ms": (60_000, ("min-duration",)),
    "requested_min_duration_ms": (60_000, ("requested-effective",)),
    "effective_max_duration_ms": (1, ("requested-effective",)),
    "effective_scenario": ("Server", ("scenario-inferred",)),
    "requested_scenario": ("Offline", ("requested-effective",)),
    "effective_test_mode": ("AccuracyOnly", ("test-mode",)),
    "requested_test_mode": ("AccuracyOnly", ("requested-effective",)),
    "effective_samples_per_query": (2, ("samples-per-query",)),
    "generated_samples_per_query": (2, ("samples-per-query",)),
    "effective_target_latency_percentile": (0.5, ("percentile",)),
    "requested_single_stream_target_latency_percentile": (0.5, ("requested-effective",)),
    "effective_performance_sample_count": (1000, ("performance-sample-count",)),
    "requested_performance_sample_count_override": (1000, ("requested-effective",)),
    "qsl_reported_total_count": (10, ("loaded-samples",)),
    "loaded_qsl_set": ([1, 2, 3], ("loaded-samples",)),
    "effective_performance_issue_unique": (True, ("issue-mode",)),
    "effective_performance_issue_same": (True, ("issue-mode",)),
    "effective_performance_issue_same_index": (3, ("issue-mode",)),
    "effective_accuracy_log_rng_seed": (720381539243781796, ("issue-mode",)),
    "effective_accuracy_log_sampling_target": (4096, ("issue-mode",)),
    "effective_accuracy_log_probability": (0.5, ("issue-mode",)),
    "effective_print_timestamps": (True, ("requested-effective",)),
    "effective_sample_concatenate_permutation": (True, ("requested-effective",)),
    "effective_min_query_count": (10**9, ("query-count",)),
    "generated_query_count": (10, ("query-count",)),
    "result_validity": ("INVALID", ("validity",)),
    "result_min_duration_met": (False, ("validity",)),
    "result_min_queries_met": (False, ("validity",)),
    "early_stopping_met": (False, ("validity",)),
    "early_stopping_result": (" * Processed at least 64 queries (71000).", ("figures",)),
    "result_query_count": (60, ("query-count",)),
    "result_qps_with_loadgen_overhead": (20.0, ("log-time",)),
    "result_qps_without_loadgen_overhead": (5000.0, ("figures",)),
    "early_stopping_latency_ss": (1_000_000, ("figures",)),
    "early_stopping_latency_ms": (1, ("figures",)),
    "result_min_latency_ns": (10**10, ("figures",)),
    "result_max_latency_ns": (1, ("figures",)),
    "result_mean_latency_ns": (10**9, ("figures",)),
    **{f"result_{each}_percentile_latency_ns": (10**10, ("figures",)) for each in ("50.00", "90.00", "95.00")},
    **{f"result_{each}_percentile_latency_ns": (1, ("figures",)) for each in ("97.00", "99.00", "99.90")},
    "num_errors": (1, ("log-num-errors",)),
    "sut_name": ("another", ("summary-differs",)),
    "loadgen_version": ("mine", ("log-build",)),
    "loadgen_git_status_message": (" M loadgen.cc", ("log-build",)),
    "test_datetime": ("yesterday", ("log-time",)),
    "power_begin": ("03-09-2026 10:00:01.000", ("log-time",)),
    "power_end": ("03-01-2026 10:00:31.000", ("log-time",)),
    "effective_target_qps": (17.0, ("summary-differs",)),
    "effective_max_async_queries": (4, ("summary-differs",)),
}
for key, (value, rules) in VALUES.items():
    add(
        f"log: {key} = {value}"[:60],
        lambda sound, k=key, v=value: sound.set(sound.log, k, v),
        *rules,
        doubtful=rules == ("log-build",),
    )

TYPES = {
    "result_query_count": "70000",
    "effective_min_duration_ms": None,
    "effective_qsl_rng_seed": "2085463073848966840",
    "early_stopping_met": "true",
    "result_validity": ["VALID"],
    "result_90.00_percentile_latency_ns": "fast",
    "early_stopping_latency_ss": -1,
    "num_errors": "0",
    "effective_scenario": 7,
    "power_begin": 12,
}
for key, value in TYPES.items():
    add(f"log: type of {key}", lambda sound, k=key, v=value: sound.set(sound.log, k, v))
for key in (
    *(
        "effective_min_duration_ms",
        "effective_test_mode",
        "effective_scenario",
        "result_query_count",
        "early_stopping_met",
    ),
    *("early_stopping_latency_ss", "result_validity", "num_errors", "power_begin", "loaded_qsl_set", "loadgen_version"),
    *("effective_schedule_rng_seed", "result_min_duration_met", "effective_performance_issue_same", "sut_name"),
):
    add(f"log: without {key}", lambda sound, k=key: sound.drop(sound.log, k))


def set_both(key: str, value: Any, old: str, new: str) -> Change:
    """Change a figure in the log and in the summary alike."""

    def change(sound: Sound) -> None:
        sound.set(sound.log, key, value)
        sound.files[sound.told] = re.sub(old.encode(), new.encode(), sound.files[sound.told], count=1)

    return change


add(
    "both: better metric",
    set_both(
        "early_stopping_latency_ss",
        5_000_000,
        r"90.0th percentile estimate: \d+",
        "90.0th percentile estimate: 5000000",
    ),
    "figures",
)
add("both: INVALID", set_both("result_validity", "INVALID", "Result is : VALID", "Result is : INVALID"), "validity")
add(
    "both: short duration",
    set_both("effective_min_duration_ms", 1000, r"min_duration \(ms\): 600000", "min_duration (ms): 1000"),
    "min-duration",
)
add("both: seed", set_both("effective_qsl_rng_seed", 5, r"qsl_rng_seed : \d+", "qsl_rng_seed : 5"), "seeds")
add(
    "both: sample count",
    set_both(
        "effective_performance_sample_count", 7, r"performance_sample_count : \d+", "performance_sample_count : 7"
    ),
    "performance-sample-count",
)

# Of other scenarios


def of(scenario: str, key: str, value: Any, *rules: str) -> None:
    def change(sound: Sound) -> None:
        sound.scenario = scenario
        sound.set(sound.log, key, value)

    add(f"{scenario}: {key} = {value}"[:60], change, *rules)


of("Offline", "result_samples_per_second", 5000.0, "figures")
of("Offline", "result_max_latency_ns", 10**11, "figures")
of("Offline", "generated_samples_per_query", 1000, "query-count")
of("Offline", "effective_samples_per_query", 1000, "query-count")
of("Offline", "result_query_count", 2, "figures")
of("Offline", "effective_scenario", "SingleStream", "query-count", "metric")
of("MultiStream", "effective_samples_per_query", 1, "samples-per-query")
of("MultiStream", "generated_samples_per_query", 4, "samples-per-query")
of("MultiStream", "result_query_count", 500, "query-count")
of("MultiStream", "early_stopping_latency_ms", 1, "figures")
of("MultiStream", "result_mean_query_latency_ns", 1, "figures")
of("MultiStream", "result_99.00_percentile_per_query_latency_ns", 1, "figures")
of("MultiStream", "effective_scenario", "Offline", "scenario-inferred")
