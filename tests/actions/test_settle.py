"""The settings of a run fit its benchmark, its engine and the machine, or are refused with what would."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engineroom import registry
from engineroom.actions.settle import settle
from engineroom.actions.works import works
from engineroom.benchmarks import Benchmark
from engineroom.config import Resolved
from engineroom.config.fields import OF_BENCHMARK, defaults
from engineroom.detection import Machine
from engineroom.errors import EngineroomError, RequestError
from engineroom.run_args import Request
from engineroom.terms import Scenario, TestMode, Weights


@pytest.fixture(autouse=True)
def _on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engineroom.systems.detect", lambda: machine)


def settled(machine: Machine, name: str, weights: Weights = Weights.SYNTHETIC, **flags: str) -> Resolved:
    """Return the settings of a benchmark's Offline run on drawn images; the flag test_run is a switch."""
    test_run = bool(flags.pop("test_run", False))
    benchmark: Benchmark = registry.get("benchmarks", name).load().BENCHMARK
    which: dict[str, Any] = {**{field: defaults()[field] for field in OF_BENCHMARK}, "weights": weights}
    request = Request(overrides={"weights": weights, **flags}, test_run=test_run)
    return settle(
        benchmark.variant("auto", weights), which, request, machine, Scenario.OFFLINE, TestMode.PERFORMANCE_ONLY
    )


def test_the_settings_say_which_data_and_how_many_samples(machine: Machine) -> None:
    """MLPerf's ResNet-50 keeps 1,024 samples in memory; only 500 images are drawn."""
    found = settled(machine, "resnet50")
    assert (found.config.dataset, found.config.performance_sample_count) == ("imagenet-synthetic", 500)
    assert found.origins["dataset"].text == "rule dataset: the drawn one"
    found = settled(machine, "resnet50", Weights.REFERENCE)
    assert (found.config.dataset, found.config.performance_sample_count) == ("imagenet", 1024)


@pytest.mark.parametrize(
    ("flags", "milliseconds", "origin"),
    [({}, 60_000, "--test_run"), ({"min_duration": "9000"}, 9_000, "--min_duration")],
)
def test_a_test_run_is_short_even_where_the_rules_want_many_samples(
    machine: Machine, flags: dict[str, str], milliseconds: int, origin: str
) -> None:
    found = settled(machine, "resnet50", test_run="yes", **flags)
    assert (found.config.min_duration, found.config.min_query_count) == (milliseconds, 1)
    assert (origin in found.origins["min_duration"].text, found.origins["min_query_count"].text) == (True, "--test_run")


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("mobilenet-v2", {"engine": "onnxruntime"}, r"does not take \.tflite.*--engine=litert or --engine=openvino"),
        ("resnet50", {"engine": "litert"}, r"does not take \.onnx models, only \.tflite.*--engine=onnxruntime or"),
        ("resnet50", {"engine": "torch", "precision": "int8"}, "torch runs no model in int8 that was calibrated here"),
        ("mobilenet-v2", {"precision": "int8"}, "has no precision int8.*it has fp32"),
        ("resnet50", {"engine": "onnxruntime", "precision": "bf16"}, "onnxruntime has no precision bf16.*int8, fp32"),
        ("resnet50", {"engine": "openvino", "precision": "bf16"}, "openvino has no precision bf16 on this machine"),
        ("resnet50", {"performance_sample_count": "501"}, "is 501, but resnet50 has 500 samples.*at most 500"),
        ("resnet50", {"dataset": "imagenet-500"}, "dataset is imagenet-500 in Offline, but auto for the benchmark"),
    ],
)
def test_what_cannot_be_served_is_refused(machine: Machine, name: str, flags: dict[str, str], said: str) -> None:
    with pytest.raises(EngineroomError) as caught:
        settled(machine, name, **flags)
    assert re.search(said, str(caught.value), re.DOTALL), str(caught.value)


def test_openvino_has_bf16_where_the_cpu_computes_in_it(machine: Machine) -> None:
    able = replace(machine, cpu=replace(machine.cpu, isa=("avx2", "avx512_bf16")))
    found = settled(able, "resnet50", engine="openvino", precision="bf16")
    assert found.config.precision == "bf16"


def test_settings_of_calibration_are_without_effect_where_nothing_is_calibrated(machine: Machine) -> None:
    assert not settled(machine, "resnet50", observer="entropy").warnings
    [warning] = settled(machine, "mobilenet-v2", observer="entropy", float_layers="conv0").warnings
    assert warning == "mobilenet-v2 is not calibrated for litert: without effect: observer, float_layers"


# Which benchmarks a request asks for


def test_a_benchmark_that_was_not_named_and_has_no_such_variant_is_left_out() -> None:
    _, found = works(["--weights=synthetic"])
    assert "digits" not in [work.benchmark.name for work in found]
    assert "resnet50" in [work.benchmark.name for work in found]
    with pytest.raises(RequestError, match="digits has no synthetic weights"):
        works(["--benchmarks=digits", "--weights=synthetic"])


def test_where_none_that_fits_is_here_those_that_fit_are_named() -> None:
    with pytest.raises(RequestError, match=r"none has its model and data here: .*resnet50.*\n  name one: ") as caught:
        works(["--dataset=imagenet-500"])
    assert "digits" not in str(caught.value)


def test_a_model_that_fits_no_benchmark_is_told_and_not_that_none_is_here(tmp_path: Path) -> None:
    with pytest.raises(EngineroomError, match=r"nowhere\.onnx: cannot be read") as caught:
        works([f"--model_path={tmp_path / 'nowhere.onnx'}"])
    assert str(caught.value).count("cannot be read") == 1
    assert works([])[1]  # without the flag there is the quick start
