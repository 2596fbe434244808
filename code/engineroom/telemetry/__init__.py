"""Looks at the machine once a second beside a run: load, clocks, memory, power. Unofficial: no rule asks for it.

telemetry.csv      the host, a line a second        telemetry_gpu.csv  each GPU, where NVIDIA's driver is visible
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engineroom import terminal
from engineroom.telemetry.gpus import GpuWatch
from engineroom.telemetry.host import HostWatch

PERIOD_S = 1.0
HOST, GPU = "telemetry.csv", "telemetry_gpu.csv"


class Telemetry:
    """Writes telemetry.csv, and telemetry_gpu.csv beside it, while it is open.

    `sample` is cheap to call often; it acts once a second. `pid` is the harness; `root` is where /proc and /sys are;
    `nvml` is what stands for the module pynvml. A file that cannot be written ends the telemetry, never the test.
    """

    def __init__(self, path: Path, pid: int, *, root: Path = Path("/"), nvml: Any = None) -> None:
        self._path = path
        self._host, self._gpus = HostWatch(pid, os.getpid(), root), GpuWatch(root, nvml)
        self._due = self._begin_s = time.monotonic()
        self._host_file: _Table | None = None
        self._gpu_file: _Table | None = None
        self._stopped = False

    def __enter__(self) -> Self:
        with self._or_stop():
            self._host_file = _Table(self._path, ("elapsed_s", "monotonic_s", *HostWatch.COLUMNS))
            self._gpu_file = _Table(self._path.with_name(GPU), GpuWatch.COLUMNS) if self._gpus.start() else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gpus.stop()
        for table in filter(None, (self._host_file, self._gpu_file)):
            table.close()

    def sample(self) -> None:
        """Write a row if a second has passed since the last one. Never waits: the GPUs' rows are of the last time."""
        now = time.monotonic()
        if now < self._due or self._stopped:
            return
        self._due = now + PERIOD_S
        with self._or_stop():
            if self._host_file:
                self._host_file.write((f"{now - self._begin_s:.3f}", f"{now:.3f}", *self._host.row(now)))
            if self._gpu_file:
                self._gpu_file.write(*self._gpus.rows())
                self._gpus.ask()

    @contextmanager
    def _or_stop(self) -> Iterator[None]:
        """Stop if a file cannot be written; what `summarize` finds missing is told in the result, too."""
        try:
            yield
        except OSError as error:
            self._stopped = True
            terminal.warn(f"{self._path.name} ends here: {error.strerror}; the test goes on without telemetry")


class _Table:
    """A CSV file that is complete after every row."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._file = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        if self._file.tell() == 0:
            self.write(columns)

    def write(self, *rows: tuple[object, ...]) -> None:
        self._rows.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        with suppress(OSError):  # a row that could not be written is tried once more
            self._file.close()
