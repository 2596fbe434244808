"""Generated images: the same bytes from the same name, of every kind that a real set has, and told apart."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
from PIL import Image

from engineroom.datasets import Dataset
from engineroom.images import preprocess, synthetic
from engineroom.paths import CODE
from engineroom.terms import TensorSpec

NAMES = [sample.file for sample in synthetic.samples("evaluation", 60)]
SPEC = TensorSpec("image", "float32", (3, 224, 224))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the images of NAMES."""
    folder = tmp_path_factory.mktemp("images")
    synthetic.generate(NAMES, folder, lambda done, total: None)
    return folder


def test_the_checksums_and_the_progress_are_those_of_what_was_written(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    checksums = synthetic.generate(NAMES[:3], tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert checksums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}


def test_another_process_draws_the_same_bytes(folder: Path) -> None:
    script = (
        "import hashlib, sys; from engineroom.images import synthetic\n"
        "for name in reversed(sys.argv[1:]): print(name, hashlib.sha256(synthetic.draw(name)).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(CODE), "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *NAMES[:8]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    said = dict(line.split() for line in done.stdout.splitlines())
    assert said == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES[:8]}


def test_the_set_has_every_kind_of_file() -> None:
    modes: Counter[str] = Counter()
    sizes, orientations, progressive = set(), set(), set()
    for name in NAMES:
        with Image.open(io.BytesIO(synthetic.draw(name))) as image:
            modes[image.mode] += 1
            sizes.add(image.size)
            orientations.add(image.getexif()[0x0112])
            progressive.add(bool(image.info.get("progressive")))
    assert modes.keys() == {"RGB", "L", "CMYK"} and modes["RGB"] > 0.8 * len(NAMES)
    assert len(sizes) > 8 and {min(size) < 224 for size in sizes} == {True, False}
    assert len(orientations) > 1 and progressive == {True, False}


def test_images_differ_where_a_network_looks(folder: Path) -> None:
    inputs = preprocess.prepare([folder / name for name in NAMES], preprocess.RESNET50, SPEC).astype(np.float64)
    flat = inputs.reshape(len(NAMES), -1)
    flat = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    likeness = np.triu(flat @ flat.T / flat.shape[1], 1)
    assert likeness.max() < 0.9
    means = inputs.mean(axis=(2, 3))
    assert means.std(axis=0).min() > 25  # the colours of whole images differ, too


def test_the_map_names_each_image_once_and_the_parts_are_disjoint() -> None:
    evaluation, calibration = synthetic.samples("evaluation", 1_200), synthetic.samples("calibration", 100)
    names = [sample.file for sample in (*evaluation, *calibration)]
    assert len(set(names)) == len(names)
    assert {sample.label for sample in evaluation} == set(range(1000))


@pytest.mark.parametrize(("part", "count"), [("evaluation", 500), ("calibration", 100)])
def test_the_shipped_maps_are_those_of_the_generator(part: str, count: int) -> None:
    assert Dataset("imagenet-synthetic").samples(part) == synthetic.samples(part, count)
