"""Made-up submissions, whose logs are as LoadGen writes them and whose figures follow from each other.

Nothing here was measured: the trees are to be judged by the validator, which must find nothing in them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from engineroom import rounds
from engineroom.rounds import PASS, VERIFY_ACCURACY, VERIFY_PERFORMANCE, Round
from engineroom.steps.submission.layout import Place, Tree
from engineroom.steps.submission.truncate import CUT
from engineroom.terms import Scenario

Files = dict[str, bytes]
PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
TARGETS = {"SingleStream": 0.9, "MultiStream": 0.99, "Server": 0.99, "Offline": 0.99}
LINE = ':::MLLOG {{"key": {}, "value": {}, "time_ms": {:.6f}, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {{"is_error": false, "is_warning": {}, "file": "{}", "line_no": {}, "pid": 7, "tid": 7}}}}\n'  # noqa: E501
VERSION, REVISION = "6.0.17", "0123456789"
SECONDS = 700.0  # how long a test lasts
LOADED = "loaded_qsl_set"


@dataclass(frozen=True)
class Run:
    """A test to be made up. `audit` has LoadGen's settings; `faster`: by which factor it differs from the first run."""

    rules: Round
    benchmark: str
    scenario: str  # LoadGen's
    mode: str = "PerformanceOnly"
    limits: str = ""  # the scenario whose limits count, if it is another: Interactive
    day: int = 1
    audit: Mapping[str, int] | None = None
    faster: float = 1.0
    sut: str = "made up"

    @property
    def tokens(self) -> bool:
        """Whether latencies are counted by tokens."""
        return bool(self.model.token_latency_ms)

    @property
    def start(self) -> tuple[int, int]:
        """The month and the hour of the test: the runs of two benchmarks are never at one time."""
        number = sorted(self.rules.benchmarks.models).index(self.benchmark)
        return 3 + number % 10, 10 + number // 10

    @property
    def model(self) -> rounds.Model:
        """What the round says of the benchmark."""
        return self.rules.benchmarks.models[self.benchmark]

    @property
    def per_query(self) -> int:
        """Return the samples of a query."""
        if self.scenario == "Offline":
            return max(self.model.offline_min_samples or 1, 70_000)
        return 8 if self.scenario == "MultiStream" else 1

    @property
    def queries(self) -> int:
        """Return how many queries the test had."""
        return {"SingleStream": 70_000, "MultiStream": 20_000, "Server": 70_000, "Offline": 1}[self.scenario]

    @property
    def mean_ns(self) -> int:
        """Return the mean latency of a query."""
        if self.scenario == "Server":
            return 5_000_000
        return int(SECONDS * 1e9 / self.queries / self.faster) // (2 if self.scenario == "Offline" else 1)


def values(run: Run) -> dict[str, Any]:
    """Return what LoadGen logs of a test, key by key in its order."""
    total, count = run.model.dataset_size, run.model.performance_sample_count
    accuracy = run.mode == "AccuracyOnly"
    if accuracy:
        total = run.model.accuracy_samples(run.limits or run.scenario)
    month, hour = run.start
    return {
        "loadgen_version": f"{VERSION} @ {REVISION}",
        "loadgen_build_date_local": "2026-02-01T10:00:00.000000",
        "loadgen_build_date_utc": "2026-02-01T10:00:00.000000",
        "loadgen_git_commit_date": "2026-01-31T10:00:00+01:00",
        "loadgen_git_log_message": f"{REVISION} made up",
        "loadgen_git_status_message": "",
        "loadgen_file_sha1": {"/loadgen.cc": "0" * 40},
        "test_datetime": f"2026-{month:02d}-{run.day:02d}T{hour}:00:00Z",
        "sut_name": run.sut,
        "get_sut_name_duration_ns": 150,
        "qsl_name": "made up",
        "qsl_reported_total_count": total,
        "qsl_reported_performance_count": count,
        **_settings(run, count),
        "generic_message": f"Starting {'accuracy' if accuracy else 'performance'} mode",
        LOADED: list(
            range(total if accuracy and total < 2000 else count + (run.per_query - 1) * (run.scenario == "MultiStream"))
        ),
        "generated_query_count": 1 if run.scenario == "Offline" else run.queries + 1000,
        "generated_samples_per_query": run.per_query,
        "generated_query_duration": int((run.queries + 1000) / 100 * 1e9),
        "logger_swap_request_slots_retry_count": 0,
        "power_begin": f"{month:02d}-{run.day:02d}-2026 {hour}:00:01.000",
        "power_end": _end(run),
        **({} if accuracy else _results(run)),
    }


def _seconds(run: Run) -> float:
    return SECONDS / (run.faster if run.scenario != "Server" else 1.0)


def _end(run: Run) -> str:
    (month, hour), seconds = run.start, 1.0 + _seconds(run)
    return f"{month:02d}-{run.day:02d}-2026 {hour}:{int(seconds // 60):02d}:{seconds % 60:06.3f}"


def _settings(run: Run, count: int) -> dict[str, Any]:
    """Return what was asked for and what was in effect."""
    audit, limits = dict(run.audit or {}), run.limits or run.scenario
    latency = int(1e6 * run.model.latency_ms.get(limits, 0)) if run.scenario == "Server" else 0
    common: dict[str, Any] = {
        "scenario": run.scenario,
        "test_mode": run.mode,
        "min_duration_ms": audit.get("min_duration", 600_000),
        "max_duration_ms": 0,
        "min_query_count": 100,
        "max_query_count": 0,
        **run.rules.seeds.all(),
        "accuracy_log_rng_seed": audit.get("accuracy_log_rng_seed", 0),
        "accuracy_log_probability": 0,
        "accuracy_log_sampling_target": audit.get("accuracy_log_sampling_target", 0),
        "print_timestamps": False,
        "performance_issue_unique": bool(audit.get("performance_issue_unique")),
        "performance_issue_same": bool(audit.get("performance_issue_same")),
        "performance_issue_same_index": audit.get("performance_issue_same_index", 0),
    }
    asked = {f"requested_{name}": value for name, value in common.items()}
    asked["requested_performance_sample_count_override"] = count
    if run.scenario == "Server":
        asked |= {"requested_server_target_qps": 100.0, "requested_server_target_latency_ns": latency}
        asked |= {"requested_server_target_latency_percentile": 0.99}
    if run.scenario == "Offline":
        asked["requested_offline_expected_qps"] = 100.0
    if run.scenario == "SingleStream":
        asked["requested_single_stream_target_latency_percentile"] = 0.9
    if run.scenario == "MultiStream":
        asked["requested_multi_stream_target_latency_percentile"] = 0.99
        asked["requested_multi_stream_samples_per_query"] = 8
    asked["requested_sample_concatenate_permutation"] = False
    if run.tokens:
        limit = run.model.token_latency_ms.get(limits)
        asked["requested_use_token_latencies"] = True
        asked["requested_server_ttft_latency"] = int(1e6 * (limit.ttft if limit else 100))
        asked["requested_server_tpot_latency"] = int(1e6 * (limit.tpot if limit else 100))
    used = {
        **common,
        "samples_per_query": run.per_query,
        "target_qps": 100.0,
        "target_latency_ns": latency,
        "target_latency_percentile": TARGETS[run.scenario],
        "max_async_queries": 0 if run.scenario == "Server" else 1,
        "target_duration_ms": 600_000,
        "min_query_count": 1 if run.scenario == "Offline" else 100,
        "min_sample_count": run.per_query if run.scenario == "Offline" else 100,
        "performance_sample_count": count,
        "sample_concatenate_permutation": False,
    }
    return {**asked, **{f"effective_{name}": value for name, value in used.items()}}


def _results(run: Run) -> dict[str, Any]:
    mean = run.mean_ns
    if run.scenario == "Offline":
        longest = int(_seconds(run) * 1e9)
        spread = [longest // 100, *(int(longest * float(each) / 101) for each in PERCENTILES), longest]
    else:
        spread = [
            int(mean * 0.9),
            *(int(mean * (0.99 + 0.002 * place)) for place in range(len(PERCENTILES))),
            int(mean * 1.1),
        ]
    met = {"result_validity": "VALID"}
    found: dict[str, Any] = {**met, **({"result_perf_constraints_met": True} if run.scenario == "Server" else {})}
    found |= {"result_min_duration_met": True, "result_min_queries_met": True, "early_stopping_met": True}
    estimates = {"SingleStream": ("ss", "ms"), "MultiStream": ("ms",)}.get(run.scenario, ())
    estimate = {f"early_stopping_latency_{name}": int(mean * 1.05) + place for place, name in enumerate(estimates)}
    if run.tokens:
        found |= {
            "early_stopping_ttft_result": " * Run successful.",
            "early_stopping_tpot_result": " * Run successful.",
        }
    else:
        found["early_stopping_result"] = _early_stopping(run, list(estimate.values()))
    found["result_query_count"] = run.queries
    if run.scenario == "Server":
        done = (run.queries - 1) / _seconds(run)
        found |= {"result_overlatency_query_count": 0}
        found |= {"result_scheduled_samples_per_sec": _six(done), "result_completed_samples_per_sec": _six(done)}
    if run.scenario == "SingleStream":
        found |= {"result_qps_with_loadgen_overhead": _six((run.queries - 1) / _seconds(run) * 0.99999)}
        found |= {"result_qps_without_loadgen_overhead": _six(1e9 / mean)}
    if run.scenario == "MultiStream":
        found |= _spread("query_latency", "per_query_latency", mean, spread)
    found |= estimate
    if run.scenario == "Offline":
        found["result_samples_per_second"] = _six(run.per_query / (spread[-1] / 1e9))
    found |= _spread("latency", "latency", mean, spread)
    if run.tokens:
        found |= _tokens(run)
    return {**found, "num_errors": 0}


def _six(number: float) -> float:
    return float(f"{number:.6g}")


def _spread(name: str, percentile: str, mean: int, spread: list[int]) -> dict[str, int]:
    ends = {f"result_min_{name}_ns": spread[0], f"result_max_{name}_ns": spread[-1], f"result_mean_{name}_ns": mean}
    middle = {
        f"result_{of}_percentile_{percentile}_ns": each for of, each in zip(PERCENTILES, spread[1:-1], strict=True)
    }
    return {**ends, **middle}


def _tokens(run: Run) -> dict[str, Any]:
    if run.scenario == "Offline":
        return {"result_tokens_per_second": 30_000.5}
    first = {
        f"result_first_token_{of}_percentile_latency_ns": 100_000_000 + place for place, of in enumerate(PERCENTILES)
    }
    each = {
        f"result_time_per_output_token_{of}_percentile_ns": 10_000_000 + place for place, of in enumerate(PERCENTILES)
    }
    ends = {"result_first_token_min_latency_ns": 90_000_000, "result_first_token_max_latency_ns": 110_000_000}
    ends |= {"result_first_token_mean_latency_ns": 100_000_000, "result_time_to_output_token_min": 9_000_000}
    ends |= {"result_time_to_output_token_max": 11_000_000, "result_time_to_output_token_mean": 10_000_000}
    return {**first, **each, **ends, "result_completed_tokens_per_second": 29_000.5}


def _early_stopping(run: Run, estimates: list[int]) -> str:
    if run.scenario == "Server":
        return " * Run successful."
    if run.scenario == "Offline":
        return ""
    least, shares = {"SingleStream": (64, ("90.0", "99.0"))}.get(run.scenario, (662, ("99.0",)))
    words = [f" * Processed at least {least} queries ({run.queries}).", " * Would discard 100 highest latency queries."]
    words += [
        f" * Early stopping {share}th percentile estimate: {each}"
        for share, each in zip(shares, estimates, strict=True)
    ]
    return " ".join(words)


def detail(told: Mapping[str, Any], *, warnings: int = 0, extra_bytes: int = 0) -> bytes:
    """Return a detail log. `extra_bytes` makes it longer by what LoadGen repeats for every set of samples it loads."""
    times = [702_000.5 if key.startswith(("power", "result", "early", "num")) else 0.01 for key in told]
    lines = [_line(key, value, time) for (key, value), time in zip(told.items(), times, strict=True)]
    place = next((place for place, key in enumerate(told) if key.startswith("logger")), len(lines))
    more = [_line("warning_generic_message", "CAS failed.", 0.02, warning=True)] * warnings
    more += _later_sets(told, extra_bytes)
    return "".join([*lines[:place], *more, *lines[place:]]).encode()


def _later_sets(told: Mapping[str, Any], least_bytes: int) -> Iterator[str]:
    """Yield what LoadGen logs of further sets of samples, each of other samples at another time."""
    repeated = [key for key in told if key.startswith((LOADED, "generated", "logger"))]
    written = number = 0
    while written < least_bytes:
        number += 1
        samples = _samples(told["qsl_reported_total_count"], len(told[LOADED]), number)
        for key in repeated:
            line = _line_of(key, samples if key == LOADED else json.dumps(told[key]), float(number))
            written += len(line)
            yield line


@cache
def _samples(total: int, count: int, number: int) -> str:
    """Return the list of some samples of a data set, as LoadGen chooses and writes it; another one for each number."""
    chosen = random.Random(number).sample(range(total), min(count, total))
    return json.dumps(chosen, separators=(",", ":"))  # LoadGen's lists have no blanks


def _line(key: str, value: object, time_ms: float, *, warning: bool = False) -> str:
    return _line_of(key, json.dumps(value, separators=(",", ":")), time_ms, warning=warning)


def _line_of(key: str, written: str, time_ms: float, *, warning: bool = False) -> str:
    return LINE.format(json.dumps(key), written, time_ms, "true" if warning else "false", "loadgen.cc", 1)


PARAMETERS = (  # of the summary, in its order
    *("samples_per_query", "target_qps", "max_async_queries", "min_duration_ms", "max_duration_ms", "min_query_count"),
    *("max_query_count", "qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed", "accuracy_log_rng_seed"),
    *("accuracy_log_probability", "accuracy_log_sampling_target", "print_timestamps", "performance_issue_unique"),
    *("performance_issue_same", "performance_issue_same_index", "performance_sample_count"),
)
RULE = "================================================"


def summary(told: Mapping[str, Any], *, warnings: int = 0) -> bytes:
    """Return the summary that belongs to a detail log."""
    counted = (
        "No warnings encountered during test."
        if not warnings
        else f"{warnings} warnings encountered. See detailed log."
    )
    end = ["", counted, "", "No errors encountered during test.", ""]
    if "result_validity" not in told:
        return "\n".join(end).encode()
    yes = {True: "Yes", False: "NO"}
    scenario = told["effective_scenario"]
    lines = [RULE, "MLPerf Results Summary", RULE, f"SUT name : {told['sut_name']}", f"Scenario : {scenario}"]
    lines += [f"Mode     : {told['effective_test_mode']}"]
    of = "per_query_latency" if scenario == "MultiStream" else "latency"
    if scenario in ("SingleStream", "MultiStream"):
        target = 100 * told["effective_target_latency_percentile"]
        lines += [f"{target:.1f}th percentile latency (ns) : {told[f'result_{target:.2f}_percentile_{of}_ns']}"]
    if scenario == "Server":
        lines += [f"Completed samples per second    : {told['result_completed_samples_per_sec']:.2f}"]
    if scenario == "Offline":
        lines += [f"Samples per second: {told['result_samples_per_second']}"]
    if (tokens := "result_completed_tokens_per_second") in told:
        lines += [f"Completed tokens per second: {told[tokens]:.2f}"]
    if (tokens := "result_tokens_per_second") in told:
        lines += [f"Tokens per second: {told[tokens]}"]
    lines += [f"Result is : {told['result_validity']}"]
    if scenario == "Server":
        lines += [f"  Performance constraints satisfied : {yes[told['result_perf_constraints_met']]}"]
    lines += [f"  Min duration satisfied : {yes[told['result_min_duration_met']]}"]
    lines += [f"  Min queries satisfied : {yes[told['result_min_queries_met']]}"]
    lines += [f"  Early stopping satisfied: {yes[told['early_stopping_met']]}"]
    if "early_stopping_result" in told and scenario != "Offline":
        lines += [
            "Early Stopping Result:",
            told["early_stopping_result"].replace("  * ", "\n * ").replace(" * E", "\n * E"),
        ]
    lines += ["", RULE, "Additional Stats", RULE]
    if scenario == "SingleStream":
        lines += [f"QPS w/ loadgen overhead         : {told['result_qps_with_loadgen_overhead']:.2f}"]
        lines += [f"QPS w/o loadgen overhead        : {told['result_qps_without_loadgen_overhead']:.2f}"]
    if scenario == "Server":
        lines += [f"Scheduled samples per second : {told['result_scheduled_samples_per_sec']:.2f}"]
    query = "query_latency" if scenario == "MultiStream" else "latency"
    lines += [
        f"{name} latency (ns)                : {told[f'result_{name.lower()}_{query}_ns']}"
        for name in ("Min", "Max", "Mean")
    ]
    lines += [f"{each} percentile latency (ns)   : {told[f'result_{each}_percentile_{of}_ns']}" for each in PERCENTILES]
    lines += [*_token_lines(told), "", RULE, "Test Parameters Used", RULE]
    for name in PARAMETERS:
        value = told[f"effective_{name}"]
        shown = name.replace("_ms", " (ms)") + ("" if name.endswith("_ms") else " ")
        lines += [
            f"{shown}: {int(value) if isinstance(value, bool) else value:g}"
            if isinstance(value, float)
            else f"{shown}: {int(value)}"
        ]
    return "\n".join([*lines, *end]).encode()


def _token_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the summary of a test in a stream of queries says of tokens."""
    if "result_completed_tokens_per_second" not in told:
        return
    yield f"\nCompleted tokens per second                 : {told['result_completed_tokens_per_second']:.2f}"
    for name in ("Min", "Max", "Mean"):
        first = told[f"result_first_token_{name.lower()}_latency_ns"]
        yield f"{name} First Token latency (ns)                : {first}"
    for each in PERCENTILES:
        first = told[f"result_first_token_{each}_percentile_latency_ns"]
        yield f"{each} percentile first token latency (ns)   : {first}"
    yield ""
    for name in ("Min", "Max", "Mean"):
        later = told[f"result_time_to_output_token_{name.lower()}"]
        yield f"{name} Time per Output Token (ns)                : {later}"
    for each in PERCENTILES:
        later = told[f"result_time_per_output_token_{each}_percentile_ns"]
        yield f"{each} percentile time to output token (ns)   : {later}"


@cache
def whole_answers(total: int, seed: int = 0) -> bytes:
    """Return a log of as many answers, as LoadGen leaves it."""
    lines = (
        f'{{ "seq_id" : {place}, "qsl_idx" : {place}, "data" : "{(place * 7 + seed) % (1 << 32):08X}" }}'
        for place in range(total)
    )
    return ("[\n" + ",\n".join(lines) + "\n]").encode()


@cache
def answers(total: int, kept: int, seed: int = 0) -> tuple[bytes, str]:
    """Return a log of as many answers, cut short, and the SHA-256 of the whole one."""
    whole = whole_answers(total, seed)
    sha256 = hashlib.sha256(whole).hexdigest()
    return (whole if len(whole) <= 2 * kept else whole[:kept] + CUT + whole[-kept:]), sha256


def scores(run: Run, total: int) -> str:
    """Return what the scorer says: a score that meets every target."""
    model, lines = run.model, []
    for name, gate in model.accuracy.items():
        least, most = gate.least_in(run.limits or run.scenario), gate.most
        if name in ("top-1", "acc"):
            good = int(total * 0.77)
            lines += [f"accuracy={100 * good / total:.3f}%, good={good}, total={total}"]
            continue
        value = (least + most) / 2 if least and most else (least or 0.0) * 1.0001 or (most or 1.0)
        before = run.rules.metrics.before[name][-1]
        lines += [f"{before}{value:.6f}"]
    return "\n".join(lines) + "\n"


def result(
    tree: Tree,
    place: Place,
    benchmark: str,
    *,
    ran: str = "",
    audits: bool = True,
    sut: str = "made up",
    day: int = 1,
    extra_bytes: int = 0,
) -> Files:
    """Return the files of a result. `ran` is the scenario that stands for it, if it is inferred."""
    rules = rounds.read(_round_of(tree))
    scenario = ran or ("Server" if place.scenario == "Interactive" else place.scenario)
    limits = place.scenario if place.scenario == "Interactive" else ""
    run = Run(rules, benchmark, scenario, limits=limits, sut=sut, day=day)
    scored = Run(rules, benchmark, scenario, "AccuracyOnly", limits=limits, sut=sut, day=day + 1)
    folder, files = tree.results(place).as_posix(), Files()
    _test(files, f"{folder}/performance/run_1", run, extra_bytes)
    _test(files, f"{folder}/accuracy", scored, extra_bytes)
    total = run.model.accuracy_samples(limits or place.scenario)
    log, sha256 = answers(total, rules.limits.kept_bytes)
    files[f"{folder}/accuracy/mlperf_log_accuracy.json"] = log
    files[f"{folder}/accuracy/accuracy.txt"] = f"{scores(run, total)}\nhash={sha256}\n".encode()
    files[f"{folder}/performance/run_1/mlperf_log_accuracy.json"] = b"[\n]"
    if extra := rules.layout.extra_accuracy_files.get(benchmark):
        files |= {f"{folder}/{extra.folder}/{name}.png": b"made up" for name in extra.names}
    files |= _measurements(tree, place, benchmark, scenario)
    if audits:
        for number, test in enumerate(rules.audits.needed(benchmark), 2):
            own = Run(rules, benchmark, scenario, limits=limits, sut=sut, day=day + number)
            beside = tree.audit(place, test).as_posix()
            files |= {f"{beside}/{name}": content for name, content in audit(own, test, run).items()}
    return files


def _round_of(tree: Tree) -> str:
    return next(name for name in reversed(rounds.names()) if rounds.read(name).layout == tree.layout)


def _test(files: Files, folder: str, run: Run, extra_bytes: int = 0) -> None:
    told = values(run)
    warnings = 1 if run.audit else 0
    files[f"{folder}/mlperf_log_detail.txt"] = detail(told, warnings=warnings, extra_bytes=extra_bytes)
    files[f"{folder}/mlperf_log_summary.txt"] = summary(told, warnings=warnings)


def _measurements(tree: Tree, place: Place, benchmark: str, scenario: str) -> Files:
    told = dict.fromkeys(("starting_weights_filename", "weight_transformations"), "made up")
    told |= {"retraining": "no", "input_data_types": "fp32", "weight_data_types": "int8"}
    folder, name = tree.measurements(place).as_posix(), tree.measurements_file(place).as_posix()
    conf = f"{benchmark}.{scenario}."
    key = "target_latency" if scenario in ("SingleStream", "MultiStream") else "target_qps"
    return {
        name: json.dumps(told, indent=2).encode(),
        f"{folder}/user.conf": f"{conf}{key} = 100\n{conf}min_duration = 600000\n".encode(),
        f"{folder}/README.md": b"# Made up\n\nNothing here was measured.\n",
    }


def audited(run: Run, test: str) -> Run:
    """Return an audit's run, from a run without one: a little faster."""
    return replace(run, audit=run.rules.audits.tests[test].of(run.benchmark, run.scenario), faster=1.001)


def audit(run: Run, test: str, first: Run) -> Files:
    """Return the files of an audit's folder. `run` is a run of its day, `first` the performance run beside it."""
    rules, files = run.rules, Files()
    about, run = rules.audits.tests[test], audited(run, test)
    total = run.model.accuracy_samples(run.limits or run.scenario)
    if about.band:
        _test(files, "performance/run_1", run)
        key = rules.results.fields[run.scenario]
        both = [about.band.score_of(Scenario(run.scenario), values(each)[key]) for each in (first, run)]
        files[VERIFY_PERFORMANCE] = (
            f"Verifying performance.\nreference score = {both[0]}\ntest score = {both[1]}\n{PASS}\n".encode()
        )
    if VERIFY_ACCURACY in about.required_files:
        files[VERIFY_ACCURACY] = _verdict(test, total)
    if "verify_output_len.txt" in about.required_files:
        files["verify_output_len.txt"] = f"{PASS}\n".encode()
    if "accuracy/accuracy.txt" in about.required_files:
        log, sha256 = answers(total, rules.limits.kept_bytes)
        files["accuracy/mlperf_log_accuracy.json"] = log
        files["accuracy/accuracy.txt"] = f"\nhash={sha256}\n".encode()
    return files


def _verdict(test: str, total: int) -> bytes:
    if test == "TEST06":
        return b"First token check pass: True\nEOS check pass: True\nSample length check pass: True\n"
    if test != "TEST01":
        return f"{PASS}\n".encode()
    counts = {"num_acc_log_entries": total, "num_acc_log_duplicate_keys": 0, "num_acc_log_data_mismatch": 0}
    counts |= {"num_perf_log_entries": 400, "num_perf_log_qsl_idx_match": 400, "num_perf_log_data_mismatch": 0}
    counts |= {"num_missing_qsl_idxs": 0}
    lines = ["Verifying accuracy. This might take a while...", *(f"{name} = {count}" for name, count in counts.items())]
    return "\n".join([*lines, PASS, ""]).encode()


def submitter(tree: Tree, systems: Mapping[str, str], *, network: bool = False) -> Files:
    """Return the files of a submitter beside the results: descriptions of systems by category, sources, calibration."""
    rules = rounds.read(_round_of(tree))
    wanted, files = rules.system_description, Files()
    for system, category in systems.items():
        told = dict.fromkeys((*wanted.not_empty, *wanted.may_be_empty), "made up")
        told |= {"division": tree.division, "submitter": tree.submitter, "system_type": category, "status": "available"}
        told |= {"number_of_nodes": "1", "host_processors_per_node": "2", "host_processor_core_count": "8"}
        told |= {"accelerators_per_node": "0", "accelerator_model_name": "N/A", "system_name": system}
        told |= {name: "made up" for name in wanted.network if network} | ({"is_network": "true"} if network else {})
        files[tree.system(system).as_posix()] = json.dumps(told, indent=2).encode()
    files[f"{tree.code.as_posix()}/README.md"] = b"# Made up\n"
    if tree.division != "open":
        files[tree.calibration.as_posix()] = b"# Made up\n"
    return files


def small(round_name: str, name: str = "Acme") -> Files:
    """Return a closed submission of one system at the edge: ResNet-50 with its three scenarios and its audits."""
    tree, files = Tree(rounds.read(round_name).layout, "closed", name), Files()
    files |= submitter(tree, {"box": "edge"})
    for day, scenario in enumerate(("SingleStream", "MultiStream", "Offline")):
        files |= result(tree, Place("box", "resnet50", scenario, "made"), "resnet50", day=1 + 5 * day)
    return files


def wide(round_name: str) -> Files:
    """Return a submission of everything else: the other divisions, inferred results, tokens, a mapped model."""
    layout, files = rounds.read(round_name).layout, Files()
    network, opened, closed = (Tree(layout, division, "Acme") for division in ("network", "open", "closed"))
    files |= submitter(network, {"far": "datacenter"}, network=True)
    files |= result(network, Place("far", "rgat", "Offline", "made"), "rgat", sut="Network SUT: made up")
    files |= submitter(opened, {"mapped": "edge"})
    files[opened.layout.model_mapping.format(division="open", submitter="Acme")] = b'{"own-net": "resnet"}'
    for scenario in ("SingleStream", "MultiStream", "Offline"):
        place = Place("mapped", "own-net", scenario, "made")
        files |= result(opened, place, "resnet50", ran="SingleStream", audits=False, day=10)
    files |= submitter(closed, {"rack": "datacenter", "both": "datacenter,edge"})
    scenarios = rounds.read(round_name).benchmarks.models["llama2-70b-99.9"].scenarios("datacenter").all()
    for day, scenario in enumerate(sorted(scenarios)):
        place = Place("rack", "llama2-70b-99.9", scenario, "made")
        files |= result(closed, place, "llama2-70b-99.9", day=1 + 5 * day)
    for day, scenario in enumerate(("SingleStream", "Server", "Offline")):
        place = Place("both", "stable-diffusion-xl", scenario, "made")
        files |= result(closed, place, "stable-diffusion-xl", day=1 + 5 * day)
    return files


def write(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def many(root: Path, round_name: str, results: int, log_bytes: int) -> Iterator[int]:
    """Write a tree of many results whose runs' detail logs have at least `log_bytes`; yield how many are written."""
    layout = rounds.read(round_name).layout
    done = 0
    for number in range((results + 2) // 3):
        tree = Tree(layout, "closed", f"Acme{number // 40}")
        system = f"box{number % 40}"
        files = submitter(tree, {system: "edge"})
        for day, scenario in enumerate(("SingleStream", "MultiStream", "Offline")):
            place = Place(system, "resnet50", scenario, "made")
            files |= result(tree, place, "resnet50", day=1 + 5 * day, sut=f"made up {number}", extra_bytes=log_bytes)
            done += 1
        write(root, files)
        yield done
