"""The rules of MLPerf's rounds, one data file per round: <round>.yaml beside this one. Each section says its source."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.paths import display
from engineroom.terms import Scenario
from engineroom.yaml_file import load

FOLDER = Path(__file__).parent
STREAMS = (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
# What MLCommons' verification scripts (compliance/) write, and the submission checker looks for.
VERIFY_ACCURACY, VERIFY_PERFORMANCE = "verify_accuracy.txt", "verify_performance.txt"
PASS, FAIL = "TEST PASS", "TEST FAIL"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str  # document and place
    disagreements: tuple[str, ...] = ()  # what another document says, and which is followed


class LoadGen(_Section, frozen=True, kw_only=True):
    """The releases of LoadGen that were built for the round."""

    versions: tuple[str, ...]


class Seeds(_Section, frozen=True, kw_only=True):
    """The seeds by which LoadGen chooses samples and arrival times."""

    qsl_rng_seed: int
    sample_index_rng_seed: int
    schedule_rng_seed: int

    def all(self) -> dict[str, int]:
        """Return each seed by LoadGen's name."""
        return {name: getattr(self, name) for name in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")}


class Duration(_Section, frozen=True, kw_only=True):
    """How long a performance test lasts at least."""

    min_duration_ms: int


class PerScenario(_Section, frozen=True, kw_only=True):
    """A number for those scenarios that have it."""

    single_stream: float | None = msgspec.field(default=None, name="SingleStream")
    multi_stream: float | None = msgspec.field(default=None, name="MultiStream")
    server: float | None = msgspec.field(default=None, name="Server")

    def of(self, scenario: Scenario) -> float | None:
        """Return the number of a scenario, None if it has none."""
        found = {
            Scenario.SINGLE_STREAM: self.single_stream,
            Scenario.MULTI_STREAM: self.multi_stream,
            Scenario.SERVER: self.server,
        }
        return found.get(scenario)


class UserConf(_Section, frozen=True, kw_only=True):
    """The keys that LoadGen reads from user.conf: `key` in every scenario, or `Scenario.key`."""

    allowed: tuple[str, ...]
    open_only: tuple[str, ...]
    by_effect: tuple[str, ...]

    def knows(self, key: str, scenario: Scenario) -> bool:
        """Tell whether LoadGen reads a key in this scenario."""
        long = f"{scenario}.{key}"
        return any(key in names or long in names for names in (self.allowed, self.open_only, self.by_effect))


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far the score of an audit may be from that of the performance run, in percent of the latter.

    `score` says what of a stream is compared: its latency in ns, or the rate, 1e9 / latency; of other scenarios it is
    the rate. No `slower_percent`: as slow as it likes. `wide_percent` counts instead where the score of the performance
    run is at most that of its scenario in `wide_up_to`.
    """

    score: str
    faster_percent: float
    slower_percent: float | None = None
    wide_percent: float
    wide_up_to: dict[str, float]

    def score_of(self, scenario: Scenario, value: float) -> float:
        """Return what is compared, from LoadGen's score: of a stream, whose score is a latency in ns, also the rate."""
        return 1e9 / value if scenario in STREAMS and self.score == "rate" and value else value

    def bounds(self, scenario: Scenario, before: float) -> tuple[float | None, float]:
        """Return what the score of the audit must lie between, from that of the performance run; None: no bound."""
        faster, slower = self.faster_percent, self.slower_percent
        if before <= self.wide_up_to.get(scenario, 0.0):
            faster, slower = self.wide_percent, self.wide_percent if slower else None
        less, more = (faster, slower) if scenario in STREAMS and self.score == "latency" else (slower, faster)
        return before * (1 - less / 100) if less else None, before * (1 + (more or 0) / 100)


class AuditTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A compliance test. `settings` are LoadGen's; `models` has its benchmarks, each with settings of its own.

    A key of a setting is LoadGen's, or Scenario.key. `least` and `output_tokens` belong to tests whose pass is a score
    or a range. Files are told from the test's own folder in a submission; `fallback_files` are needed, too, where the
    answers of TEST01 differ.
    """

    checks: str
    settings: dict[str, int]
    models: dict[str, dict[str, int]]
    band: Band | None = None
    least: dict[str, float] = {}
    output_tokens: dict[str, tuple[float, float]] = {}
    required_files: tuple[str, ...]
    fallback_files: tuple[str, ...] = ()

    def of(self, benchmark: str, scenario: str) -> dict[str, int]:
        """Return the settings for a benchmark in a scenario; the common ones where the test does not have it."""
        found: dict[str, int] = {}
        for key, value in {**self.settings, **self.models.get(benchmark, {})}.items():
            of, _, name = key.rpartition(".")
            if of in ("", scenario):
                found[name] = value
        return found


class Usual(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """LoadGen's settings that only an audit changes, with what they are otherwise."""

    performance_issue_unique: int
    performance_issue_same: int
    accuracy_log_rng_seed: int
    accuracy_log_sampling_target: int

    def all(self) -> dict[str, int]:
        """Return each setting by LoadGen's name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Audits(_Section, frozen=True, kw_only=True):
    """The compliance tests by name, and the divisions that need them."""

    divisions: tuple[str, ...]
    usual: Usual
    tests: dict[str, AuditTest]

    def needed(self, benchmark: str) -> tuple[str, ...]:
        """Return the tests that a benchmark needs in those divisions."""
        return tuple(name for name, test in self.tests.items() if benchmark in test.models)


class ExtraFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that the accuracy run of a benchmark must show; names without their endings."""

    folder: str
    names: tuple[str, ...]


class Layout(_Section, frozen=True, kw_only=True):
    """Where in a submission what lies. Paths hold {division}, {submitter}, {system}, {benchmark}, {scenario}.

    `code_of_benchmark` and `measurements_file` may hold {implementation}, too: a name of the submitter's choice. The
    names in `measurements_also` may hold an asterisk.
    """

    divisions: tuple[str, ...]
    system: str
    code: str
    code_of_benchmark: str
    calibration: str
    calibration_also: tuple[str, ...]
    model_mapping: str
    results: str
    measurements: str
    audits: str
    measurements_file: str
    performance_files: tuple[str, ...]
    accuracy_files: tuple[str, ...]
    measurements_files: tuple[str, ...]
    measurements_also: tuple[str, ...]
    optional_files: tuple[str, ...]
    extra_accuracy_files: dict[str, ExtraFiles] = {}


class Limits(_Section, frozen=True, kw_only=True):
    """Sizes in a submission, in bytes, and the folders (from those of `results`) whose accuracy log is cut."""

    accuracy_log_bytes: int
    kept_bytes: int
    truncated: tuple[str, ...]
    file_bytes: int


class SystemDescription(_Section, frozen=True, kw_only=True):
    """The fields of a system's JSON: all of `not_empty` and `may_be_empty` must be there."""

    not_empty: tuple[str, ...]
    may_be_empty: tuple[str, ...]
    allowed: dict[str, tuple[str, ...]]
    network: tuple[str, ...]
    power: tuple[str, ...]
    optional: tuple[str, ...] = ()
    network_sut_name: str


class Measurements(_Section, frozen=True, kw_only=True):
    """The fields of measurements.json, and the words that are usual in some."""

    not_empty: tuple[str, ...]
    usual: dict[str, tuple[str, ...]]


class Metrics(_Section, frozen=True, kw_only=True):
    """By metric, the texts that stand before its number in accuracy.txt, blanks and quotation marks left out.

    Those of the metrics in `first` begin a line.
    """

    first: tuple[str, ...]
    before: dict[str, tuple[str, ...]]


class Results(_Section, frozen=True, kw_only=True):
    """The field of LoadGen's detail log that is the score of a scenario."""

    fields: dict[str, str]


class Way(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the result of one scenario follows from the log of another: factor * field, or factor / field."""

    scenario: str
    by: str
    field: str
    factor: float
    inverse: bool = False


class Inferred(_Section, frozen=True, kw_only=True):
    """The results that need no run of their own, and the category that may leave them out. The first way is best."""

    category: str
    ways: tuple[Way, ...]


class Scenarios(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scenarios of a benchmark in a category. Of each group in `one_of` at least one is required."""

    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()

    def all(self) -> tuple[str, ...]:
        """Return every scenario that may be submitted."""
        return (*self.required, *(each for group in self.one_of for each in group), *self.optional)

    def missing(self, present: Iterable[str]) -> tuple[str, ...]:
        """Return what is still required: a scenario, or the names of a group joined by " or "."""
        there = {*present}
        groups = [group for group in self.one_of if not there & {*group}]
        return (*(each for each in self.required if each not in there), *(" or ".join(group) for group in groups))


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a score in the closed division, in the metric's unit.

    `audit_delta_percent`: how far two scores over the samples of TEST01 may differ, where its results do.
    """

    least: float | None = None
    most: float | None = None
    by_scenario: dict[str, float] = {}
    audit_delta_percent: float | None = None

    def least_in(self, scenario: str) -> float | None:
        """Return the least score in a scenario."""
        return self.by_scenario.get(scenario, self.least)


class TokenLatency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits in ms: of the time to the first token, and of the time per token after it."""

    ttft: float
    tpot: float


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A benchmark of the round: its scenarios by category, its sample counts, gates and limits."""

    edge: Scenarios = Scenarios()
    datacenter: Scenarios = Scenarios()
    datacenter_edge: Scenarios = Scenarios()
    dataset_size: int
    accuracy_sample_count: int | None = None
    accuracy_sample_counts: dict[str, int] = {}
    performance_sample_count: int
    offline_min_samples: int | None = None
    min_duration_ms: int | None = None  # another than the round's
    percentiles: dict[str, float] = {}  # others than the round's
    accuracy: dict[str, Gate] = {}
    latency_ms: dict[str, float] = {}
    checker_latency_ms: dict[str, float] = {}
    token_latency_ms: dict[str, TokenLatency] = {}
    use_token_latencies: bool = False  # also where no such latency has a limit
    result_fields: dict[str, str] = {}  # others than the round's

    @property
    def tokens(self) -> bool:
        """Whether LoadGen has to measure the latencies of tokens."""
        return self.use_token_latencies or bool(self.token_latency_ms)

    def scenarios(self, category: str) -> Scenarios:
        """Return those of a system type: edge, datacenter, or both as systems/<name>.json writes them."""
        found = {"edge": self.edge, "datacenter": self.datacenter}
        return found.get(category, self.datacenter_edge)

    def accuracy_samples(self, scenario: str) -> int:
        """Return over how many samples accuracy is measured."""
        return self.accuracy_sample_counts.get(scenario, self.accuracy_sample_count or self.dataset_size)


class Models(_Section, frozen=True, kw_only=True):
    """The benchmarks by name; `also_named` has other names of some.

    `checker_names` has the names by which MLCommons' checkers know some inside; the others they know by their own.
    """

    also_named: dict[str, str]
    checker_names: dict[str, str] = {}
    models: dict[str, Model]


class Round(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A round's rules."""

    round: str
    loadgen: LoadGen
    seeds: Seeds
    duration: Duration
    percentiles: PerScenario
    early_stopping: PerScenario
    samples_per_query: PerScenario
    user_conf: UserConf
    audits: Audits
    layout: Layout
    limits: Limits
    system_description: SystemDescription
    measurements: Measurements
    metrics: Metrics
    results: Results
    inferred: Inferred
    benchmarks: Models

    def name_of(self, name: str) -> str:
        """Return the benchmark's own name for it, or for another name that it has; "" if the round has none."""
        named = {name: name for name in self.benchmarks.models} | self.benchmarks.also_named
        return named.get(name) or self.mappable().get(name, "")

    def model(self, name: str) -> Model | None:
        """Return the benchmark of a name, or of another name that it has."""
        return self.benchmarks.models.get(self.name_of(name))

    def mappable(self) -> dict[str, str]:
        """Return what model_mapping.json may map to, MLCommons' checkers' names, each with the benchmark's own."""
        return {self.benchmarks.checker_names.get(name, name): name for name in self.benchmarks.models}

    def inferences(self, model: Model, system_type: str) -> tuple[Way, ...]:
        """Return how results of a benchmark may follow from others on a system of this type, the best way first.

        Of a system of both categories MLCommons' checker asks no more than that it is of the edge, too. The rules infer
        results of the edge alone: what the other category has of the benchmark is measured.
        """
        categories = system_type.split(",")
        if self.inferred.category not in categories:
            return ()
        others = [each for each in categories if each != self.inferred.category]
        measured = {scenario for each in others for scenario in model.scenarios(each).all()}
        return tuple(way for way in self.inferred.ways if way.scenario not in measured)

    def score_field(self, model: Model | None, scenario: str, ran: str) -> str:
        """Return the key in LoadGen's log that is the score of a test of `ran` in the place of a scenario; "" if none.

        Interactive is a test of Server; where `model` has no key of its own for it, that of Server counts.
        """
        own, usual = model.result_fields if model else {}, self.results.fields
        return own.get(scenario) or own.get(ran) or usual.get(scenario) or usual.get(ran, "")


def near(baseline: float, compliance: float, delta_percent: float) -> bool:
    """Tell whether the scores of both runs over the samples of TEST01 are as near as its fallback asks.

    None may be 0, and the difference is told of the audit's own score (checker, compliance_check.py).
    """
    return bool(baseline and compliance) and 100 * abs(1 - baseline / compliance) <= delta_percent


@cache
def names() -> tuple[str, ...]:
    """Return the rounds that have a file, the oldest first."""
    found = (path.stem for path in FOLDER.glob("v*.yaml"))
    return tuple(sorted(found, key=lambda name: [int(part) for part in name[1:].split(".")]))


@cache
def read(name: str) -> Round:
    """Return a round's rules. Raises RequestError if it has no file here, or one that does not fit."""
    if name not in names():
        raise RequestError(
            f"no rules of a round {shown(name)} are here", where="round", mend=did_you_mean(name, names())
        )
    return read_file(FOLDER / f"{name}.yaml")


def read_file(path: Path) -> Round:
    """Return the rules in a file. Raises RequestError for an unknown key, a missing one or a wrong type."""
    try:
        return msgspec.convert(load(path), Round)
    except msgspec.ValidationError as error:
        raise RequestError(f"holds no round's rules: {error}", where=display(path)) from None
