"""The planning around TensorRT's builder: shapes, graphs, timings, progress, words, the command of trtexec."""

from __future__ import annotations

import json
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorrt_examples import SETTINGS, request_for

from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.engines._plans import BuildSettings, Phases, graph_sizes, shapes_of, trtexec, words_of
from engineroom.engines._timing_cache import TimingCache
from engineroom.errors import EngineError
from engineroom.terms import HardwareCompatibility

# Shapes and graphs


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


@given(st.integers(1, 5000), st.lists(st.integers(1, 5000), max_size=8))
def test_every_batch_has_a_graph_that_holds_it(batch_size: int, wanted: list[int]) -> None:
    sizes = graph_sizes(batch_size, wanted)
    assert sizes == sorted(set(sizes)) and sizes[-1] == batch_size
    assert set(sizes) - {batch_size} <= set(wanted) if wanted else sizes[0] == 1


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
