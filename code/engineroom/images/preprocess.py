"""From a JPEG file to a model's input, as MLPerf's reference does it.

The formulas and how sizes are rounded: mlcommons/inference b66003e1, vision/classification_and_detection/python/
dataset.py (`resize_with_aspectratio`, `center_crop`, `pre_process_vgg`, `pre_process_mobilenet`,
`pre_process_imagenet_pytorch`); that files are read by `cv2.imread(path)`: imagenet.py. What follows from the latter,
OpenCV's defaults: greyscale becomes three equal channels, CMYK is converted by OpenCV's own formula, and EXIF's
orientation is obeyed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.errors import Mistakes, RequestError
from engineroom.images import jpeg
from engineroom.paths import display
from engineroom.terms import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

MODULES = ("cv2", "PIL")
DISTRIBUTIONS = ("opencv-python-headless", "pillow", "numpy")
EXTRA = "imagenet"
SOURCES = (Path(__file__), Path(jpeg.__file__))

# Limits of ours, held against the header before a pixel is decoded: a few kilobytes of JPEG can ask for gigabytes.
# ImageNet's images are far inside them.
LEAST_SIDE = 8  # one block of a JPEG
MOST_SIDE = 16_384
MOST_PIXELS = 1 << 26  # decoded, and again after resizing to a short side of 256: 200 MB each
MOST_BYTES = 3 * MOST_PIXELS  # of the file
MOST_SCANS = 100  # encoders make ten or so; each passes over all pixels, however few bytes it has
BITS = 8  # of a colour


class Resize(StrEnum):
    """How pixels are interpolated: OpenCV's INTER_AREA and INTER_LINEAR, and Pillow's BILINEAR, which smooths."""

    AREA = "area"
    LINEAR = "linear"
    PILLOW_BILINEAR = "pillow_bilinear"


@dataclass(frozen=True)
class Recipe:
    """How the pixels p of an image, R, G and B from 0 to 255, become x = (p / divisor - shift) / spread in float32.

    Operations that change nothing are exact, so each recipe computes what its reference computes, bit for bit.
    """

    resize: Resize
    divisor: float = 1
    shift: tuple[float, float, float] = (0, 0, 0)
    spread: tuple[float, float, float] = (1, 1, 1)


RESNET50 = Recipe(Resize.AREA, shift=(123.68, 116.78, 103.94))
MOBILENET = Recipe(Resize.LINEAR, divisor=255, shift=(0.5, 0.5, 0.5), spread=(0.5, 0.5, 0.5))
RESNET50_TORCH = Recipe(Resize.PILLOW_BILINEAR, 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Quantization:
    """How an integer input stands for x: q = round(x / scale) + zero_point, cut to its type (ONNX QuantizeLinear)."""

    scale: float = 1
    zero_point: int = 0


def prepare(
    paths: Sequence[Path],
    recipe: Recipe,
    spec: TensorSpec,
    quantization: Quantization | None = None,
    checksums: Mapping[str, str] | None = None,
) -> npt.NDArray[np.generic]:
    """Return [images, *spec.shape] in spec.dtype: float32, or int8 or uint8 with a quantization.

    The layout is read from the shape: (3, size, size) or (size, size, 3). Raises Mistakes with every file that is no
    sound JPEG of a sensible size, or has not the SHA-256 that `checksums` gives for its name.
    """
    import cv2
    import numpy as np

    cv2.setNumThreads(1)  # many images at a time are a matter of processes
    made = np.empty((len(paths), *spec.shape), spec.dtype)
    mistakes: list[RequestError] = []
    for place, path in zip(made, paths, strict=True):
        try:
            image = read(path, _sha256(path, checksums) if checksums else None)
            place[...] = tensor(crop(image, recipe.resize, spec.shape[1]), recipe, spec, quantization)
        except RequestError as error:
            mistakes.append(error)
    if mistakes:
        raise Mistakes(mistakes)
    return made


def read(path: Path, sha256: str | None = None) -> Pixels:
    """Return the image of a JPEG file as the reference gets it: [height, width, 3], blue first.

    Raises RequestError if it cannot be read, is no whole JPEG, has a size that no photograph has, or not this SHA-256:
    data that are damaged in their middle are often decoded without complaint.
    """
    import cv2
    import numpy as np

    try:
        data = _bytes(path)
        _check(jpeg.frame(data))
        if sha256 and (found := hashlib.sha256(data).hexdigest()) != sha256:
            raise jpeg.JpegError(f"has changed: its SHA-256 is {found}, must be {sha256}")
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from error
    except (jpeg.JpegError, cv2.error) as error:
        raise RequestError(str(error), where=display(path)) from error
    if image is None:
        raise RequestError("cannot be decoded: its data are damaged", where=display(path))
    return image  # type: ignore[no-any-return]


def crop(image: Pixels, resize: Resize, size: int) -> Pixels:
    """Resize so that the short side is size / 87.5 %, and return the middle [size, size, 3], red first."""
    import cv2

    short = size * 8 // 7
    height, width = image.shape[:2]
    to = (short, short * height // width) if height > width else (short * width // height, short)
    if resize is Resize.PILLOW_BILINEAR:
        resized, left, top = _with_pillow(image, to), round((to[0] - size) / 2), round((to[1] - size) / 2)
    else:
        how = cv2.INTER_AREA if resize is Resize.AREA else cv2.INTER_LINEAR
        resized, left, top = _with_opencv(image, to, how), (to[0] - size) // 2, (to[1] - size) // 2
    return resized[top : top + size, left : left + size, ::-1]


def tensor(
    pixels: Pixels, recipe: Recipe, spec: TensorSpec, quantization: Quantization | None
) -> npt.NDArray[np.generic]:
    """Return the model's input of one image from its RGB pixels [size, size, 3]."""
    import numpy as np

    values = pixels.astype(np.float32)
    values /= np.float32(recipe.divisor)
    values -= np.array(recipe.shift, np.float32)
    values /= np.array(recipe.spread, np.float32)
    if spec.shape[0] == 3:
        values = values.transpose(2, 0, 1)
    if quantization is None:
        return values
    limits = np.iinfo(spec.dtype)
    steps = np.rint(values / np.float32(quantization.scale)) + np.float32(quantization.zero_point)
    quantized: npt.NDArray[np.generic] = steps.clip(limits.min, limits.max).astype(spec.dtype)
    return quantized


def _with_opencv(image: Pixels, to: tuple[int, int], how: int) -> Pixels:
    import cv2

    resized: Any = cv2.resize(image, to, interpolation=how)
    return resized  # type: ignore[no-any-return]


def _with_pillow(image: Pixels, to: tuple[int, int]) -> Pixels:
    """Resize as torchvision does with an image of Pillow."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(to, Image.Resampling.BILINEAR))


def _sha256(path: Path, checksums: Mapping[str, str]) -> str:
    if path.name not in checksums:
        raise RequestError("is not among the files whose SHA-256 is known", where=display(path))
    return checksums[path.name]


def _bytes(path: Path) -> bytes:
    """Return the content of a plain file: who reads a pipe may wait for ever."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise jpeg.JpegError("is no plain file")
        if status.st_size > MOST_BYTES:
            raise jpeg.JpegError(f"has {status.st_size:,} bytes: too large; {MOST_BYTES:,} are the most")
        return file.read()


def _check(frame: jpeg.Frame) -> None:
    if frame.bits != BITS:
        raise jpeg.JpegError(f"has colours of {frame.bits} bits; {BITS} are supported")
    if frame.scans > MOST_SCANS:
        raise jpeg.JpegError(f"is coded in {frame.scans:,} scans; {MOST_SCANS} are the most")
    short, long = sorted((frame.width, frame.height))
    size = f"{frame.width:,} x {frame.height:,} pixels"
    if short < LEAST_SIDE:
        raise jpeg.JpegError(f"has {size}: too small to show anything; each side must have at least {LEAST_SIDE}")
    if long > MOST_SIDE:
        raise jpeg.JpegError(f"has {size}: too large; each side may have at most {MOST_SIDE:,}")
    if max(short * long, 256 * 256 * long // short) > MOST_PIXELS:
        raise jpeg.JpegError(f"has {size}: too large to decode and resize; {MOST_PIXELS:,} pixels are the most")
