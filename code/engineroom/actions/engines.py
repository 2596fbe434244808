"""From model and data to engines: fetch, preprocess, calibrate, build."""

from __future__ import annotations

from collections.abc import Sequence

from engineroom.actions.work import works
from engineroom.benchmarks import Part
from engineroom.errors import ExitCode
from engineroom.paths import display
from engineroom.terms import TestMode


def download_model(argv: Sequence[str]) -> int:
    """Make sure that each benchmark's model is here and is the right one."""
    for work in works(argv)[1]:
        print(f"{work.benchmark.name}: {display(work.benchmark.model_file()[0])} is right ({work.model_sha256[:12]})")
    return ExitCode.GOOD


def download_data(argv: Sequence[str]) -> int:
    """Make sure that each benchmark's data is here and is the right one."""
    for work in works(argv)[1]:
        for path, sha256 in work.data.items():
            print(f"{work.benchmark.name}: {display(path)} is right ({sha256[:12]})")
    return ExitCode.GOOD


def preprocess_data(argv: Sequence[str]) -> int:
    """Write the arrays that the harness maps into memory and those that calibration reads."""
    for work in works(argv, explain=True)[1]:
        for part in (Part.CALIBRATION, Part.EVALUATION):
            work.part(part)
    return ExitCode.GOOD


def calibrate(argv: Sequence[str]) -> int:
    """Write one quantized model per benchmark."""
    for work in works(argv, explain=True)[1]:
        work.calibration(work.resolve(work.scenarios[0], TestMode.PERFORMANCE_ONLY).config.calibrator)
    return ExitCode.GOOD


def generate_engines(argv: Sequence[str]) -> int:
    """Build the engine of each benchmark and scenario."""
    for work in works(argv, explain=True)[1]:
        for scenario in work.scenarios:
            work.best_precision(work.resolve(scenario, TestMode.PERFORMANCE_ONLY))
    return ExitCode.GOOD
