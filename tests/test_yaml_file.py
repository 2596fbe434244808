"""Settings files mean what they look like, and no file, however broken, does harm."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engineroom.errors import Mistakes, RequestError
from engineroom.yaml_file import BYTES_MAX, entries, load


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that a test may write what it likes to."""
    return tmp_path_factory.mktemp("yaml") / "settings.yaml"


def _message(file: Path, content: bytes | str) -> str:
    """Return the message that a file earns, with its folder cut off."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RequestError) as caught:
        load(file)
    return str(caught.value).replace(f"{file.parent}/", "")


def test_every_key_keeps_its_line(file: Path) -> None:
    file.write_text("# settings\n\ncommon:\n  batch_size: 4 # samples\n\n  name: x\nServer:\n")
    common, server = entries(file)
    assert [(item.key, item.line, item.value()) for item in common.children()] == [
        ("batch_size", 4, 4),
        ("name", 6, "x"),
    ]
    assert (server.line, server.is_mapping, server.children()) == (7, True, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("false", False),
        ("1e5", 1e5),
        ("1e-07", 1e-7),
        ("-.5", -0.5),
        (".inf", math.inf),
        ("~", None),
        ("", None),
        ("'0'", "0"),
        # What YAML 1.1 would make 8, 630, 16, False and a date of:
        ("010", "010"),
        ("10:30", "10:30"),
        ("0x10", "0x10"),
        ("no", "no"),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_a_value_is_what_it_looks_like(file: Path, text: str, value: object) -> None:
    file.write_text(f"key: {text}")
    assert load(file) == {"key": value}
    assert type(load(file)["key"]) is type(value)


# To YAML these three are line breaks, to JSON they are not.
letters = st.text(st.characters(exclude_characters="\x85\u2028\u2029", exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(letters, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(letters, json_values, min_size=1, max_size=5))
@example({"rate": 1e-7, "other": 1e16})
def test_json_is_read_as_itself(file: Path, values: dict[str, Any]) -> None:
    """run_config.yaml is written as JSON values; characters that YAML does not allow are refused with their line."""
    file.write_bytes(msgspec.json.encode(values))
    try:
        assert load(file) == values
    except RequestError as error:
        assert "settings.yaml:1: is not YAML: " in str(error)
        assert any(not letter.isprintable() for letter in str(values.keys()) + msgspec.json.encode(values).decode())


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "---\n...\n", "\ufeff# a byte order mark\n", "~"])
def test_a_file_without_settings_sets_nothing(file: Path, content: str) -> None:
    file.write_text(content)
    assert load(file) == {}


def test_a_byte_order_mark_and_crlf_are_no_mistakes(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert load(file) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\n\tb: 2", "settings.yaml:2: is not YAML: "),
        ("a:\n\tb: 2", "indent with spaces: YAML takes no tabs"),
        ("a: 1\nb: [1, 2\nc: 3\n", "settings.yaml:3: is not YAML: while parsing a flow sequence, "),
        ("a: 1\n---\na: 2\n", "settings.yaml:2: is not YAML: expected a single document in the stream, but found"),
        ("a: 1\nb: \x00", "settings.yaml:2: is not YAML: unacceptable character"),
        ("ä: 1\nb: 'é\x07'", "settings.yaml:2: is not YAML: unacceptable character"),
        (b"a: 1\nb: \xff\xfe", "settings.yaml:2: is not UTF-8 text"),
        ("a: 1".encode("utf-16"), "settings.yaml:1: is not UTF-8 text"),
        ("- a\n- b\n", "settings.yaml:1: must hold `key: value` lines"),
        ("just words", "settings.yaml:1: must hold `key: value` lines"),
        ("? [a, b]\n: 1\n", "settings.yaml:1: a key must be a word"),
        ("a: 1\nb: 2\na: 3\n", "settings.yaml:3: a stands here a second time\n  it stands first in line 1"),
        ("a: &x 1\nb: *x\n", "settings.yaml:2: *x: aliases are not read here\n  write the value out"),
        ("a: &x {b: *x}\n", "settings.yaml:1: *x: aliases are not read here"),
        ("a: 1\nb: !!python/name:os.system 1\n", "settings.yaml:2: tag:yaml.org,2002:python/name:os.system: tags are"),
        ("a: !!timestamp x\n", "tags are not read here"),
        (f"a: {'9' * 5000}", "settings.yaml:1: a: "),
        ("a: " + "[" * 200_000, "settings.yaml:1: is nested more than 20 levels deep"),
        ("a: " + "{a: " * 200_000, "settings.yaml:1: is nested more than 20 levels deep"),
        (b" " * (BYTES_MAX + 1), "settings.yaml: has 4,000,001 bytes; a settings file is smaller"),
    ],
)
def test_a_mistake_is_named_with_its_line(file: Path, content: bytes | str, message: str) -> None:
    assert message in _message(file, content)


def test_all_keys_that_stand_twice_are_told_at_once(file: Path) -> None:
    file.write_text("a: {x: 1, x: 2}\nb:\n  c: 1\n  c: 2\nb: 3\n")
    with pytest.raises(Mistakes) as caught:
        load(file)
    assert [str(mistake.where).rpartition(":")[2] for mistake in caught.value.mistakes] == ["1", "4", "5"]


def test_billion_laughs_are_refused_at_once(file: Path) -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 40)]
    begin = time.monotonic()
    assert "settings.yaml:2: *a0: aliases are not read here" in _message(file, "\n".join(lines))
    assert time.monotonic() - begin < 5


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    loop, pipe, nothing = tmp_path / "loop.yaml", tmp_path / "pipe.yaml", tmp_path / "nothing.yaml"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    for path, said in (
        (tmp_path, "is a folder"),
        (pipe, "is no regular file"),
        (loop, "cannot be read: Too many levels of symbolic links"),
        (nothing, "cannot be read: No such file or directory"),
    ):
        with pytest.raises(RequestError, match=rf"^{path}: {said}$"):
            load(path)


yaml_like = st.text(alphabet="ab:-?!&*[]{}#|>%@`\"'\n\t 01.,\\\ufeff\x85\u2028~<", max_size=60) | st.text(max_size=60)


@given(st.binary(max_size=60) | yaml_like.map(str.encode))
def test_any_file_is_a_mapping_or_a_named_mistake(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        assert isinstance(load(file), dict)
    except Mistakes as error:
        assert all(str(file) in str(mistake.where) for mistake in error.mistakes)
    except RequestError as error:
        assert str(error).startswith(str(file))


@pytest.mark.parametrize("text", ["*a{long}", "a: &{long} *b{long}", "a: !{long}!x 1", "- *{long}"])
def test_a_very_long_name_earns_a_short_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text.format(long="x" * 5000))
    with pytest.raises(RequestError) as caught:
        entries(path)
    assert len(str(caught.value)) < 500
