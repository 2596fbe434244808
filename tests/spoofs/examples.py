"""The settings of a run and its result, for tests that need one and change what they are about."""

from __future__ import annotations

from typing import Any

import msgspec

from engineroom.config import RunConfig
from engineroom.runs import Result
from engineroom.terms import Precision, Scenario, TestMode


def config(**changes: Any) -> RunConfig:
    """Return the settings of a performance test of the digits, Offline."""
    made = RunConfig(
        benchmark="digits",
        system="s",
        scenario=Scenario.OFFLINE,
        test_mode=TestMode.PERFORMANCE_ONLY,
        engine="openvino",
        precision=Precision.INT8,
        batch_size=64,
        instances=1,
        threads_per_instance=1,
    )
    return msgspec.structs.replace(made, **changes)


def result(**changes: Any) -> Result:
    """Return the result of such a test, without its figure."""
    made = Result(
        benchmark="digits",
        scenario="Offline",
        test_mode="PerformanceOnly",
        system="s",
        engine="openvino",
        precision="int8",
        exit_code=0,
        started="2026-01-01T00:00:00+00:00",
        seconds=3.0,
    )
    return msgspec.structs.replace(made, **changes)
