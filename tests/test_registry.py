"""Plug-ins are found by their file's name; a broken one is named and takes nothing else with it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engineroom import benchmarks, registry
from engineroom.errors import RequestError

Add = Callable[[str, str], None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Return a function that writes a benchmark plug-in into a folder that holds no other."""
    folder = tmp_path / "engineroom" / "benchmarks"
    folder.mkdir(parents=True)
    monkeypatch.setattr(registry, "CODE", tmp_path)
    monkeypatch.setattr(benchmarks, "__path__", [str(folder)])
    before = set(sys.modules)
    registry._find.cache_clear()

    def write(name: str, text: str) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write
    registry._find.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("engineroom.benchmarks."):
            del sys.modules[name]


def test_a_new_file_is_a_new_plugin(add: Add) -> None:
    add("resnet.py", "BENCHMARK = 'resnet'")
    add("bert/__init__.py", "BENCHMARK = 'bert'")
    assert {name: plugin.load().BENCHMARK for name, plugin in registry.find("benchmarks").items()} == {
        "bert": "bert",
        "resnet": "resnet",
    }


def test_a_plugin_may_have_the_hyphens_and_digits_of_mlperfs_names(add: Add, overlay: Path) -> None:
    text = "class B:\n    name = __name__.rpartition('.')[2]\nBENCHMARK = B()"
    add("3d-unet.py", text)
    add("mobilenet-v9/__init__.py", text)
    (overlay / "a-model-of-ours.py").write_text(text)
    plugins = registry.find("benchmarks")
    assert list(plugins) == ["3d-unet", "mobilenet-v9", "a-model-of-ours"], "by name, ours first"
    for name, plugin in plugins.items():
        benchmark = plugin.load().BENCHMARK
        assert benchmark.name == name
        assert type(pickle.loads(pickle.dumps(benchmark))) is type(benchmark), (
            "as the processes get it that prepare samples"
        )
    with pytest.raises(RequestError, match="did you mean mobilenet-v9"):
        registry.get("benchmarks", "mobilenet_v9")


def test_a_name_that_begins_with_another_stands_behind_it(add: Add) -> None:
    for name in ("net-v1-uint8.py", "net-v1.py", "net.py"):
        add(name, "")
    assert list(registry.find("benchmarks")) == ["net", "net-v1", "net-v1-uint8"]


def test_helpers_and_editors_files_are_no_plugins(add: Add) -> None:
    for name in ("__init__.py", "_shared.py", "-.py", ".#resnet.py", "#resnet.py", "resnet (copy).py", "notes.txt"):
        add(name, "")
    assert registry.find("benchmarks") == {}


def test_two_files_of_one_name_are_both_named(add: Add) -> None:
    add("bert.py", "")
    add("bert/__init__.py", "")
    with pytest.raises(RequestError, match=r"two benchmarks are named bert: .*bert.* and .*bert.*\n  rename one"):
        registry.find("benchmarks")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def broken(:", "SyntaxError: .*line 1"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", r"holds no BENCHMARK\n  end the file with BENCHMARK = "),
    ],
)
def test_a_broken_plugin_is_named_and_stays_listed(add: Add, text: str, said: str) -> None:
    add("broken.py", text)
    add("whole.py", "BENCHMARK = 1")
    assert set(registry.find("benchmarks")) == {"broken", "whole"}
    with pytest.raises(RequestError, match=rf"broken\.py: the benchmark broken .*{said}"):
        registry.get("benchmarks", "broken").load()
    assert registry.get("benchmarks", "whole").load().BENCHMARK == 1


def test_an_unknown_name_is_answered_with_the_nearest(add: Add) -> None:
    add("resnet50.py", "")
    with pytest.raises(RequestError, match=r"--benchmarks: unknown benchmark 'resnet'\n  did you mean resnet50\?"):
        registry.get("benchmarks", "resnet", where="--benchmarks")


def test_missing_libraries_are_told_without_importing_them() -> None:
    assert registry.missing(("json", "no_such_library", "no_such_library.part", "json.no_such_part")) == (
        "no_such_library",
        "no_such_library.part",
        "json.no_such_part",
    )


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_plugin_here_loads_and_knows_its_name(kind: str) -> None:
    plugins = registry.find(kind)
    assert plugins
    for name, plugin in plugins.items():
        assert getattr(plugin.load(), registry.KINDS[kind].upper()).name == name


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder benchmarks/ of an overlay that ENGINEROOM_PATH names."""
    folder = tmp_path / "overlay" / "benchmarks"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ENGINEROOM_PATH", str(folder.parent))
    yield folder
    for name in [name for name in sys.modules if name.startswith("engineroom_overlay.")]:
        del sys.modules[name]


def test_an_overlays_plugin_is_found_beside_ours(add: Add, overlay: Path) -> None:
    add("ours.py", "BENCHMARK = 1")
    (overlay / "theirs.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass B: x: int = 2\nBENCHMARK = B()"
    )
    (overlay / "__init__.py").write_text("")
    assert set(registry.find("benchmarks")) == {"ours", "theirs"}
    module = registry.get("benchmarks", "theirs").load()
    assert module.BENCHMARK.x == 2
    assert registry.get("benchmarks", "theirs").load() is module


def test_an_overlays_plugin_does_not_hide_ours(add: Add, overlay: Path) -> None:
    add("bert.py", "")
    (overlay / "bert.py").write_text("")
    with pytest.raises(RequestError, match=rf"two benchmarks are named bert: .*bert.py and {overlay}/bert.py"):
        registry.find("benchmarks")


def test_a_broken_plugin_of_an_overlay_is_named(add: Add, overlay: Path) -> None:
    (overlay / "broken.py").write_text("import no_such_module")
    plugin = registry.get("benchmarks", "broken")
    for _ in range(2):  # what failed to import is not there the second time either
        with pytest.raises(RequestError, match=r"broken.py: the benchmark broken cannot be imported: ModuleNotFound"):
            plugin.load()


def test_an_overlay_that_is_not_there_is_said(add: Add, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENGINEROOM_PATH", f"{tmp_path}/gone")
    with pytest.raises(RequestError, match=rf"ENGINEROOM_PATH: {tmp_path}/gone is no folder"):
        registry.find("benchmarks")
