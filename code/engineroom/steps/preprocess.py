"""Writes the samples of a benchmark as memory-mappable .npy files, one per input, keyed by what they were made from.

The work is cut into chunks, which several processes write into preallocated files. A list beside the files holds each
chunk that is done with the CRC-32 of its bytes: an interrupted step goes on where it stopped.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from engineroom import datasets, processes, registry, terminal, versions
from engineroom.artifacts import UNKNOWN, Artifact, Switches, obtain
from engineroom.benchmarks import Benchmark, Part
from engineroom.errors import EngineError, Mistakes, RequestError
from engineroom.paths import PREPROCESSED_DATA, display, sha256_files, sha256_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHUNK_BYTES = 16 << 20  # 27 images of ResNet-50: a few tenths of a second, and little to lose
DONE = "done.txt"  # in the unfinished folder, a line per chunk: first and last sample, CRC-32
MOST_SHOWN = 20  # bad samples

_LINE = re.compile(r"([0-9]+) ([0-9]+) ([0-9a-f]{8})")


def preprocess(
    benchmark: Benchmark,
    part: Part,
    data: Mapping[Path, str],
    *,
    cores: int | None = None,
    **switches: Unpack[Switches],
) -> Artifact:
    """Return the samples of `part`: `<input>.npy` of [samples, *shape]. `data` are the checked raw files.

    `cores`: how many processes work at a time, by default one for each CPU that this process may use.
    """
    if absent := registry.missing(benchmark.modules):
        raise RequestError(
            f"preparing the samples of {benchmark.name} needs {', '.join(absent)}, not installed here",
            mend=f'make install RUN_ARGS="--extra={benchmark.extra}"' if benchmark.extra else None,
        )
    return obtain(
        PREPROCESSED_DATA / benchmark.dataset / benchmark.name / part.value,
        inputs_of(benchmark, part, data),
        lambda folder: _make(_Job(benchmark, part, folder), cores or len(os.sched_getaffinity(0))),
        what=f"the preprocessed {part} data of {benchmark.name}",
        resumable=True,
        **switches,
    )


def inputs_of(benchmark: Benchmark, part: Part, data: Mapping[Path, str]) -> dict[str, str]:
    """Return everything the samples of `part`, and their labels and score, depend on."""
    own, dataset = registry.get("benchmarks", benchmark.name).path, datasets.Dataset(benchmark.dataset)
    return {
        "data": UNKNOWN if UNKNOWN in data.values() else sha256_text(" ".join(data.values())),
        "maps": sha256_files(sorted(dataset.folder.glob("*.txt"))),
        "labels": str(dataset.manifest.labels),
        "samples": str(benchmark.sample_count(part)),
        "code": sha256_files((own, Path(datasets.__file__), *benchmark.sources)),
        "part": part.value,
        "inputs": benchmark.input_key,
        **versions.of_distributions(benchmark.distributions),
    }


class _Chunk(NamedTuple):
    """The samples [first:last)."""

    first: int
    last: int


class _Outcome(NamedTuple):
    """What became of a chunk: the CRC-32 of its bytes, or what is wrong with its samples."""

    crc: int
    mistakes: tuple[RequestError, ...] = ()


@dataclass(frozen=True)
class _Job:
    """The samples of one part, and the folder of the files that they go to."""

    benchmark: Benchmark
    part: Part
    folder: Path

    def path(self, name: str) -> Path:
        """Return the file of an input."""
        return self.folder / f"{name}.npy"

    @property
    def count(self) -> int:
        """How many samples the part has."""
        return self.benchmark.sample_count(self.part)

    def chunks(self) -> list[_Chunk]:
        """Return the chunks, in their order."""
        step = max(1, CHUNK_BYTES // sum(spec.bytes for spec in self.benchmark.inputs))
        return [_Chunk(first, min(first + step, self.count)) for first in range(0, self.count, step)]

    def make(self, chunk: _Chunk, crc: int | None) -> _Outcome:
        """Write the samples of a chunk into the files, unless what is there has the checksum `crc`."""
        there = {spec.name: _mapped(self.path(spec.name))[slice(*chunk)] for spec in self.benchmark.inputs}
        if crc is not None and _crc(there) == crc:
            return _Outcome(crc)
        try:
            made = self.benchmark.preprocess(self.part, *chunk)
        except Mistakes as error:
            return _Outcome(0, error.mistakes)
        except RequestError as error:
            return _Outcome(0, (error,))
        for name, place in there.items():
            self._check(name, made, place)
            place[...] = made[name]
        return _Outcome(_crc(there))

    def _check(self, name: str, made: Mapping[str, npt.NDArray[np.generic]], place: npt.NDArray[np.generic]) -> None:
        where = f"benchmark {self.benchmark.name}"
        if name not in made:
            raise EngineError(f"input {name} was not made", where=where)
        array = made[name]
        if array.shape != place.shape or array.dtype != place.dtype:
            raise EngineError(
                f"input {name} came out as {array.dtype.name} {array.shape}, must be {place.dtype.name} {place.shape}",
                where=where,
            )


def _make(job: _Job, cores: int) -> dict[str, Any]:
    benchmark = job.benchmark
    datasets.Dataset(benchmark.dataset).check_files(
        job.part, f"bring them here with: {_download(benchmark)}"
    )  # now, not in an hour
    _preallocate(job)
    chunks, done = job.chunks(), _done(job.folder / DONE)
    title = f"preprocess {job.benchmark.dataset}, {job.part}"
    mistakes: dict[_Chunk, tuple[RequestError, ...]] = {}
    with ExitStack() as stack:
        record = stack.enter_context((job.folder / DONE).open("a", encoding="ascii"))
        report = _reporter(stack.enter_context(terminal.progress(title, job.count)), job.count)
        wanted = {chunk: done.get(chunk) for chunk in chunks}
        outcomes = stack.enter_context(closing(_outcomes(job, wanted, min(cores, len(chunks)))))
        for chunk, outcome in outcomes:
            if outcome.mistakes:
                mistakes[chunk] = outcome.mistakes
            elif done.get(chunk) != outcome.crc:
                print(*chunk, f"{outcome.crc:08x}", file=record, flush=True)
            report(chunk.last - chunk.first)
    _refuse([mistake for chunk in sorted(mistakes) for mistake in mistakes[chunk]], job)
    (job.folder / DONE).unlink()
    return {"samples": job.count}


def _preallocate(job: _Job) -> None:
    """Make the files in their full size, on the disk, unless they are there. Raises RequestError if it has no room."""
    import numpy as np

    missing = [spec for spec in job.benchmark.inputs if not job.path(spec.name).exists()]
    needed, free = sum(spec.bytes for spec in missing) * job.count, shutil.disk_usage(job.folder).free
    if needed > free:
        raise RequestError(
            f"the samples need {terminal.size(needed)}, but {terminal.size(free)} are free here",
            where=display(job.folder.parent),
            mend="make room, or let the folder be a link to a larger disk",
        )
    for spec in missing:
        beside = job.path(spec.name).with_suffix(".new")
        np.lib.format.open_memmap(beside, "w+", np.dtype(spec.dtype), (job.count, *spec.shape))
        with beside.open("r+b") as file:  # with its blocks: a full disk would kill whoever writes into the map
            try:
                os.posix_fallocate(file.fileno(), 0, beside.stat().st_size)
            except OSError:
                beside.unlink()
                raise
        beside.rename(job.path(spec.name))


def _done(path: Path) -> dict[_Chunk, int]:
    """Return the chunks that an earlier attempt finished, with their checksums; a line that was cut off counts not."""
    if not path.exists():
        return {}
    lines = filter(None, map(_LINE.fullmatch, path.read_text(encoding="ascii", errors="replace").splitlines()))
    return {_Chunk(int(line[1]), int(line[2])): int(line[3], 16) for line in lines}


def _outcomes(
    job: _Job, chunks: Mapping[_Chunk, int | None], workers: int
) -> Generator[tuple[_Chunk, _Outcome], None, None]:
    """Yield each chunk as it is finished: here if one process is enough, else by `workers` processes."""
    if workers <= 1:
        yield from ((chunk, job.make(chunk, crc)) for chunk, crc in chunks.items())
        return
    with _pool(job, workers) as pool:
        futures: dict[Future[_Outcome], _Chunk] = {pool.submit(_work, *item): item[0] for item in chunks.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()


@contextmanager
def _pool(job: _Job, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that know the job. When the body ends early, only the chunks in work are still finished."""
    context = get_context("spawn")  # this process may have threads, which a fork would not survive
    pool = ProcessPoolExecutor(workers, context, _begin, (job.benchmark.name, pickle.dumps(job)))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise EngineError(
            "a process that prepared samples was killed, perhaps for want of memory",
            where=f"benchmark {job.benchmark.name}",
            mend="type the same command again: it goes on where it stopped",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_job: _Job  # of this process, if it is a worker


def _begin(benchmark: str, pickled: bytes) -> None:
    """Make this process a worker."""
    global _job
    processes.serve_parent()
    registry.get("benchmarks", benchmark).load()  # the module of an overlay's benchmark has to be there already
    _job = pickle.loads(pickled)


def _work(chunk: _Chunk, crc: int | None) -> _Outcome:
    return _job.make(chunk, crc)


def _mapped(path: Path) -> npt.NDArray[np.generic]:
    import numpy as np

    return np.load(path, mmap_mode="r+")  # type: ignore[no-any-return]


def _crc(arrays: Mapping[str, npt.NDArray[np.generic]]) -> int:
    crc = 0
    for array in arrays.values():
        crc = zlib.crc32(array.data, crc)
    return crc


def _reporter(update: terminal.Update, total: int) -> Callable[[int], None]:
    """Return the function that is told how many more samples are done, and shows the rate and the time left."""
    begin, done = time.monotonic(), 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        rate = done / max(time.monotonic() - begin, 1e-9)
        update(done, f"{done:,} of {total:,}, {rate:,.0f}/s, {(total - done) / rate:,.0f} s left")

    return report


def _download(benchmark: Benchmark, *flags: str) -> str:
    dataset = [f"--dataset={benchmark.dataset}"] if benchmark.datasets else []
    return f'make download_data RUN_ARGS="{" ".join([f"--benchmarks={benchmark.name}", *dataset, *flags])}"'


def _refuse(mistakes: list[RequestError], job: _Job) -> None:
    """Raise Mistakes if there are any, with the way out after the last. What is done stays done."""
    if len(mistakes) > MOST_SHOWN:
        more = RequestError(f"and {len(mistakes) - MOST_SHOWN:,} more bad samples", where=job.benchmark.dataset)
        mistakes = [*mistakes[:MOST_SHOWN], more]
    if mistakes:
        last = mistakes[-1]
        raise Mistakes([*mistakes[:-1], RequestError(last.what, where=last.where, mend=last.mend or _way_out(job))])


def _way_out(job: _Job) -> str | None:
    """Say how samples get here anew, which are held to the checksums of the first time until their list is removed."""
    dataset = datasets.Dataset(job.benchmark.dataset)
    if not dataset.manifest.folder:
        return None
    listed, again = shlex.quote(display(dataset.checksums)), _download(job.benchmark)
    if dataset.drawn:
        return f"have them drawn anew: rm {listed} && {again}"
    own = f"rm {listed} && {_download(job.benchmark, '--from=FOLDER')}"
    return f"have others verified in their place: rm {listed} && {again}\n  or, if they are your own: {own}"
