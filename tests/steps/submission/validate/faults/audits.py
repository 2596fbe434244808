"""The audits: their logs, and their verdicts."""

from __future__ import annotations

from typing import Any

from engineroom.bench.trees import answers
from faults import Faults, Sound

FAULTS = Faults()
add = FAULTS.add


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
