"""What is asked for often stays quick: no heavy library on the warm paths, and importing a module does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engineroom.paths import CODE, ROOT

HEAVY = {
    "PIL",
    "cuda",
    "cv2",
    "jinja2",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "psutil",
    "rich",
    "tensorrt",
    "torch",
}


def _inv(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Invoke in the checkout as its own script does, with Python's record of imports on stderr."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-X", "importtime", "-m", "invoke", *arguments]
    environment = {**plain, "PYTHONPATH": str(CODE), **environ}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def _imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the top-level names of what was imported."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50, done.stderr
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.fixture(scope="module")
def engines() -> None:
    """The engines of the default request are there."""
    done = _inv("generate_engines")
    assert done.returncode == 0, done.stderr


def test_the_list_of_tasks_imports_nothing_heavy() -> None:
    done = _inv("--list")
    assert done.returncode == 0
    assert "generate_engines" in done.stdout
    assert not _imported(done) & (HEAVY | {"engineroom", "msgspec"})


def test_a_warm_generate_engines_imports_nothing_heavy_and_says_why_it_reuses(engines: None) -> None:
    done = _inv("generate_engines")
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert said
    for line in said:
        assert ": reused build/" in line
        assert "(unchanged: " in line
    assert not _imported(done) & HEAVY


def test_a_refused_request_imports_nothing_heavy() -> None:
    done = _inv("run_harness", RUN_ARGS="--benchmarks=no_such")
    assert done.returncode == 2
    assert not _imported(done) & HEAVY


# Imports every module with an empty environment, and writes down what files each opens and what it brings along.
PROBE = """
import importlib, json, os, pkgutil, sys
sys.path.insert(0, {code!r})
opened, looked_at, current = [], [], None
def watch(event, arguments):
    if event == "open" and current and isinstance(arguments[0], str):
        path = arguments[0]
        if not path.endswith((".py", ".pyc", ".so")) and ".pyc." not in path and os.path.dirname(path):
            opened.append([current, path])
    elif event in ("subprocess.Popen", "os.system", "socket.connect") and current:
        opened.append([current, event])
import engineroom, msgspec, yaml  # what every part may use
sys.addaudithook(watch)
failed = []
for module in pkgutil.walk_packages(engineroom.__path__, "engineroom."):
    current = module.name
    try:
        importlib.import_module(module.name)
    except Exception as error:
        failed.append([module.name, repr(error)])
current = None
heavy = sorted(set({heavy!r}) & set(sys.modules))
print(json.dumps({{"failed": failed, "opened": opened, "heavy": heavy, "count": len(sys.modules)}}))
"""


def test_importing_any_module_is_free() -> None:
    # NVML's module is for machines that have a driver: there, and only there, detection asks it.
    script = PROBE.format(code=str(CODE), heavy=sorted({*HEAVY, "pynvml"}))
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd="/", env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "importing printed something"
    found = json.loads(done.stdout)
    assert found["failed"] == []
    assert found["heavy"] == []
    assert [(module, path) for module, path in found["opened"] if not _belongs_to_python(path)] == []


def _belongs_to_python(path: str) -> bool:
    """Tell whether a file is read by the import system itself: a listing of a library's own folder, not ours."""
    return "site-packages" in path and not Path(path).is_relative_to(CODE)
