"""Bad input is normal input: 2,650 made-up files, flags and variables, each with one message per mistake."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from engineroom import datasets, systems
from engineroom.config import fields, resolve
from engineroom.config.layers import SECTIONS
from engineroom.config.rules import Context
from engineroom.detection import Cpu, Machine
from engineroom.errors import EngineroomError, ExitCode, Mistakes, RequestError
from engineroom.run_args import flags, parse, split
from engineroom.terms import Scenario, TestMode

MACHINE = Machine(Cpu("CPU", cores=4, threads=4, usable=(0, 1, 2, 3), usable_cores=4), 1 << 30, system="s")
MANY = limits(max_examples=700, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FEWER = limits(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def told(do: Callable[[], Any]) -> list[RequestError]:
    """Return what `do` complains of: requests that cannot be served, exit code 2, each readable on its line."""
    try:
        do()
    except EngineroomError as error:
        assert error.code == ExitCode.REQUEST
        mistakes = list(error.mistakes) if isinstance(error, Mistakes) else [error]
        for mistake in mistakes:
            assert isinstance(mistake, RequestError)
            assert all(line.isprintable() for line in str(mistake).splitlines()), repr(str(mistake))
            assert len(str(mistake)) < 2000
        return mistakes
    return []


# Settings files with a known number of mistakes in known lines

NUMBERS = [name for name in fields.settable() if fields.bounds(name)]
TEXTS = [  # a path may be any text
    name for name in fields.settable() if not fields.bounds(name) and not fields.is_list(name) and name != "model_path"
]


@st.composite
def misspelt(draw: st.DrawFn, name: str) -> str:
    """Return a name with one letter lost, doubled, or changed, that is no name of a setting."""
    place = draw(st.integers(0, len(name) - 1))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    change = draw(st.sampled_from([name[place] * 2, "", letter]))
    found = name[:place] + change + name[place + 1 :]
    assume(found and found not in (*fields.names(), *SECTIONS))
    return found


@st.composite
def wrong_line(draw: st.DrawFn, name: str) -> str:
    """Return `name: value` with a value that the setting cannot have, or a name that there is not."""
    if draw(st.booleans()):
        return f"{draw(misspelt(name))}: 1"
    values = ["[a, {b: 1}]", "{a: 1}", '"\\u0000"', "'5 parsecs'", "x" * draw(st.integers(1, 3000)) + "?"]
    if name in NUMBERS:
        values += [".nan", ".inf", "-.inf", "1e400", "-1", "9" * draw(st.integers(20, 400)), "'1 lightyear'", "true"]
        values += ["5 samples"] if fields.about(name).unit not in ("samples", "queries") else ["5 ms"]
        values += ["0x10", "010", "1_000", "1:30", "½"]
    return f"{name}: {draw(st.sampled_from(values))}"


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Return a settings file and the lines of its mistakes."""
    lines: list[str] = []
    wrong: list[int] = []
    for section in draw(st.permutations(SECTIONS))[: draw(st.integers(1, len(SECTIONS)))]:
        lines.append(f"{section}:")
        for name in draw(st.lists(st.sampled_from(NUMBERS + TEXTS), unique=True, max_size=4)):
            kind = draw(st.sampled_from(["right", "wrong", "twice"]))
            low = fields.bounds(name).get("ge", 1) if name in NUMBERS else None
            right = f"{name}: {low}" if low is not None else f"# {name}"
            if kind == "wrong":
                lines.append(f"  {draw(wrong_line(name))}")
                wrong.append(len(lines))
            else:
                lines.append(f"  {right}")
            if kind == "twice" and low is not None:
                lines.append(f"  {right}")
                wrong.append(len(lines))
        if draw(st.integers(0, 3)) == 0:
            lines.append(f"{draw(misspelt(section))}:")
            wrong.append(len(lines))
    return "\n".join(lines) + "\n", wrong


@pytest.mark.heavy
@MANY
@given(files())
def test_each_planted_mistake_has_one_message_with_its_line(tmp_path: Path, planted: tuple[str, list[int]]) -> None:
    text, wrong = planted
    keys = [line.split(":")[0] for line in text.splitlines()]
    assume(len({key for key in keys if key and key[0] != " "}) == len([key for key in keys if key and key[0] != " "]))
    path = tmp_path / "default" / "b.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    context = Context("b", Scenario.OFFLINE, MACHINE)
    mistakes = told(lambda: resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[tmp_path]))
    assert sorted(str(mistake.where) for mistake in mistakes) == sorted(f"{path}:{line}" for line in wrong), text


# Files of any content, wherever Engineroom reads YAML

LAUGHS = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{b}: &{b} [*{a}, *{a}, *{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
)
WORDS = [
    "common",
    "Offline",
    "match",
    "description",
    "batch_size",
    "gpu",
    "memory",
    "cores",
    "cooling",
    "name",
    "parts",
]
SNIPPETS = [
    *(
        "\t",
        "&a ",
        "*a",
        "!!python/object/apply:os.system ['true']",
        "<<: *a",
        "- ",
        "? ",
        "| ",
        "> ",
        "%YAML 1.1\n---\n",
        "---\n",
        "...\n",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        ": ",
        "#",
        "'",
        '"',
        "\n",
        "\n  ",
        "\ufeff",
        "\x85",
        "\u2028",
        "é",
        "😀",
        "\x07",
        "~",
        ".nan",
        "1e999",
    ),
    *("[" * 50, "{a: " * 50, "x" * 5000, LAUGHS, "$(touch pwned)", "; touch pwned", "0..", "1 TiB..2 TiB"),
]
ANYTHING = (
    st.lists(st.sampled_from(WORDS + SNIPPETS), max_size=14).map(lambda parts: "".join(parts).encode())
    | st.binary(max_size=60)
    | st.lists(st.sampled_from(WORDS).map(lambda word: f"{word}:\n  ") | st.sampled_from(SNIPPETS), max_size=8).map(
        lambda parts: "".join(parts).encode("utf-16" if len(parts) == 7 else "utf-8")
    )
)


def _settings(path: Path) -> Any:
    context = Context("b", Scenario.OFFLINE, MACHINE)
    return resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[path.parent.parent])


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "settings": ("s/b.yaml", _settings),
    "systems": ("systems/b.yaml", lambda path: systems.read_all(path.parent)),
    "data set": ("b/dataset.yaml", datasets.read_manifest),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.heavy
@FEWER
@given(ANYTHING)
def test_any_file_is_read_or_its_mistakes_are_told(tmp_path: Path, reader: str, content: bytes) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    for mistake in told(lambda: read(path)):
        assert str(mistake.where).startswith(str(path)), "which file it is has to be said"


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 << 30)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_folder, "is a folder"),
        (_loop, "Too many levels of symbolic links"),
        (_pipe, "is no regular file"),
        (_huge, "a settings file is smaller"),
        (lambda path: path.symlink_to("/no/such/file"), "No such file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not UTF-8 text"),
        (lambda path: path.write_text("a:\n\tb: 1\n"), "indent with spaces: YAML takes no tabs"),
        (lambda path: path.write_text(LAUGHS), "aliases are not read here"),
        (lambda path: path.write_text("a: " + "[" * 100_000), "nested more than 20 levels deep"),
    ],
    ids=["folder", "loop", "pipe", "huge", "broken link", "bytes", "tab", "laughs", "deep"],
)
def test_what_is_no_settings_file_is_one_message(
    tmp_path: Path, reader: str, make: Callable[[Path], Any], said: str
) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir()
    make(path)
    (mistake,) = told(lambda: read(path))
    assert said in str(mistake)
    assert str(mistake).startswith(str(path))


def test_an_empty_settings_file_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "s" / "b.yaml"
    path.parent.mkdir()
    path.write_text("")
    assert told(lambda: _settings(path)) == []


# Flags and variables

ATTACKS = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| touch pwned",
    "&& touch pwned",
    "\n touch pwned",
    "${IFS}",
]
VALUES = st.text(max_size=30) | st.sampled_from(
    [*ATTACKS, "", " ", "nan", "-inf", "1e999", "none", "true", "x" * 20_000]
)


@pytest.mark.heavy
@MANY
@given(
    st.lists(
        st.tuples(st.sampled_from([*flags(), "batch-size", "nonsense"]) | st.text(max_size=15), VALUES), max_size=5
    )
)
def test_each_flag_that_is_wrong_has_one_message(given_: list[tuple[str, str]]) -> None:
    """No flag is told of twice, and the right ones beside it do not hide it."""
    words = [f"--{name}={value}" for name, value in given_]
    together = told(lambda: parse(words))
    names = [name.replace("-", "_").partition("=")[0] for name, _ in given_]
    if len(set(names)) == len(names) and "help" not in names:
        alone = [mistake for word in words for mistake in told(lambda word=word: parse([word]))]
        assert sorted(map(str, together)) == sorted(map(str, alone))


@pytest.mark.heavy
@FEWER
@given(
    st.text()
    | st.lists(st.sampled_from([*ATTACKS, "--batch_size=", "--engine", "'", '"', "\\", " ", "=", "--"])).map("".join)
)
def test_any_run_args_are_understood_or_refused(text: str) -> None:
    told(lambda: parse(split(text)))
    assert not Path("pwned").exists()


@pytest.mark.heavy
@FEWER
@given(
    st.dictionaries(
        st.sampled_from([f"ENGINEROOM_{name.upper()}" for name in fields.names()])
        | st.text(alphabet="ABCDEFGH_", max_size=12).map(lambda name: f"ENGINEROOM_{name}"),
        VALUES.filter(lambda text: "\0" not in text),
        max_size=4,
    )
)
def test_each_variable_that_is_wrong_has_one_message(environ: dict[str, str]) -> None:
    together = told(lambda: parse([], environ))
    alone = [mistake for name, text in environ.items() for mistake in told(lambda n=name, t=text: parse([], {n: t}))]
    assert sorted(map(str, together)) == sorted(map(str, alone))
