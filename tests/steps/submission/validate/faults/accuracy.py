"""Scores, answers and the log of the accuracy run."""

from __future__ import annotations

from collections.abc import Callable

from engineroom.bench.trees import answers
from faults import Faults, accuracy_log

FAULTS = Faults()
add, bytes_of = FAULTS.add, FAULTS.bytes_of


ACCURACY = {
    "hash: gone": ("hash=", "hush=", ("accuracy-hash-missing",)),
    "hash: short": ("hash=", "hash=0\nx", ("accuracy-hash-wrong",)),
    "hash: two": ("hash=", f"hash={'0' * 64}\nhash=", ("accuracy-hash-wrong",)),
    "score: too low": ("accuracy=77.000%", "accuracy=70.000%", ("accuracy-target",)),
    "score: no number": ("accuracy=77.000%", "accuracy=high", ("accuracy-missing",)),
    "score: a word before it": ("accuracy=77.000%", "best accuracy=77.000%", ("accuracy-missing",)),
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
ANSWERS = "performance/run_1/mlperf_log_accuracy.json"
for name, data in {
    "many blanks": b" " * 500 + b'[{"seq_id" : 0}]',
    "more blanks than are read": b"\n" * 70_000 + b"[]",
}.items():
    bytes_of(
        f"answers in the performance test after {name}",
        lambda sound: f"{sound.results}/{ANSWERS}",
        lambda _, d=data: d,
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
    "accuracy: the performance test's summary",
    lambda sound: sound.files.update({f"{sound.accuracy}/mlperf_log_summary.txt": sound.files[sound.told]}),
    "summary-differs",
)
add(
    "performance: the accuracy run's log",
    lambda sound: sound.files.update({sound.log: sound.files[accuracy_log(sound)]}),
    "test-mode",
    "log-cut",
)
