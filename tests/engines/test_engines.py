"""Every engine gives ONNX Runtime's answers, in batches of any size and from several instances, or says why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from engineroom import registry
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.engines import BuildRequest, Engine, placed
from engineroom.engines import openvino as openvino_engine
from engineroom.errors import EngineError, RequestError
from engineroom.networks import mobilenet, resnet50
from engineroom.networks.mobilenet import Architecture
from engineroom.terms import ExecutionProvider, Precision, Scenario, TensorSpec

Specs = tuple[TensorSpec, ...]
needs_torch = (
    pytest.mark.heavy,
    pytest.mark.skipif(bool(registry.missing(("torch",))), reason="needs the extra torch"),
)
needs_litert = (
    pytest.mark.heavy,
    pytest.mark.skipif(bool(registry.missing(("ai_edge_litert",))), reason="needs the extra litert"),
)
OF_ONNX = ["onnxruntime", "openvino", pytest.param("torch", marks=needs_torch)]
OF_TFLITE = [pytest.param(name, marks=needs_litert) for name in ("litert", "openvino")]
SIZES = (1, 8, 33)  # of batches; 40 samples leave a last one that is smaller
SAMPLES = 40


def ask(
    name: str, model: Path, inputs: Specs, outputs: Specs, arrays: Sequence[Any], folder: Path, **changes: Any
) -> list[Any]:
    """Build an engine, and return its outputs for all samples, taken in batches by several instances."""
    config: Any = SimpleNamespace(
        **{
            "scenario": Scenario.OFFLINE,
            "precision": Precision.FP32,
            "batch_size": 8,
            "instances": 1,
            "threads_per_instance": 1,
            "execution_provider": ExecutionProvider.CPU,
            "torch_compile": False,
            **changes,
        }
    )
    folder = folder / f"{name}-{config.precision}-{config.batch_size}"
    folder.mkdir(exist_ok=True)
    module = registry.get("engines", name).load()
    settings = module.ENGINE.settings_of(config)
    request = BuildRequest(name, str(model), "", config.precision, config.batch_size, inputs, outputs, settings)
    options = placed(module.ENGINE.build(request, folder), folder)
    infer = (
        _native(options, request)
        if name == "openvino"
        else module.open_session(options, *map(plain, (inputs, outputs)))
    )
    starts = range(0, len(arrays[0]), config.batch_size)
    batches = [tuple(array[start : start + config.batch_size] for array in arrays) for start in starts]
    for array in (array for batch in batches for array in batch):
        array.flags.writeable = False  # as the harness hands them over
    with ThreadPoolExecutor(config.instances) as pool:
        results = list(pool.map(infer, batches))
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def plain(specs: Specs) -> Any:
    """Return tensors as harness.json describes them."""
    return msgspec.to_builtins(specs)


def _native(options: dict[str, str], request: BuildRequest) -> Callable[[tuple[Any, ...]], list[Any]]:
    """Return what runs an exported blob as the harness does: always whole batches, of which it reads the first part."""
    import openvino

    properties = {key: value for key, value in options.items() if key != "blob"}
    model = openvino.Core().import_model(Path(options["blob"]).read_bytes(), "CPU", properties)

    def infer(arrays: tuple[Any, ...]) -> list[Any]:
        count = len(arrays[0])
        whole = [
            np.concatenate([array, np.zeros_like(array, shape=(request.batch_size - count, *array.shape[1:]))])
            for array in arrays
        ]
        found = model.create_infer_request().infer(
            dict(zip((spec.name for spec in request.inputs), whole, strict=True))
        )
        return [found[spec.name][:count].copy() for spec in request.outputs]

    return infer


def expected(model: Path, inputs: Specs, outputs: Specs, arrays: Sequence[Any]) -> list[Any]:
    """Return what ONNX Runtime itself answers, in one batch."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(
        [spec.name for spec in outputs], dict(zip((spec.name for spec in inputs), arrays, strict=True))
    )
    return found


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("name", OF_ONNX)
def test_digits_in_batches_and_from_several_instances(name: str, batch_size: int, tmp_path: Path) -> None:
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, SAMPLES)["input"]
    inputs, outputs = BENCHMARK.inputs, BENCHMARK.outputs
    [logits] = ask(name, MODEL, inputs, outputs, [images], tmp_path, batch_size=batch_size, instances=3)
    [wanted] = expected(MODEL, inputs, outputs, [images])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Any]]:
    """The synthetic ResNet-50, images, and ONNX Runtime's answers to them."""
    path = tmp_path_factory.mktemp("resnet50") / "resnet50.onnx"
    resnet50.write(path)
    cells = np.random.default_rng(0).uniform(-120, 130, (SAMPLES, 3, 8, 8))
    images = np.kron(cells, np.ones((28, 28))).astype(np.float32)
    return path, images, expected(path, RESNET_INPUTS, RESNET_OUTPUTS, [images])


RESNET_INPUTS = (TensorSpec(resnet50.INPUT, "float32", (3, 224, 224)),)
RESNET_OUTPUTS = (TensorSpec(resnet50.CLASS, "int64", ()), TensorSpec(resnet50.SCORES, "float32", (1001,)))


@pytest.mark.heavy
@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("name", OF_ONNX)
def test_resnet50_in_batches_and_from_several_instances(
    name: str, batch_size: int, resnet: tuple[Path, Any, list[Any]], tmp_path: Path
) -> None:
    path, images, (wanted, scores) = resnet
    asked = partial(ask, name, path, RESNET_INPUTS, RESNET_OUTPUTS, [images], tmp_path)
    classes, found = asked(batch_size=batch_size, instances=2)
    assert len(set(wanted.tolist())) > 10, "images that all get one answer would show nothing"
    assert classes.dtype == np.int64 and classes.tolist() == wanted.tolist()
    np.testing.assert_allclose(found, scores, atol=1e-4)


UINT8 = """<ir_version: 7, opset_import: ["": 13]>
    g (uint8[N, 2, 4, 4] pixels, float[N, 3] more) => (float[N, 3] sums, float[N] top)
    <float[3, 2, 4, 4] w = {@}, int64[2] spatial = {2, 3}, int64[1] rows = {1}>
    { x = Cast <to = 1> (pixels)
      c = Conv (x, w)
      s = Squeeze (c, spatial)
      sums = Add (s, more)
      top = ReduceMax <axes = [1], keepdims = 0> (sums) }""".replace("@", ", ".join(str(n % 7 - 3) for n in range(96)))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_pixels_stay_uint8_and_tensors_keep_the_order_asked_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pixels.onnx"
    onnx.save(parser.parse_model(UINT8), path)
    pixels, more = TensorSpec("pixels", "uint8", (2, 4, 4)), TensorSpec("more", "float32", (3,))
    sums, top = TensorSpec("sums", "float32", (3,)), TensorSpec("top", "float32", ())
    random = np.random.default_rng(2)
    arrays = [random.normal(size=(9, 3)).astype(np.float32), random.integers(0, 256, (9, 2, 4, 4)).astype(np.uint8)]
    weights = np.array([n % 7 - 3 for n in range(96)]).reshape(3, -1)
    by_hand = arrays[1].reshape(9, -1).astype(int) @ weights.T + arrays[0]
    found = ask(name, path, (more, pixels), (top, sums), arrays, tmp_path, batch_size=4, instances=2)
    np.testing.assert_allclose(found[0], by_hand.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[1], by_hand, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("name", OF_TFLITE)
def test_mobilenet_in_batches_and_from_several_instances(
    name: str, batch_size: int, uint8: bool, mobilenets: dict[bool, Path], tmp_path: Path
) -> None:
    kind = "uint8" if uint8 else "float32"
    inputs = (TensorSpec("input", kind, (224, 224, 3)),)
    outputs = (TensorSpec(mobilenet.V2.output, kind, (1001,)),)
    cells = np.random.default_rng(1).integers(0, 256, (10, 8, 8, 3))
    pixels = np.kron(cells, np.ones((28, 28, 1))).astype(np.uint8)
    images = pixels if uint8 else (pixels.astype(np.float32) - 128) / 128
    precision = Precision.INT8 if uint8 else Precision.FP32
    [found] = ask(
        name,
        mobilenets[uint8],
        inputs,
        outputs,
        [images],
        tmp_path,
        batch_size=batch_size,
        instances=2,
        precision=precision,
    )
    wanted = interpreted(mobilenets[uint8], images)
    assert found.dtype == wanted.dtype
    if uint8:  # each engine rounds in its own places
        assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.8
        assert np.abs(found.astype(int) - wanted).max() <= 16
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.fixture(scope="module")
def mobilenets(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """MobileNet v2, in float and in uint8."""
    folder = tmp_path_factory.mktemp("mobilenet")
    paths = {False: folder / "float.tflite", True: folder / "uint8.tflite"}
    for uint8, path in paths.items():
        mobilenet.write(mobilenet.V2, path, uint8=uint8)
    return paths


def interpreted(model: Path, images: Any) -> Any:
    """Return what LiteRT's plain kernels answer, image by image."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    rows = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(rows)


def test_openvino_says_what_it_computes_in_where_a_cpu_has_no_bf16(tmp_path: Path) -> None:
    import openvino

    engine: Engine = registry.get("engines", "openvino").load().ENGINE
    config: Any = SimpleNamespace(
        scenario=Scenario.OFFLINE, precision=Precision.BF16, instances=1, threads_per_instance=1
    )
    settings = engine.settings_of(config)
    request = BuildRequest("openvino", str(MODEL), "", Precision.BF16, 1, BENCHMARK.inputs, BENCHMARK.outputs, settings)
    notes = engine.notes_of(config, engine.build(request, tmp_path))
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert notes == ()
    else:
        assert notes == ("OpenVINO computes in f32 here: this CPU has no bf16.",)


@pytest.mark.parametrize(
    ("threads", "most_bytes", "streams"),
    [(1, openvino_engine.OWN_MODEL_BYTES, "1"), (1, 1000, "3"), (2, openvino_engine.OWN_MODEL_BYTES, "3")],
)
def test_openvino_gives_each_instance_of_one_thread_its_own_model_if_that_is_small(
    threads: int, most_bytes: int, streams: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "OWN_MODEL_BYTES", most_bytes)
    config: Any = SimpleNamespace(
        scenario=Scenario.SERVER, precision=Precision.FP32, instances=3, threads_per_instance=threads
    )
    settings = openvino_engine.ENGINE.settings_of(config)
    request = BuildRequest("openvino", str(MODEL), "", Precision.FP32, 1, BENCHMARK.inputs, BENCHMARK.outputs, settings)
    options = openvino_engine.ENGINE.build(request, tmp_path)
    assert options["NUM_STREAMS"] == streams
    assert options["INFERENCE_NUM_THREADS"] == ("1" if streams == "1" else str(3 * threads))
    assert options.get("ENABLE_CPU_PINNING") == ("NO" if streams == "1" else None)


# What does not fit


TINY = Architecture("tiny", "scores", "relu6", 4, ((8, 4, 1), (8, 6, 2)), 5, 0)
OWN = {
    "onnxruntime": (BENCHMARK.inputs, BENCHMARK.outputs),
    "openvino": (BENCHMARK.inputs, BENCHMARK.outputs),
    "torch": (BENCHMARK.inputs, BENCHMARK.outputs),
    "litert": ((TensorSpec("input", "float32", (224, 224, 3)),), (TensorSpec("scores", "float32", (1001,)),)),
}
ALL = [*OF_ONNX, pytest.param("litert", marks=needs_litert)]


def own_model(name: str, folder: Path) -> Path:
    """Return a model that the engine takes."""
    if name != "litert":
        return MODEL
    mobilenet.write(TINY, folder / "tiny.tflite")
    return folder / "tiny.tflite"


def wrong(specs: Specs, **changes: Any) -> Specs:
    """Return the tensors, the first one changed."""
    return (replace(specs[0], **changes), *specs[1:])


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("name", ALL)
def test_the_library_may_choose_the_threads(name: str, threads: int, tmp_path: Path) -> None:
    inputs, outputs = OWN[name]
    zeros = np.zeros((3, *inputs[0].shape), np.float32)
    [found] = ask(name, own_model(name, tmp_path), inputs, outputs, [zeros], tmp_path, threads_per_instance=threads)
    assert found.shape == (3, *outputs[0].shape) and np.ptp(found, axis=0).max() == 0


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"name": "nothing"}, {}),
        ({}, {"name": "nothing"}),
        ({"shape": (1, 9, 9)}, {}),
        ({}, {"shape": (11,)}),
        ({"dtype": "uint8"}, {}),
        ({}, {"dtype": "int64"}),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_other_tensors_than_declared_are_one_line(
    name: str, inputs: dict[str, Any], outputs: dict[str, Any], tmp_path: Path
) -> None:
    model, (known_inputs, known_outputs) = own_model(name, tmp_path), OWN[name]
    declared = wrong(known_inputs, **inputs), wrong(known_outputs, **outputs)
    zeros = np.zeros((1, *declared[0][0].shape), declared[0][0].dtype)
    with pytest.raises(EngineError) as caught:
        ask(name, model, *declared, [zeros], tmp_path)
    assert caught.value.where and caught.value.where.endswith((model.suffix, ".pt2"))
    assert "\n" not in caught.value.what and len(caught.value.what) < 250


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
@pytest.mark.parametrize("name", ALL)
def test_a_file_of_another_format_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    inputs, outputs = OWN[name]
    engine: Engine = registry.get("engines", name).load().ENGINE
    for suffix in engine.formats:
        model = tmp_path / f"other{suffix}"
        model.write_bytes(content)
        precision = Precision.INT8 if suffix == ".pt" else Precision.FP32
        with pytest.raises(EngineError) as caught:
            ask(
                name,
                model,
                inputs,
                outputs,
                [np.zeros((1, *inputs[0].shape), np.float32)],
                tmp_path,
                precision=precision,
            )
        assert caught.value.where and caught.value.where.endswith(suffix)
        assert "\n" not in caught.value.what and len(caught.value.what) < 350


@pytest.mark.parametrize("name", OWN)
def test_a_missing_library_is_told_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Engine = registry.get("engines", name).load().ENGINE
    monkeypatch.setattr(engine, "modules", ("no_such_library",), raising=True)
    with pytest.raises(
        RequestError, match=rf"{name} needs no_such_library.*\n.*make install RUN_ARGS=.--engine={name}"
    ):
        engine.check_installed()
