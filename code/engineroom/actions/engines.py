"""From model and data to engines: fetch, preprocess, calibrate, build."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from engineroom.actions import plan
from engineroom.actions.work import Work, works
from engineroom.benchmarks import Part
from engineroom.errors import ExitCode
from engineroom.paths import display
from engineroom.terms import TestMode


def download_model(argv: Sequence[str]) -> int:
    """Make sure that each benchmark's model is here and is the right one."""
    request, asked = works(argv)
    right = [(work.benchmark.model_file()[0], work.model_sha256, work) for work in asked]
    return plan.making(request, asked) if request.plan else _right(right)


def download_data(argv: Sequence[str]) -> int:
    """Make sure that each benchmark's data is here and is the right one."""
    request, asked = works(argv)
    right = [(path, sha256, work) for work in asked for path, sha256 in work.data.items()]
    return plan.making(request, asked) if request.plan else _right(right)


def _right(files: Iterable[tuple[Path, str, Work]]) -> int:
    for path, sha256, work in files:
        print(f"{work.benchmark.name}: {display(path)} is right ({sha256[:12]})")
    return ExitCode.GOOD


def preprocess_data(argv: Sequence[str]) -> int:
    """Write the arrays that the harness maps into memory and those that calibration reads."""
    request, asked = works(argv, explain=True)
    for work in asked:
        for part in (Part.CALIBRATION, Part.EVALUATION):
            work.part(part)
    return plan.making(request, asked) if request.plan else ExitCode.GOOD


def calibrate(argv: Sequence[str]) -> int:
    """Write one quantized model per benchmark."""
    request, asked = works(argv, explain=True)
    for work in asked:
        work.calibration(work.resolve(work.scenarios[0], TestMode.PERFORMANCE_ONLY).config.calibrator)
    return plan.making(request, asked) if request.plan else ExitCode.GOOD


def generate_engines(argv: Sequence[str]) -> int:
    """Build the engine of each benchmark and scenario."""
    request, asked = works(argv, explain=True)
    build_engines(asked)
    return plan.making(request, asked) if request.plan else ExitCode.GOOD


def build_engines(asked: Iterable[Work]) -> None:
    """Build the engine of each scenario that is asked for, in the best precision."""
    for work in asked:
        for scenario in work.scenarios:
            work.best_precision(work.resolve(scenario, TestMode.PERFORMANCE_ONLY))
