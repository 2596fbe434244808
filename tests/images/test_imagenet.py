"""ImageNet's own lists: val.txt becomes a map, and MLPerf's calibration lists are those that MLCommons published."""

from __future__ import annotations

import hashlib

import pytest

from engineroom.datasets import Sample, read_map
from engineroom.errors import Mistakes, RequestError
from engineroom.images import imagenet
from engineroom.paths import DATA_MAPS

LISTS = DATA_MAPS / "imagenet"
LINES = [f"ILSVRC2012_val_{number:08d}.JPEG {number * 7 % 1000}" for number in range(1, 50_001)]


def test_val_txt_becomes_samples_with_labels() -> None:
    samples = imagenet.samples("\n".join(LINES) + "\n", "val.txt")
    assert len(samples) == 50_000
    assert samples[0] == Sample("ILSVRC2012_val_00000001.JPEG", 7)
    assert samples[-1] == Sample("ILSVRC2012_val_00050000.JPEG", 0)
    assert imagenet.samples("\r\n".join(LINES), "val.txt", 500) == samples[:500]


def test_every_wrong_line_of_val_txt_is_told_at_once() -> None:
    lines = list(LINES)
    lines[9] = "../etc/passwd 3"
    lines[19] = lines[18]
    lines[29] = "ILSVRC2012_val_00000030.JPEG 1000"
    lines[39] = "ILSVRC2012_val_00000040.JPEG"
    with pytest.raises(Mistakes) as caught:
        imagenet.samples("\n".join(lines), "val.txt")
    assert [mistake.where for mistake in caught.value.mistakes] == [f"val.txt:{line}" for line in (10, 20, 30, 40)]


@pytest.mark.parametrize("lines", [LINES[:-1], LINES[1:], [*LINES[1::-1], *LINES[2:]]], ids=["end", "start", "order"])
def test_another_list_is_refused(lines: list[str]) -> None:
    with pytest.raises(RequestError, match=r"val.txt: is not the list of the 50,000 validation images: image "):
        imagenet.samples("\n".join(lines), "val.txt")


@pytest.mark.parametrize(
    ("name", "line", "md5"),
    [
        ("cal_map.txt", "{name}\n", "f09719174af3553119e2c621157773a6"),
        ("cal_map_option_2.txt", "{name} {index}\n", "e44582af00e3b4fc3fac30efd6bdd05f"),
    ],
)
def test_the_calibration_lists_are_those_of_mlperf(name: str, line: str, md5: str) -> None:
    """The published file of option 2 has a running number after each name."""
    samples = read_map(LISTS / name, labels=None)
    text = "".join(line.format(name=sample.file, index=index) for index, sample in enumerate(samples))
    assert hashlib.md5(text.encode()).hexdigest() == md5
    assert {sample.file for sample in samples} <= {imagenet.name(number) for number in range(1, 50_001)}
