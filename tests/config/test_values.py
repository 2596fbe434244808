"""Every setting takes the values up to its bounds, with their units, and refuses the rest in words."""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.config import RunConfig, fields
from engineroom.config.values import convert
from engineroom.terms import Precision, Scenario

NAMES = fields.names()


def _limits(name: str) -> dict[str, Any]:
    """Return the bounds that a field's type states: ge, gt, le."""
    found: dict[str, Any] = {}
    pending = [fields.types()[name]]
    while pending:
        hint = pending.pop()
        for meta in getattr(hint, "__metadata__", ()):
            found |= {key: getattr(meta, key) for key in ("ge", "gt", "le") if getattr(meta, key) is not None}
        pending.extend(get_args(hint))
    return found


NUMBERS = [name for name in NAMES if fields.bounds(name)]


def _refused(name: str, value: Any, *, from_text: bool = False) -> str:
    with pytest.raises(ValueError) as caught:
        convert(name, value, from_text=from_text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_reach_to_their_bounds_and_no_further(name: str) -> None:
    limits = _limits(name)
    assert "le" in limits and ({"ge", "gt"} & limits.keys()), "a number without a bound cannot be noticed as absurd"
    low, high = limits.get("ge", limits.get("gt")), limits["le"]
    assert convert(name, high, from_text=False) == high
    assert convert(name, str(high), from_text=True) == high
    assert f"<= {high}" in _refused(name, high + 1)
    if "ge" in limits:
        least = None if name in fields.ZERO_IS_NONE else low
        assert convert(name, low, from_text=False) == least
        assert convert(name, str(low), from_text=True) == least
        _refused(name, low - 1)
    else:
        assert f"> {low}" in _refused(name, low)
        assert 0 < convert(name, 1e-12, from_text=False) < 1e-11


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_in_range_is_refused(name: str) -> None:
    for value in (math.inf, -math.inf, 10**400, -(10**400), -1, True, "", "x", "12", [], {}, b"1", [1], "é" * 10_000):
        assert "must be" in _refused(name, value) or "out of range" in _refused(name, value)
    assert _refused(name, math.nan) == "is not a number"


FREE = ("benchmark", "system", "model_path", "float_layers")  # any text may be meant


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FREE])
def test_a_flags_text_that_means_nothing_is_refused(name: str) -> None:
    empty = () if fields.is_list(name) else ("", " ", "[1]")
    for text in (*empty, "nan", "inf", "-1", "9" * 400, "1_000", "１２", "😀", "0x10", "a\nb", "[1}", "\udcff"):
        _refused(name, text, from_text=True)


def test_zero_and_false_are_values() -> None:
    assert convert("queue_delay_us", "0", from_text=True) == 0
    assert convert("threads_per_instance", 0, from_text=False) == 0
    assert convert("pin_workers", "false", from_text=True) is False
    assert convert("pin_workers", "0", from_text=True) is False
    assert convert("min_duration", 0, from_text=False) == 0


def test_none_counts_where_it_means_something() -> None:
    assert convert("max_duration", "none", from_text=True) is None
    assert convert("max_duration", None, from_text=False) is None
    assert _refused("batch_size", None) == "is none, must be a whole number (samples)"
    assert _refused("batch_size", "none", from_text=True) == "is 'none', must be a whole number (samples)"


def test_zero_is_no_limit_where_loadgen_says_so() -> None:
    """`duration > max_duration` and the like count in LoadGen only where the limit is not 0."""
    assert convert("max_duration", "0", from_text=True) is None
    assert convert("max_query_count", 0, from_text=False) is None
    assert "must be" in _refused("min_query_count", 0)


def test_choices_may_be_spelt_in_any_case_and_the_nearest_is_said() -> None:
    assert convert("precision", "INT8", from_text=False) is Precision.INT8
    assert convert("scenario", "offline", from_text=True) is Scenario.OFFLINE
    assert convert("engine", "OpenVINO", from_text=True) == "openvino"
    assert _refused("precision", "in8") == "is 'in8'; did you mean int8?"
    assert _refused("engine", "onxruntime") == "is 'onxruntime'; did you mean onnxruntime?"
    assert _refused("calibrator", "auto").startswith("is 'auto'; ")


def test_messages_name_unit_and_range() -> None:
    assert _refused("batch_size", 0) == "is 0, must be a whole number >= 1 (samples)"
    assert _refused("batch_size", 1.5) == "is 1.5, must be a whole number (samples)"
    assert _refused("pin_workers", "yes") == "is 'yes', must be true or false"
    assert _refused("server_target_qps", math.nan) == "is not a number"
    assert (
        _refused("server_target_latency_ns", "1.5 ms")
        == "is 1500000, must be a whole number that's a multiple of 1000000 (ns)"
    )
    assert _refused("min_duration", "soon") == "is 'soon', must be a whole number or none (ms)"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("min_duration", "10 min", 600_000),
        ("min_duration", "0.5s", 500),
        ("server_target_latency_ns", "15 ms", 15_000_000),
        ("queue_delay_us", "2000 us", 2000),
        ("queue_delay_us", "2 µs", 2),
        ("watchdog_s", "500 ms", 0.5),
        ("server_target_qps", "5.3e4 samples/s", 53_000),
        ("batch_size", "64 samples", 64),
    ],
)
def test_a_number_may_bear_its_unit(name: str, text: str, value: float) -> None:
    assert convert(name, text, from_text=True) == value
    assert convert(name, text, from_text=False) == value


def test_a_unit_that_does_not_fit_is_refused() -> None:
    assert _refused("min_duration", "5 samples") == "is '5 samples', but is measured in ns, us, ms, s, min, h"
    assert _refused("batch_size", "5 ms") == "is '5 ms', but is measured in samples, queries"
    assert _refused("instances", "4 x") == "is '4 x', must be a plain number"
    assert _refused("queue_delay_us", "1 ns") == "is 0.001, must be a whole number (us)"
    assert _refused("watchdog_s", "1e999 h").startswith("is inf, must be a number")


def test_a_list_of_cpus_is_written_as_linux_does() -> None:
    for text, value in (("0-3,8", (0, 1, 2, 3, 8)), ("", ()), ("[]", ()), ("[1, 1]", (1,)), ([0, 2], (0, 2)), ([], ())):
        assert convert("cpus", text, from_text=isinstance(text, str)) == value
    assert _refused("cpus", "3-1", from_text=True) == "is '3-1', must be numbers and ranges: 0-3,8"
    assert _refused("cpus", [-1]).startswith("is [-1], must be a whole number >= 0")
    assert _refused("cpus", 3) == "is 3, must be a list"
    assert _refused("cpus", [0, 70_000]) == "is [0, 70000], must be a whole number <= 65535"


@given(
    st.sampled_from(NAMES),
    st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.text(), max_size=2) | st.binary(),
    st.booleans(),
)
def test_a_value_fits_its_field_or_is_refused_in_one_line(name: str, value: Any, from_text: bool) -> None:
    try:
        converted = convert(name, value, from_text=from_text and isinstance(value, str))
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert msgspec.convert(converted, fields.types()[name]) == converted
    assert converted == converted, "NaN came through"


def test_defaults_are_values_of_their_fields() -> None:
    for name, value in fields.defaults().items():
        assert convert(name, value, from_text=False) == value
    assert set(fields.defaults()) < set(RunConfig.__struct_fields__)


def test_a_list_of_words_is_read_from_a_flag() -> None:
    assert convert("float_layers", "conv0, stage1.*,,", from_text=True) == ("conv0", "stage1.*")
    assert convert("float_layers", "", from_text=True) == ()
    assert "a list" in _refused("float_layers", 7)


def test_a_data_set_is_one_that_is_declared() -> None:
    assert convert("dataset", "ImageNet-500", from_text=True) == "imagenet-500"
    assert "did you mean imagenet-synthetic" in _refused("dataset", "imagenet-syntetic", from_text=True)


def test_a_path_is_any_text_that_can_be_one() -> None:
    assert convert("model_path", "my model, 5 parsecs.onnx", from_text=True) == "my model, 5 parsecs.onnx"
    for text in ("a\0b", "a\nb"):
        assert "which has control characters" in _refused("model_path", text)
    assert "must be" in _refused("model_path", "")
