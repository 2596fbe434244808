"""Holds a run against the rules of a round: before it, by its settings, and after it, by what LoadGen says it used.

Whether a run is VALID is LoadGen's word. What is told here is which divisions a result could be submitted to, as far as
one run shows it, and why not to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engineroom import registry, rounds
from engineroom.benchmarks import Benchmark, Part
from engineroom.config import RunConfig
from engineroom.datasets import Dataset
from engineroom.paths import display
from engineroom.rounds import Gate, Model, Round
from engineroom.runs import AccuracyResult, PerformanceResult, Submittable
from engineroom.terms import Scenario, TestMode, Weights

CLOSED, OPEN = "closed", "open"
MODES = (TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY, TestMode.SUBMISSION_RUN)
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Reason:
    """Why a run cannot be submitted: to no division, or only to the open one."""

    what: str
    open_only: bool = False


@dataclass(frozen=True)
class Case:
    """A run and the rules that count for it.

    `effective` holds LoadGen's settings by the names of its detail log, those that are known: what is not known is not
    judged. `user_conf` holds what user.conf sets for this run, `audit` what audit.config does.
    """

    rules: Round
    model: Model
    benchmark: Benchmark
    config: RunConfig
    effective: Mapping[str, Any]
    user_conf: Mapping[str, float] = field(default_factory=dict)
    audit: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_performance(self) -> bool:
        """Whether LoadGen measures performance: the length and the size of other tests are not the user's."""
        return self.config.test_mode is not TestMode.ACCURACY_ONLY


def before(benchmark: Benchmark, config: RunConfig, user_conf: Mapping[str, float], loadgen: str) -> Submittable:
    """Judge a run by its settings alone. `loadgen` is the version of LoadGen that will run."""
    rules = rounds.read(config.round)
    known = {
        "effective_min_duration_ms": user_conf.get("min_duration", rules.duration.min_duration_ms),
        "effective_max_duration_ms": user_conf.get("max_duration", 0),
        "effective_max_query_count": user_conf.get("max_query_count", 0),
        "effective_performance_sample_count": config.performance_sample_count
        or benchmark.sample_count(Part.EVALUATION),
    }
    if config.scenario is Scenario.SERVER and "target_latency" in user_conf:
        known["effective_target_latency_ns"] = user_conf["target_latency"] * NS_PER_MS
    checks = (*_OF_SETTINGS, lambda case: _release(case, loadgen))
    return _judge(rules, benchmark, config, known, user_conf, checks)


def after(
    benchmark: Benchmark,
    config: RunConfig,
    user_conf: Mapping[str, float],
    log: Mapping[str, Any],
    performance: PerformanceResult | None,
    accuracy: AccuracyResult | None,
    audit: Mapping[str, int] | None = None,
) -> Submittable:
    """Judge a run by LoadGen's detail log and the scores; an audit, which has these settings, as an audit."""
    checks = (*_OF_SETTINGS, *_OF_LOG, lambda case: _outcome(case, log, performance, accuracy))
    return _judge(rounds.read(config.round), benchmark, config, log, user_conf, checks, audit or {})


def ignored(config: RunConfig, user_conf: Mapping[str, float]) -> list[str]:
    """Say which keys of a user.conf LoadGen ignores, of which it says nothing itself."""
    known = rounds.read(config.round).user_conf
    keys = [key for key in user_conf if not known.knows(key, config.scenario)]
    return [f"user.conf sets {key}, which LoadGen ignores there: it has had no effect." for key in keys]


def read_user_conf(path: Path, benchmark: str, scenario: Scenario) -> dict[str, float]:
    """Return what a user.conf sets for a test, as LoadGen reads it (test_settings_internal.cc, FromConfig).

    Of several lines for a key the nearest counts. What LoadGen does not take for a setting is left out.
    """
    lines = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    settings = {words[0]: words[2] for words in lines if len(words) == 3 and words[1] == "="}
    found: dict[str, float] = {}
    for prefix in ("*.*.", f"{benchmark}.*.", f"*.{scenario}.", f"{benchmark}.{scenario}."):
        own = {name.removeprefix(prefix): text for name, text in settings.items() if name.startswith(prefix)}
        found |= {key: number for key, text in own.items() if (number := _number(text)) is not None}
    return found


def _number(text: str) -> float | None:
    try:
        return float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except ValueError:
        return None


Check = Callable[[Case], Iterator[Reason]]


def _judge(
    rules: Round,
    benchmark: Benchmark,
    config: RunConfig,
    effective: Mapping[str, Any],
    user_conf: Mapping[str, float],
    checks: tuple[Check, ...],
    audit: Mapping[str, int] | None = None,
) -> Submittable:
    if benchmark.task is None:
        return Submittable(reasons=(f"not submittable: {benchmark.name} is no MLPerf benchmark",))
    model = rules.benchmarks.models.get(benchmark.task)
    if model is None:
        return _verdict(rules, [Reason(f"{rules.round} has no benchmark {benchmark.task}")])
    case = Case(rules, model, benchmark, config, effective, user_conf, audit or {})
    return _verdict(rules, [reason for check in checks for reason in check(case)])


def _verdict(rules: Round, reasons: list[Reason]) -> Submittable:
    divisions = () if any(not reason.open_only for reason in reasons) else (OPEN,) if reasons else (CLOSED, OPEN)
    words = [f"{'open only' if reason.open_only else 'not submittable'}: {reason.what}" for reason in reasons]
    return Submittable(round=rules.round, divisions=divisions, reasons=tuple(words))


# What was run


def _what(case: Case) -> Iterator[Reason]:
    benchmark, config = case.benchmark, case.config
    if not registry.get("engines", config.engine).load().ENGINE.measures_model:
        yield Reason(f"the engine {config.engine} does not run the model")
    if config.test_mode not in MODES:
        yield Reason(f"{config.test_mode} is no test of a submission")
    if not benchmark.mlperf:
        yield Reason(f"{benchmark.name} is another model than {benchmark.task}'s", open_only=True)
    if benchmark.own_model:
        yield Reason(f"{display(benchmark.own_model)} is not the benchmark's model", open_only=True)
    if benchmark.weights is Weights.SYNTHETIC:
        yield Reason("the weights are synthetic")
    if not Dataset(benchmark.dataset).manifest.submittable:
        yield Reason(f"the data set is {benchmark.dataset}")
    elif (samples := benchmark.sample_count(Part.EVALUATION)) < case.model.dataset_size:
        yield Reason(f"{samples:,} samples of the data set's {case.model.dataset_size:,}")


def _scenario(case: Case) -> Iterator[Reason]:
    has = {category: case.model.scenarios(category).all() for category in ("edge", "datacenter")}
    if not any(case.config.scenario in scenarios for scenarios in has.values()):
        known = "; ".join(f"{category}: {', '.join(scenarios)}" for category, scenarios in has.items() if scenarios)
        scenario = case.config.scenario
        yield Reason(f"{case.rules.round} has no {case.benchmark.name} {scenario} ({known})", open_only=True)


# With what settings


def _user_conf(case: Case) -> Iterator[Reason]:
    """Name the keys that leave the closed division; those with a value of the round's own are judged by that."""
    for key in sorted(case.user_conf):
        names = {key, f"{case.config.scenario}.{key}"}
        if names & set(case.rules.user_conf.open_only) and key not in _JUDGED_BY_VALUE:
            yield Reason(f"user.conf sets {key}", open_only=True)


def _duration(case: Case) -> Iterator[Reason]:
    wanted, least = _least_duration_ms(case), case.effective.get("effective_min_duration_ms")
    most = case.effective.get("effective_max_duration_ms")
    if least is not None and most and case.config.scenario is not Scenario.OFFLINE:  # where LoadGen ignores it
        least = min(least, most)
    if case.is_performance and least is not None and least < wanted:
        yield Reason(f"{least / 1000:g} s of {wanted / 1000:g} s")


def _least_duration_ms(case: Case) -> int:
    own = case.model.min_duration_ms
    return case.rules.duration.min_duration_ms if own is None else own


def _query_count(case: Case) -> Iterator[Reason]:
    least, most = case.rules.early_stopping.of(case.config.scenario), case.effective.get("effective_max_query_count")
    if case.is_performance and least and most and most < least:
        yield Reason(f"at most {most:,.0f} queries, where early stopping needs {least:,.0f}")


def _sample_count(case: Case) -> Iterator[Reason]:
    count, least = case.effective.get("effective_performance_sample_count"), case.model.performance_sample_count
    if case.is_performance and count is not None and count < min(least, case.benchmark.sample_count(Part.EVALUATION)):
        yield Reason(f"performance_sample_count is {count:,} of {least:,}")


def _latency(case: Case) -> Iterator[Reason]:
    used, limit_ms = case.effective.get("effective_target_latency_ns"), case.model.latency_ms.get(Scenario.SERVER)
    if case.config.scenario is Scenario.SERVER and limit_ms and used is not None and used != limit_ms * NS_PER_MS:
        yield Reason(f"a latency limit of {used / NS_PER_MS:g} ms instead of {limit_ms:g} ms", open_only=True)


_OF_SETTINGS: tuple[Check, ...] = (_what, _scenario, _user_conf, _duration, _query_count, _sample_count, _latency)


def _release(case: Case, loadgen: str) -> Iterator[Reason]:
    if loadgen not in case.rules.loadgen.versions:
        yield Reason(f"LoadGen {loadgen} has not the seeds of {case.rules.round}")


# What LoadGen says it used


def _test_mode(case: Case) -> Iterator[Reason]:
    if (used := case.effective.get("effective_test_mode", case.config.test_mode)) != case.config.test_mode:
        yield Reason(f"LoadGen ran {used} instead of {case.config.test_mode}")


def _accuracy_count(case: Case) -> Iterator[Reason]:
    count = case.effective.get("effective_accuracy_sample_count")
    least = case.model.accuracy_samples(case.config.scenario)
    whole = case.benchmark.sample_count(Part.EVALUATION) >= least  # else it has been told already
    if not case.is_performance and whole and count is not None and count < least:
        yield Reason(f"accuracy over {count:,} of {least:,} samples")


def _seeds(case: Case) -> Iterator[Reason]:
    used = {name: case.effective.get(f"effective_{name}") for name in case.rules.seeds.all()}
    if used == case.rules.seeds.all():
        return
    whose = [name for name in rounds.names() if rounds.read(name).seeds.all() == used]
    yield Reason(f"the seeds are {f'those of {whose[0]}' if whose else 'of no round that is known here'}")


def _offline_samples(case: Case) -> Iterator[Reason]:
    count, least = case.effective.get("effective_samples_per_query"), case.model.offline_min_samples
    if case.is_performance and case.config.scenario is Scenario.OFFLINE and least and (count or 0) < least:
        yield Reason(f"{count or 0:,} samples of {least:,}", open_only=True)


def _percentile(case: Case) -> Iterator[Reason]:
    used, own = case.effective.get(_PERCENTILE), case.model.percentiles
    wanted = own.get(case.config.scenario, case.rules.percentiles.of(case.config.scenario))
    if wanted and used is not None and abs(100 * used - wanted) > 1e-6:
        yield Reason(f"the percentile is {100 * used:g} instead of {wanted:g}", open_only=True)


def _per_query(case: Case) -> Iterator[Reason]:
    wanted, used = case.rules.samples_per_query.of(case.config.scenario), case.effective.get(_PER_QUERY)
    if wanted and used is not None and used != wanted:
        yield Reason(f"{used} samples a query instead of {wanted:g}", open_only=True)


def _audit(case: Case) -> Iterator[Reason]:
    """A run with the settings of an audit is none but that audit's own, whatever else it says."""
    usual = case.rules.audits.usual.all()
    used = {name: int(case.effective.get(f"effective_{name}", 0)) for name in usual}
    wanted = {name: case.audit.get(name, value) for name, value in usual.items()}
    if changed := [name for name in usual if used[name] != wanted[name]]:
        what = "settings of this audit were not" if case.audit else "settings of an audit were"
        yield Reason(f"{what} in effect: {' and '.join(changed)}")


_OF_LOG: tuple[Check, ...] = (
    *(_test_mode, _seeds, _accuracy_count, _offline_samples, _percentile, _per_query, _audit),
)
_JUDGED_BY_VALUE = ("target_latency", "target_latency_percentile", "samples_per_query")
_PERCENTILE = "effective_target_latency_percentile"
_PER_QUERY = "effective_samples_per_query"


# What came out


def _outcome(
    case: Case, log: Mapping[str, Any], performance: PerformanceResult | None, accuracy: AccuracyResult | None
) -> Iterator[Reason]:
    if log.get("errors"):
        yield Reason("LoadGen's log holds errors")
    if performance and not performance.valid:
        yield Reason("LoadGen calls it INVALID")
    if accuracy:
        yield from _score(case, accuracy)


def _score(case: Case, accuracy: AccuracyResult) -> Iterator[Reason]:
    gate = case.model.accuracy.get(accuracy.metric, Gate())
    least, reached = gate.least_in(case.config.scenario), f"{accuracy.metric} {accuracy.value:.4f}{accuracy.unit}"
    least = accuracy.target if least is None else least
    if accuracy.value < least:
        yield Reason(f"{reached} is below {least:.4f}{accuracy.unit}", open_only=True)
    if gate.most is not None and accuracy.value > gate.most:
        yield Reason(f"{reached} is above {gate.most:.4f}{accuracy.unit}", open_only=True)
