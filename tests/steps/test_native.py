"""The native build: LoadGen's sources are checked, what is unchanged is reused, errors are shown with their place."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engineroom import packages
from engineroom.errors import EngineError, RequestError
from engineroom.steps import native

# A harness in small: the same interface to the build as code/harness/CMakeLists.txt, compiled in a second.
CMAKE_LISTS = """
cmake_minimum_required(VERSION 3.26)
project(small LANGUAGES CXX)
if(NOT EXISTS "${LOADGEN_SOURCE_DIR}/loadgen.cc" OR NOT EXISTS "${OpenVINO_DIR}/OpenVINOConfig.cmake")
  message(FATAL_ERROR "not given what the harness needs")
endif()
add_library(engineroom_native MODULE module.cc)
set_target_properties(engineroom_native PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY "${OUTPUT_DIR}")
add_custom_target(engineroom_native_stub DEPENDS engineroom_native)
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the step build a small harness in folders of its own; return the folder of its sources."""
    version, _ = native.loadgen_pin()
    paths = {name: tmp_path / "build" / name.lower() for name in ("LIB", "NATIVE", "LOADGEN")}
    for name, path in paths.items():
        monkeypatch.setattr(native, name, path)
    monkeypatch.setattr(native, "STAMP", paths["LIB"] / "native.json")
    monkeypatch.setattr(native, "LOG", paths["NATIVE"] / "build.log")
    monkeypatch.setattr(native, "HARNESS", tmp_path / "harness")
    loadgen = paths["LOADGEN"] / f"mlcommons_loadgen-{version}"
    loadgen.mkdir(parents=True)
    (loadgen / "loadgen.cc").touch()
    native.HARNESS.mkdir()
    (native.HARNESS / "CMakeLists.txt").write_text(CMAKE_LISTS, encoding="utf-8")
    (native.HARNESS / "module.cc").write_text("int answer() { return 42; }\n", encoding="utf-8")
    return native.HARNESS


def test_a_build_is_reused_until_something_changes(small: Path) -> None:
    first = native.build_harness()
    assert (first.reused, first.why) == (False, "first time")
    module = native.LIB / "engineroom_native.so"
    assert module.is_file()

    assert native.build_harness().reused

    (small / "module.cc").write_text("int answer() { return 43; }\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"must be compiled \(changed: sources\)"):
        native.build_harness(may_build=False)
    changed = native.build_harness()
    assert (changed.reused, changed.why) == (False, "changed: sources")

    module.unlink()
    assert native.build_harness().why == "a file that it had made is gone"
    assert module.is_file()

    (small / "module.cc").write_text("int answer() { return missing; }\n", encoding="utf-8")
    with pytest.raises(EngineError) as caught:
        native.build_harness()
    assert f"{small}/module.cc:1:23: error: " in str(caught.value)
    assert f"the whole log: {native.LOG}" in str(caught.value)
    (small / "module.cc").write_text("int answer() { return 44; }\n", encoding="utf-8")
    assert not native.build_harness().reused


def test_a_plan_says_what_the_next_build_does_and_compiles_nothing(small: Path) -> None:
    folders = (native.LIB, native.NATIVE)
    plan = native.build_harness(plan=True)
    assert not any(folder.exists() for folder in folders)
    assert native.seconds_before() is None
    done = native.build_harness()
    assert plan == done
    assert done.whole and not done.reused
    took = native.seconds_before()
    assert took and took > 0
    assert native.build_harness(plan=True).reused

    (small / "module.cc").write_text("int answer() { return 43; }\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
    plan = native.build_harness(plan=True)
    assert {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")} == before
    assert plan == native.build_harness()
    assert (plan.whole, plan.why) == (False, "changed: sources")
    assert native.seconds_before() == took  # of the whole: a part of it says nothing about that


def test_an_engine_that_was_left_out_is_refused_until_something_changes(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.left_out() == {}
    lines = 'file(WRITE "${CMAKE_BINARY_DIR}/left_out.txt" "tensorrt nvcc 13.0 cannot compile with c++\\n")\n'
    (small / "CMakeLists.txt").write_text(CMAKE_LISTS + lines, encoding="utf-8")
    native.build_harness()
    native.check_has("cuda_null")
    with pytest.raises(RequestError, match=r"the harness has no engine tensorrt: nvcc 13.0 cannot .*\n.*build_harness"):
        native.check_has("tensorrt")
    monkeypatch.setenv("CXXFLAGS", "-DANOTHER")  # the next build asks CMake again
    native.check_has("tensorrt")


@pytest.mark.heavy
def test_two_builds_at_once_compile_once(small: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(native.build_harness) for _ in range(2)]
    assert sorted(build.result().reused for build in both) == [False, True]


@pytest.mark.heavy
def test_another_compiler_starts_from_an_empty_folder(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native.build_harness()
    left_over = native.NATIVE / "left over"
    left_over.touch()
    other = tmp_path / "my c++"
    other.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "my c++ 1.0" && exit\nexec c++ "$@"\n', encoding="utf-8")
    other.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{other}'")
    assert native.build_harness().why == "changed: compiler"
    assert not left_over.exists()


def test_a_missing_compiler_is_named(small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    with pytest.raises(RequestError, match="CXX=no-such-compiler: no such compiler"):
        native.build_harness()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match=r"no C\+\+ compiler on PATH") as caught:
        native.build_harness()
    assert "apt-get install g++" in str(caught.value)


# LoadGen's sources


def source_archive(path: Path, name: str, files: dict[str, str]) -> str:
    """Write an archive of `files` below the folder `name`; return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for file, text in files.items():
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that pins a hash for version 1.0, in folders of its own."""
    monkeypatch.setattr(native, "LOADGEN", tmp_path / "loadgen")
    monkeypatch.setattr(native, "LOADGEN_LOCK", tmp_path / "loadgen.lock")
    return lambda sha256: native.LOADGEN_LOCK.write_text(f"mlcommons-loadgen==1.0 \\\n    --hash=sha256:{sha256}\n")


def test_an_archive_with_the_pinned_hash_is_unpacked_whole(pinned: Any) -> None:
    archive = native.LOADGEN / "mlcommons_loadgen-1.0.tar.gz"
    pinned(source_archive(archive, "mlcommons_loadgen-1.0", {"loadgen.cc": "// sources", "a/b.h": ""}))
    source = native.loadgen_source()
    assert (source / "loadgen.cc").read_text() == "// sources"
    assert sorted(path.name for path in native.LOADGEN.iterdir()) == ["mlcommons_loadgen-1.0", archive.name]


def test_an_archive_with_another_hash_is_refused_and_set_aside(pinned: Any) -> None:
    archive = native.LOADGEN / "mlcommons_loadgen-1.0.tar.gz"
    found = source_archive(archive, "mlcommons_loadgen-1.0", {"loadgen.cc": "// altered"})
    pinned("0" * 64)
    with pytest.raises(RequestError) as caught:
        native.loadgen_source()
    assert f"{archive}: the SHA-256 is {found}" in str(caught.value)
    assert f"expects {'0' * 64}" in str(caught.value)
    assert [path.name for path in native.LOADGEN.iterdir()] == [archive.name + ".mismatch"]


def test_a_lock_that_pins_nothing_is_named(pinned: Any) -> None:
    native.LOADGEN_LOCK.write_text("mlcommons-loadgen==6.0.17\n")
    with pytest.raises(RequestError, match="names no mlcommons-loadgen with its hash"):
        native.loadgen_source()


@pytest.mark.heavy
def test_the_pinned_source_distribution_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "LOADGEN", tmp_path / "loadgen")
    source = native.loadgen_source()
    assert (source / "loadgen.cc").is_file()
    assert (source / "VERSION.txt").read_text().strip() == native.loadgen_pin()[0]


@pytest.mark.heavy
def test_a_wheelhouse_with_another_loadgen_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheelhouse: Path
) -> None:
    altered = Path(shutil.copytree(wheelhouse, tmp_path / "wheelhouse"))
    (archive,) = altered.glob("mlcommons*.tar.gz")
    archive.write_bytes(archive.read_bytes() + b"\0")
    monkeypatch.setenv("WHEELHOUSE", str(altered))
    monkeypatch.setattr(native, "LOADGEN", tmp_path / "loadgen")
    with pytest.raises(RequestError, match="the lock expects"):
        native.loadgen_source()
    assert archive.with_name(archive.name + ".mismatch").is_file()


def test_the_harness_is_built_for_this_python() -> None:
    assert native.build_harness().path == native.LIB
    assert packages.LOCKS.is_dir()
    assert list(native.LIB.glob(f"engineroom_native.cpython-{sys.version_info[0]}{sys.version_info[1]}-*.so"))
