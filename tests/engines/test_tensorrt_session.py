# ruff: noqa: N802, N815 (the names of functions and classes are CUDA's)
"""A plan run in Python: which copies it makes, and what is given back when that fails. CUDA and TensorRT are doubles.

CUDA's memory is that of the process; the plan is ONNX Runtime with the digits' model, so that its answers are right.
"""

from __future__ import annotations

import ctypes
import enum
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
import tensorrt_double

from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.engines._trt_session import open_session
from engineroom.errors import EngineError

[INPUT], [OUTPUT] = BENCHMARK.inputs, BENCHMARK.outputs
SPECS = [[{**msgspec.to_builtins(spec), "shape": list(spec.shape)} for spec in specs] for specs in ([INPUT], [OUTPUT])]
Status = enum.Enum("Status", ["cudaSuccess", "cudaErrorMemoryAllocation"])
Kind = enum.Enum("Kind", ["cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"])


class Runtime(ModuleType):
    """Stands for cuda.bindings.runtime; `room`: how many buffers it has."""

    cudaError_t, cudaMemcpyKind = Status, Kind

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.buffers: dict[int, Any] = {}
        self.room = 100

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return (Status.cudaSuccess,)

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        return Status.cudaSuccess, 77

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream == 77
        return (Status.cudaSuccess,)

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return Status.cudaSuccess, b"out of memory"

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if len(self.buffers) == self.room:
            return Status.cudaErrorMemoryAllocation, None
        buffer = ctypes.create_string_buffer(size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return Status.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.buffers[address]
        return (Status.cudaSuccess,)

    def cudaMemcpy(self, to: int, source: int, size: int, kind: Any) -> tuple[Any, ...]:
        device = to if kind is Kind.cudaMemcpyHostToDevice else source
        assert len(self.buffers[device]) == size
        ctypes.memmove(to, source, size)
        return (Status.cudaSuccess,)


class Context:
    """Stands for the plan's execution context; takes batches of at most 4."""

    def __init__(self) -> None:
        self.model = onnxruntime.InferenceSession(MODEL)
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == INPUT.name and shape[0] <= 4

    def execute_async_v3(self, stream_handle: int) -> bool:
        size = int(np.prod(self.shape)) * np.dtype(INPUT.dtype).itemsize
        given = np.frombuffer(ctypes.string_at(self.addresses[INPUT.name], size), INPUT.dtype).reshape(self.shape)
        [answer] = self.model.run([OUTPUT.name], {INPUT.name: given})
        ctypes.memmove(self.addresses[OUTPUT.name], answer.tobytes(), answer.nbytes)
        return stream_handle == 77


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Put the doubles in the places of CUDA and TensorRT."""
    runtime = Runtime()
    bindings = SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_double)
    names = [INPUT.name, OUTPUT.name]
    engine = SimpleNamespace(
        num_io_tensors=2, get_tensor_name=lambda index: names[index], create_execution_context=Context
    )
    monkeypatch.setattr(tensorrt_double.Runtime, "deserialize_cuda_engine", lambda self, plan: engine)
    return runtime


def session(folder: Path, outputs: Any = SPECS[1]) -> Any:
    (folder / "model.plan").write_bytes(b"plan of digits")
    return open_session({"plan": str(folder / "model.plan")}, SPECS[0], outputs)


def images(count: int) -> Any:
    return np.random.default_rng(count).random((count, *INPUT.shape)).astype(INPUT.dtype)


def test_each_batch_gets_its_own_answers_also_a_short_last_one(cuda: Runtime, tmp_path: Path) -> None:
    infer, model = session(tmp_path), onnxruntime.InferenceSession(MODEL)
    for count in (4, 4, 1):
        given = images(count)
        [answer] = infer((given,))
        np.testing.assert_array_equal(answer, model.run([OUTPUT.name], {INPUT.name: given})[0])
        assert cuda.buffers == {}


def test_what_was_allocated_is_given_back_when_the_rest_has_no_room(cuda: Runtime, tmp_path: Path) -> None:
    infer = session(tmp_path)
    cuda.room = 1
    said = rf"cudaMalloc of \d+ bytes for {OUTPUT.name}: cudaErrorMemoryAllocation \(out of memory\)"
    with pytest.raises(EngineError, match=said):
        infer((images(4),))
    assert cuda.buffers == {}


def test_cuda_python_is_asked_for_when_a_plan_is_run_and_not_before(
    cuda: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"cuda-python cannot be loaded: .*\n.*make install .*--engine=tensorrt"):
        session(tmp_path)


def test_what_the_plan_does_not_take_is_refused(cuda: Runtime, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the plan takes no .* of shape"):
        session(tmp_path)((images(5),))
    assert cuda.buffers == {}
    with pytest.raises(EngineError, match="the plan has no tensor other, only "):
        session(tmp_path, [{**SPECS[1][0], "name": "other"}])
