"""What holds a GPU's clocks back, as far as NVML tells everybody: settings, and what slows it down at this moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engineroom.detection.machine import Gpu
from engineroom.detection.nvml import Nvml

# NVML's constants, so that nothing is imported where there is no GPU.
GRAPHICS, SM, MEMORY = 0, 1, 2
IDLE, BY_SETTING = 0x1, 0x2
HARDWARE = 0x8  # is set beside the two more exact ones, too
REASONS = {0x4: "power limit", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}


def with_clocks(gpu: Gpu, library: Nvml, handle: Any) -> Gpu:
    """Return the GPU with what is known of its clocks; its highest ones are known already."""
    persistence = library.ask("nvmlDeviceGetPersistenceMode", handle)
    reasons = event_reasons(library, handle)
    limit_sm_mhz = _limit(library, handle, GRAPHICS, gpu.max_sm_mhz)
    return replace(
        gpu,
        persistence=bool(persistence) if persistence is not None else None,
        limit_sm_mhz=limit_sm_mhz,
        limit_memory_mhz=_limit(library, handle, MEMORY, gpu.max_memory_mhz),
        held_sm_mhz=None if limit_sm_mhz else _held(library, handle, reasons or 0, gpu.max_sm_mhz),
        slowed_by=_slowed_by(reasons) if reasons is not None else None,
    )


def event_reasons(library: Nvml, handle: Any) -> int | None:
    """Return the bits of what keeps the clocks down at this moment."""
    reasons: int | None = library.ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:  # drivers before 535 know it by its old name only
        reasons = library.ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return reasons


def _limit(library: Nvml, handle: Any, clock: int, highest: int | None) -> int | None:
    """Return the applications clock that someone set. The default one may be low and limits nothing: GPUs boost."""
    chosen = library.ask("nvmlDeviceGetApplicationsClock", handle, clock)
    default = library.ask("nvmlDeviceGetDefaultApplicationsClock", handle, clock)
    return chosen if chosen and default and highest and default != chosen < highest else None


def _held(library: Nvml, handle: Any, reasons: int, highest: int | None) -> int | None:
    """Return the clock of now if a setting keeps it low. No function of NVML returns a lock (`nvidia-smi -lgc`)."""
    if not reasons & BY_SETTING or reasons & IDLE:
        return None
    now = library.ask("nvmlDeviceGetClockInfo", handle, SM)
    return now if now and highest and now < highest else None


def _slowed_by(reasons: int) -> tuple[str, ...]:
    exact = tuple(dict.fromkeys(word for bit, word in REASONS.items() if reasons & bit))
    return exact + (("hardware",) if reasons & HARDWARE and not {"heat", "power brake"} & {*exact} else ())
