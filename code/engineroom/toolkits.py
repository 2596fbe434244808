"""Finds what the harness's engines for GPUs are compiled with: CUDA's compiler, and TensorRT's C++ headers."""

from __future__ import annotations

import os
import platform
import re
import shutil
from functools import cache
from pathlib import Path

from engineroom.errors import EngineroomError, RequestError
from engineroom.paths import display
from engineroom.shell import capture

CUDA_OLDEST = (12, 2)
NVCC_PLACES = (Path("/usr/local/cuda/bin/nvcc"),)  # where the toolkit lies that is not on PATH
TENSORRT_OLDEST = (10, 8)
TENSORRT_HEADER = "NvInfer.h"
TENSORRT_PLACES = (
    *(Path("/usr/include") / folder for folder in (f"{platform.machine()}-linux-gnu", "")),
    *(Path(f"/usr/local/{name}/include") for name in ("tensorrt", "TensorRT", "cuda")),
)
TENSORRT_VARIABLE = "TENSORRT_INCLUDE"

_TENSORRT_VERSION = re.compile(r"^#define (?:NV_TENSORRT|TRT)_(MAJOR|MINOR)(?:_ENTERPRISE)? (\d+)", re.MULTILINE)


def nvcc() -> Path | None:
    """Return CUDA's compiler, resolved: that on PATH, in CUDA_HOME, or where the toolkit usually lies."""
    named = [shutil.which("nvcc"), os.environ.get("CUDA_HOME", "") + "/bin/nvcc"]
    places = [*(Path(name) for name in named if name), *NVCC_PLACES]
    return next((path.resolve() for path in places if path.is_file()), None)


def tensorrt_include() -> Path | None:
    """Return the folder of TensorRT's headers: what TENSORRT_INCLUDE says, or where packages install them.

    Raises RequestError if TENSORRT_INCLUDE names another folder, or headers of a TensorRT that is too old.
    """
    named = os.environ.get(TENSORRT_VARIABLE)
    folder = next((path for path in ([Path(named)] if named else TENSORRT_PLACES) if _has_tensorrt(path)), None)
    if named and folder is None:
        raise RequestError(
            f"holds no {TENSORRT_HEADER} of TensorRT {_text(TENSORRT_OLDEST)} or later",
            where=f"{TENSORRT_VARIABLE}={named}",
            mend=f"name the folder that {TENSORRT_HEADER} lies in, or unset {TENSORRT_VARIABLE}",
        )
    return folder.resolve() if folder else None


def tensorrt_version(include: Path) -> tuple[int, int]:
    """Return major and minor from NvInferVersion.h; (0, 0) if it does not say."""
    try:
        text = (include / "NvInferVersion.h").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, 0
    found = dict(_TENSORRT_VERSION.findall(text))
    return int(found.get("MAJOR", 0)), int(found.get("MINOR", 0))


def cuda_text() -> str:
    """Return the release of the CUDA toolkit that is here."""
    compiler = nvcc()
    version = _nvcc_version(compiler) if compiler else None
    return _text(version) if version else "unknown" if compiler else "none"


def check_cuda(engine: str) -> None:
    """Raise RequestError unless there is a CUDA toolkit that the harness's engine can be compiled with."""
    needs = f"the harness's engine {engine} is compiled with a CUDA toolkit of version {_text(CUDA_OLDEST)} or later"
    mend = "export CUDA_HOME=/path/to/cuda    # where none is: developer.nvidia.com/cuda-downloads"
    compiler = nvcc()
    if compiler is None:
        places = ", ".join(map(str, NVCC_PLACES))
        raise RequestError(f"{needs}; there is no nvcc on PATH, in CUDA_HOME or at {places}", mend=mend)
    version = _nvcc_version(compiler)
    if version and version < CUDA_OLDEST:
        raise RequestError(f"{needs}; this is {_text(version)}", where=display(compiler), mend=mend)


def check_tensorrt(engine: str, installed: str | None) -> None:
    """Raise RequestError unless there are TensorRT's headers, of the major version of the package `installed`."""
    wanted = (installed or "").partition(".")[0]
    mend = (
        "sudo apt-get install libnvinfer-headers-dev    # from NVIDIA's repository; pip's package has no headers\n"
        f"  export {TENSORRT_VARIABLE}=/path/to/include    # of its tar file, or of github.com/NVIDIA/TensorRT"
    )
    needs = f"the harness's engine {engine} is compiled with TensorRT's C++ headers"
    include = tensorrt_include()
    if include is None:
        places = ", ".join(map(str, TENSORRT_PLACES))
        of = f"of version {wanted}" if wanted else f"of version {_text(TENSORRT_OLDEST)} or later"
        raise RequestError(f"{needs}; no {TENSORRT_HEADER} {of} is in {places}", mend=mend)
    found = tensorrt_version(include)
    if wanted and str(found[0]) != wanted:
        raise RequestError(
            f"{needs} of the same major version; these are of {_text(found)}, and {installed} is installed",
            where=display(include),
            mend=mend,
        )


@cache
def _nvcc_version(compiler: Path) -> tuple[int, int] | None:
    """Return what nvcc calls its release; None if it does not say."""
    try:
        found = re.search(r"release (\d+)\.(\d+)", capture([compiler, "--version"]))
    except EngineroomError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def _has_tensorrt(folder: Path) -> bool:
    return (folder / TENSORRT_HEADER).is_file() and tensorrt_version(folder) >= TENSORRT_OLDEST


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
