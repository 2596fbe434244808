"""Machines built by hand, so that no test depends on the one it runs on or on how it is detected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engineroom.detection import Machine
from engineroom.detection.machine import Cpu, Gpu, Slice

GIB = 1 << 30

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def eight_gpus() -> Machine:
    """Return a server of eight H200 on two sockets."""
    cpu = Cpu("Intel(R) Xeon(R) Platinum 8480C", architecture="x86_64", sockets=2, cores=112, usable_cores=112)
    gpus = tuple(Gpu("NVIDIA H200", number, memory_bytes=143771 << 20, mig=False) for number in range(8))
    return Machine(cpu, 2015 * GIB, 2015 * GIB, gpus=gpus, product="Example Corp. Rack 8")


@pytest.fixture(scope="session")
def slices(eight_gpus: Machine) -> Machine:
    """Return the same server with one of its GPUs, cut into two kinds of MIG slices."""
    cut = tuple(Slice(profile, "MIG-1", GIB, 1, 0) for profile in ("2g.35gb+me", "1g.18gb", "1g.18gb"))
    return replace(eight_gpus, gpus=(replace(eight_gpus.gpus[0], mig=True, slices=cut),))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes the files of a folder systems/ and returns it."""

    def files(folder: str = "systems", **texts: str | bytes) -> Path:
        made = tmp_path / folder
        made.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (made / f"{name}.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return made

    return files
