"""The synthetic MobileNets are the published architectures, in float and in uint8, as TFLite and as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from engineroom.networks import mobilenet
from engineroom.networks.mobilenet import V2, V3_LARGE_MINIMALISTIC, Architecture

Writer = Callable[[Architecture, bool], Path]
LITERT = pytest.mark.heavy  # beside the fixture that skips
BOTH = pytest.mark.parametrize("architecture", [V2, V3_LARGE_MINIMALISTIC], ids=lambda found: found.name)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Return the function that writes a TFLite model once."""
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
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


@pytest.fixture(scope="module")
def written_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture], Path]:
    """Return the function that writes an ONNX model once."""
    folder = tmp_path_factory.mktemp("mobilenet_onnx")

    def write(architecture: Architecture) -> Path:
        path = folder / f"{architecture.name}.onnx"
        if not path.exists():
            mobilenet.write_onnx(architecture, path)
        return path

    return write


PUBLISHED = pytest.mark.parametrize(
    ("architecture", "parameters", "million_macs", "unnormalized"),
    [
        # torchvision's documentation, "mobilenet_v2": 3,504,872 parameters for 1,000 classes (1,281 each), 0.30 GFLOPS
        (V2, 3_504_872 + 1281, 300, 1001),
        # tensorflow/models, research/slim/nets/mobilenet/README.md, "Large minimalistic": 209 M MACs, 3.9 M parameters
        (V3_LARGE_MINIMALISTIC, pytest.approx(3.9e6, rel=0.01), 209, 1001 + 1280),
    ],
)


@LITERT
@PUBLISHED
def test_parameters_and_work_are_the_published_ones(
    written: Writer, architecture: Architecture, parameters: int, million_macs: int, unnormalized: int
) -> None:
    layers = layers_of(written(architecture, False))
    stored = sum(math.prod(weights) + bias for _, weights, _, bias in layers)
    folded = sum(bias for *_, bias in layers) - unnormalized  # a normalization has a scale beside its shift
    assert stored + folded == parameters
    macs = sum(math.prod(output[1:3]) * math.prod(weights) for _, weights, output, _ in layers)
    assert macs / 1e6 == pytest.approx(million_macs, rel=0.005)


@PUBLISHED
def test_the_onnx_file_has_the_published_parameters_and_work_too(
    written_onnx: Callable[[Architecture], Path],
    architecture: Architecture,
    parameters: int,
    million_macs: int,
    unnormalized: int,
) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(written_onnx(architecture)), strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    images = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim[2:]] for info in model.graph.value_info
    }
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    weights = {node.name: math.prod(sizes[node.input[1]]) for node in convolutions}
    biases = sum(math.prod(sizes[node.input[2]]) for node in convolutions)
    assert sum(weights.values()) + 2 * biases - unnormalized == parameters
    macs = sum(math.prod(images[node.output[0]]) * weights[node.name] for node in convolutions)
    assert macs / 1e6 == pytest.approx(million_macs, rel=0.005)


@BOTH
def test_the_onnx_file_is_the_same_each_time_and_takes_any_batch(
    written_onnx: Callable[[Architecture], Path], architecture: Architecture, tmp_path: Path
) -> None:
    mobilenet.write_onnx(architecture, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == written_onnx(architecture).read_bytes()
    images = np.random.default_rng(1).uniform(-1, 1, (3, 224, 224, 3)).astype(np.float32)
    [three], [one] = (onnx_scores(written_onnx(architecture), part, architecture) for part in (images, images[1:2]))
    assert three.shape == (3, 1001)
    np.testing.assert_allclose(one, three[1:2], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(three.sum(axis=1), 1, rtol=1e-5)


@LITERT
@BOTH
def test_litert_and_onnxruntime_answer_alike(
    written: Writer,
    written_onnx: Callable[[Architecture], Path],
    architecture: Architecture,
    varied_images: Callable[[int], npt.NDArray[Any]],
) -> None:
    """Two libraries, two files, two layouts: an error in either, of padding for one, would show."""
    images = (varied_images(24) / np.float32(127.5) - 1).astype(np.float32)
    [expected] = onnx_scores(written_onnx(architecture), images, architecture)
    [found] = litert_scores(written(architecture, False), images, architecture.output)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(found - expected).max() < 1e-4  # measured: 2e-6 and 7e-6


@LITERT
@BOTH
@pytest.mark.parametrize("uint8", [False, True])
def test_the_same_seed_gives_the_same_bytes(
    written: Writer, architecture: Architecture, uint8: bool, tmp_path: Path
) -> None:
    mobilenet.write(architecture, tmp_path / "again.tflite", uint8=uint8)
    assert (tmp_path / "again.tflite").read_bytes() == written(architecture, uint8).read_bytes()


def onnx_scores(path: Path, images: npt.NDArray[Any], architecture: Architecture) -> list[npt.NDArray[Any]]:
    """Return the scores under ONNX Runtime."""
    import onnxruntime

    scores: list[npt.NDArray[Any]] = onnxruntime.InferenceSession(path).run([architecture.output], {"input": images})
    return scores


def litert_scores(path: Path, images: npt.NDArray[Any], output: str) -> Sequence[npt.NDArray[Any]]:
    """Return the scores under LiteRT."""
    from engineroom.engines.litert import open_session

    dtype = str(images.dtype)
    inputs = [{"name": "input", "dtype": dtype, "shape": [224, 224, 3]}]
    outputs = [{"name": output, "dtype": dtype, "shape": [1001]}]
    return open_session({"model": str(path), "num_threads": "1"}, inputs, outputs)((images,))


@LITERT
@BOTH
def test_predictions_vary_and_uint8_agrees_as_far_as_random_weights_allow(
    written: Writer,
    architecture: Architecture,
    varied_images: Callable[[int], npt.NDArray[Any]],
    entropy_bits: Callable[[Any], float],
) -> None:
    images = varied_images(24)
    floats = (images - np.float32(128)) / np.float32(127)
    expected = litert_scores(written(architecture, False), floats, architecture.output)[0].argmax(axis=1)
    assert entropy_bits(expected) > 2.5
    [found] = litert_scores(written(architecture, True), images.astype(np.uint8), architecture.output)
    assert (found.argmax(axis=1) == expected).mean() >= 0.65


@LITERT
def test_a_uint8_image_stands_for_what_it_stands_for_in_the_published_file(written: Writer) -> None:
    """Scale and zero point as read out of v3-large-minimalistic_224_1.0_uint8.tflite; see mobilenet.INPUT_SCALE."""
    from ai_edge_litert.interpreter import Interpreter

    [detail] = Interpreter(model_path=str(written(V3_LARGE_MINIMALISTIC, True))).get_input_details()
    assert detail["quantization"] == (0.007874015718698502, 128)
