"""The native test programs, plain and under sanitizers: LoadGen, null, fixed-delay and failing engines, no Python.

Those of the engines for GPUs run on doubles of CUDA and TensorRT.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engineroom import toolkits
from engineroom.steps import native

# What LoadGen's own logger does is not ours to mend; nothing else is suppressed.
SUPPRESSED = native.HARNESS / "tests" / "tsan.supp"


def run_program(program: Path) -> None:
    # At the first race it ends with a code of its own: cases that must fail leave by _exit, which would hide it.
    environ = {**os.environ, "TSAN_OPTIONS": f"halt_on_error=1:suppressions={SUPPRESSED}"}
    done = subprocess.run([program], env=environ, capture_output=True, text=True, timeout=300)
    failed = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert not failed and done.returncode == 0, "\n".join(failed) + done.stderr
    assert done.stdout.count("\n") > (10 if program.name == "tensorrt_test" else 30)


def programs() -> list[str]:
    """Return the test programs that can be compiled here: those of GPU engines need headers, and no GPU."""
    cuda, tensorrt = toolkits.nvcc() is not None, toolkits.tensorrt_include() is not None
    return ["harness_test", *["cuda_test"] * cuda, *["tensorrt_test"] * (cuda and tensorrt)]


@pytest.mark.heavy
@pytest.mark.parametrize("program", ["harness_test", "cuda_test", "tensorrt_test"])
def test_native_cases(program: str) -> None:
    if program not in programs():
        pytest.skip("needs a CUDA toolkit, and tensorrt_test TensorRT's headers in the folder TENSORRT_INCLUDE")
    run_program(native.build_program(program))


@pytest.mark.heavy
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_native_cases_under_a_sanitizer(tmp_path: Path, sanitizer: str) -> None:
    def cmake(*arguments: str | Path) -> None:
        command = [Path(sys.executable).with_name("cmake"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr

    settings = {
        "CMAKE_MAKE_PROGRAM": Path(sys.executable).with_name("ninja"),
        "LOADGEN_SOURCE_DIR": native.loadgen_source(),
        "ENGINEROOM_SANITIZE": sanitizer,
    }
    headers = {
        "ENGINEROOM_NVCC": toolkits.nvcc() or "",
        "ENGINEROOM_TENSORRT_INCLUDE": toolkits.tensorrt_include() or "",
    }
    options = [f"-D{name}={value}" for name, value in (settings | headers).items()]
    cmake("-S", native.HARNESS, "-B", tmp_path, "-G", "Ninja", *options)
    cmake("--build", tmp_path, "--target", *programs())
    for program in programs():
        run_program(tmp_path / program)
