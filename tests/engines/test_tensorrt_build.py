"""A TensorRT plan: what it is built from and with, how that fails, and what a build that fails leaves behind.

TensorRT is a double.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
import tensorrt_double
from onnx import parser
from tensorrt_double import Behaviour
from tensorrt_examples import SETTINGS, request_for

from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.engines import tensorrt
from engineroom.engines._timing_cache import TimingCache
from engineroom.engines.tensorrt import ENGINE
from engineroom.errors import EngineError
from engineroom.paths import sha256_file
from engineroom.qdq import FLOAT8, violations
from engineroom.steps import build
from engineroom.terms import HardwareCompatibility, Precision, TensorSpec

pytestmark = pytest.mark.usefixtures("double")


# What is built


def test_a_plan_is_built_from_the_typed_model_and_says_how(tmp_path: Path) -> None:
    told: list[tuple[float | None, str]] = []

    def tell(done: float | None, text: str) -> bool:
        told.append((done, text))
        return True

    options = ENGINE.build_telling(request_for(), tmp_path, tell)
    assert options == {"plan": "./model.plan", "built_with": "11.4.0.106", "context_bytes": "4096"}
    assert (tmp_path / "model.plan").read_bytes() == b"plan of model.onnx"
    [profile] = Behaviour.asked["profiles"]
    assert profile == {"input": ((1, *BENCHMARK.inputs[0].shape), *((64, *BENCHMARK.inputs[0].shape),) * 2)}
    assert Behaviour.asked["cleared"] == ["TF32"]
    assert Behaviour.asked["WORKSPACE"] == 1 << 30
    assert Behaviour.asked["builder_optimization_level"] == 3
    facts = json.loads((tmp_path / "plan.json").read_text())
    assert (facts["TensorRT"], facts["GPU"], facts["driver"]) == ("11.4.0.106", "NVIDIA H200", "580.65")
    assert facts["context_bytes"] == "4096"
    [line] = [text for done, text in told if done is None]
    assert line.startswith("the same plan by hand, in its folder: trtexec --onnx=model.onnx")
    assert line.partition(": ")[2] in (tmp_path / "trtexec.sh").read_text()
    assert ENGINE.remark_on(tmp_path) == line, "it is told of a plan that is reused, too"
    assert ENGINE.remark_on(tmp_path / "none") is None
    assert [done for done, _ in told if done is not None][-1] == 1.0
    weights = {tensor.data_type for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT not in weights


def test_every_setting_reaches_the_builder(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        SETTINGS,
        version_compatible=True,
        hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
        detailed_profiling=True,
        workspace_bytes=None,
    )
    ENGINE.build(request_for(settings=settings.as_text()), tmp_path)
    assert Behaviour.asked["flags"] == ["VERSION_COMPATIBLE"]
    assert Behaviour.asked["hardware_compatibility_level"].name == "AMPERE_PLUS"
    assert Behaviour.asked["profiling_verbosity"].name == "DETAILED"
    assert "WORKSPACE" not in Behaviour.asked
    assert json.loads((tmp_path / "layers.json").read_text()) == {"Layers": ["conv"]}


def test_fp32_is_the_model_as_it_is(tmp_path: Path) -> None:
    ENGINE.build(request_for(precision=Precision.FP32), tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == MODEL.read_bytes()


FP8 = """<ir_version: 10, opset_import: ["": 19]> g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float s = {0.1}, float8e4m3fn z = {0}, float[2, 2, 1, 1] w = {100, -3, 127, 5}, float[2] ws = {0.25, 0.5},
 float8e4m3fn[2] wz = {0, 0}, float[2] b = {1, 2}>
{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) wq = QuantizeLinear <axis = 0> (w, ws, wz)
  v = DequantizeLinear <axis = 0> (wq, ws, wz) y = Conv (d, v, b) }"""


def test_an_fp8_model_is_built_with_its_quantization_and_fp16_around_it(tmp_path: Path) -> None:
    model, folder = tmp_path / "fp8.onnx", tmp_path / "plan"
    folder.mkdir()
    onnx.save(parser.parse_model(FP8), model)
    spec, answer = (TensorSpec(name, "float32", (2, 4, 4)) for name in ("x", "y"))
    request = request_for(model, precision=Precision.FP8, inputs=(spec,), outputs=(answer,))
    assert ENGINE.build(request, folder)["plan"] == "./model.plan"
    assert (folder / "model.plan").read_bytes() == b"plan of model.onnx"
    built = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"), strict_mode=True)
    types = {info.name: info.type.tensor_type.elem_type for info in built.graph.value_info}
    assert {types[name] for name in ("q", "wq")} == {onnx.TensorProto.FLOAT8E4M3FN}
    assert {types[name] for name in ("d", "v")} == {onnx.TensorProto.FLOAT16}
    assert violations(folder / "model.onnx", FLOAT8) == []
    with pytest.raises(EngineError, match="breaks TensorRT's rules for int8"):
        ENGINE.build(msgspec.structs.replace(request, precision=Precision.INT8), folder)


def test_a_build_begins_with_the_timings_that_are_there_and_adds_its_own(tmp_path: Path) -> None:
    ENGINE.build(request_for(), tmp_path)
    [path] = (tmp_path / "timing_cache").glob("*.cache")
    assert path.read_bytes()[32:] == b"kernel of model.onnx"
    cache = TimingCache(tensorrt._timed_on())
    assert cache.path == path
    cache.add(lambda known: b"another kernel")
    ENGINE.build(request_for(), tmp_path)
    assert cache.read() == b"another kernel\nkernel of model.onnx"
    for useless in (b"of another GPU", b"damaged"):
        cache.add(partial(_instead, useless))
        ENGINE.build(request_for(), tmp_path)  # TensorRT refuses them: it measures anew
        assert b"kernel of model.onnx" in cache.read()


def _instead(content: bytes, known: bytes) -> bytes:
    return content


# How it fails


def test_every_node_that_is_not_taken_is_named_with_the_opset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Behaviour, "errors", (("Conv", "stem", "no kernel"), ("Gemm", "head", "no\nkernel either")))
    monkeypatch.setattr(Behaviour, "unsupported", ((1,), (2, 3)))
    with pytest.raises(EngineError) as caught:
        ENGINE.build(request_for(), tmp_path)
    lines = str(caught.value).splitlines()
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert lines[0].endswith("model.onnx: TensorRT does not take this model (opset 17):")
    assert lines[1:] == [
        "  Conv stem: no kernel",
        *(f"  {node.op_type} {node.name or node.output[0]}: not supported" for node in nodes[1:4]),
        "  Gemm head: no kernel either",
    ]


def test_a_build_that_fails_tells_tensorrts_words_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "[optimizer.cpp::computeCosts::4048] Error Code 10: Internal Error (Could not find any implementation)"
    monkeypatch.setattr(Behaviour, "logged", (said, said))
    monkeypatch.setattr(Behaviour, "fails", True)
    with pytest.raises(EngineError) as caught:
        ENGINE.build(request_for(), tmp_path)
    assert caught.value.what == (
        "TensorRT cannot build this model: Error Code 10: Internal Error (Could not find any implementation)"
    )
    assert not (tmp_path / "model.plan").exists()
    [cache] = (tmp_path / "timing_cache").glob("*.cache")
    assert b"kernel of model.onnx" in cache.read_bytes(), "what it measured spares the next build"


def test_a_compatibility_that_this_tensorrt_lacks_is_said(tmp_path: Path) -> None:
    wanted = HardwareCompatibility.SAME_COMPUTE_CAPABILITY
    settings = msgspec.structs.replace(SETTINGS, hardware_compatibility=wanted).as_text()
    with pytest.raises(EngineError, match=r"TensorRT 11\.4\.0\.106 has no hardware compatibility same_compute"):
        ENGINE.build(request_for(settings=settings), tmp_path)


def test_a_library_that_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"TensorRT cannot be loaded: .*\n.*--engine=tensorrt"):
        ENGINE.build(request_for(), tmp_path)


def test_a_damaged_plan_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from engineroom.engines import _trt_builder

    logger = _trt_builder.logger_of(detailed=False)
    with pytest.raises(EngineError, match=r"does not take this plan: the plan's magic tag does not match\n.*--force"):
        _trt_builder.loaded(tensorrt_double.Runtime(logger), b"plam of", logger, "model.plan", "11.4.0.106")
    with pytest.raises(
        EngineError, match=r"TensorRT 11\.4\.0\.106 does not take this plan of TensorRT 11\.1\.0\.5: "
    ) as other:
        _trt_builder.loaded(tensorrt_double.Runtime(logger), b"plam of", logger, "model.plan", "11.1.0.5")
    assert other.value.mend == "install tensorrt 11.1.0.5"


def test_a_quantized_model_is_linted_before_the_build(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]> g (float[N, 2] x) => (float[N, 2] y)
    <float s = {0.1}, uint8 z = {0}> { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    model = tmp_path / "q.onnx"
    onnx.save(parser.parse_model(text), model)
    with pytest.raises(EngineError, match=r"breaks TensorRT's rules for int8:\n  QuantizeLinear q: quantizes to uint8"):
        ENGINE.build(request_for(model, precision=Precision.INT8), tmp_path)


def test_a_build_that_has_no_time_left_is_stopped_and_keeps_its_timings(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="TensorRT cannot build this model"):
        ENGINE.build_telling(request_for(), tmp_path, lambda done, text: False)
    assert not (tmp_path / "model.plan").exists()
    assert b"kernel of model.onnx" in TimingCache(tensorrt._timed_on()).read()


# The process that builds, with the double in TensorRT's place.
CHILD = """#!{python}
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import tensorrt_double
from engineroom import build_engine
from engineroom.engines import _timing_cache
sys.modules["tensorrt"] = tensorrt_double
_timing_cache.TIMING_CACHE = Path({timings!r})
sys.exit(build_engine.main(sys.argv[3:]))
"""


def test_at_its_time_limit_the_process_stops_by_itself_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings, python = tmp_path / "timings of the process", tmp_path / "python"
    python.write_text(CHILD.format(python=sys.executable, path=sys.path, timings=str(timings)))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    recipe = msgspec.json.encode(request_for(model_sha256=sha256_file(MODEL))).decode()

    def make(limit_s: float) -> Any:
        return build._make("the engine", recipe, tmp_path, limit_s)

    with pytest.raises(EngineError, match=r"took longer than 0\.01 s and was ended\n.*--engine_build_limit_s"):
        make(0.01)
    [cache] = timings.glob("*.cache")
    assert b"kernel of model.onnx" in cache.read_bytes()
    assert make(60)["options"]["plan"] == "./model.plan"
