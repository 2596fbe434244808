"""Answers each batch with zeros after a fixed time: measures the cost of queues and workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.engines import BuildRequest, Engine
from engineroom.terms import Precision

if TYPE_CHECKING:
    from engineroom.config import RunConfig


class FixedDelay(Engine):
    """`fixed_delay_us` per batch, whatever its size."""

    name = "fixed_delay"
    native = True
    precisions = (Precision.INT8, Precision.BF16, Precision.FP32)
    measures_model = False
    ignores = ("threads_per_instance", "calibrator")

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the delay."""
        return {"delay_us": str(config.fixed_delay_us)}

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """There is nothing to build; the harness needs the delay."""
        return dict(request.settings)


ENGINE = FixedDelay()
