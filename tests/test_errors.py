"""What a user reads when something is wrong, and the exit code that goes with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineroom.errors import EngineError, EngineroomError, ExitCode, Mistakes, RequestError, did_you_mean, plain, shown


def test_a_message_says_where_what_and_how_to_mend() -> None:
    error = RequestError("unknown field", where="configs/x.yaml:7", mend="did you mean batch_size?")
    assert str(error) == "configs/x.yaml:7: unknown field\n  did you mean batch_size?"
    assert str(RequestError("no more disk")) == "no more disk"


@pytest.mark.parametrize(("kind", "code"), [(RequestError, 2), (EngineError, 3)])
def test_each_kind_of_error_has_its_exit_code(kind: type[EngineroomError], code: int) -> None:
    assert kind("x").code == ExitCode(code)


def test_mistakes_show_every_mistake() -> None:
    mistakes = Mistakes([RequestError("one", where="a:1"), RequestError("two", where="a:2", mend="so")])
    assert str(mistakes) == "a:1: one\na:2: two\n  so"
    assert mistakes.code == ExitCode.REQUEST


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("gpu_batch_sise", ["gpu_batch_size", "engine"], "did you mean gpu_batch_size?"),
        ("offline", ["Server", "Offline"], "did you mean Offline?"),
        ("zebra", ["Server", "Offline"], "known: Offline, Server"),
        ("zebra", [], "none is known here"),
    ],
)
def test_the_nearest_known_name_is_said(name: str, known: list[str], said: str) -> None:
    assert did_you_mean(name, known) == said


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50)
@given(values)
def test_any_value_is_shown_on_one_short_line(value: Any) -> None:
    line = shown(value)
    assert line.isprintable()
    assert len(line) < 3000


@given(st.text())
def test_a_name_never_breaks_the_line_of_its_message(name: str) -> None:
    assert plain(name).isprintable()
    assert len(plain(name)) <= 80


@pytest.mark.parametrize(
    ("value", "line"), [(None, "none"), (False, "false"), (0, "0"), ("", "''"), ("a\nb", r"'a\nb'"), (1.5, "1.5")]
)
def test_values_are_shown_as_they_are_spelt(value: object, line: str) -> None:
    assert shown(value) == line


def test_a_value_that_unfolds_to_billions_is_shown_at_once() -> None:
    laughs: Any = "lol"
    for _ in range(40):
        laughs = [laughs] * 10
    assert len(shown(laughs)) < 3000
