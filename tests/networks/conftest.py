"""Images that differ in colour, texture and shapes, and the networks that tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engineroom.networks import resnet50

Floats = npt.NDArray[np.float32]


@pytest.fixture(name="varied_images")
def varied_images_fixture() -> Callable[[int], Floats]:
    """Return the function that makes images."""
    return varied_images


@pytest.fixture(name="entropy_bits")
def entropy_bits_fixture() -> Callable[[npt.NDArray[np.int64]], float]:
    """Return the function that tells how much predictions vary."""
    return entropy_bits


def varied_images(count: int, seed: int = 0) -> Floats:
    """Return images [count, 224, 224, 3] of whole values 0 to 255: gratings and blobs on a colour, some with noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:224, 0:224] / 224
    images = np.empty((count, 224, 224, 3), np.float32)
    for image in images:
        image[:] = random.uniform(0, 255, 3)
        for _ in range(random.integers(2, 8)):
            angle, waves = random.uniform(0, np.pi), np.exp(random.uniform(-0.7, 3.4))
            grating = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
            image += grating[:, :, None] * random.normal(0, 40, 3)
        for _ in range(random.integers(1, 6)):
            centre, radius = random.uniform(0, 1, 2), random.uniform(0.03, 0.3)
            image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = random.uniform(0, 255, 3)
        image += random.normal(0, random.uniform(0, 20), image.shape)
    return np.rint(images.clip(0, 255))


def entropy_bits(classes: npt.NDArray[np.int64]) -> float:
    """Return the entropy of predictions; 0 if all are the same."""
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    return float(-(shares * np.log2(shares)).sum())


@pytest.fixture(scope="session")
def images() -> Floats:
    """As ResNet-50 takes them: [24, 3, 224, 224], the means of ImageNet's pixels taken away."""
    means = np.array([123.68, 116.78, 103.94], np.float32)
    return np.ascontiguousarray((varied_images(24) - means).transpose(0, 3, 1, 2))


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of ResNet-50."""
    path = tmp_path_factory.mktemp("networks") / "resnet50.onnx"
    resnet50.write(path)
    return path
