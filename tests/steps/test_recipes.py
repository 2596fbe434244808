"""A recipe says exactly what was set: no value is lost, changed, or executed on its way into a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, meta

from engineroom.bootstrap import glibc
from engineroom.config import RunConfig
from engineroom.detection.memory import transparent_huge_pages
from engineroom.errors import RequestError
from engineroom.steps import recipes
from engineroom.terms import Scenario, TestMode

RUN_SH = {
    "benchmark": "digits",
    "scenario": "Offline",
    "test_mode": "PerformanceOnly",
    "lib": "/build/lib",
    "python": "/usr/bin/python3",
    "overlays": "",
    "audit": None,
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def _config(scenario: Scenario = Scenario.OFFLINE, **changes: Any) -> RunConfig:
    config = RunConfig(
        benchmark="digits",
        system="s",
        scenario=scenario,
        test_mode=TestMode.PERFORMANCE_ONLY,
        batch_size=1,
        instances=1,
        threads_per_instance=1,
    )
    return msgspec.structs.replace(config, **changes)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The templates' folder of a system of our own, named `own`."""
    monkeypatch.setattr(recipes, "CONFIGS", tmp_path)
    folder = tmp_path / "own" / "templates"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["engine.json", "harness.json"])
@settings(max_examples=40)
@given(data=st.data())
def test_every_value_survives_in_json(name: str, data: st.DataObject) -> None:
    source = recipes.template(name, "none").read_text()
    wanted = sorted(meta.find_undeclared_variables(Environment().parse(source)))
    given_values = data.draw(st.dictionaries(st.sampled_from(wanted), json_values))
    values = {**dict.fromkeys(wanted, 0), **given_values}
    rendered = json.loads(recipes.render(name, "none", values))
    assert {key: rendered[key] for key in wanted} == json.loads(msgspec.json.encode(values))


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(lib=words, python=words)
def test_every_path_survives_the_shell(lib: str, python: str) -> None:
    """The rendered words, evaluated by a real shell, are the values again, whatever they hold."""
    script = recipes.render("run.sh", "none", {**RUN_SH, "lib": lib, "python": python})
    start = script.index("PYTHONPATH=")
    assignment = script[start : script.index("\nexport PYTHONPATH", start)]
    last = script.rindex("exec ") + len("exec ")
    program = script[last : script.rindex(" -m engineroom.child")]
    show = f"{assignment}\nprintf '%s\\0' \"$PYTHONPATH\" {program}\n"
    done = subprocess.run(["sh"], input=show.encode(), capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:2] == [lib.encode(), python.encode()]


def test_the_script_runs_what_it_was_rendered_for(tmp_path: Path) -> None:
    """With the most unpleasant folder name: run.sh finds its own folder, its python and its arguments."""
    folder = tmp_path / 'it\'s $(touch trap); "a" folder\nof two lines'
    folder.mkdir()
    python = folder / "py thon"
    python.write_text('#!/bin/sh\nprintf "%s|" "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    script = folder / "run.sh"
    script.write_text(recipes.render("run.sh", "none", {**RUN_SH, "lib": str(folder), "python": str(python)}))
    for arguments, expected in (
        (["--probe", "a b"], ["-m", "engineroom.child", f"{folder}/harness.json", "--probe", "a b"]),
        ([], ["-m", "engineroom.rerun", f"{folder}"]),
    ):
        done = subprocess.run(["sh", script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.split("|")[:-1] == [str(folder), *expected]
    assert {path.name for path in (*folder.iterdir(), *tmp_path.iterdir())} == {"py thon", "run.sh", folder.name}


PRINTS_HUGE_PAGES = f"""#!{sys.executable} -ISS
import ctypes
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
at = malloc(ctypes.c_size_t(64 << 20))
inside = False
for line in open("/proc/self/smaps"):
    begin, dash, end = line.split(" ", 1)[0].partition("-")
    if dash:
        inside = int(begin, 16) <= at < int(end, 16)
    elif inside and line.startswith("VmFlags:"):
        print("hg" in line.split())
"""


@pytest.mark.skipif(glibc() < (2, 35), reason="malloc asks for huge pages from glibc 2.35 on")
@pytest.mark.skipif(
    transparent_huge_pages(Path("/")) != "madvise", reason="malloc asks for huge pages only where the kernel wants that"
)
@pytest.mark.parametrize(("own", "huge"), [("", True), ("glibc.malloc.hugetlb=0", False)])
def test_a_test_has_its_large_blocks_in_huge_pages_unless_the_caller_says_otherwise(
    tmp_path: Path, own: str, huge: bool
) -> None:
    python, script = tmp_path / "python", tmp_path / "run.sh"
    python.write_text(PRINTS_HUGE_PAGES)
    python.chmod(0o755)
    script.write_text(recipes.render("run.sh", "none", {**RUN_SH, "lib": "lib", "python": str(python)}))
    environment = {**os.environ, "GLIBC_TUNABLES": own}
    done = subprocess.run(["sh", script, "folder"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{huge}\n"


@given(st.text())
def test_only_plain_words_stand_where_nothing_can_be_quoted(word: str) -> None:
    try:
        rendered = recipes.render("run.sh", "none", {**RUN_SH, "benchmark": word})
    except RequestError as error:
        assert "cannot stand in a recipe" in str(error)
        assert "run.sh.j2:2: " in str(error)
    else:
        assert rendered.splitlines()[1] == f"# One LoadGen test: {word}, Offline, PerformanceOnly."


def test_user_conf_holds_loadgens_keys_and_units() -> None:
    config = _config(Scenario.SERVER, server_target_latency_ns=15_000_000, server_target_qps=1e-7, min_duration=0)
    settings = recipes.loadgen_settings(config)
    text = recipes.render(
        "user.conf", "none", {"benchmark": "digits", "scenario": "Server", "loadgen_settings": settings}
    )
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "digits.Server.coalesce_queries = 1",
        "digits.Server.min_duration = 0",
        "digits.Server.target_latency = 15",
        "digits.Server.target_qps = 1e-7",
    ]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (Scenario.SINGLE_STREAM, {"target_latency": 3}),
        (Scenario.MULTI_STREAM, {"target_latency": 4}),
        (Scenario.SERVER, {"target_latency": 5, "target_qps": 6.0, "coalesce_queries": 0}),
        (Scenario.OFFLINE, {"target_qps": 7.0}),
    ],
)
def test_each_scenario_gets_its_own_target(scenario: Scenario, expected: dict[str, float]) -> None:
    config = _config(
        scenario,
        single_stream_expected_latency_ns=3_000_000,
        multi_stream_expected_latency_ns=4_000_000,
        server_target_latency_ns=5_000_000,
        server_target_qps=6.0,
        server_coalesce_queries=False,
        offline_expected_qps=7.0,
    )
    assert recipes.loadgen_settings(config) == expected


def test_what_no_layer_sets_is_left_to_loadgen() -> None:
    assert recipes.loadgen_settings(_config()) == {}
    assert recipes.loadgen_settings(_config(performance_sample_count=7, max_query_count=9)) == {
        "performance_sample_count_override": 7,
        "max_query_count": 9,
    }


def test_a_systems_own_template_comes_first_and_changes_the_digest(own: Path) -> None:
    ours = recipes.digest("run.sh", "own")
    (own / "run.sh.j2").write_text("# {{ benchmark | word }}\n")
    assert recipes.render("run.sh", "own", RUN_SH) == "# digits\n"
    assert recipes.digest("run.sh", "own") != ours
    assert recipes.digest("run.sh", "other") == ours


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("# one\n# two\n{{ batch_sise | tojson }}\n", "3: cannot be rendered: 'batch_sise' is undefined"),
        ("{{ a_path | sh }}", "1: cannot be rendered: 'a_path' is undefined"),
        ("{{ a_path | word }}", "1: cannot be rendered: 'a_path' is undefined"),
        ("\n{{ benchmark }", "2: cannot be rendered: unexpected '}'"),
        ("\n{{ benchmark | nosuch }}", "2: cannot be rendered: No filter named 'nosuch'."),
        ("\n\n{{ 1 / 0 }}", "3: cannot be rendered: division by zero"),
        ("\n{{ zero_byte | sh }}", "2: cannot be rendered: 'a\\x00b' cannot stand in a shell script: it holds a zero"),
        ("\n{{ spaced | word }}", "2: cannot be rendered: 'a b' cannot stand in a recipe\n  use letters, digits"),
        ("{{ function | tojson }}", "1: cannot be rendered: Encoding objects of type "),
    ],
)
def test_a_template_that_cannot_be_rendered_is_named_with_its_line(own: Path, template: str, message: str) -> None:
    (own / "run.sh.j2").write_text(template)
    values = {**RUN_SH, "zero_byte": "a\0b", "spaced": "a b", "function": len}
    with pytest.raises(RequestError) as caught:
        recipes.render("run.sh", "own", values)
    assert str(caught.value).startswith(f"{own}/run.sh.j2:{message}")


def test_a_template_that_is_no_text_is_named(own: Path) -> None:
    (own / "run.sh.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=r"run\.sh\.j2: cannot be rendered: 'utf-8' codec"):
        recipes.render("run.sh", "own", RUN_SH)
