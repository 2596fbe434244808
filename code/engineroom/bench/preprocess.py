"""What one core needs to make ResNet-50's input of a JPEG of ImageNet's usual size."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from pathlib import Path

from engineroom import registry
from engineroom.bench import product
from engineroom.bench.figures import Figure, interleaved
from engineroom.errors import RequestError
from engineroom.images import jpeg, preprocess, synthetic
from engineroom.terms import TensorSpec

IMAGES = 50
USUAL = (500, 375, 3)  # width, height, components
LIMIT_MS = 10.0  # 100 images/s
INPUT = TensorSpec("image", "float32", (3, 224, 224))


def measure(pairs: int) -> list[Figure]:
    """Return the time of a core per image. Raises RequestError without the extra that preprocessing needs."""
    if absent := registry.missing(preprocess.MODULES):
        mend = f'make install RUN_ARGS="--extra={preprocess.EXTRA}"'
        raise RequestError(f"preprocessing needs {', '.join(absent)}, not installed here", mend=mend)
    with product.scratch() as folder:
        names = [sample.file for sample in synthetic.samples("bench", 8 * IMAGES)]
        files = list(islice(filter(_usual, map(synthetic.draw, names)), IMAGES))
        paths = [folder / name for name in names[: len(files)]]
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(file)
        taken = interleaved("preprocess", pairs, {"engineroom": partial(_core_ms, paths)})
    return [Figure("preprocess, ResNet-50", "core ms/image", taken["engineroom"], limit=LIMIT_MS)]


def _usual(file: bytes) -> bool:
    frame = jpeg.frame(file)
    return (frame.width, frame.height, frame.components) == USUAL


def _core_ms(paths: list[Path]) -> float:
    begin = time.process_time()
    preprocess.prepare(paths, preprocess.RESNET50, INPUT)
    return 1e3 * (time.process_time() - begin) / len(paths)
