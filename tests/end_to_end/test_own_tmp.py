"""From drawn JPEG files to a score, with the real networks and seeded weights, on every engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from engineroom.registry import missing

if TYPE_CHECKING:
    from conftest import Checkout

pytestmark = pytest.mark.heavy
IMAGES = {"evaluation": 40, "calibration": 8}
ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
ON = "--dataset=imagenet-synthetic --weights=synthetic"
SHORT = (
    "--min_duration=200 --min_query_count=64 --probe_s=0.2 --server_target_qps=2 "
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
    """Return ONNX Runtime's own answers to the samples, computed here."""
    samples = np.load(checkout.artifact("preprocessed_data/imagenet-synthetic/resnet50/evaluation") / "input_tensor:0.npy")
    session = onnxruntime.InferenceSession(checkout.root / "build/models/resnet50/synthetic.onnx")
    classes: list[int] = session.run(["ArgMax:0"], {"input_tensor:0": samples})[0].tolist()
    return classes



def test_it(photos: Checkout) -> None:
    done = photos.inv("run_harness", f"{ON} --benchmarks=resnet50-torch-int8 --scenarios=SingleStream,Offline --test_mode=AccuracyOnly {SHORT}")
    print(done.text[-6000:])
    for path, r in photos.results().items():
        print(path.name, r["engine"], r["precision"], r["accuracy"], r["notes"])
    assert 0
