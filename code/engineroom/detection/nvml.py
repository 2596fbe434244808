"""Opens NVML, NVIDIA's management library, and asks it: each question may fail without harm to the others.

The functions and what they answer stand in NVML's API reference (docs.nvidia.com/deploy/nvml-api).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engineroom.detection.files import exists

LIBRARY = "libnvidia-ml.so.1"
# Where Windows puts its own; not every distribution's loader looks there.
WSL_LIBRARY = Path("usr/lib/wsl/lib") / LIBRARY
# Any of these says that NVIDIA's driver is loaded: on Linux, under WSL2, on Jetson.
DRIVER_MARKS = ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg", "dev/nvhost-ctrl-gpu", "dev/nvgpu")

# NVML's return codes that have a remedy of their own.
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
VERSION_MISMATCH = 18

T = TypeVar("T")


class Nvml:
    """NVML as the Python module `pynvml` offers it."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def ask(self, function: str, *arguments: Any) -> Any:
        """Return the answer, or None if the GPU, the driver or this NVML cannot give it."""
        return self.answer(function, *arguments)[0]

    def answer(self, function: str, *arguments: Any) -> tuple[Any, Refusal | None]:
        """Return the answer, or why there is none."""
        try:
            return getattr(self._module, function)(*arguments), None
        # Not only NVMLError: an older module lacks functions, a name may be no UTF-8.
        except Exception as error:
            return None, Refusal(error)

    def text(self, function: str, *arguments: Any) -> str:
        """Return an answer that is text, or ""."""
        answer = self.ask(function, *arguments)
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer or "")


class Refusal:
    """Why NVML did not answer: its return code, or None for another error, and its words."""

    def __init__(self, error: Exception) -> None:
        value = getattr(error, "value", None)
        self.code = value if isinstance(value, int) else None
        self.words = " ".join(str(error).split()) or type(error).__name__


def within(seconds: float, work: Callable[[], T]) -> T | Refusal:
    """Return what `work` returns, or a refusal if that takes too long: a driver in trouble may never answer.

    Nothing can stop its call, so that the thread stays behind; it does not keep the process from ending.
    """
    found: list[T | Refusal] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(Refusal(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else Refusal(TimeoutError(f"no answer within {seconds:g} s"))


def is_driver_visible(root: Path) -> bool:
    """Say whether there is any sign of NVIDIA's driver, so that a machine without it loads nothing."""
    return any(exists(root / mark) for mark in DRIVER_MARKS)


def module(root: Path) -> Any:
    """Return the module that asks NVML.

    Raises ImportError if it is not installed.
    """
    import ctypes

    if exists(root / WSL_LIBRARY):
        # Once it is loaded, the module finds it by its short name.
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(root / WSL_LIBRARY))
    import pynvml

    return pynvml
