"""Conditions say what they mean, ranges include their ends, and what cannot stand there is refused in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.detection import Machine
from engineroom.detection.machine import Gpu
from engineroom.systems import typed
from engineroom.systems.conditions import Match, Range, condition, hold

GIB = 1 << 30


def _holds(machine: Machine, **values: Any) -> bool:
    return hold({name: condition(name, value) for name, value in values.items()}, machine)


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("gpu", "NVIDIA H200", True),
        ("gpu", "NVIDIA H*", True),
        ("gpu", "nvidia h200", False),
        ("gpu", "NVIDIA H20", False),
        ("gpu_count", 8, True),
        ("gpu_count", 0, False),
        ("gpu_count", "2..8", True),
        ("gpu_count", "8..", True),
        ("gpu_count", "..7", False),
        ("gpu_memory", "130 GiB..", True),
        ("gpu_memory", "..130 GiB", False),
        ("gpu_memory", "150 GB..151 GB", True),
        ("mig", False, True),
        ("mig", True, False),
        ("mig_profile", "*", False),
        ("mig_count", 0, True),
        ("memory", "1 TiB..2.2 TiB", True),
        ("memory", "2015 GiB..2015 GiB", True),
        ("memory", "2016 GiB..", False),
        ("cpu_model", "Intel(R) Xeon(R) Platinum 84??C", True),
        ("sockets", 2, True),
        ("cores", "..111", False),
        ("architecture", "x86_64", True),
        ("architecture", "aarch64", False),
        ("product", "Example*", True),
    ],
)
def test_a_condition_on_a_server_of_eight_gpus(eight_gpus: Machine, name: str, value: Any, holds: bool) -> None:
    assert _holds(eight_gpus, **{name: value}) is holds


def test_a_condition_on_gpus_holds_for_each_and_never_for_none(eight_gpus: Machine, machine: Machine) -> None:
    another = replace(eight_gpus, gpus=(*eight_gpus.gpus, Gpu("NVIDIA T400")))
    assert not _holds(another, gpu="NVIDIA H200")
    assert not _holds(another, gpu_memory="1 GiB..")
    for name, value in (("gpu", "*"), ("mig", False), ("mig", True), ("gpu_memory", "..1 TiB")):
        assert not _holds(machine, **{name: value})
    assert _holds(machine, gpu_count=0)


def test_mig_is_recognised_by_mode_number_and_profile(slices: Machine) -> None:
    assert _holds(slices, mig=True, mig_count=3, mig_profile="[12]g.*")
    assert not _holds(slices, mig_profile="1g.*")
    assert not _holds(slices, mig=False)


def test_no_conditions_recognise_nothing(machine: Machine) -> None:
    assert not hold({}, machine)


def test_the_memory_of_a_container_is_the_machines(machine: Machine) -> None:
    assert _holds(replace(machine, memory_bytes=GIB), memory="8 GiB..8 GiB")
    assert _holds(replace(machine, memory_bytes=GIB, memory_total_bytes=0), memory="1 GiB..1 GiB")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("memory", "80 GiB", "is '80 GiB', must be a range whose ends count, with units: 1 TiB..2.2 TiB, "),
        ("memory", ">= 130 GiB", "must be a range"),
        ("memory", "1..2 TiB", "must be a range"),
        ("memory", "1 TiB...2 TiB", "must be a range"),
        ("memory", "..", "must be a range"),
        ("memory", "-1 GiB..", "must be a range"),
        ("memory", 8, "is 8, must be a range"),
        ("memory", "1 TIB..", "is '1 TIB', but is measured in B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"),
        ("memory", "2 GiB..1 GiB", "whose low end is above its high end"),
        ("gpu_memory", None, "is empty, must be a range"),
        ("cores", "8..4", "whose low end is above its high end"),
        ("cores", "4", "is '4', must be a whole number, or a range of them whose ends count: 2..8, 2.. or ..8"),
        ("cores", 2.5, "must be a whole number"),
        ("cores", -1, "must be a whole number"),
        ("cores", float("nan"), "must be a whole number"),
        ("cores", True, "must be a whole number"),
        ("cores", 10**40, "must be a whole number"),
        ("mig", "false", "is 'false', must be true or false"),
        ("mig", 0, "is 0, must be true or false"),
        ("gpu", 200, "is 200, must be a text"),
        ("gpu", "", "must be a text"),
        ("gpu", "x" * 201, "must be a text"),
        ("gpu", "\x1b[2J", "characters that cannot be printed"),
        ("gpu", "\ud800", "characters that cannot be printed"),
        ("gpu", ["NVIDIA H200"], "must be a text"),
    ],
)
def test_what_cannot_be_a_condition_is_said_in_words(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        condition(name, value)
    assert said in str(caught.value)


@given(
    st.sampled_from(Match.__struct_fields__),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.lists(st.integers()),
        st.from_regex(r"[0-9.]{0,4} ?[KMGT]?i?B? ?\.\.[0-9.]{0,4} ?[KMGT]?i?B?", fullmatch=True),
    ),
)
def test_any_value_is_a_condition_or_a_sentence(name: str, value: Any) -> None:
    try:
        found = condition(name, value)
    except ValueError as error:
        assert str(error).startswith("is ")
    else:
        assert isinstance(found, str | bool | Range)
        msgspec.convert(" ".join(value.split()) if isinstance(value, str) else value, typed.types(Match)[name])


@given(pattern=st.text(alphabet="[]!*?-azA \\", max_size=12), name=st.text(alphabet="[]!-azA ", max_size=12))
def test_no_pattern_breaks_matching(machine: Machine, pattern: str, name: str) -> None:
    hold({"gpu": pattern}, replace(machine, gpus=(Gpu(name),)))
