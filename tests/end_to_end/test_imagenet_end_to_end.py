"""From drawn JPEG files to a score, with the real networks and seeded weights, on every engine."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from engineroom import systems
from engineroom.engines import computes_in
from engineroom.registry import missing
from engineroom.terms import Precision

if TYPE_CHECKING:
    from conftest import Checkout

pytestmark = pytest.mark.heavy
IMAGES = {"evaluation": 24, "calibration": 8}
ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
ON = "--dataset=imagenet-synthetic --weights=synthetic"
SHORT = (
    "--batch_size=8 --min_duration=200 --min_query_count=64 --probe_s=0.2 "
    "--server_target_latency_ns=20000000000 --watchdog_s=120"
)
MODULES = {"torch": ("torch",), "litert": ("ai_edge_litert",)}


@pytest.fixture(scope="module")
def photos(
    house: Checkout, copy_checkout: Callable[[Path, Path], Checkout], tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """Return a checkout whose imagenet-synthetic has fewer images, so that a run takes seconds."""
    root = tmp_path_factory.mktemp("photos") / "checkout"
    checkout = copy_checkout(ROOT, root)
    folder = checkout.root / "data_maps" / "imagenet-synthetic"
    manifest = (folder / "dataset.yaml").read_text()
    for part, name in (("evaluation", "val_map.txt"), ("calibration", "cal_map.txt")):
        lines = (folder / name).read_text().splitlines()
        manifest = manifest.replace(f"samples: {len(lines)}", f"samples: {IMAGES[part]}")
        (folder / name).write_text("\n".join(lines[: IMAGES[part]]) + "\n")
    (folder / "dataset.yaml").write_text(manifest)
    return checkout


def _installed(engine: str) -> None:
    if missing(MODULES.get(engine, ())):
        pytest.skip(f"the extra {engine} is not installed")


def _new(checkout: Checkout, run_args: str) -> list[tuple[Path, dict[str, Any]]]:
    before = set(checkout.results())
    checkout.inv("run_harness", f"{ON} {run_args}")
    return [(path, result) for path, result in checkout.results().items() if path not in before]


def _classes(folder: Path, network: Callable[[bytes], int]) -> list[int]:
    """Return what LoadGen's log says of each sample, in the order of the samples."""
    log = json.loads((folder / "mlperf_log_accuracy.json").read_text())
    named = {line["qsl_idx"]: network(bytes.fromhex(line["data"])) for line in log}
    return [named[index] for index in range(IMAGES["evaluation"])]


def _by_onnxruntime(checkout: Checkout) -> list[int]:
    """Return ONNX Runtime's own answers to the samples, computed here, as labels: without the background, class 0."""
    samples = np.load(
        checkout.artifact("preprocessed_data/imagenet-synthetic/resnet50/evaluation") / "input_tensor:0.npy"
    )
    session = onnxruntime.InferenceSession(checkout.root / "build/models/resnet50/synthetic.onnx")
    classes: list[int] = session.run(["ArgMax:0"], {"input_tensor:0": samples})[0].tolist()
    return [each - 1 for each in classes]


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        *(("openvino", precision) for precision in ("fp32", "bf16", "int8")),
        *(("onnxruntime", precision) for precision in ("fp32", "int8")),
        *(("torch", precision) for precision in ("fp32", "bf16")),
    ],
)
def test_resnet50_answers_every_sample(photos: Checkout, engine: str, precision: str) -> None:
    _installed(engine)
    if (engine, precision) == ("openvino", "bf16") and not computes_in(Precision.BF16, systems.detect()):
        pytest.skip("the CPU does not compute in bf16, so OpenVINO refuses it: tests/actions/test_settle.py")
    slow = (engine, precision) == ("torch", "bf16")  # without such instructions PyTorch takes seconds for an image
    scenarios = ("SingleStream",) if slow else SCENARIOS
    runs = _new(
        photos,
        f"--benchmarks=resnet50 --engine={engine} --precision={precision} --scenarios={','.join(scenarios)} "
        f"--test_mode=AccuracyOnly {SHORT}",
    )
    assert [result["scenario"] for _, result in runs] == list(scenarios)
    expected = _by_onnxruntime(photos)
    assert len(set(expected)) > 5  # the network tells the images apart
    for folder, result in runs:
        classes = _classes(folder, lambda response: int(np.frombuffer(response, np.int64)[0]))
        agreeing = sum(map(int.__eq__, classes, expected))
        score = result["accuracy"]
        assert (score["good"], score["total"], score["metric"]) == (agreeing, len(expected), "agreement")
        words, note = (folder / "accuracy.txt").read_text().splitlines()[:2]
        assert words == f"accuracy={100 * agreeing / 24:.3f}%, good={agreeing}, total=24"
        assert note.startswith("synthetic weights: ")
        # Seeded weights have scores that lie close together: rounding moves more answers than it does of trained ones.
        assert agreeing >= {"fp32": 24, "bf16": 18, "int8": 8}[precision]
        assert (result["weights"], result["dataset"], result["submittable"]) == (
            "synthetic",
            "imagenet-synthetic",
            False,
        )
        assert any(note.startswith("synthetic weights: ") for note in result["notes"])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "torch"])
def test_resnet50_is_measured_in_every_scenario(photos: Checkout, engine: str) -> None:
    """64 queries are enough for SingleStream's p90, 8 not for a p99: LoadGen then says so, and we repeat its word."""
    _installed(engine)
    asked = f"--benchmarks=resnet50 --engine={engine} --precision=fp32 --test_mode=PerformanceOnly"
    few = SHORT.replace("min_query_count=64", "min_query_count=8")
    runs = _new(photos, f"{asked} --scenarios=SingleStream,Offline {SHORT}")
    runs += _new(photos, f"{asked} --scenarios=MultiStream,Server {few}")
    assert [result["scenario"] for _, result in runs] == ["SingleStream", "Offline", "MultiStream", "Server"]
    for _, result in runs:
        figure, enough = result["performance"], result["scenario"] in ("SingleStream", "Offline")
        assert (figure["valid"], result["exit_code"]) == (enough, 0 if enough else 1), figure
        assert figure["samples"] >= (8 if result["scenario"] == "Server" else 64)
        words = " ".join(figure["reasons"]).lower()
        assert figure["value"] > 0 if enough else re.search(r"need to (run|process) at least \d+", words), words
        reasons = ["the weights are synthetic", "the data set is imagenet-synthetic"]
        assert result["rules"]["round"] == "v6.1" and result["rules"]["divisions"] == []
        assert result["rules"]["reasons"][:2] == [f"not submittable: {why}" for why in reasons]
        assert any(" s of 600 s" in why for why in result["rules"]["reasons"])


def test_quantized_torchscript_answers_as_by_itself_in_every_scenario(photos: Checkout) -> None:
    _installed("torch")
    import torch

    runs = _new(photos, f"--benchmarks=resnet50-torch-int8 --test_mode=AccuracyOnly {SHORT}")
    assert [result["scenario"] for _, result in runs] == list(SCENARIOS)
    folder = photos.artifact("preprocessed_data/imagenet-synthetic/resnet50-torch-int8/evaluation")
    module = torch.jit.load(photos.root / "build/models/resnet50-torch-int8/synthetic.pt")
    with torch.inference_mode():
        (scores,) = module(torch.from_numpy(np.load(folder / "image.npy")))
    expected = scores.argmax(axis=1).tolist()
    assert len(set(expected)) > 5
    for run, result in runs:
        assert _classes(run, lambda response: int(np.frombuffer(response, np.float32).argmax())) == expected
        assert (result["engine"], result["precision"]) == ("torch", "int8")
        assert result["accuracy"]["good"] >= 14  # as the float twin under ONNX Runtime says; seeded weights are touchy


@pytest.mark.parametrize(
    ("name", "modes", "least"),
    [
        ("mobilenet-v2", ["AccuracyOnly"], 24),
        ("mobilenet-v3-large-minimalistic", ["PerformanceOnly", "AccuracyOnly"], 24),
        ("mobilenet-v3-large-minimalistic-uint8", ["AccuracyOnly"], 12),
    ],
)
def test_mobilenet_runs_on_litert_in_every_scenario(photos: Checkout, name: str, modes: list[str], least: int) -> None:
    _installed("litert")
    enough = SHORT.replace("query_count=64", "query_count=662")  # for early stopping at p99
    runs = _new(photos, f"--benchmarks={name} --test_mode={','.join(modes)} {enough}")
    assert {(result["scenario"], result["test_mode"]) for _, result in runs} == {
        (scenario, mode) for scenario in SCENARIOS for mode in modes
    }
    for _, result in runs:
        assert result["engine"] == "litert"
        if result["accuracy"]:  # against ONNX Runtime on the same weights in float
            assert least <= result["accuracy"]["good"] <= result["accuracy"]["total"] == 24
        else:
            assert result["performance"]["valid"], result["performance"]["reasons"]


def test_nothing_that_is_right_is_made_again(photos: Checkout) -> None:
    request = f"{ON} --benchmarks=resnet50 --precision=fp32 --scenarios=Offline"
    photos.good("generate_engines", request)
    assert "first time" not in (again := photos.good("generate_engines", f"{request} --explain").text)
    assert "reused" in again
    (photos.root / "build/models/resnet50/synthetic.onnx").unlink()
    assert "made build/models/resnet50/synthetic.onnx" in (third := photos.good("generate_engines", request).text)
    assert "rebuilt" not in third and "reused" in third  # the same seed gives the same bytes


def test_a_model_of_ones_own_runs_and_a_changed_one_is_not_run_again(photos: Checkout) -> None:
    model = photos.root / "mine.onnx"
    photos.good("download_model", f"{ON} --benchmarks=resnet50")
    model.write_bytes((photos.root / "build/models/resnet50/synthetic.onnx").read_bytes())
    own = "--dataset=imagenet-synthetic --model_path=mine.onnx --benchmarks=resnet50 --precision=fp32"
    done = photos.good("run_harness", f"{own} --scenarios=SingleStream --test_mode=AccuracyOnly {SHORT}")
    result = photos.result()
    assert (result["weights"], result["accuracy"]["good"]) == ("own", 24)
    assert "own weights" in done.out and "imagenet-synthetic" in done.out
    with model.open("ab") as file:
        file.write(b"\0")
    again = subprocess.run(
        ["sh", str(photos.root / result["run"] / "recipe" / "run.sh")], capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert "mine.onnx: is not what the first run used" in again.stderr
    assert not photos.partial()
