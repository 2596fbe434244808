"""Asks NVML for each GPU's clocks, temperature, power and what slows it down, in a thread of its own.

A driver in trouble may never answer. Then the rows end, and nobody waits for them.
Source of the functions, units and reasons: NVML's API reference (docs.nvidia.com/deploy/nvml-api).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from engineroom.detection import nvml
from engineroom.detection.gpu_clocks import MEMORY, SM, event_reasons
from engineroom.detection.nvml import Nvml

STOP_S = 0.2  # so long the thread may take to say goodbye to NVML

# nvmlClocksEventReasons: what keeps the clocks below the highest, in nvidia-smi's words.
REASONS = {
    0x01: "gpu_idle",
    0x02: "applications_clocks_setting",
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}
TEMPERATURE_GPU = 0  # nvmlTemperatureSensors_t


class GpuWatch:
    """Rows of all GPUs, one second old."""

    COLUMNS = (
        "monotonic_s",
        "gpu",
        "uuid",
        "sm_clock_mhz",
        "memory_clock_mhz",
        "temperature_c",
        "power_w",
        "energy_j",  # since the driver was loaded
        "utilization_percent",
        "memory_used_bytes",
        "throttle_reasons",
    )

    def __init__(self, root: Path, module: Any = None) -> None:
        """`module` is pynvml or what stands for it."""
        self._root, self._module = root, module
        self._found: deque[tuple[object, ...]] = deque()
        self._asked, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._answer, name="telemetry of GPUs", daemon=True)

    def start(self) -> bool:
        """Begin where NVIDIA's driver is visible; say whether."""
        if not nvml.is_driver_visible(self._root):
            return False
        self._thread.start()
        self.ask()
        return True

    def ask(self) -> None:
        """Have the next row read. One that is still being read goes before."""
        self._asked.set()

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows that have come since the last call."""
        return [self._found.popleft() for _ in range(len(self._found))]

    def stop(self) -> None:
        """Let the thread end. One that is stuck in the driver is left behind."""
        self._stopped.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _answer(self) -> None:
        try:
            module = self._module or nvml.module(self._root)
            module.nvmlInit()
        except Exception:  # not installed, no driver, no permission: `make doctor` says which
            return
        asked = Nvml(module)
        handles = [
            asked.ask("nvmlDeviceGetHandleByIndex", each) for each in range(asked.ask("nvmlDeviceGetCount") or 0)
        ]
        while self._asked.wait() and not self._stopped.is_set():
            self._asked.clear()
            for index, handle in enumerate(handles):
                if handle is not None:
                    self._found.append(_row(asked, index, handle))
        asked.ask("nvmlShutdown")


def _row(asked: Nvml, index: int, handle: Any) -> tuple[object, ...]:
    utilization = asked.ask("nvmlDeviceGetUtilizationRates", handle)
    memory = asked.ask("nvmlDeviceGetMemoryInfo", handle)
    values = (
        asked.ask("nvmlDeviceGetClockInfo", handle, SM),
        asked.ask("nvmlDeviceGetClockInfo", handle, MEMORY),
        asked.ask("nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU),
        _thousandth(asked.ask("nvmlDeviceGetPowerUsage", handle)),
        _thousandth(asked.ask("nvmlDeviceGetTotalEnergyConsumption", handle)),
        getattr(utilization, "gpu", None),
        getattr(memory, "used", None),
        _reasons(asked, handle),
    )
    uuid = asked.text("nvmlDeviceGetUUID", handle)
    return (f"{time.monotonic():.3f}", index, uuid, *("" if value is None else value for value in values))


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _reasons(asked: Nvml, handle: Any) -> str | None:
    bits = event_reasons(asked, handle)
    return None if bits is None else " ".join(words for bit, words in REASONS.items() if bits & bit)
