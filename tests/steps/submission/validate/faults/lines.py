"""Logs as lines and bytes, and the summary."""

from __future__ import annotations

from faults import MARK, Faults, Sound, accuracy_log, the_log

FAULTS = Faults()
add, bytes_of = FAULTS.add, FAULTS.bytes_of


def the_summary(sound: Sound) -> str:
    return sound.told


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


def later_list(data: bytes) -> bytes:
    """Load a second set of samples, one of which is no number."""
    loaded = next(line for line in data.splitlines(keepends=True) if b"loaded_qsl_set" in line)
    return data.replace(loaded, loaded + loaded.replace(b",7,", b",7x,"))


for name, file in (("log", the_log), ("accuracy log", accuracy_log)):
    bytes_of(f"{name}: no list of samples", file, lambda data: data.replace(b",7,", b",,"), "log-line-broken")
    bytes_of(f"{name}: no list of later samples", file, later_list, "log-line-broken")
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
