"""LiteRT gives the answers that the model's own numbers ask for, float and uint8, and refuses what does not fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from engineroom.engines import BuildRequest
from engineroom.engines.litert import ENGINE, open_session
from engineroom.errors import EngineError
from engineroom.images.preprocess import Quantization
from engineroom.networks import mobilenet
from engineroom.networks.mobilenet import Architecture
from engineroom.terms import Precision, TensorSpec

pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
pytestmark = pytest.mark.heavy

Floats = npt.NDArray[np.floating[Any]]
TINY = Architecture("tiny", "scores", "relu6", 4, ((8, 4, 1), (8, 6, 2)), 5, 0)
THREADS = {"num_threads": "1"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny network in float and in uint8."""
    folder = tmp_path_factory.mktemp("tiny")
    paths = {"float32": folder / "float.tflite", "uint8": folder / "uint8.tflite"}
    for kind, path in paths.items():
        mobilenet.write(TINY, path, uint8=kind == "uint8")
    return paths


def specs(dtype: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the tensors as harness.json describes them."""
    return (
        [{"name": "input", "dtype": dtype, "shape": [224, 224, 3]}],
        [{"name": "scores", "dtype": dtype, "shape": [1001]}],
    )


def request(
    model: Path,
    precision: Precision,
    tensors: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    settings: dict[str, str] | None = None,
) -> BuildRequest:
    """Return what engine.json says for a model with these tensors."""
    inputs, outputs = (
        tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in each) for each in tensors
    )
    return BuildRequest("litert", str(model), "", precision, 1, inputs, outputs, settings or THREADS)


def weights_of(path: Path) -> dict[str, Floats]:
    """Return the file's constants by name, as real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    found = {}
    for detail in interpreter.get_tensor_details():
        if detail["name"].endswith(("/weights", "/bias")):
            scale, zero_point = detail["quantization"]
            values = interpreter.get_tensor(detail["index"]).astype(np.float64)
            found[detail["name"]] = (values - zero_point) * scale if scale else values
    return found


def convolve(image: Floats, weights: Floats, bias: Floats, stride: int, depthwise: bool) -> Floats:
    """Return the convolution of an image [H, W, C] with TensorFlow's SAME padding, by its definition."""
    size = weights.shape[1]
    pads = []
    for length in image.shape[:2]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(image, [*pads, (0, 0)])
    windows = sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]  # [H, W, C, size, size]
    rule = "hwcij,ijc->hwc" if depthwise else "hwcij,oijc->hwo"
    found: Floats = np.einsum(rule, windows, weights[0] if depthwise else weights, optimize=True) + bias
    return found


def scores_of(image: Floats, weights: dict[str, Floats]) -> Floats:
    """Compute the tiny network for one image [224, 224, 3] in double precision."""

    def layer(name: str, values: Floats, stride: int = 1, clip: bool = True) -> Floats:
        depthwise = name.endswith("depthwise")
        made = convolve(values, weights[f"{name}/weights"], weights[f"{name}/bias"], stride, depthwise)
        return made.clip(0, 6) if clip else made

    values = layer("stem", image, 2)
    inner = layer("block0/depthwise", layer("block0/expand", values))
    values = values + layer("block0/project", inner, clip=False)
    values = layer("block1/project", layer("block1/depthwise", layer("block1/expand", values), 2), clip=False)
    pooled = layer("last", values).mean(axis=(0, 1), keepdims=True)
    logits = layer("logits", pooled, clip=False).ravel()
    powers: Floats = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_float_answers_are_the_definitions(models: dict[str, Path]) -> None:
    images = np.random.default_rng(3).uniform(-1, 1, (3, 224, 224, 3)).astype(np.float32)
    images.flags.writeable = False  # as the harness hands them over
    infer = open_session({"model": str(models["float32"]), **THREADS}, *specs("float32"))
    weights = weights_of(models["float32"])
    expected = np.array([scores_of(image, weights) for image in images])
    for chosen in (slice(3), slice(1), slice(1, 3)):
        [scores] = infer((images[chosen],))
        np.testing.assert_allclose(scores, expected[chosen], rtol=1e-4)


def test_uint8_answers_are_the_definitions_up_to_rounding(models: dict[str, Path]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    [scores] = open_session({"model": str(models["uint8"]), **THREADS}, *specs("uint8"))((pixels,))
    assert scores.dtype == np.uint8
    weights = weights_of(models["uint8"])
    for row, image in zip(scores, pixels, strict=True):
        expected = scores_of((image.astype(np.float64) - 128) / 127, weights)
        assert np.abs(row / 256 - expected).max() < 2 / 256


def test_each_thread_has_its_own_interpreter(models: dict[str, Path]) -> None:
    images = np.random.default_rng(5).uniform(-1, 1, (8, 224, 224, 3)).astype(np.float32)
    infer = open_session({"model": str(models["float32"]), **THREADS}, *specs("float32"))
    [expected] = infer((images,))
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda i: infer((images[i : i + 1],))[0][0], range(8)))
    np.testing.assert_allclose(rows, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (specs("uint8")[0], specs("float32")[1], r"the input input is float32 \[224, 224, 3\], not uint8"),
        ([{"name": "image", "dtype": "float32", "shape": [224, 224, 3]}], specs("float32")[1], "is not among input"),
        (specs("float32")[0], [{"name": "scores", "dtype": "float32", "shape": [1000]}], r"\[1001\], not .*\[1000\]"),
    ],
)
def test_other_tensors_than_the_models_are_refused(
    models: dict[str, Path], inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(EngineError, match=said):
        open_session({"model": str(models["float32"]), **THREADS}, inputs, outputs)
    with pytest.raises(EngineError, match=said):
        ENGINE.build(request(models["float32"], Precision.FP32, (inputs, outputs)), models["float32"].parent)


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 128, 128), (1 / 127, 127)])
def test_samples_that_stand_for_other_values_than_the_models_are_refused(
    models: dict[str, Path], tmp_path: Path, scale: float, zero_point: int
) -> None:
    asked = request(models["uint8"], Precision.INT8, specs("uint8"))
    right = msgspec.structs.replace(asked, quantization=Quantization(1 / 127, 128))
    assert ENGINE.build(right, tmp_path)["model"] == "./model.tflite"
    wrong = msgspec.structs.replace(asked, quantization=Quantization(scale, zero_point))
    said = rf"input has scale 0.00787402 and zero point 128, but .* {scale:.6g} and {zero_point}\n.*--model_path="
    with pytest.raises(EngineError, match=said):
        ENGINE.build(wrong, tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match="LiteRT cannot load this model") as caught:
        open_session({"model": str(path), **THREADS}, *specs("float32"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "precision"), [("float32", Precision.FP32), ("uint8", Precision.INT8)])
def test_a_model_is_built_in_its_own_precision_only(
    models: dict[str, Path], tmp_path: Path, kind: str, precision: Precision
) -> None:
    config: Any = SimpleNamespace(threads_per_instance=3)
    settings = ENGINE.settings_of(config)
    asked = request(models[kind], precision, specs(kind), settings)
    assert ENGINE.build(asked, tmp_path) == {"model": "./model.tflite", "num_threads": "3"}
    assert (tmp_path / "model.tflite").read_bytes() == models[kind].read_bytes()
    other = Precision.INT8 if precision is Precision.FP32 else Precision.FP32
    with pytest.raises(EngineError, match=f"cannot run in {other}\n.*--precision={precision}"):
        ENGINE.build(msgspec.structs.replace(asked, precision=other), tmp_path)
