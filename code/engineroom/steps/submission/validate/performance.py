"""A performance test: its length, samples, limits, validity and metric. Audits are such tests, too."""

from __future__ import annotations

from collections.abc import Iterator

from engineroom.steps.submission.validate import detail, figures, rulebook, sight, summary
from engineroom.steps.submission.validate.case import ONLINE, STREAMS, Case
from engineroom.steps.submission.validate.findings import Finding
from engineroom.steps.submission.validate.loadgen import Log, Summary
from engineroom.terms import Scenario

MODE = "PerformanceOnly"
NS_PER_MS = 1e6


def check(case: Case, log: Log, told: Summary | None) -> Iterator[Finding]:
    """Yield what is wrong with the performance test of a result."""
    yield from test(case, log, told)
    if not log.values:
        return
    yield from _usual(case, log)
    yield from _inferred(case, log)


def test(case: Case, log: Log, told: Summary | None) -> Iterator[Finding]:
    """Yield what is wrong with a test in performance mode, be it an audit's or the result's own."""
    yield from detail.check(case, log, MODE)
    if told:
        yield from summary.check(told, log)
    if not log.values:
        return
    scenario = str(log.get("effective_scenario"))
    yield from figures.check(log, scenario)
    yield from _validity(log, scenario)
    yield from _samples(case, log, scenario)
    yield from _percentile(case, log, scenario)
    yield from _latency(case, log, scenario)
    yield from _metric(case, log, scenario)


def duration(case: Case, log: Log) -> Iterator[Finding]:
    """Yield whether the test was to last, and lasted, long enough."""
    model, scenario = case.model, str(log.get("effective_scenario"))
    own = model.min_duration_ms if model else None
    least = case.rules.duration.min_duration_ms if own is None else own
    planned = log.number("effective_min_duration_ms")
    if planned is None or planned < least:
        yield log.at(rulebook.MIN_DURATION, "effective_min_duration_ms", expected=f"at least {least:,} ms")
    lasted = figures.lasted_s(log, scenario)
    if lasted is not None and lasted * 1e3 * 1.001 < least:
        found = f"{lasted:.1f} s"
        yield log.at(rulebook.LASTED, "result_query_count", found=found, expected=f"at least {least / 1e3:.0f} s")


def _usual(case: Case, log: Log) -> Iterator[Finding]:
    """A result's own test is none of an audit's."""
    yield from duration(case, log)
    usual = {**case.rules.audits.usual.all(), "accuracy_log_probability": 0, "performance_issue_same_index": 0}
    yield from detail.used(log, usual, rulebook.ISSUE_MODE)


def _inferred(case: Case, log: Log) -> Iterator[Finding]:
    ran = log.get("effective_scenario")
    if ran == case.log_scenario():
        return
    if not case.may_stand(ran):
        yield log.at(
            rulebook.INFERRED, "effective_scenario", expected=f"{case.log_scenario()}, or one that it follows from"
        )
        return
    for way in case.rules.inferred.ways:
        if (way.by, way.scenario) == (ran, case.scenario) and not log.number(way.field):
            yield log.at(rulebook.METRIC, way.field, expected=f"what {case.scenario} follows from")


def _validity(log: Log, scenario: str) -> Iterator[Finding]:
    if log.get("result_validity") not in ("VALID", None):
        yield log.at(rulebook.VALID, "result_validity", expected="VALID")
    names = ["result_min_duration_met", "result_min_queries_met", "early_stopping_met"]
    names += ["result_perf_constraints_met"] if scenario == "Server" else []
    for name in names:
        if log.get(name) is not True:
            rule = rulebook.VALID if name in log.values else rulebook.LOG_MISSING
            yield log.at(rule, name, expected=True)


def _samples(case: Case, log: Log, scenario: str) -> Iterator[Finding]:
    model = case.model
    count, total = log.number("effective_performance_sample_count"), log.number("qsl_reported_total_count")
    if model and count is not None and count < model.performance_sample_count:
        expected = f"at least {model.performance_sample_count:,}"
        yield log.at(rulebook.SAMPLE_COUNT, "effective_performance_sample_count", expected=expected)
    if count is not None and total is not None and total < count and case.closed:
        yield log.at(rulebook.LOADED, "qsl_reported_total_count", expected=f"at least {count:.0f}")
    loaded = log.lengths.get("loaded_qsl_set")
    if count is not None and total is not None and not case.closed:  # another data set may be smaller
        count = min(count, total)
    more = (log.number("effective_samples_per_query") or 1) - 1 if scenario == "MultiStream" else 0
    if loaded is not None and count is not None and loaded not in (count, count + more):  # a query's rest is padded
        yield log.at(rulebook.LOADED, "loaded_qsl_set", found=f"{loaded} samples", expected=f"{count:.0f}")
    yield from _queries(case, log, scenario)


def _queries(case: Case, log: Log, scenario: str) -> Iterator[Finding]:
    queries, planned = log.number("result_query_count"), log.number("effective_min_query_count")
    if queries is None:
        yield log.at(rulebook.LOG_MISSING, "result_query_count", expected="the number of queries")
        return
    if planned is not None and queries < planned:
        yield log.at(
            rulebook.QUERY_COUNT, "result_query_count", expected=f"at least {planned:.0f}, the minimum asked for"
        )
    generated = log.number("generated_query_count")
    if generated is not None and queries > generated:
        yield log.at(
            rulebook.QUERY_COUNT, "result_query_count", expected=f"at most {generated:.0f}, as many as there were"
        )
    known = scenario in tuple(Scenario)
    least = case.rules.early_stopping.of(Scenario(scenario)) if known else None
    if least and queries < least:
        yield log.at(rulebook.QUERY_COUNT, "result_query_count", expected=f"at least {least:.0f} for early stopping")
    wanted = case.rules.samples_per_query.of(Scenario(scenario)) if known else None
    if scenario != "Offline" and known:
        expected = wanted or 1.0
        for name in ("effective_samples_per_query", "generated_samples_per_query"):
            if log.number(name) not in (expected, None):
                yield log.at(rulebook.PER_QUERY, name, expected=f"{expected:.0f}")
        return
    model = case.model
    if model and model.offline_min_samples and case.closed and scenario == "Offline":
        for name in ("effective_samples_per_query", "generated_samples_per_query"):
            per_query = log.number(name)
            if per_query is not None and per_query < model.offline_min_samples:
                yield log.at(rulebook.QUERY_COUNT, name, expected=f"at least {model.offline_min_samples:,}")


def _percentile(case: Case, log: Log, scenario: str) -> Iterator[Finding]:
    if not case.closed or scenario not in (*STREAMS, "Server"):
        return
    round_has = case.rules.percentiles.of(Scenario(scenario))
    own = case.model.percentiles if case.model else {}
    wanted = own.get(case.scenario, own.get(scenario, round_has))
    used = log.number("effective_target_latency_percentile")
    if wanted and used is not None and abs(used * 100 - wanted) > 1e-6:
        yield log.at(rulebook.PERCENTILE, "effective_target_latency_percentile", expected=f"{wanted / 100:g}")


def _latency(case: Case, log: Log, scenario: str) -> Iterator[Finding]:
    model = case.model
    if model and model.tokens and log.get("requested_use_token_latencies") is not True:
        yield log.at(rulebook.TOKEN_LATENCY, "requested_use_token_latencies", expected=True)
    if not model or scenario not in ONLINE:
        return
    place = case.scenario if case.closed else scenario  # open results are held to the limits of LoadGen's scenario
    if limits := model.token_latency_ms.get(place):
        yield from _token_latency(log, limits.ttft, limits.tpot)
    limit_ms = model.checker_latency_ms.get(place) or model.latency_ms.get(place)
    if limit_ms is None:
        return
    limit = limit_ms * NS_PER_MS
    used, own = log.number("effective_target_latency_ns"), case.closed and not limits  # else it may be none
    if used is not None and not (1 if own else 0) <= used <= limit:
        yield log.at(rulebook.LATENCY, "effective_target_latency_ns", expected=f"at most {limit:.0f}")
    if own:
        yield from _reached(case, log, min(limit, used or limit))


def _reached(case: Case, log: Log, limit: float) -> Iterator[Finding]:
    """Yield where the latencies are over a limit, in ns."""
    own = case.model.percentiles if case.model else {}
    percentile = own.get(case.scenario) or case.rules.percentiles.of(Scenario.SERVER) or 99.0
    key = f"result_{percentile:.2f}_percentile_latency_ns"
    reached = log.number(key)
    if reached is not None and reached > limit:
        yield log.at(rulebook.LATENCY, key, expected=f"at most {limit:.0f}")
    late, count = log.number("result_overlatency_query_count"), log.number("result_query_count")
    if late and count and late > count * (1 - percentile / 100):
        expected = f"at most {count * (1 - percentile / 100):.0f} of {count:.0f}"
        yield log.at(rulebook.LATENCY, "result_overlatency_query_count", expected=expected)


def _token_latency(log: Log, ttft_ms: float, tpot_ms: float) -> Iterator[Finding]:
    for result, asked, limit_ms in (
        ("result_first_token_99.00_percentile_latency_ns", "requested_server_ttft_latency", ttft_ms),
        ("result_time_per_output_token_99.00_percentile_ns", "requested_server_tpot_latency", tpot_ms),
    ):
        reached, used, limit = log.number(result), log.number(asked), limit_ms * NS_PER_MS
        if reached is None or reached > limit:
            yield log.at(rulebook.TOKEN_LATENCY, result, expected=f"at most {limit:.0f}")
        if used is not None and reached is not None and reached > used:
            yield log.at(rulebook.TOKEN_LATENCY, result, expected=f"at most {used:.0f}, as {asked}")


def metric_key(case: Case, scenario: str) -> str:
    """Return the key of the score of a test of this scenario in this place."""
    name = case.scenario if case.log_scenario() == scenario else scenario
    return case.rules.score_field(case.model, name, scenario)


def _metric(case: Case, log: Log, scenario: str) -> Iterator[Finding]:
    key = metric_key(case, scenario)
    if not key:
        yield log.at(rulebook.SCENARIO_LOG, "effective_scenario", expected=case.log_scenario())
        return
    own = case.rules.results.fields.get(scenario, key)
    keys = (key,) if case.closed else (key, own)
    if not any((log.number(name) or 0.0) > 0 for name in keys):
        yield log.at(rulebook.METRIC, key, expected="a number above 0")


def answers(case: Case, file: str, findings: list[Finding]) -> None:
    """Note if a performance test has logged answers: it logs an empty list."""
    try:
        begin = sight.beginning(case.root, file, sight.BRIEF_BYTES)
    except sight.Unreadable as error:
        findings.append(rulebook.UNREADABLE.at(file, found=error))
        return
    if begin.translate(None, b" \r\n\t") not in (b"[]", b"") or len(begin) == sight.BRIEF_BYTES:
        found = begin.lstrip()[:32].decode("utf-8", "replace") or f"{len(begin):,} blanks and more"
        findings.append(rulebook.ANSWERS_LOGGED.at(file, found=found, expected="an empty list"))
