"""Images that stand in for ImageNet's where those cannot be had: JPEG files of as many kinds, drawn from their names.

An image depends on nothing but its name, so a map's names are all that a set of images is. Every pixel comes from whole
numbers: no processor rounds them differently, and one version of NumPy and Pillow writes the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.datasets import Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

CLASSES = 1_000
BYTES = 60_000  # of an image, about
MODULES, EXTRA = ("PIL",), "imagenet"
DISTRIBUTIONS = ("numpy", "pillow")  # which write the same bytes only in one version

# Width and height, as photographs have them: most of ImageNet's are 500 x 375. Some are smaller than the crop.
SIZES = (
    *[(500, 375)] * 6,
    *[(375, 500)] * 3,
    *((500, 333), (333, 500), (400, 400), (640, 480), (256, 256), (224, 224), (501, 377), (1024, 683)),
    *((160, 120), (75, 110), (1200, 300), (300, 900)),
)
MODES = (*["RGB"] * 23, "L", "CMYK")
ORIENTATIONS = (*[1] * 23, 3, 6)  # EXIF: as it is, upside down, on its side
EXIF_ORIENTATION = 0x0112


def samples(part: str, count: int) -> tuple[Sample, ...]:
    """Return the map of a part of `count` images. The labels run through the classes and mean nothing."""
    return tuple(Sample(f"{part}_{number:05d}.JPEG", number % CLASSES) for number in range(1, count + 1))


def generate(names: Sequence[str], folder: Path, progress: Callable[[int, int], None]) -> dict[str, str]:
    """Draw the image of each name into `folder` and return their SHA-256s; `progress` is told (done, all)."""
    checksums = {}
    for name in names:
        file = draw(name)
        (folder / name).write_bytes(file)
        checksums[name] = hashlib.sha256(file).hexdigest()
        progress(len(checksums), len(names))
    return checksums


def draw(name: str) -> bytes:
    """Return the JPEG file of a name: its size, colours, shapes and the way it is coded follow from the name."""
    import numpy as np
    from PIL import Image

    random = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])))
    width, height = SIZES[random.integers(len(SIZES))]
    mode = MODES[random.integers(len(MODES))]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ORIENTATIONS[random.integers(len(ORIENTATIONS))]
    file = io.BytesIO()
    Image.fromarray(_in_mode(_scene(random, width, height), mode), mode).save(
        file,
        "JPEG",
        quality=int(random.integers(70, 93)),
        subsampling=int(random.integers(3)),
        progressive=bool(random.integers(5) == 0),
        exif=exif,
    )
    return file.getvalue()


def _scene(random: np.random.Generator, width: int, height: int) -> Pixels:
    """Return [height, width, 3]: a gradient, stripes, some discs and boxes, and grain."""
    import numpy as np

    y, x = np.ogrid[:height, :width]
    left, right, stripe = random.integers(0, 256, (3, 3))
    gradient = (left * (width - x[..., None]) + right * x[..., None]) // width
    scene = np.repeat(gradient.astype(np.int16), height, axis=0)
    across, down, period = random.integers(0, 4), random.integers(1, 4), random.integers(4, 80)
    scene[(across * x + down * y) // period % 2 == 0] = stripe
    for _ in range(random.integers(3, 12)):
        _add_shape(scene, random)
    grain = random.integers(1, 24)
    scene += random.integers(-grain, grain, (height, width, 1), np.int8)
    return scene.clip(0, 255).astype(np.uint8)


def _add_shape(scene: npt.NDArray[np.int16], random: np.random.Generator) -> None:
    """Draw a disc or a box, opaque or as a veil, of up to the image's size and partly outside of it."""
    import numpy as np

    height, width = scene.shape[:2]
    middle_x, middle_y = random.integers(width), random.integers(height)
    wide, high = random.integers(4, width // 2), random.integers(4, height // 2)
    colour, veil, is_disc = random.integers(0, 256, 3), random.integers(2), random.integers(2)
    rows = slice(max(0, middle_y - high), min(height, middle_y + high))
    columns = slice(max(0, middle_x - wide), min(width, middle_x + wide))
    box = scene[rows, columns]
    y, x = np.ogrid[rows, columns]
    inside = ((x - middle_x) * high) ** 2 + ((y - middle_y) * wide) ** 2 < (wide * high) ** 2
    drawn = (box * veil + colour) // (1 + veil)
    np.copyto(box, drawn, casting="unsafe", where=inside[..., None] if is_disc else True)


def _in_mode(scene: Pixels, mode: str) -> Pixels:
    """Return the scene in colours, in grey, or in cyan, magenta, yellow and black."""
    import numpy as np

    if mode == "RGB":
        return scene
    if mode == "L":
        return scene[..., 1]
    ink = 255 - scene
    return np.concatenate([ink, ink.min(axis=2, keepdims=True) // 2], axis=2)
