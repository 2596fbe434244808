"""Holds engines against the float model: the first thing to reach for when accuracy is off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from engineroom import artifacts, registry, run_args, terminal
from engineroom.actions import plan
from engineroom.actions.work import Work
from engineroom.actions.works import works
from engineroom.config.values import numbers
from engineroom.engines import Engine
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import display
from engineroom.run_args import Request
from engineroom.steps import build, compare
from engineroom.steps.compare import Comparison
from engineroom.terms import TestMode

SAMPLES = "samples"
FLAGS = {SAMPLES: "how many evaluation samples, or which (0-9,37); default: 64"}
FIRST = 64


def compare_engine(argv: Sequence[str]) -> int:
    """Run each engine in Python, apart from the harness, and compare its outputs with ONNX Runtime's in fp32."""
    request, asked = works(argv, extras=FLAGS)
    found = [each for work in asked for each in comparisons(request, work)]
    if request.plan:
        return plan.making(request, asked)
    if request.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        show(found)
    return ExitCode.GOOD


def comparisons(request: Request, work: Work) -> Iterator[Comparison]:
    """Yield the comparison of each scenario's engine; one that serves several scenarios is compared once.

    Where only a plan is asked for, what is needed is decided upon, and nothing is yielded.
    """
    done = set()
    for scenario in work.scenarios:
        resolved = work.resolve(scenario, TestMode.ACCURACY_ONLY)
        work.check_installed(resolved.config)
        resolved, engine = work.best_precision(resolved)
        samples = work.samples
        indices = _indices(request, 0 if request.plan else samples.facts["samples"])
        if request.plan or engine.folder in done:
            continue
        done.add(engine.folder)
        artifacts.check_content(engine)
        plugin: Engine = registry.get("engines", resolved.config.engine).load().ENGINE
        options = {**build.options_of(engine), **plugin.run_options(resolved.config, work.machine)}
        yield compare.compare(work.benchmark, resolved.config, engine, options, samples, indices)


def _indices(request: Request, count: int) -> list[int]:
    """Return the samples that are asked for. Raises RequestError for what is none of `count`."""
    text, where = request.extras.get(SAMPLES, str(FIRST)), f"{run_args.WHERE}: --{SAMPLES}"
    if text.isdecimal():
        return list(range(min(run_args.whole_number(request, SAMPLES, FIRST), count)))
    try:
        found = numbers(text)
    except ValueError as error:
        raise RequestError(str(error), where=where) from None
    if not found or (count and max(found) >= count):
        raise RequestError(f"{text or 'nothing'} names no samples: they are 0 to {count - 1:,}", where=where)
    return found


def show(found: Iterable[Comparison]) -> None:
    """Print a table, and below it the samples that differ most."""
    found = list(found)
    columns = ("benchmark", "scenario", "engine", "precision", "samples", "same answer", "largest error", "relative")
    rows = [
        (
            each.benchmark,
            each.scenario,
            each.engine,
            each.precision,
            f"{each.samples:,}",
            f"{each.agreement:.2f}%",
            _number(each.max_error),
            _number(each.relative_error),
        )
        for each in found
    ]
    terminal.table("outputs beside the float model's", columns, rows, right=columns[4:])
    for each in found:
        words = ", ".join(
            f"{sample.index} ({_number(sample.relative_error)}"
            f"{'' if sample.agrees else f'; {sample.answer} where it should be {sample.float_answer}'})"
            for sample in each.worst
        )
        terminal.note(f"{each.benchmark} {each.scenario} {each.precision}, worst samples (relative error): {words}")
    for reference in sorted({each.reference for each in found}):
        terminal.note(f"Beside {reference}. The relative error is to the largest magnitude of a sample's output.")
    terminal.note(f"Kept in {', '.join(display(each.kept_at) for each in found)}.")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
