"""The files of ImageNet's validation set (ILSVRC 2012): their names, and their labels from caffe_ilsvrc12's val.txt."""

from __future__ import annotations

import re

from engineroom.datasets import Sample, parse_map
from engineroom.errors import RequestError

IMAGES = 50_000
CLASSES = 1_000
_GAP = re.compile(r"[ \t]+")


def name(number: int) -> str:
    """Return the name of the validation set's image `number`, counted from 1."""
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def samples(val_txt: str, where: str, count: int = IMAGES) -> tuple[Sample, ...]:
    """Return the first `count` samples of val.txt, whose lines are a file's name, a blank and its class from 0 to 999.

    The text must name the whole validation set in its order. `where` names it in errors: raises Mistakes with all that
    is wrong in it, RequestError if images are missing.
    """
    found = parse_map(_GAP.sub("\t", val_txt), where, labels=CLASSES)
    wrong = [index for index, sample in enumerate(found) if sample.file != name(index + 1)]
    if wrong or len(found) != IMAGES:
        first = wrong[0] if wrong else len(found)
        raise RequestError(
            f"is not the list of the {IMAGES:,} validation images: image {first + 1:,} should be {name(first + 1)}",
            where=where,
        )
    return found[:count]
