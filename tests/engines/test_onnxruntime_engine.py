"""The session that the bridge calls: right answers in the order asked for, and clear words when it cannot be opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.engines import BuildRequest
from engineroom.engines.onnxruntime import ENGINE, open_session
from engineroom.errors import EngineError
from engineroom.terms import Precision

THREADS = {"intra_op_num_threads": "1", "inter_op_num_threads": "1"}
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
    accuracy = BENCHMARK.score((index, row.tobytes()) for index, row in enumerate(logits))
    assert accuracy.value == BENCHMARK.reference_accuracy


def test_threads_come_from_the_configuration_and_reach_the_session(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(threads_per_instance=3)
    settings = ENGINE.settings_of(config)
    assert settings == {"intra_op_num_threads": "3", "inter_op_num_threads": "1"}
    model = str(MODEL)
    request = BuildRequest("onnxruntime", model, "", Precision.INT8, 1, BENCHMARK.inputs, BENCHMARK.outputs, settings)
    assert ENGINE.build(request, tmp_path) == {"model": "./model.onnx", **settings}
    assert (tmp_path / "model.onnx").read_bytes() == MODEL.read_bytes()
