"""Compares the observers of every calibrator that is installed: what int8 costs with each, in a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from engineroom import registry, run_args, terminal
from engineroom.actions.work import Work
from engineroom.benchmarks import AGREEMENT
from engineroom.calibrators import Calibrator
from engineroom.config import RunConfig
from engineroom.errors import ExitCode
from engineroom.paths import display
from engineroom.run_args import Request
from engineroom.steps import calibrate, observers
from engineroom.terms import ExecutionProvider, TestMode

FLAG = "compare_observers"
ALL = run_args.BARE[FLAG]
AGREES = "agrees with fp32"
FLAGS = {FLAG: "score every observer beside the float model, over so many evaluation samples; alone: over all"}


def compare(request: Request, asked: Sequence[Work]) -> int:
    """Print how the observers of each benchmark compare. A plan only asks for the calibrations."""
    limit = None if request.extras[FLAG] == ALL else run_args.whole_number(request, FLAG, 1)
    found = [each for work in asked for each in _compare(request, work, limit)]
    if request.json and not request.plan:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    elif not request.plan:
        for comparison in found:
            _print(comparison)
    return ExitCode.GOOD


def _compare(request: Request, work: Work, limit: int | None) -> Iterator[observers.Comparison]:
    """Yield the comparison of one benchmark; none where it is only planned."""
    work.check_calibrated()
    config = work.resolve(work.scenarios[0], TestMode.PERFORMANCE_ONLY).config
    samples = work.samples
    candidates = [candidate for name in _calibrators(request) for candidate in _candidates(work, config, name)]
    if not request.plan:
        alone = {"threads_per_instance": work.machine.cpu.usable_cores, "execution_provider": ExecutionProvider.CPU}
        threads = msgspec.structs.replace(config, **alone)
        yield observers.compare(work.benchmark, threads, work.model_sha256, candidates, samples, limit, **work.makes)


def _calibrators(request: Request) -> list[str]:
    """Return the calibrator that was asked for, or else all that are installed."""
    if name := {**request.environment, **request.overrides}.get("calibrator"):
        return [name.lower()]
    plugins: dict[str, Calibrator] = {
        name: plugin.load().CALIBRATOR for name, plugin in registry.find("calibrators").items()
    }
    for name, plugin in plugins.items():
        if registry.missing(plugin.modules):
            terminal.say(f"not installed, so not compared: the calibrator {name} ({calibrate.install(plugin)})")
    return [name for name, plugin in plugins.items() if not registry.missing(plugin.modules)]


def _candidates(work: Work, config: RunConfig, calibrator: str) -> Iterator[observers.Candidate]:
    plugin: Calibrator = registry.get("calibrators", calibrator).load().CALIBRATOR
    for observer in plugin.observers:
        made = work.calibration(msgspec.structs.replace(config, calibrator=calibrator, observer=observer))
        if not made.planned:
            yield observers.Candidate(
                calibrator=calibrator,
                observer=observer.value,
                calibration=made.key,
                calibration_s=made.facts["seconds"],
                model=made.file(calibrate.MODEL),
                model_sha256=made.sha256(calibrate.MODEL),
            )


def _print(comparison: observers.Comparison) -> None:
    """Print the table. Where labels mean nothing it has the agreement with the float model, and no accuracy."""
    labelled = comparison.metric != AGREEMENT
    scores = ("accuracy", "lost", AGREES) if labelled else (AGREES, "lost")
    columns = ("calibrator", "observer", *scores, "calibrated in")
    first = ("float", "", f"{comparison.float_accuracy:.2f}%", *[""] * len(scores))
    rows = [
        (
            row.calibrator,
            row.observer,
            f"{row.accuracy:.2f}%",
            f"{row.lost:+.2f}",
            *([f"{row.agreement:.2f}%"] if labelled else []),
            f"{row.calibration_s:.1f} s",
        )
        for row in comparison.rows
    ]
    terminal.table(
        f"{comparison.benchmark}, int8 in ONNX Runtime, {comparison.samples:,} samples of {comparison.dataset}",
        columns,
        [first, *rows],
        right=columns[2:],
    )
    if comparison.notes:
        terminal.note("\n".join(comparison.notes))
    meaning = (
        f"accuracy: {comparison.metric}" if labelled else f"{AGREES}: the samples that get the float model's answer"
    )
    terminal.note(f"{meaning}. Kept in {display(comparison.kept_at)}.")
