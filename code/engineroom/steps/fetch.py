"""Makes sure that models and data are here and are the right ones, by their SHA-256."""

from __future__ import annotations

import shlex
from pathlib import Path

from engineroom.benchmarks import Benchmark
from engineroom.errors import Mistakes, RequestError
from engineroom.paths import display, sha256_file


def has_files(benchmark: Benchmark) -> bool:
    """Tell whether the benchmark's model and data are on this machine, without reading them."""
    return benchmark.model_file()[0].is_file() and all(path.is_file() for path in benchmark.data_files())


def check_model(benchmark: Benchmark) -> str:
    """Return the model's SHA-256 after checking it. Raises RequestError if it is missing or another one."""
    path, expected = benchmark.model_file()
    _check({path: expected}, f"the model of {benchmark.name}")
    return expected


def check_data(benchmark: Benchmark) -> dict[Path, str]:
    """Return the raw data files with their SHA-256 after checking them. Raises Mistakes for all wrong files."""
    files = benchmark.data_files()
    _check(files, f"the data of {benchmark.name}")
    return files


def _check(files: dict[Path, str], what: str) -> None:
    mistakes: list[RequestError] = []
    for path, expected in files.items():
        where = display(path)
        if not path.is_file():
            mistakes.append(RequestError(f"{what} is missing", where=where, mend=_restore(path)))
            continue
        try:
            found = sha256_file(path)
        except RequestError as error:
            mistakes.append(error)
            continue
        if found != expected:
            wrong = f"{what} is not the right file: its SHA-256 is {found}, must be {expected}"
            mistakes.append(RequestError(wrong, where=where, mend=_restore(path)))
    if mistakes:
        raise Mistakes(mistakes)


def _restore(path: Path) -> str:
    return f"it is shipped with Engineroom; bring it back with: git checkout -- {shlex.quote(display(path))}"
