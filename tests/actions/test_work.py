"""What a request asks for is settled with reasons that are true."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from engineroom import registry
from engineroom.actions.settle import context_of
from engineroom.actions.work import Work
from engineroom.benchmarks import Benchmark
from engineroom.config import resolve
from engineroom.config.fields import OF_BENCHMARK, defaults
from engineroom.detection import Gpu, Machine
from engineroom.networks.layout import Layout
from engineroom.run_args import Request
from engineroom.steps import build
from engineroom.terms import Precision, Scenario, TensorSpec, TestMode, Weights


@pytest.mark.parametrize(
    ("held", "precision", "why"),
    [
        ({}, Precision.INT8, "not known to miss its target"),
        ({Precision.INT8: False}, Precision.FP32, "not known to miss its target"),
        ({Precision.INT8: False, Precision.FP32: True}, Precision.FP32, "not known to miss its target"),
        ({Precision.INT8: False, Precision.FP32: False}, Precision.FP32, "all miss the target"),
    ],
)
def test_the_best_precision_says_why(
    held: dict[Precision, bool], precision: Precision, why: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "engine", lambda self, config: config.precision)
    monkeypatch.setattr(build, "known_accuracy", lambda engine, samples, expected, target: held.get(engine))
    work = Work(registry.get("benchmarks", "digits").load().BENCHMARK, Request(), machine)
    found, _ = work.best_precision(work.resolve(Scenario.OFFLINE, TestMode.ACCURACY_ONLY))
    assert (found.config.precision, found.origins["precision"].text) == (precision, f"rule best_precision: {why}")


@pytest.mark.parametrize(
    ("vendor", "isa", "gpus", "chosen"),
    [
        ("GenuineIntel", (), (), Precision.FP32),
        ("GenuineIntel", ("avx512_bf16",), (), Precision.FP32),
        ("GenuineIntel", ("avx512_bf16", "amx_bf16"), (), Precision.BF16),
        ("AuthenticAMD", (), (), Precision.FP32),
        ("AuthenticAMD", ("avx512_bf16",), (), Precision.BF16),
        ("ARM", ("bf16",), (), Precision.BF16),
        ("GenuineIntel", (), (Gpu("NVIDIA H200"),), Precision.BF16),
    ],
)
def test_bf16_is_chosen_where_something_is_quick_in_it(
    vendor: str,
    isa: tuple[str, ...],
    gpus: tuple[Gpu, ...],
    chosen: Precision,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch has it everywhere: on a CPU without the instructions eight times as slow as fp32."""
    monkeypatch.setattr(Work, "engine", lambda self, config: config.precision)
    monkeypatch.setattr(Work, "expected_key", lambda self, config: "")
    monkeypatch.setattr(Work, "samples_key", "")
    monkeypatch.setattr(build, "known_accuracy", lambda engine, samples, expected, target: None)
    able = replace(machine, gpus=gpus, cpu=replace(machine.cpu, vendor=vendor, isa=isa))
    resnet50: Benchmark = registry.get("benchmarks", "resnet50").load().BENCHMARK
    which = {**{field: defaults()[field] for field in OF_BENCHMARK}, "weights": Weights.SYNTHETIC}
    request = Request(overrides={"engine": "torch", "weights": "synthetic"})
    work = Work(resnet50.variant("auto", Weights.SYNTHETIC), request, able, which)
    found, _ = work.best_precision(work.resolve(Scenario.OFFLINE, TestMode.PERFORMANCE_ONLY))
    assert found.config.precision is chosen


def _instances(benchmark: Benchmark, machine: Machine, **overrides: str) -> int:
    with_gpu = replace(machine, gpus=(Gpu("NVIDIA H200", memory_bytes=140 << 30),))
    context = context_of(benchmark, Request(), with_gpu, Scenario.OFFLINE)
    return resolve(context, TestMode.PERFORMANCE_ONLY, {"engine": "torch", **overrides}).config.instances


def test_a_model_that_came_quantized_is_not_sized_for_gpus_which_it_cannot_use(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two instances per GPU, else one per core; a user's own quantized model is as ours, his float one as floats."""
    shipped: Benchmark = registry.get("benchmarks", "resnet50-torch-int8").load().BENCHMARK
    floats: Benchmark = registry.get("benchmarks", "resnet50").load().BENCHMARK
    assert _instances(shipped, machine) == machine.cpu.usable_cores == 4
    assert _instances(floats, machine) == 2
    image, scores = TensorSpec("image", "float32", (3, 224, 224)), TensorSpec("scores", "float32", (1000,))
    for precisions, instances in (((Precision.INT8,), 4), ((Precision.FP32,), 2)):
        own = Layout((image,), (scores,), precisions, classes=1000)
        monkeypatch.setattr("engineroom.networks.layout.read", lambda *_, own=own: own)
        for benchmark in (shipped, floats):
            assert _instances(benchmark.variant("auto", Weights.REFERENCE, Path("own.pt")), machine) == instances


def test_the_quick_start_says_which_gpu_engine_is_missing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    digits = registry.get("benchmarks", "digits").load().BENCHMARK
    Work(digits, Request(), replace(machine, gpus=(Gpu("NVIDIA H200"),))).resolve(
        Scenario.OFFLINE, TestMode.PERFORMANCE_ONLY
    )
    said = capsys.readouterr().err
    assert "though NVIDIA H200 is there: the engine tensorrt needs tensorrt, not installed here" in said
    assert '(install it with: make install RUN_ARGS="--engine=tensorrt")' in said


def test_a_score_counts_only_beside_the_answers_that_it_was_measured_against(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where labels mean nothing, the samples say nothing of what was held to be right: another model does."""
    monkeypatch.setattr("engineroom.steps.preprocess.PREPROCESSED_DATA", tmp_path)
    monkeypatch.setattr("engineroom.asking.PREPROCESSED_DATA", tmp_path)
    monkeypatch.setattr(Work, "data", {Path("digits.csv.gz"): "d" * 64})

    def key(sha256: str, **facts: bool) -> str:
        digits = copy.copy(registry.get("benchmarks", "digits").load().BENCHMARK)
        work = Work(digits, Request(), machine)
        monkeypatch.setattr(type(digits), "judged_by_float", facts.get("judged_by_float", True))
        monkeypatch.setattr(Work, "asked_sha256", sha256)
        return work.expected_key(work.resolve(Scenario.OFFLINE, TestMode.ACCURACY_ONLY).config)

    assert key("1" * 64) == key("1" * 64) != key("2" * 64)
    assert key("1" * 64, judged_by_float=False) == ""
    assert not list(tmp_path.rglob("*")), "nothing is made only to know its key"
