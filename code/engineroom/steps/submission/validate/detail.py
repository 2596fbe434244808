"""What every detail log must say: that it is whole, of its mode, scenario and round, and without errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache

from engineroom.steps.submission.validate import rulebook, sight
from engineroom.steps.submission.validate.case import Case
from engineroom.steps.submission.validate.findings import Finding, Rule
from engineroom.steps.submission.validate.loadgen import Log

VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))? @ ([0-9a-f]{7,40}|NA)")
FIRST_WITH_NUM_ERRORS = (5, 0, 21)  # the first in whose logs it was seen
SETTINGS = (
    "samples_per_query",
    "target_qps",
    "target_latency_ns",
    "target_latency_percentile",
    "max_async_queries",
    "target_duration_ms",
    "min_duration_ms",
    "max_duration_ms",
    "min_query_count",
    "max_query_count",
    "min_sample_count",
    "qsl_rng_seed",
    "sample_index_rng_seed",
    "schedule_rng_seed",
    "accuracy_log_rng_seed",
    "accuracy_log_probability",
    "accuracy_log_sampling_target",
    "performance_issue_same_index",
    "performance_sample_count",
)
SWITCHES = ("print_timestamps", "performance_issue_unique", "performance_issue_same", "sample_concatenate_permutation")
TEXTS = (
    "loadgen_version",
    "loadgen_build_date_local",
    "loadgen_build_date_utc",
    "loadgen_git_commit_date",
    "loadgen_git_log_message",
    "loadgen_git_status_message",
    "test_datetime",
    "sut_name",
    "qsl_name",
    "requested_scenario",
    "requested_test_mode",
    "effective_scenario",
    "effective_test_mode",
    "power_begin",
    "power_end",
)
COUNTS = (
    "qsl_reported_total_count",
    "qsl_reported_performance_count",
    "generated_query_count",
    "generated_samples_per_query",
    "generated_query_duration",
)
# What is asked for and comes into effect under the same name. LoadGen raises counts by itself, so those are not here.
SAME = (
    "scenario",
    "test_mode",
    "min_duration_ms",
    "max_duration_ms",
    "max_query_count",
    "qsl_rng_seed",
    "sample_index_rng_seed",
    "schedule_rng_seed",
    "accuracy_log_rng_seed",
    "accuracy_log_probability",
    "accuracy_log_sampling_target",
    "performance_issue_same_index",
    *SWITCHES,
)
ALL_TEXTS, ALL_SWITCHES = frozenset(TEXTS), frozenset(f"effective_{name}" for name in SWITCHES)
ALL_NUMBERS = frozenset((*COUNTS, *(f"effective_{name}" for name in SETTINGS)))
ALWAYS = (*ALL_TEXTS, *ALL_NUMBERS, *ALL_SWITCHES, "loaded_qsl_set", "loadgen_file_sha1", "get_sut_name_duration_ns")
PAIRS = tuple((f"requested_{name}", f"effective_{name}") for name in SAME)
# How LoadGen writes times. strptime knows its forms, too, but is many times slower.
WALL = re.compile(r"(\d\d)-(\d\d)-(\d{4}) (\d\d:\d\d:\d\d\.\d{1,6})", re.ASCII)
ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z?", re.ASCII)
TIMES = {
    "test_datetime": "2026-02-28T10:00:00Z",
    "power_begin": "02-28-2026 10:00:00.123",
    "power_end": "02-28-2026 10:10:00.123",
}
HOURS_OF_ZONES = 14 + 1
TEXT, NUMBER, SWITCH = "a text", "a number of at least 0", "true or false"


def check(case: Case, log: Log, mode: str) -> Iterator[Finding]:
    """Yield what is wrong with the log of a test of this mode, whatever it measured."""
    yield from log.findings
    if not log.values:
        if not log.findings:
            yield rulebook.EMPTY.at(log.file, found="no record of LoadGen's", expected="a detail log")
        return
    yield from _whole(log, mode)
    yield from _types(log)
    yield from _build(log)
    yield from _times(log)
    yield from _identity(case, log, mode)
    yield from _errors(log)
    yield from _requested(log)


def version(log: Log) -> tuple[int, int, int]:
    """Return the release of LoadGen."""
    found = VERSION.fullmatch(str(log.get("loadgen_version")))
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


def _whole(log: Log, mode: str) -> Iterator[Finding]:
    for name in ALWAYS:
        if name not in log.values:
            yield log.at(rulebook.LOG_MISSING, name, expected="a value")
    if "result_validity" in log.values:
        last = "num_errors" if version(log) >= FIRST_WITH_NUM_ERRORS else "result_99.90_percentile_latency_ns"
    else:
        last = "power_end"
    if last not in log.values:
        yield rulebook.LOG_CUT.at(log.file, log.last, found=f"it ends with {log.last}", expected=f"{last} at the end")
    if mode == "PerformanceOnly" and "result_validity" not in log.values:
        yield rulebook.LOG_CUT.at(log.file, found="no result_validity", expected="the results of a performance test")


def _types(log: Log) -> Iterator[Finding]:
    for key, value in log.values.items():
        wanted = _type_of(key)
        if wanted is TEXT:
            good = isinstance(value, str)
        elif wanted is NUMBER:
            number = sight.number(value)
            good = number is not None and number >= 0
        else:
            good = wanted is not SWITCH or isinstance(value, bool)
        if not good:
            yield log.at(rulebook.LOG_TYPE, key, expected=wanted)


@lru_cache(maxsize=1024)  # keys of a log may be anything
def _type_of(key: str) -> str:
    """Return what a key's value has to be, "" if anything."""
    if key in ALL_TEXTS:
        return TEXT
    if key in ALL_NUMBERS or (key.startswith("result_") and key.endswith(("_ns", "_per_second", "_count"))):
        return NUMBER
    return SWITCH if key in ALL_SWITCHES or key.endswith("_met") else ""


def _build(log: Log) -> Iterator[Finding]:
    told = log.get("loadgen_version")
    if isinstance(told, str) and not VERSION.fullmatch(told):
        yield log.at(rulebook.LOG_BUILD, "loadgen_version", expected="a release and a revision: 6.0 @ 0123456789")
    elif isinstance(told, str) and told.endswith("NA"):
        yield log.at(rulebook.LOG_BUILD, "loadgen_version", expected="a revision")
    if log.get("loadgen_git_status_message"):
        yield log.at(rulebook.LOG_BUILD, "loadgen_git_status_message", expected="nothing: no changes")


def moment(log: Log, key: str) -> datetime | None:
    """Return a time of the log, None if it tells none as LoadGen writes it."""
    return time_of(str(log.get(key)), wall=key.startswith("power_"))


@lru_cache(maxsize=64)  # of one log at a time
def time_of(text: str, *, wall: bool) -> datetime | None:
    """Return the time that a text tells, in the form of the clock on the `wall` or as ISO 8601."""
    try:
        if wall and (found := WALL.fullmatch(text)):
            return datetime.fromisoformat(f"{found[3]}-{found[1]}-{found[2]}T{found[4]}")
        if not wall and (found := ISO.fullmatch(text)):
            return datetime.fromisoformat(found[1])
    except ValueError:  # digits that are no date
        pass
    return None


def _times(log: Log) -> Iterator[Finding]:
    for key, example in TIMES.items():
        if isinstance(log.get(key), str) and moment(log, key) is None:
            yield log.at(rulebook.LOG_TIME, key, expected=f"a time as in {example}")
    started, begin, end = (moment(log, key) for key in TIMES)
    if begin and end and end < begin:
        yield log.at(rulebook.LOG_TIME, "power_end", expected=f"after power_begin, {log.get('power_begin')}")
    if started and begin:
        hours = abs((begin - started).total_seconds()) / 3600
        waits = log.end_ms / 3.6e6
        if hours > HOURS_OF_ZONES + waits:
            yield log.at(rulebook.LOG_TIME, "power_begin", expected=f"within a day of {log.get('test_datetime')}")
    built = moment(log, "loadgen_build_date_utc")
    if started and built and (built - started).total_seconds() > 3600 * HOURS_OF_ZONES:
        yield log.at(rulebook.LOG_TIME, "test_datetime", expected=f"after LoadGen was built, {built}")


def _identity(case: Case, log: Log, mode: str) -> Iterator[Finding]:
    if log.get("effective_test_mode") not in (mode, None):
        yield log.at(rulebook.MODE, "effective_test_mode", expected=mode)
    for name, seed in case.rules.seeds.all().items():
        if log.get(f"effective_{name}") != seed:
            yield log.at(rulebook.SEEDS, f"effective_{name}", expected=seed)
    needle = case.rules.system_description.network_sut_name
    named = needle in str(log.get("sut_name"))
    if case.subject.network and not named:
        yield log.at(rulebook.SUT_NAME, "sut_name", expected=f"a name with {needle}")
    if case.subject.division == "closed" and named:
        yield log.at(rulebook.SUT_NAME_CLOSED, "sut_name", expected=f"a name without {needle}")


def used(log: Log, wanted: Mapping[str, int], rule: Rule) -> Iterator[Finding]:
    """Yield the settings that LoadGen logs and did not use as `wanted`, as faults against `rule`."""
    for name, value in wanted.items():
        key = f"effective_{name}"
        if log.get(key) not in (value, None):
            yield log.at(rule, key, expected=bool(value) if name in SWITCHES else value)


def beside(log: Log, first: Log) -> Iterator[Finding]:
    """Yield what is wrong with a log beside that of the performance run: another test, by the same LoadGen."""
    if log.get("loadgen_version") != first.get("loadgen_version"):
        expected = f"{first.get('loadgen_version')}, as in the performance run"
        yield log.at(rulebook.LOADGEN_MIXED, "loadgen_version", expected=expected)
    if all(log.get(key) == first.get(key) for key in ("test_datetime", "power_begin")):
        yield log.at(rulebook.AUDIT_SAME, "test_datetime", expected="another run than the performance run")


def _errors(log: Log) -> Iterator[Finding]:
    for error in log.errors:
        yield rulebook.LOG_ERROR.at(
            log.file, error.partition(":")[0], found=error.partition(": ")[2], expected="no error"
        )
    if log.num_errors > len(log.errors):
        more = f"{log.num_errors - len(log.errors)} more errors"
        yield rulebook.LOG_ERROR.at(log.file, found=more, expected="no error")
    told = log.get("num_errors")
    if told is not None and told != log.num_errors:
        yield log.at(rulebook.LOG_ERRORS, "num_errors", expected=f"{log.num_errors}, as many as the log holds")


def _requested(log: Log) -> Iterator[Finding]:
    for before, after in PAIRS:
        asked = log.values.get(before, log)
        if asked is not log and after in log.values and asked != log.values[after]:
            yield log.at(rulebook.REQUESTED, after, expected=f"{before}, {asked}")
    asked = log.number("requested_performance_sample_count_override")
    if asked and log.number("effective_performance_sample_count") not in (asked, None):
        yield log.at(rulebook.REQUESTED, "effective_performance_sample_count", expected=f"{asked:.0f}, as asked for")
    for name in ("server_target_qps", "offline_expected_qps"):
        asked = log.number(f"requested_{name}")
        if asked is not None and log.number("effective_target_qps") not in (asked, None):
            yield log.at(rulebook.REQUESTED, "effective_target_qps", expected=f"{asked:.10g}, as asked for")
    for name in ("single_stream_target", "multi_stream_target", "server_target"):
        asked = log.number(f"requested_{name}_latency_percentile")
        if asked is not None and log.number("effective_target_latency_percentile") not in (asked, None):
            yield log.at(rulebook.REQUESTED, "effective_target_latency_percentile", expected=asked)
    asked = log.number("requested_server_target_latency_ns")
    if asked is not None and log.number("effective_target_latency_ns") not in (asked, None):
        yield log.at(rulebook.REQUESTED, "effective_target_latency_ns", expected=f"{asked:.0f}, as asked for")
    asked, used = log.number("requested_min_query_count"), log.number("effective_min_query_count")
    if asked is not None and used is not None and used < asked and log.get("effective_scenario") != "Offline":
        yield log.at(rulebook.REQUESTED, "effective_min_query_count", expected=f"at least {asked:.0f}, as asked for")
