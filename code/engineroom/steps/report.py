"""Tables for people and JSON for programs, from results."""

from __future__ import annotations

import math
import re
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from engineroom import registry, terminal
from engineroom.benchmarks import AGREEMENT
from engineroom.errors import ExitCode
from engineroom.runs import PerformanceResult, Result, in_one_line


class Repeats(msgspec.Struct, frozen=True, kw_only=True):
    """What several performance runs of the same settings come to; `runs` are their folders, in order."""

    count: int
    valid: int
    unit: str
    median: float
    min: float
    max: float
    spread_percent: float  # of the median, from the least to the largest
    runs: tuple[str, ...]


@dataclass
class Row:
    """One benchmark in one scenario: what its performance and its accuracy run came to, or why it failed.

    Of several performance runs, `performance` is the one in the middle, and `repeated` are all.
    """

    benchmark: str
    scenario: str
    engine: str
    precision: str
    performance: Result | None = None
    accuracy: Result | None = None
    failure: str | None = None
    failure_code: ExitCode = ExitCode.ENGINE  # where there is one
    variant: Sequence[str] = ()  # in what it is not the benchmark's own model on its own data
    repeated: tuple[Result, ...] = ()

    @property
    def results(self) -> list[Result]:
        """Every result of the row."""
        single = () if self.repeated else (self.performance,)
        return [result for result in (*self.repeated, *single, self.accuracy) if result]

    @property
    def repeats(self) -> Repeats | None:
        """What the performance runs come to, where there were several."""
        figures = [result.performance for result in self.repeated if result.performance]
        if len(figures) < 2:
            return None
        values = [figure.value for figure in figures]
        middle = statistics.median(values)
        return Repeats(
            count=len(values),
            valid=sum(figure.valid for figure in figures),
            unit=figures[0].unit,
            median=middle,
            min=min(values),
            max=max(values),
            spread_percent=round(100 * (max(values) - min(values)) / middle, 2) if middle else 0.0,
            runs=tuple(result.run for result in self.repeated),
        )

    def repeat(self, result: Result) -> None:
        """Add a performance run."""
        self.repeated += (result,)
        by_value = sorted(self.repeated, key=lambda each: each.performance.value if each.performance else 0.0)
        self.performance = by_value[(len(by_value) - 1) // 2]


DISTURBED_SHOWN = 2  # results whose disturbances are all told
NUMBER = re.compile(r"(?<!GPU )\b\d[\d,]*(?:\.\d+)?")  # a figure, no GPU's index

COLUMNS = ("Benchmark", "Scenario", "Engine", "Result", "LoadGen", "Accuracy (target)")
WHOLE = ("Benchmark", "Scenario", "Result", "LoadGen")
METRIC_COLUMNS = 16  # on a narrow terminal


def print_table(rows: Sequence[Row]) -> None:
    """Print the final table, and below it what a reader must know about the results."""
    terminal.table("Results", COLUMNS, [_cells(row) for row in rows], whole=WHOLE)
    for note in notes(rows):
        terminal.note(note)


def print_json(rows: Sequence[Row]) -> None:
    """Print the rows as JSON."""
    print(msgspec.json.format(msgspec.json.encode([_plain(row) for row in rows]), indent=1).decode())


def line(result: Result) -> str:
    """Return one line for a test that has just finished."""
    engine = " ".join(_engine(result.engine, result.precision))
    words = [f"{', '.join([f'{result.benchmark} {result.scenario}', *result.variant, engine])}:"]
    if performance := result.performance:
        verdict = "VALID" if performance.valid else "INVALID"
        words.append(f"{performance.metric} {_figure(performance)}, {verdict};")
    if accuracy := result.accuracy:
        verdict = f"target {'met' if accuracy.met else 'missed'}" if accuracy.target else "no target"
        words.append(f"{accuracy.metric} {accuracy.value:.3f}{accuracy.unit}, {verdict};")
    return f"{' '.join(words).rstrip(';')} ({result.seconds:.1f} s)"


AUDIT_COLUMNS = ("Benchmark", "Scenario", "Audit", "Score (performance run)", "Answers", "Verdict")


def print_audits(results: Sequence[Result]) -> None:
    """Print the table of audits, and below it why one has not passed."""
    terminal.table("Audits", AUDIT_COLUMNS, [_audit_cells(result) for result in results], whole=("Audit", "Verdict"))
    found: dict[str, None] = {}
    for result in (each for each in results if each.audit):
        assert result.audit
        name = f"{result.benchmark} {result.scenario} {result.audit.test}"
        found |= {f"{name}: {reason}": None for reason in result.audit.reasons}
        if result.audit.different and result.audit.answers_agree:
            found[f"{name}: {result.audit.different:,} answers differ; it passes by the score over them"] = None
        found[f"{name}: {result.run}/{result.audit.test}"] = None
    for note in found:
        terminal.note(note)


def audit_line(result: Result) -> str:
    """Return one line for an audit that has just finished."""
    assert result.audit
    benchmark, scenario, test, scores, answers, verdict = _audit_cells(result)
    what = f"{benchmark} {scenario} {test}, {' '.join(_engine(result.engine, result.precision))}"
    return f"{what}: {verdict}; score {scores}; answers {answers} ({result.seconds:.1f} s)"


def _audit_cells(result: Result) -> tuple[str, ...]:
    audit = result.audit
    assert audit
    change = 100 * (audit.score / audit.reference_score - 1) if audit.reference_score else 0.0
    compared = (
        f"{audit.compared - audit.different:,} of {audit.compared:,} the same" if audit.accuracy_run else "not compared"
    )
    score = f"{audit.score:,.6g} ({audit.reference_score:,.6g}, {change:+.1f}%)"
    return result.benchmark, result.scenario, audit.test, score, compared, "PASS" if audit.passed else "FAIL"


def notes(rows: Sequence[Row]) -> list[str]:
    """Return each remark once: failures, LoadGen's reasons for INVALID, and why results are not submittable."""
    found: dict[str, None] = {}
    for row in rows:
        name = f"{row.benchmark} {row.scenario}"
        if row.failure:
            found[f"{name} FAILED: {row.failure}"] = None
        if why := in_one_line(result.rules for result in row.results):
            found[f"{name}: {why}"] = None
        for result in row.results:
            found |= dict.fromkeys(_remarks(name, result))
        found |= dict.fromkeys(_energy(name, row.performance))
    if disturbed := _disturbed(rows):
        found[f"Disturbed while measured, so perhaps slower than it could be: {disturbed}"] = None
    return list(found)


def _remarks(name: str, result: Result) -> Iterator[str]:
    if result.performance and not result.performance.valid:
        yield from (f"{name} is INVALID: {reason}" for reason in result.performance.reasons)
    if golden := result.accuracy.golden if result.accuracy else None:
        yield f"{name}: {golden.agree:,} of {golden.total:,} answers are the golden ones"
    yield from (f"{name}: LoadGen logged an error: {error}" for error in result.errors)
    yield from result.notes


def _energy(name: str, result: Result | None) -> Iterator[str]:
    if energy := result.telemetry.energy if result and result.telemetry else None:
        yield f"{name}: {significant(energy.joules_per_sample)} J a sample ({', '.join(energy.counted)}; unofficial)"


def _disturbed(rows: Sequence[Row]) -> str:
    """Say which results were disturbed and how; of many, how many, and of each kind of disturbance the worst."""
    told = {f"{row.benchmark} {row.scenario}": words for row in rows if (words := _disturbances(row))}
    if len(told) <= DISTURBED_SHOWN:
        return "; ".join(f"{name} ({', '.join(words)})" for name, words in told.items())
    worst: dict[str, tuple[float, str]] = {}
    for name, words in told.items():
        for each in words:
            kind, severity = NUMBER.sub("", each), _severity(each)
            if severity > worst.get(kind, (-1.0, ""))[0]:
                worst[kind] = severity, f"{each} ({name})"
    measured = sum(row.performance is not None for row in rows)
    listed = "; ".join(words for _, words in worst.values())
    return f"{len(told)} of {measured} results, at worst {listed}. Each result.json has its own"


def _severity(words: str) -> float:
    """Return how bad it was, which is the first figure in the words."""
    found = NUMBER.search(words)
    return float(found[0].replace(",", "")) if found else 0.0


def _disturbances(row: Row) -> Sequence[str]:
    telemetry = row.performance.telemetry if row.performance else None
    return telemetry.disturbances if telemetry else ()


def _figure(performance: PerformanceResult) -> str:
    """Return the figure. LoadGen gives 0 for a percentile that its queries were too few to tell."""
    return f"{significant(performance.value)} {performance.unit}" if performance.value else "too few queries"


def significant(value: float) -> str:
    """Write a figure with at least four significant digits and thousands separators: 0.02134, 12.50, 48,310."""
    rounded = abs(float(f"{value:.4g}"))  # 9.9996 is shown as 10.00: the digits count after rounding
    if not math.isfinite(rounded) or rounded < 1:
        return f"{value:#.4g}" if value else "0"
    return f"{value:,.{max(0, 4 - len(str(int(rounded))))}f}"


def _cells(row: Row) -> list[str]:
    """Return a line of the table; newlines are where a cell breaks on a narrow terminal."""
    performance = row.performance.performance if row.performance else None
    accuracy = row.accuracy.accuracy if row.accuracy else None
    result, verdict, score = "-", "-", "-"
    if performance and not (repeats := row.repeats):
        figure = _figure(performance)
        result = "\n".join([*textwrap.wrap(performance.metric, METRIC_COLUMNS), figure])
        verdict = "VALID" if performance.valid else "INVALID"
    elif performance and repeats:
        words = textwrap.wrap(f"{performance.metric}, median of {repeats.count}:", METRIC_COLUMNS)
        spread = f"({significant(repeats.min)} to {significant(repeats.max)})"
        result = "\n".join([*words, f"{significant(repeats.median)} {repeats.unit}", spread])
        verdict = (
            "VALID"
            if repeats.valid == repeats.count
            else f"INVALID\n{repeats.count - repeats.valid} of {repeats.count}"
        )
    if accuracy:  # MLCommons' scorers write three digits too
        held = "met" if accuracy.met else "missed"
        figure = f"{accuracy.value:.3f}{accuracy.unit}"
        target = f"({accuracy.target:.3f}{accuracy.unit}) {held}" if accuracy.target else "(no target)"
        score = "\n".join([*([accuracy.metric] if accuracy.metric == AGREEMENT else []), figure, target])
    engine = "\n".join(_engine(row.engine, row.precision)) or "-"
    benchmark = "\n".join([row.benchmark, *row.variant])
    return [benchmark, row.scenario, engine, result, "FAILED" if row.failure else verdict, score]


def _engine(name: str, precision: str) -> list[str]:
    """Return an engine's name and, if it runs the model, the precision."""
    plugin = registry.find("engines").get(name)
    runs_model = plugin is None or plugin.load().ENGINE.measures_model
    return [word for word in (name, precision if runs_model else "") if word]


def _plain(row: Row) -> dict[str, object]:
    return {
        "benchmark": row.benchmark,
        "scenario": row.scenario,
        "engine": row.engine,
        "precision": row.precision,
        "performance": row.performance,
        "repeats": row.repeats,
        "accuracy": row.accuracy,
        "failure": row.failure,
        "variant": row.variant,
    }
