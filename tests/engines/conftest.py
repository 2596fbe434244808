"""What the tests of TensorRT share: a machine with two GPUs, and the double in TensorRT's place."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tensorrt_double
from tensorrt_double import Behaviour
from tensorrt_examples import GPU

from engineroom.detection import Machine
from engineroom.detection.machine import GpuDriver
from engineroom.engines import _timing_cache, tensorrt


@pytest.fixture
def gpu_machine(machine: Machine) -> Machine:
    """Return a machine with two GPUs."""
    driver = GpuDriver("580.65", cuda_version="13.0")
    return replace(machine, gpus=(GPU, replace(GPU, index=1)), gpu_driver=driver)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpu_machine: Machine) -> None:
    """Put the double in TensorRT's place, and keep what is made out of build/."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_double)
    monkeypatch.setattr(_timing_cache, "TIMING_CACHE", tmp_path / "timing_cache")
    monkeypatch.setattr(tensorrt.systems, "detect", lambda: gpu_machine)
    for name in ("errors", "unsupported", "logged", "fails", "asked"):
        monkeypatch.setattr(Behaviour, name, getattr(Behaviour, name))
