"""The quantized PyTorch ResNet-50 with seeded weights: torchvision's architecture, in int8, and its float twin."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper

from engineroom.engines import BuildRequest, placed
from engineroom.engines.torch import ENGINE, open_session
from engineroom.networks import resnet50_torch as network
from engineroom.terms import Precision

Floats = npt.NDArray[np.float32]

pytestmark = pytest.mark.heavy
BENCHMARK = importlib.import_module("engineroom.benchmarks.resnet50-torch-int8").BENCHMARK
PARAMETERS = 25_557_032  # torchvision's documentation, "resnet50"
MEANS, DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model's file."""
    path = tmp_path_factory.mktemp("twin") / "float.onnx"
    BENCHMARK.twin.write(path)
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quantized model's file."""
    pytest.importorskip("torch", reason="needs the extra torch")
    path = tmp_path_factory.mktemp("script") / "quantized.pt"
    BENCHMARK.synthetic.write(path)
    return path


def test_the_twin_is_torchvisions_architecture(twin: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(twin), strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    trained = [t for t in model.graph.initializer if not t.name.endswith((".mean", ".variance"))]
    assert sum(math.prod(tensor.dims) for tensor in trained) == PARAMETERS
    [pool] = [node for node in model.graph.node if node.op_type == "MaxPool"]
    assert {a.name: helper.get_attribute_value(a) for a in pool.attribute}["pads"] == [1, 1, 1, 1]
    tensors = [
        (info.name, [axis.dim_value or axis.dim_param for axis in info.type.tensor_type.shape.dim])
        for info in [*model.graph.input, *model.graph.output]
    ]
    [source], [scores] = BENCHMARK.inputs, BENCHMARK.outputs
    assert tensors == [(source.name, ["N", *source.shape]), (scores.name, ["N", *scores.shape])]
    assert scores.shape == (BENCHMARK.classes,) == (1000,)


def test_every_layer_computes_in_int8(script: Path) -> None:
    import torch

    module = torch.jit.load(script)
    kinds = Counter(node.kind() for node in module.inlined_graph.nodes())
    convolutions = kinds["quantized::conv2d_relu"] + kinds["quantized::conv2d"]
    assert (convolutions, kinds["quantized::linear"], kinds["quantized::add_relu"]) == (53, 1, 16)
    assert kinds["aten::quantize_per_tensor"] == kinds["aten::dequantize"] == 1
    assert not [kind for kind in kinds if kind in ("aten::conv2d", "aten::_convolution", "aten::linear", "aten::add")]


def test_answers_vary_and_agree_with_the_twin_as_far_as_random_weights_allow(
    script: Path,
    twin: Path,
    varied_images: Callable[[int], Floats],
    entropy_bits: Callable[[npt.NDArray[np.int64]], float],
    tmp_path: Path,
) -> None:
    pixels = (varied_images(24) / 255 - MEANS) / DEVIATIONS
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    [source], [scores] = BENCHMARK.inputs, BENCHMARK.outputs
    [expected] = onnxruntime.InferenceSession(twin).run([scores.name], {source.name: images})
    config: Any = SimpleNamespace(threads_per_instance=1, torch_compile=False)
    settings = ENGINE.settings_of(config)
    request = BuildRequest("torch", str(script), "", Precision.INT8, 8, (source,), (scores,), settings)
    options = placed(ENGINE.build(request, tmp_path), tmp_path)
    infer = open_session(options, *([{**asdict(spec), "shape": list(spec.shape)}] for spec in (source, scores)))
    found = np.concatenate([infer((images[first : first + 8],))[0] for first in (0, 8, 16)])
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert entropy_bits(expected.argmax(axis=1)) > 2.5
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.65
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_same_seed_gives_the_same_numbers(script: Path, tmp_path: Path) -> None:
    import torch

    network.write(tmp_path / "again.pt")
    image = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32))
    with torch.inference_mode():
        [first], [second] = (torch.jit.load(path)(image) for path in (script, tmp_path / "again.pt"))
    assert torch.equal(first, second)
