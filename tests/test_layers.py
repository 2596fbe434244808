"""The layers hold, an import is free, and the folder `code` does not hide the standard library's module."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import engineroom

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "PIL",
    "cuda",
    "cv2",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "jinja2",
    "rich",
    "tensorrt",
    "engineroom_native",
}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("steps/build.py", "import engineroom.steps.native"),
        ("engines/null.py", "import engineroom.steps.native"),
        ("steps/native.py", "import engineroom.actions"),
        ("paths.py", "import engineroom.config"),
        ("benchmarks/mobilenet-v2.py", "import engineroom.steps"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(checkout: Path, command: Any, module: str, line: str) -> None:
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    path = checkout / "code" / "engineroom" / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = command(lint, checkout, PYTHONPATH=str(checkout / "code"))
    assert done.returncode == 1
    assert "1 broken" in done.stdout


def test_importing_any_module_is_free() -> None:
    modules = [found.name for found in pkgutil.walk_packages(engineroom.__path__, "engineroom.")]
    assert "engineroom.steps.native" in modules
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "code")}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert not HEAVY & set(done.stdout.decode().split())


def test_no_top_level_folder_is_a_package() -> None:
    assert not [path for path in ROOT.glob("*/__init__.py") if path.parent.name != "build"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import code; code.InteractiveConsole; print(code.__file__)"],
        ["-m", "pdb", "-c", "continue", "-c", "quit", "show_code.py"],
    ],
)
def test_the_standard_librarys_code_is_found_in_the_checkout(
    checkout: Path, command: Any, arguments: list[str]
) -> None:
    (checkout / "show_code.py").write_text("import code; code.InteractiveConsole; print(code.__file__)\n")
    done = command([sys.executable, *arguments], checkout)
    assert done.returncode == 0, done.stderr
    assert "/code.py" in done.stdout


def test_the_standard_librarys_code_is_found_under_pytest() -> None:
    import code

    assert code.InteractiveConsole.__module__ == "code"
    assert not Path(code.__file__).is_relative_to(ROOT / "code")
