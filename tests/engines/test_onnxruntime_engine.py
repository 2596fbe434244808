"""The session that the bridge calls: right answers in the order asked for, and clear words when it cannot be opened."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser
from onnxruntime.capi.onnxruntime_inference_collection import check_and_normalize_provider_args

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.detection import Machine
from engineroom.engines import BuildRequest
from engineroom.engines.onnxruntime import ENGINE, open_session
from engineroom.errors import EngineError, RequestError
from engineroom.terms import ExecutionProvider, Precision

THREADS = {"execution_provider": "cpu", "intra_op_num_threads": "1", "inter_op_num_threads": "1"}
TWO_AND_TWO = """<ir_version: 9, opset_import: ["": 17]>
g (float[N, 2] a, int64[N] b) => (float[N, 2] doubled, int64[N] negated)
{ doubled = Add (a, a)
  negated = Neg (b) }"""


def spec(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    """Return a tensor as harness.json describes it."""
    return {"name": name, "dtype": dtype, "shape": list(shape)}


A, B = spec("a", "float32", 2), spec("b", "int64")
DOUBLED, NEGATED = spec("doubled", "float32", 2), spec("negated", "int64")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    """Options for a model with two inputs and two outputs."""
    onnx.save(parser.parse_model(TWO_AND_TWO), tmp_path / "model.onnx")
    return {"model": str(tmp_path / "model.onnx"), **THREADS}


@pytest.mark.parametrize("count", [1, 3])
def test_tensors_go_in_and_come_out_in_the_order_asked_for(options: dict[str, str], count: int) -> None:
    a, b = np.arange(2 * count, dtype=np.float32).reshape(count, 2), np.arange(count)
    for view in (a, b):
        view.flags.writeable = False  # as the harness hands them over
    infer = open_session(options, [B, A], [NEGATED, DOUBLED])
    negated, doubled = infer((b, a))
    assert negated.tolist() == (-b).tolist() and doubled.tolist() == (2 * a).tolist()
    [only] = open_session(options, [A, B], [DOUBLED])((a, b))
    assert only.dtype == np.float32 and only.flags.c_contiguous


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ([A], [DOUBLED], "the model also needs the input b"),
        ([A, spec("c", "int64")], [DOUBLED], r"the input c, tensor\(int64\), is not among a, b"),
        ([spec("a", "float16", 2), B], [DOUBLED], r"the input a, tensor\(float16\), is tensor\(float\)"),
        ([A, B], [spec("y", "float32")], r"the output y, tensor\(float\), is not among doubled, negated"),
    ],
)
def test_other_tensors_than_the_models_are_refused(
    options: dict[str, str], inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(EngineError, match=said):
        open_session(options, inputs, outputs)


@pytest.mark.parametrize("content", [None, b"", b"not a model", MODEL.read_bytes()[:9999]])
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match="ONNX Runtime cannot load this model") as caught:
        open_session({"model": str(path), **THREADS}, [A], [DOUBLED])
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_one_session_serves_several_threads() -> None:
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, BENCHMARK.sample_count(Part.EVALUATION))["input"]
    infer = open_session(
        {"model": str(MODEL), **THREADS}, [spec("input", "float32", 1, 8, 8)], [spec("logits", "float32", 10)]
    )
    batches = [images[start : start + 20] for start in range(0, 500, 20)]
    with ThreadPoolExecutor(4) as pool:
        logits = np.concatenate([outputs[0] for outputs in pool.map(lambda batch: infer((batch,)), batches)])
    assert np.allclose(logits, infer((images,))[0].astype(np.float32), atol=1e-4)
    accuracy = BENCHMARK.score(BENCHMARK.classes_of(logits), BENCHMARK.labels())
    assert accuracy.value == BENCHMARK.reference_accuracy


def test_threads_come_from_the_configuration_and_reach_the_session(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(threads_per_instance=3, execution_provider=ExecutionProvider.CPU)
    settings = ENGINE.settings_of(config)
    assert settings == {"execution_provider": "cpu", "intra_op_num_threads": "3", "inter_op_num_threads": "1"}
    model = str(MODEL)
    request = BuildRequest("onnxruntime", model, "", Precision.INT8, 1, BENCHMARK.inputs, BENCHMARK.outputs, settings)
    assert ENGINE.build(request, tmp_path) == {
        "model": "./model.onnx",
        "precision": "int8",
        "batch_size": "1",
        **settings,
    }
    assert (tmp_path / "model.onnx").read_bytes() == MODEL.read_bytes()


class GpuBuild:
    """Stands for ONNX Runtime's GPU build on a machine without a GPU: it runs on the CPU what a provider would take.

    `loads`: whether the provider's libraries are found. Without them the real one goes on with the CPU, in silence
    (onnxruntime #17801, #23372). Constructor, get_available_providers, preload_dlls and get_providers are as
    documented; the fact that `providers` holds pairs of a name and options is checked by the real one's own function.
    """

    def __init__(self, loads: bool = True) -> None:
        self.loads, self.shapes, self.options = loads, [], {}  # type: ignore[var-annotated]
        self.preloaded = False
        self.SessionOptions = onnxruntime.SessionOptions

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        self.preloaded = True

    def InferenceSession(self, path: Path, settings: Any, *, providers: Any, enable_fallback: int) -> Any:  # noqa: N802
        assert self.preloaded, "a provider whose libraries are Python packages would not find them"
        names, options = check_and_normalize_provider_args(providers, None, self.get_available_providers())
        self.options = dict(zip(names, options, strict=True))
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

        def run(wanted: Any, arrays: Any) -> Any:
            self.shapes.append(next(iter(arrays.values())).shape)
            return session.run(wanted, arrays)

        taken = names if self.loads else names[-1:]
        return SimpleNamespace(
            run=run, get_providers=lambda: taken, get_inputs=session.get_inputs, get_outputs=session.get_outputs
        )


def _open_on(gpu: GpuBuild, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]) -> Any:
    monkeypatch.setitem(sys.modules, "onnxruntime", gpu)
    given = {**options, "precision": "fp16", "batch_size": "4", "execution_provider": "tensorrt"}
    return open_session(given, [A, B], [DOUBLED, NEGATED])


def test_a_gpu_provider_gets_full_batches_only(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GpuBuild()
    infer = _open_on(gpu, monkeypatch, options)
    a, b = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(3)
    doubled, negated = infer((a, b))
    assert doubled.tolist() == (2 * a).tolist() and negated.tolist() == (-b).tolist()
    assert set(gpu.shapes) == {(4, 2)}, "once before the test, once now"
    assert list(gpu.options) == gpu.get_available_providers()
    assert gpu.options["TensorrtExecutionProvider"]["trt_fp16_enable"] == "1"
    assert gpu.options["TensorrtExecutionProvider"]["trt_engine_cache_path"] == str(Path(options["model"]).parent)
    assert gpu.options["CUDAExecutionProvider"] == {"use_tf32": "0"}


def test_a_session_that_falls_to_the_cpu_is_refused(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = "TensorrtExecutionProvider could not be loaded, and CPUExecutionProvider is not what was asked for\n"
    with pytest.raises(EngineError, match=said):
        _open_on(GpuBuild(loads=False), monkeypatch, options)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_build_without_the_provider_is_told_before_anything_is_made(provider: str) -> None:
    config: Any = SimpleNamespace(execution_provider=ExecutionProvider(provider))
    with pytest.raises(RequestError, match=r"has no \w+ExecutionProvider, only .*CPU") as caught:
        ENGINE.check_settings(config)
    assert f"onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}" in str(caught.value)


def test_the_processor_needs_no_other_build() -> None:
    config: Any = SimpleNamespace(execution_provider=ExecutionProvider.CPU)
    ENGINE.check_settings(config)


@pytest.mark.parametrize(
    ("provider", "has"),
    [("cpu", "int8 fp32"), ("cuda", "fp16 fp32"), ("tensorrt", "int8 bf16 fp16 fp32")],
)
def test_each_provider_has_its_precisions(provider: str, has: str, machine: Machine) -> None:
    config: Any = SimpleNamespace(execution_provider=ExecutionProvider(provider))
    assert " ".join(ENGINE.precisions_on(machine, config)) == has


def test_fp16_for_cuda_answers_nearly_as_fp32_does(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(threads_per_instance=1, execution_provider=ExecutionProvider.CUDA)
    settings = ENGINE.settings_of(config)
    request = BuildRequest(
        "onnxruntime", str(MODEL), "", Precision.FP16, 8, BENCHMARK.inputs, BENCHMARK.outputs, settings
    )
    ENGINE.build(request, tmp_path)
    made = onnx.load(tmp_path / "model.onnx")
    assert {constant.data_type for constant in made.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert made.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, 100)["input"]
    half, full = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
        for path in (tmp_path / "model.onnx", MODEL)
    )
    np.testing.assert_allclose(half, full, atol=0.05)
    assert np.abs(half - full).max() > 0, "computed in fp16"
