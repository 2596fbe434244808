"""Power that was measured: its files, and that it was measured during the test. Whether it is right is not judged."""

from __future__ import annotations

from collections.abc import Iterator

from engineroom.steps.submission.layout import DETAIL_LOG, PERFORMANCE_RUN, SUMMARY_LOG
from engineroom.steps.submission.validate import detail, rulebook, sight
from engineroom.steps.submission.validate.case import Case
from engineroom.steps.submission.validate.findings import Finding
from engineroom.steps.submission.validate.loadgen import Log

SAMPLES = (PERFORMANCE_RUN / "spl.txt").as_posix()
SAMPLES_BYTES = 16 << 20  # of a sample each second; those of the round v5.1 have up to 2 MB
RANGING = tuple(f"performance/ranging/{name}" for name in (DETAIL_LOG, SUMMARY_LOG, "spl.txt"))
MEASUREMENT = tuple(
    f"performance/power/{name}" for name in ("client.json", "client.log", "ptd_logs.txt", "server.json", "server.log")
)


def check(case: Case, seen: sight.Seen, log: Log | None) -> Iterator[Finding]:
    """Yield what is missing where power was measured. `log` is that of the performance run."""
    if "performance/power" not in seen.folders:
        return
    for name in (*MEASUREMENT, SAMPLES, *RANGING):
        if not seen.files.get(name):
            found = "0 bytes" if name in seen.files else "not there"
            yield rulebook.SYSTEM_FILES.at(f"{seen.folder}/{name}", found=found, expected="a file")
    if log and seen.files.get(SAMPLES):
        yield from _samples(case, f"{seen.folder}/{SAMPLES}", log)


def _samples(case: Case, file: str, log: Log) -> Iterator[Finding]:
    findings: list[Finding] = []
    text = sight.text(case.root, file, findings, SAMPLES_BYTES)
    yield from findings
    begin, end = detail.moment(log, "power_begin"), detail.moment(log, "power_end")
    if text is None or begin is None or end is None:
        return
    for line in text.splitlines():  # Time,<time>,Watts,<watts>,..
        fields = line.split(",")
        time = detail.time_of(fields[1], wall=True) if fields[0] == "Time" and len(fields) > 3 else None
        if time and begin < time < end and _watts(fields[3]) > 0:
            return
    expected = f"watts from {log.get('power_begin')} to {log.get('power_end')}, as in the log"
    yield rulebook.POWER_SAMPLES.at(file, found="no sample of the test", expected=expected)


def _watts(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
