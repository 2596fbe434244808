"""Every setting says what it means, in which unit, and what of it is usual."""

from __future__ import annotations

import pytest

from engineroom.config import fields

NAMES = fields.names()
NUMBERS = [name for name in NAMES if fields.bounds(name)]


@pytest.mark.parametrize("name", NAMES)
def test_every_field_says_what_it_means(name: str) -> None:
    about = fields.about(name)
    assert about.meaning
    suffix = name.rpartition("_")[2]
    units = {"us": "us", "ns": "ns", "s": "s", "qps": "samples/s", "duration": "ms"}
    assert about.unit == units.get(suffix, about.unit)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_hardly_meant_can_be_noticed(name: str) -> None:
    usual, limits = fields.about(name).usual, fields.bounds(name)
    assert usual, "without a usual range nothing can be noticed"
    assert limits.get("ge", limits.get("gt", 0)) <= usual[0] < usual[1] <= limits["le"]
