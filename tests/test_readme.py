"""README.md is true: what it names exists, and its commands do what it says, in a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engineroom import legacy, registry, run_args
from engineroom.actions import run
from engineroom.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
OF_TENSORRT = [block for block in BLOCKS if "--engine=tensorrt" in block or "verify_tensorrt" in block]
PAGES = [
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("overlays", "image-classification", "submission")
]
OF_PAGES = [block for page in PAGES for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
MAKE_TEST = "make test\n"  # has passed already where this heavy test runs: .ci/run begins with it, in a fresh clone
MINUTES = 60.0


def test_there_are_commands_and_every_fence_is_one_of_them() -> None:
    assert "make run_harness\n" in BLOCKS and "make test\n" in BLOCKS
    assert README.count("```") == 2 * len(BLOCKS)


def test_every_target_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9_]+):.*#- ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z0-9_]+)\b(?=[`\s])", "".join(BLOCKS)))
    named |= set(re.findall(r"`make ([a-z0-9_]+)[` ]", README))
    assert {"run_harness", "test"} <= named <= targets


def test_every_file_exists() -> None:
    quoted = [name for found in re.findall(r"`([^`\n]+)`", README) for name in expanded(found)]
    named = {name for name in quoted if re.fullmatch(r"[\w./-]+", name) and ("/" in name or name.endswith(".py"))}
    shipped = {name for name in named if not name.startswith("build/") and name != "recipe/run.sh"}
    assert len(shipped) > 8
    assert [name for name in shipped if not (ROOT / name).exists()] == []


def expanded(name: str) -> list[str]:
    """Return what a shell makes of braces: a/{b,c} is a/b and a/c."""
    found = re.fullmatch(r"(.*)\{(.+)\}(.*)", name)
    return [found[1] + word + found[3] for word in found[2].split(",")] if found else [name]


def test_every_flag_exists() -> None:
    flags = set(re.findall(r"--(\w+)", README))
    of_other_tasks = {"extra", "diff", "repeat", "rehearsal"}
    assert flags and flags <= {*run_args.flags(), *legacy.FIELDS, *legacy.FLAGS, *of_other_tasks}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_request_is_understood(block: str) -> None:
    for task, text in re.findall(r'make (\w+) RUN_ARGS="(.*?)"', block):
        if task != "explain":  # which takes names, too
            run_args.parse(run_args.split(text), extras=run.REPEAT)


def test_every_exit_code_is_told() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert told == {int(code) for code in ExitCode}


def test_every_engine_is_told() -> None:
    for word in ("OpenVINO", "TensorRT", "ONNX Runtime", "LiteRT", "PyTorch", "three that measure the harness itself"):
        assert word in README
    assert set(registry.find("engines")) == {
        "openvino",
        "onnxruntime",
        "litert",
        "cuda_null",
        "torch",
        "tensorrt",
        "null",
        "fixed_delay",
    }


def test_every_benchmark_is_told() -> None:
    told = set(re.findall(r"^\| `([\w-]+)` \| .*%", PAGES[1], re.MULTILINE)) | {"digits"}
    assert set(registry.find("benchmarks")) == told


@pytest.mark.parametrize("request_", re.findall(r'make run_harness RUN_ARGS="(.*?)"', PAGES[1]))
def test_every_request_of_the_pages_is_understood(request_: str) -> None:
    run_args.parse(run_args.split(request_))


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Return a fresh clone of what is committed, in an empty folder."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "engineroom"], check=True)
    yield tmp_path / "engineroom"
    shutil.rmtree(tmp_path / "engineroom")  # a gigabyte


@pytest.mark.heavy
def test_every_command_block_works_in_a_fresh_clone(clone: Path) -> None:
    elsewhere = {MAKE_TEST, *OF_TENSORRT}
    assert elsewhere < set(BLOCKS)
    run_blocks([block for block in (*BLOCKS, *OF_PAGES) if block not in elsewhere], clone)


@pytest.mark.gpu
@pytest.mark.heavy
def test_every_command_block_for_nvidia_gpus_works_in_a_fresh_clone(clone: Path) -> None:
    run_blocks(OF_TENSORRT, clone)


def run_blocks(blocks: list[str], clone: Path) -> None:
    """Run each block as a new user would, and check that nothing lies about afterwards."""
    assert blocks
    for block in blocks:
        result = run_as_a_new_user(block, clone)
        assert result.returncode == 0, f"{block}\n{result.stdout[-8000:]}"
        assert "Traceback" not in result.stdout
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert changed.stdout == "", "commands leave nothing outside build/"


def run_as_a_new_user(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block in a login-less shell that knows nothing but PATH and HOME.

    This very Python's venv is not on that PATH: nothing is installed beforehand.
    """
    ours = str(Path(sys.prefix) / "bin")
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != ours)
    return subprocess.run(
        ["sh", "-e", "-c", block],
        cwd=folder,
        env={"PATH": path, "HOME": os.environ["HOME"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20 * MINUTES,
        check=False,
    )
