"""JPEG files become a model's input by the reference's formula, held here against numbers that no OpenCV computed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("cv2")
from PIL import Image

from engineroom.errors import Mistakes, RequestError
from engineroom.images.preprocess import (
    MOBILENET,
    RESNET50,
    RESNET50_TORCH,
    Quantization,
    Recipe,
    Resize,
    crop,
    prepare,
    read,
)
from engineroom.terms import TensorSpec

NCHW = TensorSpec("image", "float32", (3, 224, 224))
NHWC = TensorSpec("image", "float32", (224, 224, 3))
PIXELS = Recipe(Resize.LINEAR)  # as they are
Array = npt.NDArray[Any]


def jpeg(image: Array, mode: str | None = None, **options: Any) -> bytes:
    """Return an image of [height, width, channels], coded by Pillow with hardly any loss."""
    file = io.BytesIO()
    Image.fromarray(image, mode).save(file, "JPEG", **{"quality": 100, "subsampling": 0, **options})
    return file.getvalue()


def noise(height: int, width: int) -> Array:
    """Return random pixels [height, width, 3]."""
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(colour: tuple[int, ...], height: int = 300, width: int = 400) -> Array:
    """Return one colour everywhere."""
    return np.full((height, width, len(colour)), colour, np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Return the function that writes a file."""

    def write(content: bytes, name: str = "image.JPEG") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


# The formula


def overlaps(source: int, target: int) -> Array:
    """Return [target, source]: how much of each target pixel each source pixel covers. Rows add up to 1."""
    edges, scale = np.arange(source), source / target
    begin = np.arange(target)[:, None] * scale
    return np.clip(np.minimum(edges + 1, begin + scale) - np.maximum(edges, begin), 0, None) / scale


def hats(source: int, target: int) -> Array:
    """Return [target, source]: the weights of linear interpolation between the middles of pixels."""
    middle = np.clip((np.arange(target)[:, None] + 0.5) * source / target - 0.5, 0, source - 1)
    return np.clip(1 - abs(middle - np.arange(source)), 0, None)


def resized(image: Array, weights: Any, height: int, width: int) -> Array:
    """Return the image with each pixel the weighted mean of its sources, in double precision."""
    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype(np.float64), optimize=True)


@pytest.mark.parametrize(
    ("height", "width", "to", "top", "left"),
    [
        (375, 500, (256, 341), 16, 58),  # 256 * 500 / 375 = 341.3; (341 - 224) / 2 = 58.5
        (500, 375, (341, 256), 58, 16),
        (512, 512, (256, 256), 16, 16),
        (377, 501, (256, 340), 16, 58),
        (300, 1200, (256, 1024), 16, 400),
    ],
)
@pytest.mark.parametrize(("resize", "weights"), [(Resize.AREA, overlaps), (Resize.LINEAR, hats)])
def test_pixels_are_the_means_that_the_interpolation_is_defined_by(
    height: int, width: int, to: tuple[int, int], top: int, left: int, resize: Resize, weights: Any
) -> None:
    image = noise(height, width)
    expected = resized(image, weights, *to)[top : top + 224, left : left + 224, ::-1]
    # OpenCV's linear interpolation has weights of 11 bits, so more than the last rounding is lost.
    most = 0.51 if resize is Resize.AREA else 1.0
    assert abs(crop(image, resize, 224) - expected).max() < most


def test_halving_by_area_is_the_mean_of_four_pixels() -> None:
    blocks = noise(256, 256)
    image = blocks.repeat(2, axis=0).repeat(2, axis=1)
    image[::2, ::2] -= np.minimum(image[::2, ::2], 4)  # each block: one pixel darker, its neighbour brighter
    image[1::2, 1::2] = np.clip(2 * blocks.astype(int) - image[::2, ::2], 0, 255)
    means = image.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    exact = means == means.round()
    assert exact.mean() > 0.9
    assert (crop(image, Resize.AREA, 224) == means[16:240, 16:240, ::-1])[exact[16:240, 16:240, ::-1]].all()


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (RESNET50, [200 - 123.68, 100 - 116.78, 50 - 103.94]),
        (MOBILENET, [200 / 127.5 - 1, 100 / 127.5 - 1, 50 / 127.5 - 1]),
        (RESNET50_TORCH, [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]),
        (PIXELS, [200, 100, 50]),
    ],
    ids=["resnet50", "mobilenet", "torch", "pixels"],
)
def test_a_colour_becomes_the_reference_formulas_numbers(file: Any, recipe: Recipe, expected: list[float]) -> None:
    path = file(jpeg(flat((200, 100, 50))))
    first = np.array(read(path)[0, 0, ::-1], np.float64)
    assert abs(first - [200, 100, 50]).max() <= 1  # what JPEG keeps of the colour
    shift = (first - [200, 100, 50]) * (np.array(expected) - prepare([path], recipe, NHWC)[0, 0, 0] != 0)
    planes = prepare([path], recipe, NCHW)
    assert planes.shape == (1, 3, 224, 224) and planes.dtype == np.float32
    step = {RESNET50: 1, MOBILENET: 1 / 127.5, RESNET50_TORCH: 1 / 57, PIXELS: 1}[recipe]
    assert np.allclose(planes[0].transpose(1, 2, 0), expected, atol=step * abs(shift).max() + 1e-5)
    assert np.array_equal(planes[0].transpose(1, 2, 0), prepare([path], recipe, NHWC)[0])


def test_the_torch_recipe_resizes_and_crops_as_torchvision_does(file: Any) -> None:
    path = file(jpeg(noise(375, 500)))
    with Image.open(path) as image:
        whole = np.asarray(image.resize((341, 256), Image.Resampling.BILINEAR))
    top, left = round((256 - 224) / 2), round((341 - 224) / 2)  # torchvision rounds to even: 58.5 becomes 58
    values = prepare([path], Recipe(Resize.PILLOW_BILINEAR), NHWC)[0]
    assert np.array_equal(values, whole[top : top + 224, left : left + 224])


@pytest.mark.parametrize(
    ("dtype", "recipe", "quantization", "expected"),
    [
        ("uint8", PIXELS, Quantization(), [200, 100, 50]),
        ("int8", PIXELS, Quantization(zero_point=-128), [72, -28, -78]),
        ("int8", RESNET50, Quantization(), [76, -17, -54]),
        ("int8", RESNET50, Quantization(scale=0.5), [127, -34, -108]),  # 152.64 is cut to 127
        ("uint8", MOBILENET, Quantization(1 / 128, 128), [201, 100, 50]),  # 200.78, 100.39, 50.2
    ],
)
def test_integers_are_rounded_and_cut_to_their_type(
    file: Any, dtype: str, recipe: Recipe, quantization: Quantization, expected: list[int]
) -> None:
    path = file(jpeg(flat((200, 100, 50))))
    assert read(path)[0, 0].tolist() == [50, 100, 200]
    values = prepare([path], recipe, TensorSpec("image", dtype, (224, 224, 3)), quantization)
    assert values.dtype == np.dtype(dtype)
    assert (values == expected).all()


# What files hold


def test_pixels_are_those_that_pillow_decodes(file: Any) -> None:
    path = file(jpeg(noise(75, 110), quality=85, subsampling=2))
    with Image.open(path) as image:
        assert np.array_equal(read(path)[..., ::-1], np.asarray(image))


def test_grey_is_three_equal_channels(file: Any) -> None:
    image = read(file(jpeg(noise(64, 48)[..., 0])))
    assert image.shape == (64, 48, 3)
    assert (image == image[..., :1]).all()


def test_cyan_magenta_yellow_and_black_become_red_green_and_blue(file: Any) -> None:
    """A colour of c, m, y, k is red (255 - c) (255 - k) / 255 and so on."""
    image = read(file(jpeg(flat((200, 30, 60, 40)), "CMYK")))
    assert abs(image[..., ::-1] - np.array([46.4, 189.7, 164.4])).max() < 3


def test_the_orientation_is_obeyed_as_the_reference_does(file: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it a quarter to the right
    image = flat((0, 0, 0), 40, 64)
    image[:20] = 255  # the upper half is white
    turned = read(file(jpeg(image, exif=exif)))
    assert turned.shape == (64, 40, 3)
    assert (turned[:, 21:] > 200).all() and (turned[:, :19] < 50).all()


def test_it_is_what_imread_returns(file: Any) -> None:
    import cv2

    for number, content in enumerate([jpeg(noise(50, 60)), jpeg(flat((9, 99, 199, 29)), "CMYK")]):
        path = file(content, f"{number}.JPEG")
        assert np.array_equal(read(path), cv2.imread(str(path)))


GOOD = jpeg(noise(60, 80), exif=Image.Exif(), comment=b"\xff\xd9 is no end in here")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
BAD = {
    "zero_bytes": (b"", "is empty"),
    "png": (PNG, "is no JPEG: it begins with 89 50 4e 47, not with ff d8"),
    "cut_off": (GOOD[: len(GOOD) // 2], "is cut off: the marker that ends a JPEG is missing"),
    "header_only": (GOOD[:40], "is cut off"),
    "no_image": (b"\xff\xd8\xff\xd9", "holds no image"),
    "damaged": (GOOD.replace(b"\xff\xc4\x00", b"\xff\xc4\x01"), "cannot be decoded: its data are damaged"),
    "one_pixel": (jpeg(noise(1, 1)), "has 1 x 1 pixels: too small"),
    "wide": (jpeg(flat((0,), 20, 30_000)[..., 0]), "has 30,000 x 20 pixels: too large; each side may have at most"),
    "12_bits": (GOOD.replace(b"\x00\x11\x08", b"\x00\x11\x0c"), "has colours of 12 bits; 8 are supported"),
    "scans": (
        GOOD[:-2] + GOOD[GOOD.rindex(b"\xff\xda") : -2] * 100 + GOOD[-2:],
        "is coded in 101 scans; 100 are the most",
    ),
    "thin": (jpeg(flat((0,), 16_000, 8)[..., 0]), "has 8 x 16,000 pixels: too large to decode and resize"),
}


def bomb(width: int, height: int) -> bytes:
    """Return a small JPEG whose header claims another size."""
    small = jpeg(flat((0,), 16, 16)[..., 0])
    frame = small.index(b"\xff\xc0")
    return small[: frame + 5] + height.to_bytes(2) + width.to_bytes(2) + small[frame + 9 :]


def test_every_bad_file_is_named_in_one_pass(tmp_path: Path) -> None:
    contents = {name: content for name, (content, _) in BAD.items()}
    contents["bomb"] = bomb(16_000, 16_000)
    contents["good"] = GOOD
    for name, content in contents.items():
        (tmp_path / f"{name}.JPEG").write_bytes(content)
    (tmp_path / "folder.JPEG").mkdir()
    os.mkfifo(tmp_path / "pipe.JPEG")  # nobody writes into it
    with (tmp_path / "huge.JPEG").open("wb") as huge:
        huge.truncate(1 << 40)
    other = ("absent", "folder", "pipe", "huge")
    paths = [tmp_path / f"{name}.JPEG" for name in (*contents, *other)]
    with pytest.raises(Mistakes) as caught:
        prepare(paths, RESNET50, NCHW)
    said = {Path(str(mistake.where)).stem: str(mistake) for mistake in caught.value.mistakes}
    assert said.keys() == {*BAD, "bomb", *other}
    for name, (_, words) in BAD.items():
        assert words in said[name], name
    assert "too large to decode" in said["bomb"]
    assert "No such file" in said["absent"] and "Is a directory" in said["folder"]
    assert "is no plain file" in said["pipe"] and "has 1,099,511,627,776 bytes: too large" in said["huge"]


def test_a_file_that_was_damaged_in_its_middle_is_found_by_its_checksum(tmp_path: Path) -> None:
    import hashlib

    whole, torn = GOOD, GOOD[:900] + bytes(200) + GOOD[1100:]
    checksums = dict.fromkeys(["whole.JPEG", "torn.JPEG"], hashlib.sha256(whole).hexdigest())
    for name, content in zip(checksums, [whole, torn], strict=True):
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in checksums]
    with pytest.raises(Mistakes, match=r"torn.JPEG: has changed: its SHA-256 is \w{64}, must be \w{64}$") as caught:
        prepare(paths, RESNET50, NCHW, checksums=checksums)
    assert len(caught.value.mistakes) == 1
    assert len(prepare(paths[:1], RESNET50, NCHW, checksums=checksums)) == 1
    del checksums["torn.JPEG"]
    with pytest.raises(Mistakes, match="torn.JPEG: is not among the files whose SHA-256 is known"):
        prepare(paths, RESNET50, NCHW, checksums=checksums)


def test_a_bomb_is_refused_before_it_takes_memory(file: Any) -> None:
    import tracemalloc

    path = file(bomb(16_000, 16_000))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
