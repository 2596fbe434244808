"""The doctor: says what would keep a run from succeeding, or from being measured well, each with its remedy."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from engineroom import bootstrap, versions
from engineroom.detection import Machine
from engineroom.paths import BUILD, WHEELHOUSE
from engineroom.steps.doctor import checks, gpus, look
from engineroom.steps.doctor.check import Check, Examine, State, good, missing, run
from engineroom.steps.doctor.checks import Plugin, Room

__all__ = ["Check", "Examine", "Needs", "Plugin", "Room", "State", "of_machine", "run"]


@dataclass(frozen=True)
class Needs:
    """What a request needs, and what is here of it.

    `gpu_by` are the engines asked for that need a GPU, `absent` is what comes from a network. `memory` and `disks` are
    None and empty where the request cannot be planned. `cuda_runtimes` maps each libcudart found to its version.
    """

    benchmarks: Sequence[Plugin] = ()
    engines: Sequence[Plugin] = ()
    gpu_by: Sequence[str] = ()
    memory: Room | None = None
    disks: Sequence[Room] = ()
    absent: Sequence[str] = ()
    cuda_runtimes: Mapping[str, str] = field(default_factory=dict)


def of_machine(machine: Machine, needs: Needs) -> dict[str, Examine]:
    """Return the checks by their names. Each looks when it is called, and can fail by itself."""
    return {
        "platform": _platform,
        "compiler": lambda: checks.compiler(look.compiled()),
        "python": lambda: checks.python(
            sys.version_info[:3], look.python_header(), has_headers=look.python_header().is_file()
        ),
        "packages": lambda: checks.packages(look.locked(), look.installed()),
        "git": lambda: checks.git(shutil.which("git")),
        "folders": lambda: checks.writable(_folders()),
        "disk": lambda: checks.disk(needs.disks, look.free_bytes(BUILD), BUILD),
        "memory": partial(checks.memory, needs.memory, machine),
        "swap": lambda: checks.swap(machine.swap_bytes, *look.memory_now(), machine),
        "CPUs": partial(checks.quota, machine),
        "governor": partial(checks.governor, machine),
        "clock": partial(checks.clock, machine),
        "huge pages": partial(checks.huge_pages, machine),
        "load": lambda: checks.load(os.getloadavg()[0], machine),
        "time": lambda: checks.time_of_day(look.clock_synchronized(), machine),
        "GPU": partial(gpus.answers, machine, needs.gpu_by),
        "CUDA": lambda: gpus.cuda(
            machine, gpus.cuda_users(versions.all_distributions(), needs.cuda_runtimes), needs.gpu_by
        ),
        "MIG": partial(gpus.mig, machine, needs.gpu_by),
        "GPU power": partial(gpus.power, machine),
        "GPU clocks": partial(gpus.clocks, machine),
        "benchmarks": partial(checks.benchmarks, needs.benchmarks),
        "engines": partial(checks.engines, needs.engines),
        "network": lambda: checks.to_fetch(needs.absent, has_wheelhouse=WHEELHOUSE.is_dir()),
        "overlays": lambda: checks.overlays(look.overlays()),
        "docker": lambda: checks.docker(look.docker(), bootstrap.user_name(os.geteuid()), machine),
        "ports": lambda: checks.ports(look.taken_ports(checks.PORTS)),
    }


def _platform() -> Check:
    lack = bootstrap.no_platform()
    if lack is None:
        return good(f"{sys.platform} {os.uname().machine}, glibc {'.'.join(map(str, bootstrap.glibc()))}")
    return missing(*str(lack).split("\n", 1))


def _folders() -> list[checks.Folder]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    inside = sorted(path for path in BUILD.glob("*") if path.is_dir()) if BUILD.is_dir() else []
    return look.folders([BUILD, *inside, Path(tempfile.gettempdir())], useful=[cache])
