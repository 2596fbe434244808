"""A TensorRT plan: what it is built from and with, how that fails, and what the harness gets. TensorRT is a double."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import examples
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorrt_double
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper, parser
from tensorrt_double import Behaviour

from engineroom import versions
from engineroom.artifacts import Artifact
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.config import RunConfig
from engineroom.detection import Gpu, Machine
from engineroom.detection.machine import GpuDriver, Slice
from engineroom.engines import BuildRequest, _timing_cache, tensorrt
from engineroom.engines._plans import BuildSettings, Phases, graph_sizes, shapes_of, trtexec, words_of
from engineroom.engines._timing_cache import TimingCache
from engineroom.engines.tensorrt import ENGINE
from engineroom.errors import EngineError, RequestError
from engineroom.networks import typed
from engineroom.qdq import FLOAT8, violations
from engineroom.steps import build, recipes
from engineroom.terms import HardwareCompatibility, Precision, Scenario, TensorSpec, Wait

GPU = Gpu("NVIDIA H200", memory_bytes=140 << 30, compute_capability="9.0")
SETTINGS = BuildSettings(
    builder_optimization_level=3,
    workspace_bytes=1 << 30,
    version_compatible=False,
    hardware_compatibility=HardwareCompatibility.NONE,
    detailed_profiling=False,
)
CONFIG = examples.config(engine="tensorrt", precision=Precision.FP16)


@pytest.fixture
def gpu_machine(machine: Machine) -> Machine:
    """Return a machine with two GPUs."""
    driver = GpuDriver("580.65", cuda_version="13.0")
    return replace(machine, gpus=(GPU, replace(GPU, index=1)), gpu_driver=driver)


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpu_machine: Machine) -> None:
    """Put the double in TensorRT's place, and keep what is made out of build/."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_double)
    monkeypatch.setattr(_timing_cache, "TIMING_CACHE", tmp_path / "timing_cache")
    monkeypatch.setattr(tensorrt.systems, "detect", lambda: gpu_machine)
    for name in ("errors", "unsupported", "logged", "fails", "asked"):
        monkeypatch.setattr(Behaviour, name, getattr(Behaviour, name))


def request_for(model: Path = MODEL, **changes: Any) -> BuildRequest:
    request = BuildRequest(
        "tensorrt", str(model), "", Precision.FP16, 64, BENCHMARK.inputs, BENCHMARK.outputs, SETTINGS.as_text()
    )
    return msgspec.structs.replace(request, **changes)


# What is built


def test_a_plan_is_built_from_the_typed_model_and_says_how(tmp_path: Path) -> None:
    told: list[tuple[float | None, str]] = []
    options = ENGINE.build_telling(request_for(), tmp_path, lambda *words: told.append(words))
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


def test_a_compatibility_that_this_tensorrt_lacks_is_said(tmp_path: Path) -> None:
    wanted = HardwareCompatibility.SAME_COMPUTE_CAPABILITY
    settings = msgspec.structs.replace(SETTINGS, hardware_compatibility=wanted).as_text()
    with pytest.raises(EngineError, match=r"TensorRT 11\.4\.0\.106 has no hardware compatibility same_compute"):
        ENGINE.build(request_for(settings=settings), tmp_path)


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": (replace(BENCHMARK.inputs[0], name="x"),)}, "the input x is not among input"),
        (
            {"inputs": (replace(BENCHMARK.inputs[0], shape=(1, 9, 9)),)},
            r"the input input is float32 \[\?, 1, 8, 8\], not",
        ),
        ({"outputs": (replace(BENCHMARK.outputs[0], dtype="int8"),)}, "is float32 .*, not int8"),
        ({"inputs": ()}, "the model also needs the input input"),
    ],
)
def test_other_tensors_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        shapes_of(request_for(**changes), onnx.load(MODEL))


def test_a_model_of_a_fixed_batch_runs_in_that_one_only() -> None:
    model = onnx.load(MODEL)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 8
    assert shapes_of(request_for(batch_size=8), model) == ()
    with pytest.raises(EngineError, match=r"made for batches of 8\n.*--batch_size=8"):
        shapes_of(request_for(batch_size=64), model)


def test_a_quantized_model_is_linted_before_the_build(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]> g (float[N, 2] x) => (float[N, 2] y)
    <float s = {0.1}, uint8 z = {0}> { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    model = tmp_path / "q.onnx"
    onnx.save(parser.parse_model(text), model)
    with pytest.raises(EngineError, match=r"breaks TensorRT's rules for int8:\n  QuantizeLinear q: quantizes to uint8"):
        ENGINE.build(request_for(model, precision=Precision.INT8), tmp_path)


# The machine


def test_a_machine_without_a_gpu_is_refused(machine: Machine) -> None:
    with pytest.raises(RequestError, match=r"needs an NVIDIA GPU: none is here\n.*--engine=openvino"):
        ENGINE.check_machine(machine)
    hidden = replace(machine, gpu_problem='CUDA_VISIBLE_DEVICES="7" hides all 2 GPUs; unset it to use them')
    with pytest.raises(RequestError, match='CUDA_VISIBLE_DEVICES="7" hides all 2 GPUs'):
        ENGINE.check_machine(hidden)


def test_a_driver_too_old_and_mixed_gpus_are_refused(gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "_cuda_major", lambda: 13)
    ENGINE.check_machine(gpu_machine)
    old = replace(gpu_machine, gpu_driver=GpuDriver("550.54", cuda_version="12.4"))
    with pytest.raises(RequestError, match=r"driver 550\.54 serves CUDA 12\.4; .* CUDA 13\n  install driver 580"):
        ENGINE.check_machine(old)
    with pytest.raises(RequestError, match="one kind of GPU, and these are NVIDIA H200, NVIDIA L4"):
        ENGINE.check_machine(replace(gpu_machine, gpus=(GPU, replace(GPU, name="NVIDIA L4"))))


def test_precisions_are_those_of_the_smallest_gpu(gpu_machine: Machine) -> None:
    assert ENGINE.precisions_on(gpu_machine, CONFIG) == ENGINE.precisions
    turing = replace(gpu_machine, gpus=(replace(GPU, compute_capability="7.5"),))
    assert ENGINE.precisions_on(turing, CONFIG) == (Precision.INT8, Precision.FP16, Precision.FP32)


def test_run_options_are_what_the_harness_reads(gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt.registry, "folder_of", lambda package: None)
    config = msgspec.structs.replace(
        CONFIG, gpu_copy_streams=2, use_graphs=True, batch_size=24, gpu_wait=Wait.SPIN, start_from_device=True
    )
    assert ENGINE.run_options(config, gpu_machine) == {
        "gpus": "0,1",
        "copy_streams": "2",
        "graph_batch_sizes": "1,2,4,8,16,24",
        "wait": "spin",
        "start_from_device": "true",
    }
    assert "start_from_device" in ENGINE.notes_of(config, {})[0]
    slices = tuple(Slice("1g.18gb", f"MIG-{n}", 16 << 30, n, 0) for n in range(3))
    monkeypatch.setattr(tensorrt.registry, "folder_of", lambda package: Path("/site") / package)
    assert ENGINE.run_options(config, gpu_machine)["libraries"] == "/site/tensorrt_libs"
    split = replace(gpu_machine, gpus=(replace(GPU, mig=True, slices=slices),))
    plain = ENGINE.run_options(msgspec.structs.replace(CONFIG, use_graphs=False), split)
    assert (plain["gpus"], plain["graph_batch_sizes"], plain["wait"]) == ("0", "", "block")


@given(st.integers(1, 5000), st.lists(st.integers(1, 5000), max_size=8))
def test_every_batch_has_a_graph_that_holds_it(batch_size: int, wanted: list[int]) -> None:
    sizes = graph_sizes(batch_size, wanted)
    assert sizes == sorted(set(sizes)) and sizes[-1] == batch_size
    assert set(sizes) - {batch_size} <= set(wanted) if wanted else sizes[0] == 1


# The key


def inputs(machine: Machine, config: RunConfig = CONFIG, monkeypatch: Any = None) -> dict[str, str]:
    return build.inputs_of(BENCHMARK, config, machine, "0" * 64, "none", recipes.digest(build.RECIPE, "s"))


def test_a_plan_is_for_this_gpu_driver_and_settings_alone(
    gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    first = inputs(gpu_machine)
    assert (first["GPU"], first["compute capability"], first["CUDA"]) == ("NVIDIA H200", "9.0", "13.0")
    others = [
        inputs(replace(gpu_machine, gpus=(replace(GPU, name="NVIDIA L4"),))),
        inputs(replace(gpu_machine, gpu_driver=GpuDriver("590.1", cuda_version="13.1"))),
        inputs(gpu_machine, msgspec.structs.replace(CONFIG, builder_optimization_level=5)),
        inputs(gpu_machine, msgspec.structs.replace(CONFIG, workspace_bytes=1 << 30)),
        inputs(replace(gpu_machine, gpus=(replace(GPU, slices=(Slice("1g.18gb", "MIG-0"),)),))),
    ]
    assert all(other != first for other in others)
    same = msgspec.structs.replace(
        CONFIG, scenario=Scenario.SERVER, gpu_copy_streams=4, use_graphs=True, gpu_wait=Wait.SPIN, instances=7
    )
    assert inputs(gpu_machine, same) == first, "how batches travel is no matter of the plan"


def test_one_plan_serves_the_scenarios_that_have_its_settings(
    gpu_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")
    monkeypatch.setattr(build, "_make", lambda *_: {"options": {}})

    def made(machine: Machine, **changes: Any) -> Artifact:
        config = msgspec.structs.replace(CONFIG, **changes)
        return build.build(config, inputs(machine, config), lambda: "")

    first = made(gpu_machine)
    assert made(gpu_machine, scenario=Scenario.SERVER).folder == first.folder
    other = made(replace(gpu_machine, gpus=(replace(GPU, name="NVIDIA L4"),)))
    assert not other.reused
    assert other.why == "GPU: NVIDIA H200 -> NVIDIA L4"


L4 = replace(GPU, name="NVIDIA L4", compute_capability="8.9")
T4 = replace(GPU, name="NVIDIA T4", compute_capability="7.5")
H100 = replace(GPU, name="NVIDIA H100 80GB HBM3")


def test_a_compatible_plan_is_for_the_gpus_that_nvidia_says(
    gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)

    def key(level: HardwareCompatibility, gpu: Gpu, driver: str = "580.65", cpu: str = "a CPU") -> dict[str, str]:
        config = msgspec.structs.replace(CONFIG, hardware_compatibility=level, workspace_bytes=None)
        machine = replace(gpu_machine, gpus=(gpu,), gpu_driver=GpuDriver(driver, cuda_version="13.0"))
        return inputs(replace(machine, cpu=replace(machine.cpu, model=cpu)), config)

    ampere, same, none = (
        HardwareCompatibility.AMPERE_PLUS,
        HardwareCompatibility.SAME_COMPUTE_CAPABILITY,
        HardwareCompatibility.NONE,
    )
    assert key(ampere, GPU) == key(ampere, L4, "590.1", "another CPU")
    assert key(ampere, GPU) != key(ampere, T4), "Turing is older than Ampere"
    assert key(same, GPU) == key(same, H100, "590.1") != key(same, L4)
    assert key(none, GPU) != key(none, H100)
    for level, serves in ((ampere, True), (same, True), (none, False)):
        assert ENGINE.serves_machines(msgspec.structs.replace(CONFIG, hardware_compatibility=level)) is serves


def test_mixed_gpus_run_one_plan_where_it_is_built_for_all(gpu_machine: Machine) -> None:
    def check(*gpus: Gpu, level: HardwareCompatibility) -> None:
        config = msgspec.structs.replace(CONFIG, hardware_compatibility=level)
        ENGINE.check_machine(replace(gpu_machine, gpus=gpus), config)

    check(GPU, L4, level=HardwareCompatibility.AMPERE_PLUS)
    check(GPU, H100, level=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
    with pytest.raises(RequestError, match="these are compute capability 8.9, compute capability 9.0"):
        check(GPU, L4, level=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
    with pytest.raises(RequestError, match="one kind of GPU, and these are NVIDIA T4, compute capability 8.0 or later"):
        check(GPU, T4, level=HardwareCompatibility.AMPERE_PLUS)


def test_a_plan_for_other_machines_is_found_by_another_system(
    gpu_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")
    monkeypatch.setattr(build, "_make", lambda *_: {"options": {}})
    config = msgspec.structs.replace(CONFIG, hardware_compatibility=HardwareCompatibility.AMPERE_PLUS)

    def made(gpu: Gpu, system: str) -> Artifact:
        of_system = msgspec.structs.replace(config, system=system)
        return build.build(of_system, inputs(replace(gpu_machine, gpus=(gpu,)), of_system), lambda: "")

    first = made(GPU, "H200x1")
    assert made(L4, "L4x1").folder == first.folder
    assert made(L4, "L4x1").reused


def test_a_version_compatible_plan_serves_later_versions_and_no_earlier_one(
    gpu_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")

    def made(version: str, *, compatible: bool) -> Artifact:
        found = {"tensorrt-cu13": version}
        monkeypatch.setattr(versions, "of_distribution", lambda name: found.get(name, versions.NOT_INSTALLED))
        monkeypatch.setattr(build, "_make", lambda *_: {"options": {"built_with": version}})
        config = msgspec.structs.replace(CONFIG, version_compatible=compatible)
        return build.build(config, inputs(gpu_machine, config), lambda: "")

    assert not made("11.2.0.9", compatible=True).reused
    assert made("11.10.0.1", compatible=True).reused, "a later one of the same major version"
    earlier = made("11.1.0.33", compatible=True)
    assert earlier.why == "TensorRT 11.2.0.9 built it, and 11.1.0.33 is installed"
    assert made("11.2.0.9", compatible=True).reused, "it serves the later one, too"
    assert not made("12.0.0.1", compatible=True).reused
    assert not made("11.2.0.9", compatible=False).reused
    assert not made("11.10.0.1", compatible=False).reused


# Timings


def test_timings_are_shared_kept_apart_by_gpu_and_never_used_when_damaged(tmp_path: Path) -> None:
    cache = TimingCache({"GPU": "H200"}, tmp_path)
    assert cache.read() == b""
    cache.add(lambda known: known + b"a")
    cache.add(lambda known: known + b"b")
    assert TimingCache({"GPU": "H200"}, tmp_path).read() == b"ab"
    assert TimingCache({"GPU": "L4"}, tmp_path).read() == b""
    whole = cache.path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"x", b"", b"short"):
        cache.path.write_bytes(damaged)
        assert cache.read() == b""


def test_builds_side_by_side_lose_no_timing(tmp_path: Path) -> None:
    cache, ready = TimingCache({"GPU": "H200"}, tmp_path), threading.Barrier(8)

    def add(number: int) -> None:
        ready.wait()
        cache.add(lambda known: known + bytes([number]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert sorted(cache.read()) == list(range(8))


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
        cache.add(lambda known, useless=useless: useless)  # type: ignore[misc]
        ENGINE.build(request_for(), tmp_path)  # TensorRT refuses them: it measures anew
        assert b"kernel of model.onnx" in cache.read()


# Progress, words, trtexec


def test_progress_never_falls_and_follows_nested_phases() -> None:
    phases = Phases()
    assert phases.told() == (0.0, "")
    phases.start("Building", None, 2)
    phases.start("Timing", "Building", 4)
    phases.step("Timing", 1)
    assert phases.told() == (0.25, "Timing 2 of 4")
    phases.finish("Timing")
    assert phases.told()[0] == 0.25
    phases.step("Building", 0)
    phases.step("unknown", 3)
    assert phases.told() == (0.5, "Building 1 of 2")
    phases.finish("Building")
    phases.finish("Building")
    assert phases.told() == (0.5, "")


def test_words_of_tensorrt_lose_its_own_places() -> None:
    said = ["[a.cpp::b::1] Error Code 4: bad", "In file x.cpp:12: bad", "", "[a.cpp::b::1] Error Code 4: bad"]
    assert words_of(said) == "Error Code 4: bad; In file x.cpp:12: bad"
    assert words_of([]) == "it gave no reason"


def test_the_command_of_trtexec_says_the_same() -> None:
    settings = msgspec.structs.replace(
        SETTINGS,
        version_compatible=True,
        hardware_compatibility=HardwareCompatibility.SAME_COMPUTE_CAPABILITY,
        detailed_profiling=True,
    )
    shapes = shapes_of(request_for(), onnx.load(MODEL))
    command = trtexec(Path("model.onnx"), Path("a plan"), shapes, settings, Path("cache"))
    assert shlex.split(shlex.join(command)) == command
    assert command[1:] == [
        "--onnx=model.onnx",
        "--saveEngine=a plan",
        "--stronglyTyped",
        "--noTF32",
        "--skipInference",
        "--minShapes=input:1x1x8x8",
        "--optShapes=input:64x1x8x8",
        "--maxShapes=input:64x1x8x8",
        "--builderOptimizationLevel=3",
        "--timingCacheFile=cache",
        "--memPoolSize=workspace:1024M",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=sameComputeCapability",
        "--profilingVerbosity=detailed",
    ]


def test_settings_survive_the_recipe() -> None:
    for settings in (SETTINGS, msgspec.structs.replace(SETTINGS, workspace_bytes=None, version_compatible=True)):
        assert BuildSettings.of(json.loads(json.dumps(settings.as_text()))) == settings


# Types


def test_fp16_answers_as_the_float_model_does(tmp_path: Path) -> None:
    target = tmp_path / "fp16.onnx"
    typed.write(MODEL, target, "float16")
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, 64)["input"]

    def answers(path: Path) -> Any:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]

    found, wanted = answers(target), answers(MODEL)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 5e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_float_tensor_has_the_type_but_inputs_and_outputs(tmp_path: Path, dtype: str) -> None:
    target = tmp_path / "typed.onnx"
    typed.write(MODEL, target, dtype)
    model = onnx.shape_inference.infer_shapes(onnx.load(target), strict_mode=True)
    graph, wanted = model.graph, getattr(onnx.TensorProto, typed.TYPES[dtype])
    ends = {tensor.name for tensor in (*graph.input, *graph.output)}
    types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    assert {types[name] for name in types.keys() - ends} == {wanted}
    assert {info.type.tensor_type.elem_type for info in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}


def test_what_has_no_half_stays_in_float_between_casts(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 13]> g (float[N, 1, 4, 4] x) => (float[N, 1, 8, 8] y)
    <float[4] scales = {1, 1, 2, 2}, float[1] w = {70000.0}>
    { s = Mul (x, w) y = Resize <mode = "nearest"> (s, , scales) }"""
    model, target = tmp_path / "m.onnx", tmp_path / "t.onnx"
    onnx.save(parser.parse_model(text), model)
    typed.write(model, target, "float16")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    assert constants["scales"].dtype == np.float32
    assert constants["w"].dtype == np.float16 and constants["w"] == 65504, "as large as it can be, no infinity"


QDQ = """<ir_version: 9, opset_import: ["": 17]> g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float s = {0.1}, int8 z = {0}, int8[2, 2, 1, 1] w = {100, -3, 127, 5}, float[2] ws = {0.0001234567, 0.00000001},
 int8[2] wz = {0, 0}, float[2] b = {0.5, 0.25}>
{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) v = DequantizeLinear <axis = 0> (w, ws, wz)
  y = Conv (d, v, b) }"""


def test_scales_get_the_type_and_weights_are_rounded_to_them(tmp_path: Path) -> None:
    model, target = tmp_path / "m.onnx", tmp_path / "t.onnx"
    onnx.save(parser.parse_model(QDQ), model)
    typed.write(model, target, "float16")
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    assert {found[name].dtype for name in ("s", "ws", "b")} == {np.dtype(np.float16)}
    assert found["ws"].min() > 0, "a scale of 0 is none"
    assert violations(model) == violations(target) == []
    weights = found["w"].astype(np.float64) * found["ws"].astype(np.float64).reshape(2, 1, 1, 1)
    wanted = np.array([100, -3, 127, 5]).reshape(2, 2, 1, 1) * np.array([0.0001234567, 1e-8]).reshape(2, 1, 1, 1)
    assert np.abs(weights - wanted).max() < 0.5 * float(found["ws"].max())


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


def test_a_graph_within_a_graph_is_refused_in_words(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 13]> g (bool c, float[2] x) => (float[2] y) {
    y = If (c) <then_branch = t () => (float[2] a) { a = Identity (x) },
                else_branch = e () => (float[2] b) { b = Neg (x) }> }"""
    model = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(text), model)
    with pytest.raises(EngineError, match=r"cannot be written in float16: it holds a graph within a graph \(If\)"):
        typed.write(model, tmp_path / "t.onnx", "float16")


# The child processes


def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport json, time\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")


def test_a_build_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(EngineError, match=r"took longer than 0\.5 s and was ended\n.*--engine_build_limit_s"):
        build._make("the engine", "{}", tmp_path, 0.5)


def test_progress_and_lines_reach_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"progress": [0.5, "Timing 1 of 2"]}, {"say": "by hand: trtexec"}, {"options": {"plan": "./model.plan"}}]
    child(tmp_path, monkeypatch, "".join(f"print({json.dumps(line)!r}, flush=True)\n" for line in lines))
    assert build._make("the engine", "{}", tmp_path, 30) == {"options": {"plan": "./model.plan"}}
    assert "by hand: trtexec\n" in capsys.readouterr().err


def test_an_interrupted_build_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(tmp_path, monkeypatch, 'print(\'{"say": "x"}\', flush=True)\ntime.sleep(60)')
    started: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def popen(*args: Any, **kwargs: Any) -> Any:
        started.append(real(*args, **kwargs))
        return started[-1]

    def interrupt(text: str) -> None:
        if text == "x":
            raise KeyboardInterrupt

    monkeypatch.setattr(build.subprocess, "Popen", popen)
    monkeypatch.setattr(build.terminal, "say", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build._make("the engine", "{}", tmp_path, 30)
    assert [process.poll() is not None for process in started] == [True]
