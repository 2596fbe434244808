"""What is read from a model's file is what its own library says of it, and every file that is no model is refused."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, parser

from engineroom import registry
from engineroom.errors import RequestError
from engineroom.images.preprocess import Quantization
from engineroom.networks import layout
from engineroom.networks.layout import FLOAT, HALF, Layout
from engineroom.terms import Precision, TensorSpec

LIKE_INPUTS = (TensorSpec("image", "float32", (3, 4, 4)),)
LIKE_OUTPUTS = (TensorSpec("class", "int64", ()),)
INT8 = (Precision.INT8,)

SCORES = """g (float[N, 3, 4, 4] x) => (float[N, 5] y)
    <float[48, 5] w = {@}> { f = Flatten (x)  y = MatMul (f, w) }""".replace("@", ", ".join(["1"] * 240))
CLASS = SCORES.replace("(float[N, 5] y)", "(float[N, 5] y, int64[N] c)").replace(
    "y = MatMul (f, w)", "y = MatMul (f, w)  i = ArgMax <axis = 1, keepdims = 0> (y)  c = Identity (i)"
)


def model(folder: Path, text: str, opset: int = 13) -> Path:
    """Write the ONNX model of a graph in ONNX's own notation."""
    path = folder / "own.onnx"
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}'), path)
    return path


def read(path: Path) -> Layout:
    """Read a file in the stead of the model above."""
    return layout.read(path, LIKE_INPUTS, LIKE_OUTPUTS)


def refused(path: Path, said: str, mend: str = "") -> None:
    """Check that the file is refused with these words, its name, and how to mend it."""
    with pytest.raises(RequestError, match=said) as caught:
        read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.what
    assert mend in (caught.value.mend or "")


# ONNX


def test_scores_tell_their_classes(tmp_path: Path) -> None:
    found = read(model(tmp_path, SCORES))
    x, y = TensorSpec("x", "float32", (3, 4, 4)), TensorSpec("y", "float32", (5,))
    assert found == Layout((x,), (y,), FLOAT, None, 5)
    session = onnxruntime.InferenceSession(tmp_path / "own.onnx")
    assert [(tensor.name, tuple(tensor.shape[1:])) for tensor in session.get_outputs()] == [(y.name, y.shape)]


def test_of_several_outputs_the_class_is_taken(tmp_path: Path) -> None:
    found = read(model(tmp_path, CLASS))
    assert (found.outputs, found.classes) == ((TensorSpec("c", "int64", ()),), 5)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("N, 3, 4, 4", (3, 4, 4)), ("1, 3, 4, 4", (3, 4, 4)), ("N, 3, H, W", (3, 4, 4)), ("N, H, W, 3", (4, 4, 3))],
)
def test_an_axis_of_any_length_gets_the_benchmarks(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    found = read(model(tmp_path, CLASS.replace("N, 3, 4, 4", axes).replace("float[N, 5] y, ", "")))
    assert (found.inputs[0].shape, found.classes) == (shape, 5)


def test_shapes_that_the_file_leaves_open_are_inferred(tmp_path: Path) -> None:
    found = read(model(tmp_path, SCORES.replace("float[N, 5] y", "float[A, B] y")))
    assert (found.outputs[0].shape, found.classes) == ((5,), 5)


QUANTIZED = """g (@) => (float[N, 5] y) <float s = {0.5}, @ z = {3}, float[48, 5] w = {#}>
    { x = DequantizeLinear (q, s, z)  f = Flatten (x)  y = MatMul (f, w) }""".replace("#", ", ".join(["1"] * 240))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_the_quantization_of_an_integer_input_is_read(tmp_path: Path, dtype: str) -> None:
    text = QUANTIZED.replace("(@)", f"({dtype}[N, 3, 4, 4] q)").replace("@", dtype)
    found = read(model(tmp_path, text))
    assert found.inputs == (TensorSpec("q", dtype, (3, 4, 4)),)
    assert (found.quantization, found.precisions) == (Quantization(0.5, 3), INT8)


def test_a_quantized_model_runs_in_int8_and_one_in_halves_is_not_calibrated(tmp_path: Path) -> None:
    scaled = SCORES.replace("float[48", "float s = {1}, int8 z = {0}, float[48")
    text = scaled.replace("f = ", "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  f = ")
    assert read(model(tmp_path, text.replace("Flatten (x)", "Flatten (d)"))).precisions == INT8
    half = SCORES.replace("float[48", "float16[48").replace(
        "y = MatMul (f, w)", "h = Cast <to = 10> (f)  m = MatMul (h, w)  y = Cast <to = 1> (m)"
    )
    assert read(model(tmp_path, half)).precisions == HALF
    whole = SCORES.replace("float[", "float16[")
    assert (found := read(model(tmp_path, whole))).precisions == HALF
    assert (found.inputs[0].dtype, found.outputs[0].dtype) == ("float16", "float16")


def test_weights_in_a_file_of_their_own_stay_there(tmp_path: Path) -> None:
    whole = onnx.load(model(tmp_path, SCORES))
    for tensor in whole.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    path = tmp_path / "split.onnx"
    onnx.save(whole, path, save_as_external_data=True, location="split.bin", size_threshold=0)
    assert read(path).classes == 5
    assert layout.external_files(path) == (tmp_path / "split.bin",)
    (tmp_path / "split.bin").unlink()
    refused(path, "is not a whole, valid ONNX model: .*split.bin")


@pytest.mark.parametrize(
    ("text", "said", "mend"),
    [
        (
            "g (int64[N, 384] ids) => (float[N, 384] y) { y = Cast <to = 1> (ids) }",
            r"input ids, int64 \[\?, 384\] is of another kind: the benchmark gives float32 \[3, 4, 4\]",
            "",
        ),
        ("g (float[3, 4, 4] x) => (float[3, 4, 4] y) { y = Relu (x) }", r"x, float32 \[3, 4, 4\] is of another", ""),
        (SCORES.replace("float[N, 3, 4, 4] x", "int64[N, 3, 4, 4] q").replace("{ f", "{ x = Cast <to = 1> (q)  f"),
         "input q, int64", ""),
        (SCORES.replace("N, 3, 4, 4", "8, 3, 4, 4"), "has a fixed batch of 8", "of any size"),
        (SCORES.replace("N, 3, 4, 4", "N, 3, 7, W"), "does not tell its size", "fixed size"),
        (SCORES.replace("4] x)", "4] x, float[N, 5] z)").replace("y = MatMul", "u = Relu (z)  y = MatMul"),
         r"takes 2 inputs \(x, .*; z, float32 \[\?, 5\]\), the benchmark gives 1", ""),
        ("g () => (float[1, 5] y) { y = Constant <value = float[1, 5] {1, 2, 3, 4, 5}> () }",
         r"takes 0 inputs \(none\)", ""),
        ("g (float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) { y = Relu (x) }",
         r"answers with y, float32 \[\?, 3, 4, 4\]: neither the class nor a score", "export"),
        (SCORES.replace("float[N, 3, 4, 4] x", "uint8[N, 3, 4, 4] q").replace("{ f", "{ x = Cast <to = 1> (q)  f"),
         "input q is uint8, but no DequantizeLinear says", "float32 input"),
    ],
)  # fmt: skip
def test_onnx_models_that_do_not_fit_are_refused(tmp_path: Path, text: str, said: str, mend: str) -> None:
    refused(model(tmp_path, text), said, mend)


def test_outputs_of_unknown_shape_are_refused(tmp_path: Path) -> None:
    made = onnx.load(model(tmp_path, SCORES))
    made.graph.node[1].domain = "someone.else"
    made.opset_import.add(domain="someone.else", version=1)
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    onnx.save(made, tmp_path / "own.onnx")
    refused(tmp_path / "own.onnx", r"answers with y, float32 \[\?, \?\]: neither")


# Files


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "cannot be read: No such file")
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / "folder.onnx", "is no file", "name the model's file")
    (tmp_path / "own.pb").write_bytes(b"x")
    refused(tmp_path / "own.pb", "its name does not end as", "known: .onnx, .tflite, .pt2, .pt")
    refused(tmp_path / "own", "its name does not end as", ".onnx, .tflite, .pt2, .pt")
    refused(tmp_path / "own.ONNX", "its name does not end as", "end in .onnx")
    for suffix in layout.READERS:
        path = tmp_path / f"own{suffix}"
        path.write_bytes(b"")
        refused(path, "is empty")
        path.write_bytes(b"this is no model at all, of no kind" * 9)
        refused(path, "is not a whole, valid ONNX model" if suffix == ".onnx" else f"is damaged, or no {suffix} file")


def test_a_truncated_onnx_file_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path, SCORES)
    content = path.read_bytes()
    for length in (1, 20, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        refused(path, "is not a whole, valid ONNX model: ")


def test_a_file_under_the_suffix_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zip.onnx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "some words")
    refused(path, "is an archive, no .onnx file")
    shutil.copy(path, tmp_path / "zip.pt")
    refused(tmp_path / "zip.pt", "is an archive, no .pt file")
    path.write_bytes(path.read_bytes()[:40])
    refused(path, "is a truncated archive, no .onnx file")
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as archive:
        archive.writestr("weights/data.pkl", "")
    refused(tmp_path / "weights.pt", "holds weights or a pickled object", "torch.export.save")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("own/code/__torch__.py", "")
    refused(path, "is a .pt file by its content", "rename it to .pt")
    shutil.copy(model(tmp_path, SCORES), tmp_path / "own.tflite")
    refused(tmp_path / "own.tflite", "is damaged, or no .tflite file")


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "missing", lambda modules: modules)
    (tmp_path / "own.tflite").write_bytes(b"\0\0\0\0TFL3")
    refused(tmp_path / "own.tflite", "needs ai_edge_litert", 'make install RUN_ARGS="--engine=litert"')


# TFLite


@pytest.mark.heavy
def test_tflite_models_are_read_float_and_uint8(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    from engineroom.networks import mobilenet

    tiny = mobilenet.Architecture("tiny", "scores", "relu6", 4, ((8, 4, 1), (8, 6, 2)), 5, 0)
    path = tmp_path / "own.tflite"
    mobilenet.write(tiny, path)
    image = TensorSpec("input", "float32", (224, 224, 3))
    assert read(path) == Layout((image,), (TensorSpec("scores", "float32", (1001,)),), (Precision.FP32,), None, 1001)
    mobilenet.write(tiny, path, uint8=True)
    found = read(path)
    assert (found.inputs[0].dtype, found.outputs[0].dtype, found.precisions) == ("uint8", "uint8", INT8)
    assert found.quantization is not None
    assert found.quantization.scale == pytest.approx(mobilenet.INPUT_SCALE)
    assert found.quantization.zero_point == mobilenet.INPUT_ZERO_POINT
    content = path.read_bytes()
    for length in (8, 100, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:length])
        refused(path, "LiteRT cannot load this model: ")
    shutil.copy(path, tmp_path / "own.onnx")
    refused(tmp_path / "own.onnx", "is a .tflite file by its content", "rename it to .tflite")


# PyTorch


@pytest.fixture
def torch() -> Any:
    """PyTorch."""
    return pytest.importorskip("torch", reason="needs the extra torch")


@pytest.fixture
def export(torch: Any, tmp_path: Path) -> Callable[..., Path]:
    """Return the function that exports a module, by default with a batch of any length."""

    def write(module: Any, dynamic: bool = True, dtype: Any = None) -> Path:
        axes = ({0: torch.export.Dim("batch")},) if dynamic else None
        images = torch.zeros((2 if dynamic else 1, 3, 4, 4), dtype=dtype)
        torch.export.save(torch.export.export(module.eval(), (images,), dynamic_shapes=axes), tmp_path / "own.pt2")
        return tmp_path / "own.pt2"

    return write


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_exported_programs_are_read(torch: Any, export: Callable[..., Path], tmp_path: Path) -> None:
    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5))

        def forward(self, pixels: Any) -> Any:
            return self.layers(pixels).argmax(1)

    pixels = (TensorSpec("pixels", "float32", (3, 4, 4)),)
    for dynamic in (True, False):
        found = read(export(Named(), dynamic))
        assert (found.inputs, found.precisions, found.classes) == (pixels, HALF, 5)
        assert [(spec.dtype, spec.shape) for spec in found.outputs] == [("int64", ())]
    found = read(export(Named().layers.bfloat16(), dtype=torch.bfloat16))
    assert [(spec.dtype, spec.shape) for spec in found.inputs + found.outputs] == [
        ("float32", (3, 4, 4)),
        ("float32", (5,)),
    ]
    assert found.classes == 5
    path = export(torch.nn.Identity())
    refused(path, r"answers with .*, float32 \[\?, 3, 4, 4\]: neither")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(path, "is a truncated archive, no .pt2 file")
    (tmp_path / "own.pt").write_bytes(content)
    refused(tmp_path / "own.pt", "is a .pt2 file by its content")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_exported_programs_that_do_not_fit_are_refused(torch: Any, export: Callable[..., Path]) -> None:
    class Both(torch.nn.Module):  # type: ignore[misc]
        def forward(self, pixels: Any) -> Any:
            return pixels.flatten(1), pixels.sum((1, 2, 3))

    refused(export(Both()), "answers with 2 tensors", "the scores alone")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_quantized_torchscript_is_tried_out(torch: Any, tmp_path: Path) -> None:
    def script(module: Any, images: Any) -> Path:
        torch.jit.trace(module.eval(), images).save(tmp_path / "own.pt")
        return tmp_path / "own.pt"

    quantization = torch.ao.quantization
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32))
    layers = [quantization.QuantStub(), torch.nn.Flatten(), torch.nn.Linear(48, 5), quantization.DeQuantStub()]
    network = torch.nn.Sequential(*layers).eval()
    network.qconfig = quantization.get_default_qconfig()
    prepared = quantization.prepare(network)
    prepared(images)
    path = script(quantization.convert(prepared), images)
    assert read(path) == Layout(LIKE_INPUTS, (TensorSpec("class", "float32", (5,)),), INT8, None, 5)
    with pytest.raises(RequestError, match=r"cannot run this model on zeros \[1, 3, 5, 5\]: .*equal to K"):
        layout.read(path, (TensorSpec("image", "float32", (3, 5, 5)),), LIKE_OUTPUTS)
    refused(script(torch.nn.Sequential(*layers[1:3]), images), "is TorchScript of a float model", ".pt2")
    torch.save(network.state_dict(), tmp_path / "own.pt")
    refused(tmp_path / "own.pt", "holds weights or a pickled object", "torch.export.save")
    torch.save({"epoch": 3}, tmp_path / "own.pt2")
    refused(tmp_path / "own.pt2", "holds weights or a pickled object")


def test_types_are_those_that_onnx_has() -> None:
    known = {onnx.helper.tensor_dtype_to_np_dtype(kind).name for kind in TensorProto.DataType.values() if kind}
    assert {*layout.SCORES, *layout.CLASSES, *layout.IMAGES} <= known
