"""Runs the recipe of a finished run again with what a measurement varies: a child process each, without a probe."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engineroom import runs
from engineroom.bench import product
from engineroom.bench.search import highest
from engineroom.config import RunConfig
from engineroom.errors import EngineError
from engineroom.steps.harness import read_log

TO = 1.05  # the factor to which a rate is searched
TRIES = 2  # a rate counts if one of so many tests is VALID: one stall of the machine decides a test of a second


@dataclass(frozen=True)
class Recipe:
    """A recipe in `folder`, of a run with the settings `config`; each test leaves its logs in `folder`/test.

    Engines in `folder`/engines are known to it.
    """

    config: RunConfig
    folder: Path

    def command(self, settings: Mapping[str, float], **changes: Any) -> list[str]:
        """Write the recipe with LoadGen's `settings` and the `changes` of harness.json; return what runs it."""
        made, used = self.folder / "made", self.folder / runs.RECIPE
        shutil.rmtree(self.folder / "test", ignore_errors=True)
        (self.folder / "test").mkdir()
        shutil.copytree(made, used, dirs_exist_ok=True)
        product.write_user_conf(used / "user.conf", self.config, settings)
        (used / "harness.json").write_text(json.dumps({**self.harness(), **changes}), encoding="utf-8")
        return ["/bin/sh", str(used / "run.sh"), str(self.folder / "test")]

    def run(self, settings: Mapping[str, float], **changes: Any) -> dict[str, Any]:
        """Run the test and return LoadGen's detail log. Raises EngineError if it fails."""
        brought = {"ENGINEROOM_PATH": str(self.folder)} if (self.folder / "engines").is_dir() else {}
        product.run(self.command(settings, **changes), {**os.environ, **brought})
        return read_log(self.folder / "test")

    def harness(self) -> dict[str, Any]:
        """Return harness.json as the run had it: model, samples, engine."""
        found: dict[str, Any] = json.loads((self.folder / "made" / "harness.json").read_text(encoding="utf-8"))
        return found


@contextmanager
def prepared(*flags: str, benchmark: str = "digits") -> Iterator[Recipe]:
    """Run a performance test once, as short as it can be, and yield its recipe."""
    words = ("--test_mode=PerformanceOnly", "--min_duration=100", "--min_query_count=1", *flags)
    with product.run_harness(*words, benchmark=benchmark, expect_valid=False) as ran, product.scratch() as folder:
        run = ran.folders["performance"]
        shutil.copytree(run / runs.RECIPE, folder / "made")
        yield Recipe(runs.read_config(run).config, folder)


def workers_beside_loadgen() -> int:
    """Return a worker for each core but one, which LoadGen's issuing thread takes for itself at high rates."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def highest_rate(valid: Callable[[float], bool], low: float) -> float:
    """Return the highest rate from `low` on at which a test is VALID. Raises EngineError if `low` is not."""

    @cache
    def holds(rate: float) -> bool:
        return any(valid(rate) for _ in range(TRIES))

    high = low
    while holds(high):
        high *= 2
    found = highest(holds, high / 2, high, TO) if high > low else None
    if found is None:
        raise EngineError(f"not even {low:,.0f} queries/s are VALID")
    return found
