"""Tables for people and JSON for programs, from results."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from engineroom import registry, terminal
from engineroom.benchmarks import AGREEMENT
from engineroom.runs import Result, in_one_line


@dataclass
class Row:
    """One benchmark in one scenario: what its performance and its accuracy run came to, or why it failed."""

    benchmark: str
    scenario: str
    engine: str
    precision: str
    performance: Result | None = None
    accuracy: Result | None = None
    failure: str | None = None
    variant: Sequence[str] = ()  # in what it is not the benchmark's own model on its own data


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
        words.append(f"{performance.metric} {significant(performance.value)} {performance.unit}, {verdict};")
    if accuracy := result.accuracy:
        verdict = f"target {'met' if accuracy.met else 'missed'}" if accuracy.target else "no target"
        words.append(f"{accuracy.metric} {accuracy.value:.3f}{accuracy.unit}, {verdict};")
    return f"{' '.join(words).rstrip(';')} ({result.seconds:.1f} s)"


def notes(rows: Sequence[Row]) -> list[str]:
    """Return each remark once: failures, LoadGen's reasons for INVALID, and why results are not submittable."""
    found: dict[str, None] = {}
    for row in rows:
        name = f"{row.benchmark} {row.scenario}"
        if row.failure:
            found[f"{name} FAILED: {row.failure}"] = None
        performance = row.performance.performance if row.performance else None
        for reason in performance.reasons if performance and not performance.valid else ():
            found[f"{name} is INVALID: {reason}"] = None
        if why := in_one_line(result.rules for result in (row.performance, row.accuracy) if result):
            found[f"{name}: {why}"] = None
        for result in (row.performance, row.accuracy):
            golden = result.accuracy.golden if result and result.accuracy else None
            energy = result.telemetry.energy if result and result.performance and result.telemetry else None
            if energy:
                counted = ", ".join(energy.counted)
                found[f"{name}: {significant(energy.joules_per_sample)} J a sample ({counted}; unofficial)"] = None
            if golden:
                found[f"{name}: {golden.agree:,} of {golden.total:,} answers are the golden ones"] = None
            for error in result.errors if result else ():
                found[f"{name}: LoadGen logged an error: {error}"] = None
            for note in result.notes if result else ():
                found[note] = None
    if disturbed := [words for row in rows if (words := _disturbed(row))]:
        found[f"Disturbed while measured, so perhaps slower than it could be: {'; '.join(disturbed)}"] = None
    return list(found)


def _disturbed(row: Row) -> str:
    telemetry = row.performance.telemetry if row.performance else None
    words = telemetry.disturbances if telemetry else ()
    return f"{row.benchmark} {row.scenario} ({', '.join(words)})" if words else ""


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
    if performance:
        figure = f"{significant(performance.value)} {performance.unit}"
        result = "\n".join([*textwrap.wrap(performance.metric, METRIC_COLUMNS), figure])
        verdict = "VALID" if performance.valid else "INVALID"
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
        "accuracy": row.accuracy,
        "failure": row.failure,
        "variant": row.variant,
    }
