"""The synthetic MobileNets are the published architectures, in float and in uint8."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engineroom.networks import mobilenet
from engineroom.networks.mobilenet import V2, V3_LARGE_MINIMALISTIC, Architecture

pytest.importorskip("ai_edge_litert", reason="needs the extra litert")

Writer = Callable[[Architecture, bool], Path]
BOTH = pytest.mark.parametrize("architecture", [V2, V3_LARGE_MINIMALISTIC], ids=lambda found: found.name)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Return the function that writes a model once."""
    folder = tmp_path_factory.mktemp("mobilenet")

    def write(architecture: Architecture, uint8: bool) -> Path:
        path = folder / f"{architecture.name}{'-uint8' * uint8}.tflite"
        if not path.exists():
            mobilenet.write(architecture, path, uint8=uint8)
        return path

    return write


def layers_of(path: Path) -> list[tuple[str, tuple[int, ...], tuple[int, ...], int]]:
    """Return kind, weights' shape, output's shape and bias size of each convolution, as the file has them."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    [graph] = model.subgraphs
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    found = []
    for operator in graph.operators:
        kind = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        if kind.endswith("CONV_2D"):
            weights, bias = (graph.tensors[index] for index in operator.inputs[1:])
            output = graph.tensors[operator.outputs[0]]
            found.append((kind, tuple(weights.shape), tuple(output.shape), int(bias.shape[0])))
    return found


@pytest.mark.parametrize(
    ("architecture", "parameters", "million_macs", "unnormalized"),
    [
        # torchvision's documentation, "mobilenet_v2": 3,504,872 parameters for 1,000 classes (1,281 each), 0.30 GFLOPS
        (V2, 3_504_872 + 1281, 300, 1001),
        # tensorflow/models, research/slim/nets/mobilenet/README.md, "Large minimalistic": 209 M MACs, 3.9 M parameters
        (V3_LARGE_MINIMALISTIC, pytest.approx(3.9e6, rel=0.01), 209, 1001 + 1280),
    ],
)
def test_parameters_and_work_are_the_published_ones(
    written: Writer, architecture: Architecture, parameters: int, million_macs: int, unnormalized: int
) -> None:
    layers = layers_of(written(architecture, False))
    stored = sum(math.prod(weights) + bias for _, weights, _, bias in layers)
    folded = sum(bias for *_, bias in layers) - unnormalized  # a normalization has a scale beside its shift
    assert stored + folded == parameters
    macs = sum(math.prod(output[1:3]) * math.prod(weights) for _, weights, output, _ in layers)
    assert macs / 1e6 == pytest.approx(million_macs, rel=0.005)


@BOTH
@pytest.mark.parametrize("uint8", [False, True])
def test_the_same_seed_gives_the_same_bytes(
    written: Writer, architecture: Architecture, uint8: bool, tmp_path: Path
) -> None:
    mobilenet.write(architecture, tmp_path / "again.tflite", uint8=uint8)
    assert (tmp_path / "again.tflite").read_bytes() == written(architecture, uint8).read_bytes()


def predictions(path: Path, images: npt.NDArray[Any], output: str) -> npt.NDArray[np.int64]:
    """Return the classes that LiteRT finds."""
    from engineroom.engines.litert import open_session

    dtype = str(images.dtype)
    inputs = [{"name": "input", "dtype": dtype, "shape": [224, 224, 3]}]
    outputs = [{"name": output, "dtype": dtype, "shape": [1001]}]
    [scores] = open_session({"model": str(path), "num_threads": "1"}, inputs, outputs)((images,))
    classes: npt.NDArray[np.int64] = scores.argmax(axis=1)
    return classes


@BOTH
def test_predictions_vary_and_uint8_agrees_as_far_as_random_weights_allow(
    written: Writer,
    architecture: Architecture,
    varied_images: Callable[[int], npt.NDArray[Any]],
    entropy_bits: Callable[[Any], float],
) -> None:
    images = varied_images(24)
    expected = predictions(written(architecture, False), images / np.float32(128) - 1, architecture.output)
    assert entropy_bits(expected) > 2.5
    found = predictions(written(architecture, True), images.astype(np.uint8), architecture.output)
    assert (found == expected).mean() >= 0.65
