"""The folder of one LoadGen test: its name, its files, and the result that is written last.

    build/runs/<UTC stamp>-<system>-<benchmark>-<Scenario>-<mode, or TEST01 for an audit>/
      run_config.yaml   every value with its origin        recipe/      the rendered files
      env.json          machine, libraries, git revision   mlperf_log_* LoadGen's own
      telemetry*.csv    load, clocks, memory, power        result.json  verdict, metric, reasons, checksums

While it is being written its name ends in `.partial`, so a killed run can never look finished, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engineroom.config import Origin, Resolved, RunConfig
from engineroom.datasets import Agreement
from engineroom.errors import RequestError
from engineroom.paths import RUNS, display, ensure_folder, not_writable, sync_folder, write_text
from engineroom.yaml_file import entries

PARTIAL = ".partial"
RECIPE = "recipe"
RUN_CONFIG = "run_config.yaml"
RESULT = "result.json"


class Probe(msgspec.Struct, frozen=True):
    """probe.json: what a short measurement without LoadGen found. The latency is that of one query of the scenario."""

    samples_per_second: float
    latency_p50_ns: float
    batch_size: int
    seconds: float


class AccuracyResult(msgspec.Struct, frozen=True, kw_only=True):
    """The score of an accuracy run; `value`, `target` and `reference` are in `unit`."""

    metric: str
    unit: str
    value: float
    target: float
    reference: float
    good: int
    total: int
    met: bool
    golden: Agreement | None = None  # with what the reference model answered, where somebody has that


class PerformanceResult(msgspec.Struct, frozen=True, kw_only=True):
    """A performance run's figure. `valid` is LoadGen's word, `reasons` are its own."""

    metric: str
    unit: str
    value: float
    valid: bool
    reasons: tuple[str, ...] = ()
    min_duration_s: float
    samples: int


class Range(msgspec.Struct, frozen=True):
    """A figure over the test."""

    min: float
    median: float
    max: float


class GpuSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU over the test. `slowed_s`: for how many seconds each reason kept its clocks down."""

    gpu: int
    uuid: str
    ranges: dict[str, Range]
    slowed_s: dict[str, int]


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """The energy of the test, as far as counters tell it: `counted` says of what. No measurement by MLPerf's rules."""

    joules: float
    joules_per_sample: float
    counted: tuple[str, ...]


class TelemetrySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the telemetry of a run comes to; `disturbances` say in words what others or heat took away."""

    official: bool = False
    rows: int
    host: dict[str, Range]
    gpus: tuple[GpuSummary, ...] = ()
    energy: Energy | None = None
    disturbances: tuple[str, ...] = ()


class AuditResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found. `reference` and `accuracy_run` are the folders of the runs that it was compared with.

    `passed` is the whole verdict, `reasons` say why not. Scores are what the test compares: of a stream the latency in
    ns (TEST01) or the rate (TEST04), else the rate; `lowest` and `highest` bound them. Of the `compared` answers the
    `different` ones are not the accuracy run's; then what counts is `baseline` and `compliance`, the scores of both
    runs over the samples compared, in the metric's unit. `answers_agree` is the verdict on the answers alone.

    The files for a submission lie in the run's folder under the test's name.
    """

    test: str
    round: str
    reference: str
    accuracy_run: str = ""
    passed: bool
    reasons: tuple[str, ...] = ()
    reference_score: float
    score: float
    lowest: float | None = None
    highest: float
    compared: int = 0
    different: int = 0
    answers_agree: bool = True
    baseline: float | None = None
    compliance: float | None = None


class Submittable(msgspec.Struct, frozen=True, kw_only=True):
    """The divisions of a round that a result could be submitted to, as far as one run shows it; `reasons` why no more.

    `round` is empty for what is no MLPerf benchmark. A reason begins with what it leaves: "not submittable: " or
    "open only: ".
    """

    round: str = ""
    divisions: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def in_one_line(verdicts: Iterable[Submittable]) -> str:
    """Return why the results of an MLPerf benchmark could not be submitted, each reason once; "" if none could not."""
    found: dict[str, dict[str, None]] = {}
    of = ""
    for verdict in (each for each in verdicts if each.round):
        of = verdict.round
        for reason in verdict.reasons:
            kind, _, why = reason.partition(": ")
            found.setdefault(kind, {})[why] = None
    told = "; ".join(f"{kind}: {', '.join(whys)}" for kind, whys in sorted(found.items()))
    return f"{told} (rules of {of})" if told else ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """result.json. `notes` say what a reader must know. `submittable`: whether any division is left in `rules`.

    With an `audit` it is a compliance test and no performance run, whatever else it says: it counts for nothing else.

    `errors` is what LoadGen's log complains of: a run with errors is no good one, even where LoadGen calls it VALID,
    for submission checkers refuse it.
    """

    benchmark: str
    scenario: str
    test_mode: str
    system: str
    engine: str
    precision: str
    dataset: str = ""
    weights: str = ""  # reference, synthetic, or own: those of a model of the user's
    variant: tuple[str, ...] = ()  # in what it is not the benchmark's own model on its own data, in words
    exit_code: int
    started: str
    seconds: float
    performance: PerformanceResult | None = None
    accuracy: AccuracyResult | None = None
    submittable: bool = False
    rules: Submittable = Submittable()
    audit: AuditResult | None = None
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    made_from: dict[str, str] = {}  # what engine, samples and harness were made from
    loadgen: dict[str, Any] = {}
    counters: dict[str, Any] = {}
    telemetry: TelemetrySummary | None = None
    checksums: dict[str, str] = {}
    run: str = ""
    replaces: str = ""  # the run before it, which was too short only because its probe saw a slower machine


def open_folder(config: RunConfig, *, audit: str = "", runs: Path = RUNS) -> Path:
    """Create and return a new `*.partial` run folder, whose name ends in the test mode, or in the audit's.

    Raises RequestError if build/ cannot be written.
    """
    ensure_folder(runs)
    name = f"{config.system}-{config.benchmark}-{config.scenario}-{audit or config.test_mode}"
    while True:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
        folder = runs / f"{stamp}-{name}{PARTIAL}"
        try:
            folder.mkdir()
        except FileExistsError:  # another run began in the same millisecond
            continue
        except OSError as error:
            raise not_writable(folder, error) from error
        (folder / RECIPE).mkdir()
        return folder


def finish(partial: Path, result: Result) -> Path:
    """Write result.json, the last file of a run, and give the folder its final name.

    Both last when this returns. Raises RequestError if they cannot be written.
    """
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    finished = msgspec.structs.replace(result, run=display(final))
    write_text(partial / RESULT, msgspec.json.format(msgspec.json.encode(finished), indent=1).decode() + "\n")
    try:
        sync_folder(partial)
        partial.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise not_writable(partial, error) from error
    return final


def read_result(folder: Path) -> Result | None:
    """Return a run's result, None if it did not finish. Raises RequestError if result.json holds something else."""
    path = folder / RESULT
    if folder.name.endswith(PARTIAL) or not path.is_file():  # a kill between result.json and the final name leaves both
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except msgspec.DecodeError as error:
        raise RequestError(f"cannot be read: {error}", where=display(path)) from None


def write_config(folder: Path, resolved: Resolved) -> None:
    """Write run_config.yaml: one line per value, `name: value  # origin`. Values are JSON, which YAML includes."""
    values = msgspec.to_builtins(resolved.config)
    lines = [
        f"{name}: {msgspec.json.encode(value).decode()}  # {_one_line(resolved.origins[name].text)}"
        for name, value in values.items()
    ]
    write_text(folder / RUN_CONFIG, "\n".join(lines) + "\n")


def read_config(folder: Path) -> Resolved:
    """Read a run_config.yaml back. Raises RequestError if it is missing or does not fit this version."""
    path = folder / RUN_CONFIG
    values = {entry.key: entry.value() for entry in entries(path)}
    origin = Origin(f"{display(folder)}/{RUN_CONFIG}")
    try:
        config = msgspec.convert(values, RunConfig)
    except msgspec.ValidationError as error:
        raise RequestError(f"does not fit this version of Engineroom: {error}", where=display(path)) from None
    return Resolved(config, dict.fromkeys(values, origin))


def _one_line(text: str) -> str:
    return " ".join(text.split())
