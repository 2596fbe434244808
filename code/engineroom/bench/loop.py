"""What OpenVINO itself can do: runs the bare C++ loop over the compiled model, properties and samples of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engineroom.bench import product
from engineroom.child import read_npy_header
from engineroom.paths import NATIVE
from engineroom.steps import native

PROGRAM = "openvino_loop"
OF_THE_RECIPE = ("blob", "device")  # options of the engine that are no properties of OpenVINO


def build() -> None:
    """Compile the loop."""
    native.build_program(PROGRAM)


def measure(recipe: Mapping[str, Any], mode: str, requests: int, seconds: float, *more: str) -> dict[str, float]:
    """Return what the loop prints: samples_per_second and, of mode sync, p50_us and p90_us of an inference."""
    command = (str(NATIVE / PROGRAM), mode, f"--requests={requests}", f"--seconds={seconds}", *_flags(recipe), *more)
    words = (line.split() for line in product.run(command).splitlines())
    return {name: float(value) for name, value in words}


def _flags(recipe: Mapping[str, Any]) -> Iterator[str]:
    options = recipe["engine"]["options"]
    yield f"--blob={options['blob']}"
    yield from (f"--property={name}={value}" for name, value in options.items() if name not in OF_THE_RECIPE)
    for tensor in recipe["inputs"]:
        offset_bytes = read_npy_header(Path(tensor["path"])).offset_bytes
        yield f"--input={tensor['name']}={offset_bytes}={tensor['path']}"
