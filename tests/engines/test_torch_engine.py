"""PyTorch answers as ONNX Runtime does, from ONNX and from its own files, and says what it cannot run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import parser

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.detection import Gpu, Machine
from engineroom.engines import BuildRequest
from engineroom.engines.torch import ENGINE, open_session
from engineroom.errors import EngineError
from engineroom.terms import Precision, TensorSpec

pytest.importorskip("torch", reason="needs the extra torch")
pytestmark = pytest.mark.heavy

Floats = npt.NDArray[np.float32]
Specs = tuple[TensorSpec, ...]
X, Y = (TensorSpec("x", "float32", (2, 5, 5)),), (TensorSpec("y", "float32", (3,)),)


def build(
    model: Path,
    folder: Path,
    inputs: Specs,
    outputs: Specs,
    precision: Precision = Precision.FP32,
    compiled: bool = False,
) -> dict[str, str]:
    """Build the engine and return its options, as the harness gets them."""
    config: Any = SimpleNamespace(threads_per_instance=1, torch_compile=compiled)
    request = BuildRequest("torch", str(model), "", precision, 4, inputs, outputs, ENGINE.settings_of(config))
    options = ENGINE.build(request, folder)
    return {**options, "model": str(folder / options["model"])}


def infer(options: dict[str, str], inputs: Specs, outputs: Specs, *arrays: Any) -> Any:
    """Open a session and run one batch of read-only arrays, as the harness hands them over."""
    for array in arrays:
        array.flags.writeable = False
    described = [
        [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs]
        for specs in (inputs, outputs)
    ]
    return open_session(options, *described)(arrays)


@pytest.mark.parametrize(("precision", "least"), [(Precision.FP32, 1.0), (Precision.BF16, 0.99)])
def test_the_digits_are_read_as_by_onnx_runtime(tmp_path: Path, precision: Precision, least: float) -> None:
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, 200)["input"].astype(np.float32)
    options = build(MODEL, tmp_path, BENCHMARK.inputs, BENCHMARK.outputs, precision)
    expected = onnxruntime.InferenceSession(MODEL).run(None, {"input": images})[0]
    [logits] = infer(options, BENCHMARK.inputs, BENCHMARK.outputs, images)
    assert logits.dtype == np.float32 and logits.flags.c_contiguous
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() >= least
    if precision is Precision.FP32:
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


# What importing has to get right beside the digits: padding that is not symmetric, by hand and by name; strides,
# groups, dilation; a pool that must pad with less than any value; old and new ways to give axes; scaled products.
GRAPHS = {
    "groups, dilation": """<opset_import: ["": 13]> g (float[N, 2, 5, 5] x) => (float[N, 3] y)
        <float[4, 1, 2, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, -1, 2, -3, 4, 5, -6, 7, 8}, int64[2] axes = {2, 3},
         float low = {-4}, float high = {6},
         float[4, 3] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, float[3] b = {1, 2, 3}>
        { c = Conv <group = 2, dilations = [2, 2], pads = [1, 0, 1, 2]> (x, w)
          r = Clip (c, low, high)
          m = ReduceMean <axes = [2, 3]> (r)
          s = Squeeze (m, axes)
          y = Gemm <alpha = 0.5, beta = 2.0> (s, v, b) }""",
    "SAME_UPPER": """<opset_import: ["": 13]> g (float[N, 2, 5, 5] x) => (float[N, 3] y)
        <float[3, 2, 2, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 1, 2, 1, 2, 1, 2}>
        { c = Conv <auto_pad = "SAME_UPPER", strides = [1, 2]> (x, w)
          p = MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 1, 1]> (c)
          a = GlobalAveragePool (p)
          f = Flatten (a)
          y = Softmax (f) }""",
    "SAME_LOWER": """<opset_import: ["": 11]> g (float[N, 2, 5, 5] x) => (float[N, 3] y)
        <float[3, 2, 2, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 1, 2, 1, 2, 1, 2},
         int64[2] shape = {-1, 48}, float[48, 3] v = {@}>
        { c = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (x, w)
          n = Relu (c)
          k = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 2, 2], strides = [1, 1]> (n)
          f = Reshape (k, shape)
          y = MatMul (f, v) }""".replace("@", ", ".join(str(i % 7 - 3) for i in range(144))),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("count", [1, 3])
def test_operators_compute_what_onnx_means(tmp_path: Path, name: str, count: int) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(parser.parse_model(f"<ir_version: 7, {GRAPHS[name].lstrip()[1:]}"), path)
    x = np.random.default_rng(1).normal(size=(count, 2, 5, 5)).astype(np.float32)
    expected = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    [found] = infer(build(path, tmp_path, X, Y), X, Y, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_quantized_torchscript_runs_in_int8(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    layers = [torch.ao.quantization.QuantStub(), torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(36, 3), torch.ao.quantization.DeQuantStub()).eval()
    network.qconfig = torch.ao.quantization.get_default_qconfig()  # type: ignore[assignment]
    images = torch.randn(6, 2, 5, 5)
    expected = network(images).detach().numpy()
    prepared = torch.ao.quantization.prepare(network)
    prepared(images)
    quantized = torch.ao.quantization.convert(prepared)
    torch.jit.trace(quantized, images).save(tmp_path / "quantized.pt")
    options = build(tmp_path / "quantized.pt", tmp_path, X, Y, Precision.INT8)
    [found] = infer(options, X, Y, images.numpy())
    assert 0 < np.abs(found - expected).max() < 0.05
    np.testing.assert_array_equal(found, quantized(images).numpy())


def test_an_exported_program_runs(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(50, 3))
    images = torch.randn(4, 2, 5, 5)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "own.pt2")
    [found] = infer(build(tmp_path / "own.pt2", tmp_path, X, Y), X, Y, images.numpy()[:3].copy())
    np.testing.assert_allclose(found, network(images[:3]).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(EngineError, match="the model answers with 1 tensors, not 2"):
        infer(build(tmp_path / "own.pt2", tmp_path, X, Y), X, Y * 2, images.numpy())


def test_what_cannot_run_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        parser.parse_model('<ir_version: 7, opset_import: ["": 13]> g (float[N] x) => (float[N] y) { y = Erf (x) }'),
        path,
    )
    scalar = (TensorSpec("x", "float32", ()),), (TensorSpec("y", "float32", ()),)
    with pytest.raises(EngineError, match=r"model\.onnx: PyTorch is not told how to compute Erf\n"):
        build(path, tmp_path, *scalar)
    with pytest.raises(EngineError, match="cannot run this model in int8\n.*TorchScript"):
        build(path, tmp_path, *scalar, Precision.INT8)
    with pytest.raises(EngineError, match="has no output nothing"):
        build(MODEL, tmp_path, BENCHMARK.inputs, (TensorSpec("nothing", "float32", ()),))
    path.write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"model\.onnx: is not a valid ONNX model"):
        build(path, tmp_path, *scalar)
    for name in ("broken.pt", "broken.pt2"):
        (tmp_path / name).write_bytes(b"no model")
        precision = Precision.INT8 if name == "broken.pt" else Precision.FP32
        with pytest.raises(EngineError, match=f"{name}: is not a file that torch.export or torch.jit saved$"):
            build(tmp_path / name, tmp_path, *scalar, precision)


def test_fp16_without_a_gpu_is_refused(tmp_path: Path, machine: Machine) -> None:
    options = build(MODEL, tmp_path, BENCHMARK.inputs, BENCHMARK.outputs, Precision.FP16)
    with pytest.raises(EngineError, match="PyTorch sees no GPU, and fp16 is for GPUs\n.*--precision=bf16"):
        infer(options, BENCHMARK.inputs, BENCHMARK.outputs, np.zeros((1, 1, 8, 8), np.float32))
    config: Any = None
    assert Precision.FP16 not in ENGINE.precisions_on(machine, config)
    assert Precision.FP16 in ENGINE.precisions_on(replace(machine, gpus=(Gpu("NVIDIA L4"),)), config)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the CPU")
def test_torch_compile_is_really_used_and_compiles_once(tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, 7)["input"]
    inputs, outputs = BENCHMARK.inputs, BENCHMARK.outputs
    expected = onnxruntime.InferenceSession(MODEL).run(None, {"input": images})[0]
    options = build(MODEL, tmp_path, inputs, outputs, compiled=True)
    session = open_session(options, *([msgspec.to_builtins(spec) for spec in specs] for specs in (inputs, outputs)))
    compiled = counters["stats"]["unique_graphs"]
    assert compiled == 1
    for batch in (slice(0, 4), slice(4, 7), slice(0, 1)):
        np.testing.assert_allclose(session((images[batch],))[0], expected[batch], rtol=1e-3, atol=1e-3)
    assert counters["stats"]["unique_graphs"] == compiled, "smaller batches are filled up"
