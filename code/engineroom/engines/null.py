"""Answers at once with zeros: what is measured with it is the harness itself."""

from __future__ import annotations

from pathlib import Path

from engineroom.engines import BuildRequest, Engine
from engineroom.terms import Precision


class Null(Engine):
    """Takes exactly the path of every synchronous engine. Its accuracy is that of guessing."""

    name = "null"
    native = True
    precisions = (Precision.INT8, Precision.BF16, Precision.FP32)
    measures_model = False
    ignores = ("threads_per_instance", "calibrator")

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """There is nothing to build and nothing to load."""
        return {}


ENGINE = Null()
