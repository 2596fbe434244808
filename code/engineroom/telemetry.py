"""Samples the machine once a second beside a run: load, clock and memory. Unofficial: no rule asks for it."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PERIOD_S = 1.0
COLUMNS = (
    "elapsed_s",
    "cpu_percent",
    "steal_percent",
    "cpu_mhz",
    "load_1min",
    "memory_available_bytes",
    "harness_cpu_percent",
    "harness_rss_bytes",
    "harness_peak_rss_bytes",
)


class Telemetry:
    """Writes telemetry.csv while it is open. `sample` is cheap to call often; it acts once a second."""

    def __init__(self, path: Path, pid: int) -> None:
        self._path, self._pid = path, pid
        self._due = self._begin = time.monotonic()
        self._peak_rss_bytes = 0

    def __enter__(self) -> Self:
        import psutil

        self._psutil = psutil
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        if self._file.tell() == 0:
            self._rows.writerow(COLUMNS)
        self._process = self._find_process()
        psutil.cpu_percent()  # the first call only sets the point that the next one measures from
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def sample(self) -> None:
        """Write a row if a second has passed since the last one."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + PERIOD_S
        frequency = self._psutil.cpu_freq()
        self._rows.writerow(
            (
                f"{now - self._begin:.3f}",
                self._psutil.cpu_percent(),
                getattr(self._psutil.cpu_times_percent(), "steal", ""),
                f"{frequency.current:.0f}" if frequency else "",
                f"{self._psutil.getloadavg()[0]:.2f}",
                self._psutil.virtual_memory().available,
                *self._of_process(),
            )
        )
        self._file.flush()

    def _find_process(self) -> Any:
        try:
            return self._psutil.Process(self._pid)
        except self._psutil.Error:  # it has ended already
            return None

    def _of_process(self) -> tuple[object, ...]:
        if self._process is None:
            return ("", "", "")
        try:
            with self._process.oneshot():
                rss = self._process.memory_info().rss
                self._peak_rss_bytes = max(self._peak_rss_bytes, rss)
                return (self._process.cpu_percent(), rss, self._peak_rss_bytes)
        except self._psutil.Error:
            return ("", "", "")
