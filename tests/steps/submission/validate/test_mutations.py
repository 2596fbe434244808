"""Every single fault in a sound submission is found, and nothing is found where there is none."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engineroom import rounds
from engineroom.bench import trees
from engineroom.bench.trees import Files, answers
from engineroom.steps.submission.layout import Place, Tree
from engineroom.steps.submission.validate import result, whole
from engineroom.steps.submission.validate.case import Subject
from engineroom.steps.submission.validate.findings import Finding, Level
from engineroom.steps.submission.validate.result import Outcome

Change = Callable[["Sound"], None]
MARK = b":::MLLOG "


@dataclass
class Sound:
    """A sound tree, as its files, and where the parts of one of its results lie."""

    round: str
    files: Files
    scenario: str = "SingleStream"

    @property
    def tree(self) -> Tree:
        return Tree(rounds.read(self.round).layout, "closed", "Acme")

    @property
    def place(self) -> Place:
        return Place("box", "resnet50", self.scenario, "made")

    @property
    def results(self) -> str:
        return self.tree.results(self.place).as_posix()

    @property
    def log(self) -> str:
        return f"{self.results}/performance/run_1/mlperf_log_detail.txt"

    @property
    def told(self) -> str:
        return f"{self.results}/performance/run_1/mlperf_log_summary.txt"

    @property
    def accuracy(self) -> str:
        return f"{self.results}/accuracy"

    @property
    def beside(self) -> str:
        return self.tree.measurements(self.place).as_posix()

    @property
    def measured(self) -> str:
        return self.tree.measurements_file(self.place).as_posix()

    @property
    def system(self) -> str:
        return self.tree.system("box").as_posix()

    def of(self, results: str, name: str) -> str:
        """Return a file of the audits of a result."""
        there = {f"{results}/{name}", f"{results}/{name}".replace("/results/", "/compliance/")}
        return next(iter(there & self.files.keys()))

    def audit(self, test: str) -> str:
        return self.tree.audit(self.place, test).as_posix()

    def replace(self, file: str, old: str | bytes, new: str | bytes, count: int = 1) -> None:
        before, after = (each.encode() if isinstance(each, str) else each for each in (old, new))
        assert before in self.files[file], (file, old)
        self.files[file] = self.files[file].replace(before, after, count)

    def set(self, file: str, key: str, value: Any) -> None:
        """Change the value of a key in a detail log."""
        lines = self.files[file].splitlines(keepends=True)
        place = next(number for number, line in enumerate(lines) if f'"key": "{key}"'.encode() in line)
        told = json.loads(lines[place][len(MARK) :])
        assert told["value"] != value, key
        lines[place] = MARK + json.dumps({**told, "value": value}).encode() + b"\n"
        self.files[file] = b"".join(lines)

    def drop(self, file: str, key: str) -> None:
        lines = self.files[file].splitlines(keepends=True)
        kept = [line for line in lines if f'"key": "{key}"'.encode() not in line]
        assert len(kept) == len(lines) - 1, key
        self.files[file] = b"".join(kept)

    def json(self, file: str, **changes: Any) -> None:
        """Change fields of a JSON file; ... removes one."""
        told = json.loads(self.files[file])
        told = {name: value for name, value in {**told, **changes}.items() if value is not ...}
        self.files[file] = json.dumps(told, indent=2).encode()

    def move(self, old: str, new: str) -> None:
        """Rename a folder or a file."""
        moved = [name for name in self.files if name == old or name.startswith(f"{old}/")]
        assert moved, old
        for name in moved:
            self.files[new + name[len(old) :]] = self.files.pop(name)

    def remove(self, start: str) -> None:
        gone = [name for name in self.files if name == start or name.startswith(f"{start}/")]
        assert gone, start
        for name in gone:
            del self.files[name]

    def swap_folders(self, one: str, other: str) -> None:
        self.move(one, "x")
        self.move(other, one)
        self.move("x", other)

    def swap(self, one: str, other: str) -> None:
        self.files[one], self.files[other] = self.files[other], self.files[one]


@dataclass(frozen=True)
class Mutation:
    """A fault, the rules one of which has to tell it, and, for what no dict of files can be, what to do on the disk."""

    name: str
    change: Change
    rules: tuple[str, ...]
    on_disk: Callable[[Path, Sound], None] | None = None
    doubtful: bool = False  # a warning is enough


ALL: list[Mutation] = []


def add(name: str, change: Change, *rules: str, doubtful: bool = False) -> None:
    ALL.append(Mutation(name, change, rules, doubtful=doubtful))


def nothing(sound: Sound) -> None:
    """Change no file: what is wrong is done on the disk."""


def disk(name: str, act: Callable[[Path, Sound], None], *rules: str) -> None:
    ALL.append(Mutation(name, nothing, rules, act))


# Values in the log of the performance test

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


# Lines and bytes of logs


def bytes_of(name: str, file: Callable[[Sound], str], change: Callable[[bytes], bytes], *rules: str) -> None:
    def apply(sound: Sound) -> None:
        before = sound.files[file(sound)]
        sound.files[file(sound)] = change(before)
        assert sound.files[file(sound)] != before

    add(name, apply, *rules)


def the_log(sound: Sound) -> str:
    return sound.log


def the_summary(sound: Sound) -> str:
    return sound.told


def accuracy_log(sound: Sound) -> str:
    return f"{sound.accuracy}/mlperf_log_detail.txt"


LOGS = {"log": the_log, "accuracy log": accuracy_log, "summary": the_summary}
ERROR = MARK + b'{"key": "error_runtime", "value": "it broke", "time_ms": 1.0, "metadata": {"is_error": true}}\n'
for name, file in LOGS.items():
    bytes_of(f"{name}: empty", file, lambda data: b"", "tree-empty-file")
    bytes_of(
        f"{name}: half",
        file,
        lambda data: data[: len(data) // 2],
        "log-cut",
        "log-line-broken",
        "summary-cut",
        "log-missing-key",
    )
    bytes_of(
        f"{name}: without its last line",
        file,
        lambda data: b"\n".join(data.split(b"\n")[:-2]) + b"\n",
        "log-cut",
        "summary-cut",
    )
    bytes_of(f"{name}: binary", file, lambda data: bytes(range(256)) * 40, "log-binary", "log-line-broken")
    bytes_of(f"{name}: NUL bytes in it", file, lambda data: data[:300] + b"\0\xff\0" + data[300:])
for name, file in (("log", the_log), ("accuracy log", accuracy_log)):
    bytes_of(f"{name}: twice", file, lambda data: data + data, "log-repeated-key")
    bytes_of(f"{name}: an error", file, lambda data: data + ERROR, "log-error")
    bytes_of(f"{name}: broken line", file, lambda data: data.replace(b'"value"', b'value"', 1), "log-line-broken")
    bytes_of(f"{name}: another text in it", file, lambda data: b"hello\n" + data, "log-line-broken")
    bytes_of(f"{name}: no mark", file, lambda data: data.replace(MARK, b"", 1), "log-line-broken")
    bytes_of(
        f"{name}: without the first lines", file, lambda data: b"\n".join(data.split(b"\n")[5:]), "log-missing-key"
    )
    bytes_of(f"{name}: no end of the last line", file, lambda data: data[:-1], "log-cut")
    bytes_of(
        f"{name}: a warning more",
        file,
        lambda data: data.replace(b'"is_warning": false', b'"is_warning": true', 1),
        "summary-differs",
    )
    bytes_of(
        f"{name}: JSON that is no object",
        file,
        lambda data: data.replace(b"\n", b"\n" + MARK + b"[]\n", 1),
        "log-line-broken",
    )
    bytes_of(f"{name}: a list instead", file, lambda data: b"[]\n", "log-line-broken")
    bytes_of(f"{name}: UTF-16", file, lambda data: data.decode().encode("utf-16"), "log-binary", "log-line-broken")

# The summary

SUMMARY = {
    "Result is : VALID": "Result is : INVALID",
    "Scenario : SingleStream": "Scenario : Offline",
    "Mode     : PerformanceOnly": "Mode     : AccuracyOnly",
    "Min duration satisfied : Yes": "Min duration satisfied : NO",
    "Min queries satisfied : Yes": "Min queries satisfied : NO",
    "Early stopping satisfied: Yes": "Early stopping satisfied: NO",
    "samples_per_query : 1": "samples_per_query : 2",
    "min_duration (ms): 600000": "min_duration (ms): 1",
    "performance_sample_count : 1024": "performance_sample_count : 1",
    "qsl_rng_seed : ": "qsl_rng_seed : 1",
    "schedule_rng_seed : ": "schedule_rng_seed : 1",
    "Mean latency (ns)                : ": "Mean latency (ns)                : 1",
    "99.00 percentile latency (ns)   : ": "99.00 percentile latency (ns)   : 1",
    "QPS w/o loadgen overhead        : ": "QPS w/o loadgen overhead        : 1",
    "90.0th percentile estimate: ": "90.0th percentile estimate: 1",
    "No errors encountered during test.": "1 ERROR encountered. See detailed log.",
    "No warnings encountered during test.": "2 warnings encountered. See detailed log.",
    "MLPerf Results Summary": "My results",
}
for old, new in SUMMARY.items():
    add(
        f"summary: {new}", lambda sound, o=old, n=new: sound.replace(sound.told, o, n), "summary-differs", "summary-cut"
    )
add("summary: without a line", lambda sound: sound.replace(sound.told, "Max latency (ns)", "Longest"), "summary-cut")
add(
    "summary: of another scenario",
    lambda sound: sound.swap(sound.told, sound.told.replace("SingleStream", "Offline")),
    "summary-differs",
)

# Accuracy

ACCURACY = {
    "hash: gone": ("hash=", "hush=", ("accuracy-hash-missing",)),
    "hash: short": ("hash=", "hash=0\nx", ("accuracy-hash-wrong",)),
    "hash: two": ("hash=", f"hash={'0' * 64}\nhash=", ("accuracy-hash-wrong",)),
    "score: too low": ("accuracy=77.000%", "accuracy=70.000%", ("accuracy-target",)),
    "score: no number": ("accuracy=77.000%", "accuracy=high", ("accuracy-missing",)),
    "score: does not follow": ("good=38500", "good=38000", ("accuracy-contradiction",)),
    "score: over less": ("good=38500, total=50000", "good=385, total=500", ("accuracy-samples",)),
    "score: two": ("accuracy=77", "accuracy=76.999%\naccuracy=77", ("accuracy-contradiction",)),
    "score: 0 of 0": ("good=38500, total=50000", "good=0, total=0", ("accuracy-contradiction",)),
    "score: over 100": ("accuracy=77.000%, good=38500", "accuracy=177.000%, good=88500", ("accuracy-contradiction",)),
}
for name, (old, new, rules) in ACCURACY.items():
    add(
        f"accuracy.txt: {name}",
        lambda sound, o=old, n=new: sound.replace(f"{sound.accuracy}/accuracy.txt", o, n),
        *rules,
    )


def answers_of(name: str, change: Callable[[bytes], bytes], *rules: str) -> None:
    bytes_of(f"answers: {name}", lambda sound: f"{sound.accuracy}/mlperf_log_accuracy.json", change, *rules)


answers_of("empty", lambda data: b"", "tree-empty-file")
answers_of("not cut", lambda data: data + b"x" * 20_000, "accuracy-log-long")
answers_of("cut elsewhere", lambda data: data[:2000] + data[3000:], "accuracy-log-broken")
answers_of("no beginning", lambda data: b"x" + data[1:], "accuracy-log-broken")
answers_of("no end", lambda data: data[:-1] + b"x", "accuracy-log-broken")
answers_of("nothing", lambda data: b"[]", "accuracy-hash-wrong")
answers_of("of fewer samples", lambda data: answers(40_000, 4096)[0], "accuracy-log-samples")
answers_of("text", lambda data: b"hello", "accuracy-log-broken")
answers_of("broken answer", lambda data: data.replace(b'"qsl_idx" : 3,', b'"qsl_idx" : x,'), "accuracy-log-broken")
answers_of(
    "sample beyond",
    lambda data: data.replace(b'"qsl_idx" : 3,', b'"qsl_idx" : 50001,'),
    "accuracy-log-samples",
    "accuracy-log-broken",
)
answers_of("one twice", lambda data: data.replace(b'"seq_id" : 3,', b'"seq_id" : 2,'), "accuracy-log-samples")
add(
    "answers in the performance test",
    lambda sound: sound.files.update(
        {f"{sound.results}/performance/run_1/mlperf_log_accuracy.json": answers(50_000, 4096)[0]}
    ),
    "performance-answers",
)
for key, value, rules in (
    ("effective_test_mode", "PerformanceOnly", ("test-mode",)),
    ("effective_scenario", "Offline", ("scenario-log",)),
    ("qsl_reported_total_count", 500, ("accuracy-samples",)),
    ("effective_qsl_rng_seed", 0, ("seeds",)),
    ("loadgen_version", "5.0.25 @ 0123456789", ("loadgen-mixed",)),
):
    add(
        f"accuracy log: {key} = {value}",
        lambda sound, k=key, v=value: sound.set(accuracy_log(sound), k, v),
        *rules,
        doubtful=key == "loadgen_version",
    )
add(
    "accuracy: the performance test's log",
    lambda sound: sound.files.update({accuracy_log(sound): sound.files[sound.log]}),
    "test-mode",
)
add(
    "performance: the accuracy run's log",
    lambda sound: sound.files.update({sound.log: sound.files[accuracy_log(sound)]}),
    "test-mode",
    "log-cut",
)

# Audits


def audit_log(test: str, key: str, value: Any, *rules: str) -> None:
    def change(sound: Sound) -> None:
        sound.set(f"{sound.audit(test)}/performance/run_1/mlperf_log_detail.txt", key, value)

    add(f"{test}: {key} = {value}"[:60], change, *rules)


audit_log("TEST01", "effective_accuracy_log_rng_seed", 0, "audit-settings")
audit_log("TEST01", "effective_accuracy_log_sampling_target", 4, "audit-settings")
audit_log("TEST01", "effective_performance_issue_same", True, "audit-settings")
audit_log("TEST01", "result_validity", "INVALID", "validity")
audit_log("TEST01", "early_stopping_latency_ss", 20_000_000, "audit-band", "figures")
audit_log("TEST01", "effective_qsl_rng_seed", 3, "seeds")
audit_log("TEST01", "effective_scenario", "Offline", "scenario-log")
audit_log("TEST01", "effective_min_duration_ms", 10_000, "min-duration")
audit_log("TEST04", "effective_performance_issue_same", False, "audit-settings")
audit_log("TEST04", "effective_performance_issue_same_index", 0, "audit-settings")
audit_log("TEST04", "result_validity", "INVALID", "validity")
audit_log("TEST04", "early_stopping_latency_ss", 100, "audit-scores", "audit-band")
for test in ("TEST01", "TEST04"):
    add(f"{test}: gone", lambda sound, t=test: sound.remove(sound.audit(t)), "audit-missing")
    add(
        f"{test}: no verdict",
        lambda sound, t=test: sound.remove(f"{sound.audit(t)}/verify_performance.txt"),
        "tree-missing-file",
    )
    add(
        f"{test}: failed",
        lambda sound, t=test: sound.replace(f"{sound.audit(t)}/verify_performance.txt", "TEST PASS", "TEST FAIL"),
        "audit-verdict",
    )
    add(
        f"{test}: both verdicts",
        lambda sound, t=test: sound.replace(
            f"{sound.audit(t)}/verify_performance.txt", "TEST PASS", "TEST FAIL\nTEST PASS"
        ),
        "audit-verdict",
    )
    add(
        f"{test}: another reference",
        lambda sound, t=test: sound.replace(
            f"{sound.audit(t)}/verify_performance.txt", "reference score = ", "reference score = 1"
        ),
        "audit-scores",
    )
    add(
        f"{test}: another score",
        lambda sound, t=test: sound.replace(
            f"{sound.audit(t)}/verify_performance.txt", "test score = ", "test score = 1"
        ),
        "audit-scores",
    )
    add(
        f"{test}: no score",
        lambda sound, t=test: sound.replace(f"{sound.audit(t)}/verify_performance.txt", "test score", "score"),
        "audit-scores",
    )
    add(
        f"{test}: no log",
        lambda sound, t=test: sound.remove(f"{sound.audit(t)}/performance/run_1/mlperf_log_detail.txt"),
        "tree-missing-file",
    )
    add(
        f"{test}: the performance test's log",
        lambda sound, t=test: sound.files.update(
            {f"{sound.audit(t)}/performance/run_1/mlperf_log_detail.txt": sound.files[sound.log]}
        ),
        "audit-same-run",
    )
VERIFY = {
    "failed": ("TEST PASS", "TEST FAIL", ("audit-fallback",)),
    "differences": ("num_perf_log_data_mismatch = 0", "num_perf_log_data_mismatch = 4", ("audit-answers",)),
    "missing samples": ("num_missing_qsl_idxs = 0", "num_missing_qsl_idxs = 4", ("audit-answers",)),
    "fewer in the accuracy run": ("num_acc_log_entries = 50000", "num_acc_log_entries = 500", ("audit-answers",)),
    "counts that disagree": ("num_perf_log_qsl_idx_match = 400", "num_perf_log_qsl_idx_match = 4", ("audit-answers",)),
    "no count": ("num_perf_log_entries", "entries", ("audit-answers",)),
    "contradictions": ("num_acc_log_data_mismatch = 0", "num_acc_log_data_mismatch = 2", ("audit-answers",)),
}
for name, (old, new, rules) in VERIFY.items():
    add(
        f"TEST01 verify_accuracy: {name}",
        lambda sound, o=old, n=new: sound.replace(f"{sound.audit('TEST01')}/verify_accuracy.txt", o, n),
        *rules,
    )
add(
    "TEST01: hash gone",
    lambda sound: sound.replace(f"{sound.audit('TEST01')}/accuracy/accuracy.txt", "hash=", ""),
    "accuracy-hash-missing",
)
add(
    "TEST01: answers not cut",
    lambda sound: sound.files.update({f"{sound.audit('TEST01')}/accuracy/mlperf_log_accuracy.json": b"x" * 20_000}),
    "accuracy-log-long",
)
add(
    "TEST01: other answers",
    lambda sound: sound.files.update(
        {f"{sound.audit('TEST01')}/accuracy/mlperf_log_accuracy.json": answers(50_000, 4096, 5)[0]}
    ),
    "audit-answers-differ",
    doubtful=True,
)
add(
    "TEST01 and TEST04 swapped",
    lambda sound: sound.swap_folders(sound.audit("TEST01"), sound.audit("TEST04")),
    "audit-settings",
)
add(
    "an audit of another scenario",
    lambda sound: sound.swap(
        *(
            f"{sound.audit('TEST01').replace('SingleStream', each)}/performance/run_1/mlperf_log_detail.txt"
            for each in ("SingleStream", "Offline")
        )
    ),
    "scenario-log",
)

# What stands beside a result

for name in (
    "input_data_types",
    "retraining",
    "starting_weights_filename",
    "weight_data_types",
    "weight_transformations",
):
    add(
        f"measurements: without {name}",
        lambda sound, n=name: sound.json(sound.measured, **{n: ...}),
        "measurements-field",
    )
    add(
        f"measurements: empty {name}", lambda sound, n=name: sound.json(sound.measured, **{n: ""}), "measurements-field"
    )
add(
    "measurements: a number",
    lambda sound: sound.json(sound.measured, weight_data_types=8),
    "measurements-type",
    doubtful=True,
)
add(
    "measurements: unusual",
    lambda sound: sound.json(sound.measured, weight_data_types="int7"),
    "measurements-unusual",
    doubtful=True,
)
add("measurements: retrained", lambda sound: sound.json(sound.measured, retraining="yes"), "measurements-retrained")
add("measurements: gone", lambda sound: sound.remove(sound.measured), "tree-missing-file")
bytes_of("measurements: broken", lambda sound: sound.measured, lambda data: data[:-1], "json-broken")
bytes_of("measurements: a list", lambda sound: sound.measured, lambda data: b"[1]", "json-broken")
bytes_of("measurements: empty", lambda sound: sound.measured, lambda data: b"", "tree-empty-file")
bytes_of(
    "measurements: a key twice",
    lambda sound: sound.measured,
    lambda data: data.replace(b"{", b'{"retraining": "no",', 1),
    "json-repeated-key",
)
CONF = {
    "unknown key": ("resnet50.SingleStream.target_latencies = 5", "user-conf-unknown-key"),
    "seed": ("*.*.qsl_rng_seed = 5", "user-conf-unknown-key"),
    "percentile": ("*.SingleStream.target_latency_percentile = 50", "user-conf-open-key"),
    "samples per query": ("*.SingleStream.samples_per_query = 4", "user-conf-open-key"),
    "no number": ("resnet50.SingleStream.target_latency = fast", "user-conf-value"),
    "negative": ("resnet50.SingleStream.max_duration = -4", "user-conf-value"),
    "no key": ("target_latency = 5", "user-conf-line"),
    "no value": ("resnet50.SingleStream.target_latency =", "user-conf-line"),
    "no scenario": ("resnet50.SinglStream.target_latency = 4", "user-conf-line"),
    "twice": ("resnet50.SingleStream.target_latency = 4", "user-conf-repeated"),
    "another duration": ("resnet50.SingleStream.max_duration = 660000", "user-conf-not-used"),
}
for name, (line, rule) in CONF.items():
    bytes_of(
        f"user.conf: {name}",
        lambda sound: f"{sound.beside}/user.conf",
        lambda data, n=line: data + n.encode() + b"\n",
        rule,
    )
bytes_of("user.conf: empty", lambda sound: f"{sound.beside}/user.conf", lambda data: b"", "tree-empty-file")
bytes_of(
    "user.conf: of another scenario",
    lambda sound: f"{sound.beside}/user.conf",
    lambda data: data.replace(b"SingleStream", b"Offline"),
    "user-conf-other",
)
bytes_of(
    "user.conf: of another model",
    lambda sound: f"{sound.beside}/user.conf",
    lambda data: data.replace(b"resnet50", b"bert"),
    "user-conf-other",
)
bytes_of("user.conf: binary", lambda sound: f"{sound.beside}/user.conf", lambda data: b"\xff\xfe" + data, "log-binary")
bytes_of("README.md: empty", lambda sound: f"{sound.beside}/README.md", lambda data: b"", "tree-empty-file")
bytes_of("README.md: blank", lambda sound: f"{sound.beside}/README.md", lambda data: b" \n\n", "readme-blank")

# The system

for name in (
    "host_memory_capacity",
    "cooling",
    "hw_notes",
    "status",
    "accelerators_per_node",
    "framework",
    "system_type",
):
    add(f"system: without {name}", lambda sound, n=name: sound.json(sound.system, **{n: ...}), "system-field-missing")
for name in ("host_memory_capacity", "cooling", "framework", "operating_system", "system_name"):
    add(f"system: empty {name}", lambda sound, n=name: sound.json(sound.system, **{n: ""}), "system-field-empty")
SYSTEM: dict[str, tuple[str, Any, str]] = {
    "status": ("status", "sold out", "system-field-value"),
    "category": ("system_type", "desktop", "system-field-value"),
    "another category": ("system_type", "datacenter", "scenario-unknown"),
    "division": ("division", "open", "system-field-folder"),
    "submitter": ("submitter", "Emca", "system-field-folder"),
    "no nodes": ("number_of_nodes", "0", "system-field-value"),
    "no count": ("host_processors_per_node", "many", "system-field-value"),
    "N/A accelerators": ("accelerators_per_node", "N/A", "system-field-value"),
    "accelerators without a name": ("accelerators_per_node", "4", "system-accelerators"),
    "a name without accelerators": ("accelerator_model_name", "H200", "system-accelerators"),
    "a list": ("hw_notes", ["x"], "system-field-type"),
    "null": ("sw_notes", None, "system-field-type"),
    "a network": ("is_network", "true", "network-division"),
}
for name, (field, value, rule) in SYSTEM.items():
    add(f"system: {name}", lambda sound, f=field, v=value: sound.json(sound.system, **{f: v}), rule)
add("system: a number", lambda sound: sound.json(sound.system, number_of_nodes=1), "system-field-number", doubtful=True)
add(
    "system: an unknown field",
    lambda sound: sound.json(sound.system, colour="red"),
    "system-field-unknown",
    doubtful=True,
)
bytes_of("system: broken", lambda sound: sound.system, lambda data: data[:-3], "json-broken")
bytes_of(
    "system: a key twice",
    lambda sound: sound.system,
    lambda data: data.replace(b"{", b'{"status": "rdi",', 1),
    "json-repeated-key",
)
bytes_of("system: deep", lambda sound: sound.system, lambda data: b"[" * 100_000, "json-broken")
add("system: gone", lambda sound: sound.remove(sound.system), "system-missing")
add(
    "system: unused",
    lambda sound: sound.files.update({sound.system.replace("box", "spare"): sound.files[sound.system]}),
    "system-unused",
)
add(
    "system: another name", lambda sound: sound.move(sound.system, sound.system.replace("box", "Box")), "system-missing"
)

# Files and folders


for name in (
    "performance/run_1/mlperf_log_detail.txt",
    "performance/run_1/mlperf_log_summary.txt",
    "accuracy/accuracy.txt",
    "accuracy/mlperf_log_accuracy.json",
    "accuracy/mlperf_log_detail.txt",
    "accuracy/mlperf_log_summary.txt",
):  # noqa: E501
    add(f"gone: {name}", lambda sound, n=name: sound.remove(f"{sound.results}/{n}"), "tree-missing-file")
for name in ("user.conf", "README.md"):
    add(f"gone: {name}", lambda sound, n=name: sound.remove(f"{sound.beside}/{n}"), "tree-missing-file")
add("gone: a scenario", lambda sound: sound.remove(sound.results), "scenario-missing")
add("gone: the performance run", lambda sound: sound.remove(f"{sound.results}/performance"), "tree-missing-file")
add("gone: the accuracy run", lambda sound: sound.remove(sound.accuracy), "tree-missing-file")
add("gone: sources", lambda sound: sound.remove(sound.tree.code.as_posix()), "tree-code")
add("gone: calibration", lambda sound: sound.remove(sound.tree.calibration.as_posix()), "tree-calibration")
add(
    "scenario misnamed",
    lambda sound: sound.move(sound.results, sound.results.replace("SingleStream", "SinglStream")),
    "scenario-unknown",
)
add(
    "scenario in lower case",
    lambda sound: sound.move(sound.results, sound.results.replace("SingleStream", "singlestream")),
    "scenario-spelled",
    doubtful=True,
)
add(
    "benchmark misnamed",
    lambda sound: sound.move(
        sound.results.rpartition("/")[0], sound.results.rpartition("/")[0].replace("resnet50", "resnet5")
    ),
    "benchmark-unknown",
)
add(
    "another benchmark's folder",
    lambda sound: sound.move(
        sound.results.rpartition("/")[0], sound.results.rpartition("/")[0].replace("resnet50", "bert-99")
    ),
)
add("division misnamed", lambda sound: sound.move("closed", "close"), "tree-unknown-folder")
add("another division", lambda sound: sound.move("closed", "open"), "system-field-folder")
add("network division", lambda sound: sound.move("closed", "network"), "network-division")
add("another submitter", lambda sound: sound.move("closed/Acme", "closed/Emca"), "system-field-folder")
add("results of another name", lambda sound: sound.move("closed/Acme/results", "closed/Acme/result"), "tree-no-result")
add(
    "scenarios swapped",
    lambda sound: sound.swap_folders(sound.results, sound.results.replace("SingleStream", "MultiStream")),
    "scenario-inferred",
)
add(
    "logs of two scenarios swapped",
    lambda sound: sound.swap(sound.log, sound.log.replace("SingleStream", "Offline")),
    "scenario-inferred",
)
add(
    "a run for two systems",
    lambda sound: sound.files.update(
        {name.replace("box", "twin"): data for name, data in sound.files.items() if "box" in name}
    ),
    "result-duplicate",
)
add(
    "scenario too many",
    lambda sound: sound.files.update(
        {
            name.replace("SingleStream", "Server"): data
            for name, data in sound.files.items()
            if name.startswith(sound.results)
        }
    ),
    "scenario-unknown",
)
for where, expected in (
    ("performance/run_1/notes.txt", ("tree-unexpected-file",)),
    ("performance/run_2/mlperf_log_detail.txt", ("tree-misplaced",)),
    ("accuracy/old.bin", ("tree-unexpected-file",)),
    ("mlperf_log_detail.txt", ("tree-misplaced",)),
    ("performance/mlperf_log_summary.txt", ("tree-misplaced",)),
    ("accuracy/user.conf", ("tree-misplaced",)),
    ("a b.txt", ("tree-name",)),
    (".hidden", ("tree-name",)),
    ("accuracy/two\nlines.txt", ("tree-name",)),
    ("accuracy/\udcff.txt", ("tree-name",)),
    ("accuracy/Résumé.txt", ("tree-unexpected-file",)),
):
    add(f"extra: {where!a}", lambda sound, w=where: sound.files.update({f"{sound.results}/{w}": b"x"}), *expected)
add(
    "extra: a log beside the results",
    lambda sound: sound.files.update({"closed/Acme/mlperf_log_detail.txt": b"x"}),
    "tree-misplaced",
)
add(
    "extra: a file beside the submitters",
    lambda sound: sound.files.update({"closed/notes.txt": b"x"}),
    "tree-unknown-entry",
    doubtful=True,
)
add(
    "extra: a folder beside the results",
    lambda sound: sound.files.update({"closed/Acme/stuff/x": b"x"}),
    "tree-unknown-entry",
    doubtful=True,
)
add(
    "extra: a document beside a result",
    lambda sound: sound.files.update({f"{sound.results}/notes.md": b"x"}),
    "tree-extra-document",
    doubtful=True,
)
add(
    "extra: an audit",
    lambda sound: sound.files.update({f"{sound.audit('TEST05')}/verify_performance.txt": b"TEST PASS"}),
    "audit-unknown",
    doubtful=True,
)
add(
    "extra: a file in an audit",
    lambda sound: sound.files.update({f"{sound.audit('TEST04')}/x.bin": b"x"}),
    "tree-unexpected-file",
)
add(
    "large file",
    lambda sound: sound.files.update(
        {"closed/Acme/src/large" if sound.round == "v6.1" else "closed/Acme/code/large": b"\0" * (51 << 20)}
    ),
    "tree-large-file",
)
add(
    "the other layout",
    lambda sound: sound.files.update(
        {"closed/Acme/measurements/x/y/z/user.conf": b"x"} if sound.round == "v6.1" else {"closed/Acme/src/x": b"x"}
    ),
    "tree-other-layout",
)
add(
    "orphaned measurements",
    lambda sound: sound.files.update({f"{sound.beside.replace('box', 'gone')}/user.conf": b"x"}),
    "result-orphan",
    "system-missing",
    "tree-missing-file",
)
add("rehearsal", lambda sound: sound.json(sound.measured, rehearsal="this is none"), "tree-rehearsal")
add(
    "mapping in the closed division",
    lambda sound: sound.files.update({"closed/Acme/model_mapping.json": b"{}"}),
    "tree-misplaced",
)


def link(target: str) -> Callable[[Path, Sound], None]:
    def act(root: Path, sound: Sound) -> None:
        (root / sound.log).unlink()
        (root / sound.log).symlink_to(target)

    return act


disk("link out of the tree", link("/etc/passwd"), "tree-link")
disk("link to nothing", link("nowhere"), "tree-link")
disk("link to itself", link("mlperf_log_detail.txt"), "tree-link")
disk("link to a folder above", lambda root, sound: (root / sound.results / "loop").symlink_to(".."), "tree-link")


def instead(of: Callable[[Sound], str], make: Callable[[Path], object]) -> Callable[[Path, Sound], None]:
    """Put something else in the place of a file or a folder."""

    def act(root: Path, sound: Sound) -> None:
        path = root / of(sound)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return act


def the_results(sound: Sound) -> str:
    return sound.results


disk("link instead of a result", instead(the_results, lambda path: path.symlink_to("Offline")), "tree-link")
disk("file instead of a result", instead(the_results, lambda path: path.write_text("x")), "scenario-missing")
disk("link in the sources", lambda root, sound: (root / sound.tree.code / "x").symlink_to("README.md"), "tree-link")
disk("pipe", instead(the_log, os.mkfifo), "tree-special")
disk("folder instead of a file", instead(the_log, Path.mkdir), "tree-missing-file")
disk(
    "file instead of a folder",
    instead(lambda sound: f"{sound.results}/performance", lambda path: path.write_text("x")),
    "tree-missing-file",
)
disk("empty folder", lambda root, sound: (root / sound.results / "empty").mkdir(), "tree-unexpected-file")
disk("deep folders", lambda root, sound: (root / sound.results / "/".join("d" * 60)).mkdir(parents=True), "tree-deep")
disk("system is a folder", instead(lambda sound: sound.system, Path.mkdir), "system-missing")

# What only a submission to other divisions, of language models or of several categories can have

WIDE: list[Mutation] = []


def wide(name: str, change: Change, *rules: str) -> None:
    WIDE.append(Mutation(name, change, rules))


def log_of(place: str) -> str:
    return f"{place}/performance/run_1/mlperf_log_detail.txt"


RACK, BOTH = "closed/Acme/results/rack/llama2-70b-99.9", "closed/Acme/results/both/stable-diffusion-xl"
FAR, MAPPED = "network/Acme/results/far/rgat/Offline", "open/Acme/results/mapped/own-net"
TTFT, TPOT = "result_first_token_99.00_percentile_latency_ns", "result_time_per_output_token_99.00_percentile_ns"
for scenario in ("Server", "Interactive"):
    for key in (TTFT, TPOT):
        wide(
            f"{scenario}: {key}",
            lambda sound, s=scenario, k=key: sound.set(log_of(f"{RACK}/{s}"), k, 10**10),
            "token-latency",
        )
wide(
    "no token latencies",
    lambda sound: sound.set(log_of(f"{RACK}/Server"), "requested_use_token_latencies", False),
    "token-latency",
)
wide(
    "Server's limits for Interactive",
    lambda sound: sound.swap_folders(f"{RACK}/Server", f"{RACK}/Offline"),
    "scenario-inferred",
)
wide(
    "Server: no metric",
    lambda sound: sound.set(log_of(f"{RACK}/Server"), "result_completed_tokens_per_second", 0),
    "metric",
)
wide("no Offline", lambda sound: sound.remove(f"{RACK}/Offline"), "scenario-missing")
wide(
    "latency over its limit",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_99.00_percentile_latency_ns", 10**11),
    "latency-limit",
)
wide(
    "another limit",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "effective_target_latency_ns", 10**11),
    "latency-limit",
)
wide(
    "too many late",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_overlatency_query_count", 5000),
    "latency-limit",
)
wide(
    "completed more than scheduled",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_completed_samples_per_sec", 500.0),
    "figures",
)
wide(
    "late constraints",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_perf_constraints_met", False),
    "validity",
)
wide("no SUT in the network", lambda sound: sound.set(log_of(FAR), "sut_name", "near"), "network-sut-name")
wide(
    "system not in the network",
    lambda sound: sound.json("network/Acme/systems/far.json", is_network="false"),
    "network-division",
)
wide(
    "network without its fields",
    lambda sound: sound.json("network/Acme/systems/far.json", network_type=...),
    "network-division",
)
wide(
    "mapping to nothing",
    lambda sound: sound.json("open/Acme/model_mapping.json", **{"own-net": "own"}),
    "model-mapping",
)
wide(
    "mapping to a name that the checkers do not take",
    lambda sound: sound.json("open/Acme/model_mapping.json", **{"own-net": "resnet50"}),
    "model-mapping",
)
wide("mapping gone", lambda sound: sound.remove("open/Acme/model_mapping.json"), "benchmark-unknown")
wide("mapping broken", lambda sound: sound.replace("open/Acme/model_mapping.json", "}", ""), "json-broken")
wide(
    "inferred in the datacenter",
    lambda sound: sound.json("open/Acme/systems/mapped.json", system_type="datacenter"),
    "scenario-inferred",
)
wide(
    "inferred from nothing",
    lambda sound: sound.set(log_of(f"{MAPPED}/MultiStream"), "early_stopping_latency_ms", 0),
    "metric",
)
wide(
    "data set of another size",
    lambda sound: sound.set(f"{MAPPED}/Offline/accuracy/mlperf_log_detail.txt", "qsl_reported_total_count", 7),
    "accuracy-samples",
)
for before in ("First token check pass: True", "EOS check pass: True", "Sample length check pass: True"):
    wide(
        f"TEST06: {before}",
        lambda sound, b=before: sound.replace(
            sound.of(f"{RACK}/Offline", "TEST06/verify_accuracy.txt"), b, b.replace("True", "False")
        ),
        "audit-verdict",
    )
wide(
    "score below its target",
    lambda sound: sound.replace(f"{RACK}/Offline/accuracy/accuracy.txt", "rouge1:4", "rouge1:3"),
    "accuracy-target",
)
wide(
    "score above its target",
    lambda sound: sound.replace(f"{BOTH}/Offline/accuracy/accuracy.txt", "CLIP_SCORE:3", "CLIP_SCORE:4"),
    "accuracy-target",
)
wide(
    "one score of several",
    lambda sound: sound.replace(f"{RACK}/Offline/accuracy/accuracy.txt", "rouge2", "rouge"),
    "accuracy-missing",
)


# The tests

# The last round of the old layout, and the newest of the new one.
LAYOUTS = (pytest.param("v5.1", marks=pytest.mark.heavy), "v6.1")


@pytest.fixture(scope="module", params=LAYOUTS)
def sound(request: pytest.FixtureRequest) -> Sound:
    return Sound(request.param, trees.small(request.param))


@pytest.fixture(scope="module")
def root(sound: Sound, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the sound tree; who changes it puts it back."""
    folder = tmp_path_factory.mktemp(sound.round)
    trees.write(folder, sound.files)
    return folder


def judge(root: Path, round_name: str) -> list[Finding]:
    return whole.validate(root, round_name, workers=1).findings


class Remembered:
    """Judges results; one whose files did not change is not judged again, which takes two thirds of the time."""

    def __init__(self) -> None:
        self.files: Files = {}
        self.known: dict[Any, Outcome] = {}

    def __call__(self, root: Path, round_name: str, subjects: Sequence[Subject]) -> list[Outcome]:
        return [self._outcome(root, rounds.read(round_name), subject) for subject in subjects]

    def _outcome(self, root: Path, rules: rounds.Round, subject: Subject) -> Outcome:
        folder = f"/{subject.system}/{subject.benchmark}/{subject.scenario}/"
        key = subject, frozenset(item for item in self.files.items() if folder in item[0])
        if key not in self.known:
            self.known[key] = result.check(root, rules, subject)
        return self.known[key]


def changed(sound: Sound, mutation: Mutation) -> Files:
    """Return the files of the tree with the fault in it."""
    made = Sound(sound.round, dict(sound.files))
    mutation.change(made)
    return made.files


def put(root: Path, before: Files, after: Files) -> None:
    """Turn the tree of `before` on the disk into that of `after`."""
    for name in before.keys() - after.keys():
        (root / name).unlink()
        for folder in (root / name).parents:
            if folder == root or any(folder.iterdir()):
                break
            folder.rmdir()
    trees.write(
        root, {os.fsdecode(os.fsencode(name)): data for name, data in after.items() if before.get(name) != data}
    )


def test_there_are_enough_kinds_of_faults() -> None:
    assert len({mutation.name for mutation in ALL}) == len(ALL) >= 150


@pytest.mark.parametrize("round_name", rounds.names())
@pytest.mark.parametrize("kind", [trees.small, trees.wide])
def test_nothing_is_found_in_a_sound_tree(kind: Callable[[str], Files], round_name: str, tmp_path: Path) -> None:
    trees.write(tmp_path, kind(round_name))
    report = whole.validate(tmp_path, workers=1)
    assert (report.round, report.findings) == (round_name, [])


def test_every_fault_is_found(sound: Sound, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered, really = Remembered(), whole.judge
    missed = {}
    for mutation in ALL:
        if mutation.on_disk:
            copy = tmp_path / "copy"
            shutil.copytree(root, copy)
            monkeypatch.setattr(whole, "judge", really)
            mutation.on_disk(copy, Sound(sound.round, sound.files))
            findings = judge(copy, sound.round)
            shutil.rmtree(copy)
        else:
            files = changed(sound, mutation)
            put(root, sound.files, files)
            remembered.files = files
            monkeypatch.setattr(whole, "judge", remembered)
            findings = judge(root, sound.round)
            put(root, files, sound.files)
        told = [each for each in findings if mutation.doubtful or each.level is Level.ERROR]
        if not told or (mutation.rules and not {each.rule for each in told} & {*mutation.rules}):
            missed[mutation.name] = sorted({each.rule for each in findings})
        assert all(each.found and each.mend and each.source for each in findings), mutation.name
        assert "validator-failed" not in {each.rule for each in findings}, (mutation.name, findings)
    assert missed == {}
    monkeypatch.setattr(whole, "judge", really)
    assert judge(root, sound.round) == []  # every fault was put back


@pytest.mark.parametrize("round_name", LAYOUTS)
def test_every_fault_of_other_submissions_is_found(round_name: str, tmp_path: Path) -> None:
    files = trees.wide(round_name)
    trees.write(tmp_path, files)
    sound, missed, remembered = Sound(round_name, files), {}, Remembered()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "judge", remembered)
        for mutation in WIDE:
            remembered.files = changed(sound, mutation)
            put(tmp_path, files, remembered.files)
            rules = {each.rule for each in judge(tmp_path, round_name) if each.level is Level.ERROR}
            put(tmp_path, remembered.files, files)
            if not rules & {*mutation.rules}:
                missed[mutation.name] = sorted(rules)
    assert missed == {}


CONTROL = os.environ.get("ENGINEROOM_CONTROL_SUBMISSION", "")


@pytest.mark.skipif(not CONTROL, reason="ENGINEROOM_CONTROL_SUBMISSION names no published submission")
def test_nothing_is_found_in_a_published_submission() -> None:
    assert whole.validate(Path(CONTROL)).findings == []
