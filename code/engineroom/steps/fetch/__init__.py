"""Makes sure that models and data are here and are the right ones, by their SHA-256, and brings them here.

Data can be large, so what was found is remembered: as in git, a file is read again when its size, times or inode are
not those that it had when it was read.
"""

from __future__ import annotations

import importlib
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from engineroom import terminal, versions
from engineroom.artifacts import key_of
from engineroom.benchmarks import Benchmark
from engineroom.datasets import Dataset, format_checksums, format_map
from engineroom.errors import Mistakes, RequestError
from engineroom.images import imagenet
from engineroom.paths import BUILD, DATA, MODELS, display, ensure_folder, locked, sha256_file, sha256_text, write_text
from engineroom.sources import UNPUBLISHED, Recorded, record, recorded
from engineroom.steps.fetch import obtain
from engineroom.steps.fetch.obtain import State, Wanted, missing_bytes

__all__ = [
    "State",
    "Wanted",
    "bring",
    "check_data",
    "check_model",
    "data_wanted",
    "has_files",
    "make_the_rest",
    "missing_bytes",
    "model_wanted",
    "states",
]

MEMORY = BUILD / "checked_files.json"
# A file that has just been written may be changed again without its time showing it, so it is not remembered yet.
SETTLED_S = 2.0


class Checked(msgspec.Struct, frozen=True):
    """A file as it was when it was read, and its SHA-256 (hex)."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str


def has_files(benchmark: Benchmark) -> bool:
    """Tell whether the benchmark's model and data are on this machine, without reading them."""
    return benchmark.model_file()[0].is_file() and all(path.is_file() for path in benchmark.data_files())


def check_model(benchmark: Benchmark, *, force: bool = False, remember: bool = True) -> str:
    """Return the model's SHA-256 after checking it. Raises RequestError if it is missing or another one.

    `force` reads the file whatever is remembered of it; without `remember` nothing is written.
    """
    path, expected = benchmark.model_file()
    return _check({path: expected}, benchmark, "model", force, remember)[path]


def check_data(benchmark: Benchmark, *, force: bool = False, remember: bool = True) -> dict[Path, str]:
    """Return the raw data files with their SHA-256 after checking them. Raises Mistakes for all wrong files.

    `force` and `remember` are as in `check_model`.
    """
    return _check(benchmark.data_files(), benchmark, "data", force, remember)


def _check(files: dict[Path, str], benchmark: Benchmark, kind: str, force: bool, remember: bool) -> dict[Path, str]:
    """Return the SHA-256 of each file. One that nobody publishes has to be what was recorded at the first use."""
    right: dict[Path, str] = {}
    mistakes: list[RequestError] = []
    with _memory(force=force, remember=remember) as found:
        for path, published in files.items():
            where, what, mend = display(path), f"the {kind} of {benchmark.name}", _restore(path, benchmark, kind)
            try:
                if not path.is_file():
                    raise RequestError(f"{what} is missing", where=where, mend=mend)
                known = recorded(path) if published == UNPUBLISHED else None
                if published == UNPUBLISHED and known is None:
                    raise RequestError(f"{what} has not been verified yet", where=where, mend=mend)
                sha256, right[path] = _sha256(path, found), known.sha256 if known else published
                if sha256 != right[path]:
                    wrong = f"{what} is not the right file: its SHA-256 is {sha256}, must be {right[path]}"
                    raise RequestError(wrong, where=where, mend=mend)
            except RequestError as error:
                mistakes.append(error)
    if mistakes:
        raise Mistakes(mistakes)
    return right


def model_wanted(benchmark: Benchmark) -> list[Wanted]:
    """Return the file that has to be fetched or registered for a benchmark's model: none if it is shipped."""
    source = benchmark.model_source
    command = f'make download_model RUN_ARGS="--benchmarks={benchmark.name}'
    return [Wanted(source.place, source, source.licence, benchmark.name, command)] if source else []


def data_wanted(dataset: Dataset, benchmark: Benchmark) -> list[Wanted]:
    """Return the files that have to be fetched or registered for a data set, those that are shipped left out."""
    manifest, command = dataset.manifest, f'make download_data RUN_ARGS="--benchmarks={benchmark.name}'
    return [
        Wanted(dataset.place_of(name), file, manifest.licence, dataset.name, command)
        for name, file in manifest.files.items()
        if not file.shipped
    ]


def states(asked: Sequence[Wanted], *, remember: bool = True) -> list[State]:
    """Tell of each file whether it is right, here or missing. Without `remember` nothing is written."""
    with _memory(remember=remember) as found:
        return [obtain.state_of(wanted, lambda path: _sha256(path, found)) for wanted in asked]


def bring(asked: Sequence[Wanted], *, given: Path | None = None, accepted: Collection[str] = ()) -> list[str]:
    """Make sure that every file is here and right, as `obtain.obtain` says; return a line for each that was not."""
    with _memory() as found:
        return obtain.obtain(asked, lambda path: _sha256(path, found), given=given, accepted=accepted)


def make_the_rest(dataset: Dataset) -> None:
    """Draw the samples of a data set that is generated, and write the maps that are made from a raw file.

    What is as it would be made stays. Raises Mistakes for a raw file that is no list of samples.
    """
    if dataset.manifest.generator:
        _generate(dataset, dataset.manifest.generator)
    for name, part in dataset.manifest.parts.items():
        if part.made_from:
            source = dataset.place / part.made_from
            with _making(dataset.map_of(name), {"from": sha256_file(source), "samples": str(part.samples)}) as path:
                if path:
                    text = source.read_text(encoding="utf-8")
                    write_text(path, format_map(imagenet.samples(text, display(source), part.samples)))


def _generate(dataset: Dataset, name: str) -> None:
    module = importlib.import_module(f"engineroom.images.{name}")
    samples = [sample.file for part in dataset.manifest.parts for sample in dataset.samples(part)]
    made_from = {
        "code": sha256_file(Path(str(module.__file__))),
        "samples": sha256_text("\n".join(samples)),
        **versions.of_distributions(module.DISTRIBUTIONS),
    }
    with _making(dataset.checksums, made_from) as path:
        if path:
            ensure_folder(dataset.sample_folder)
            with terminal.progress(f"drawing {len(samples):,} images of {dataset.name}", 1) as update:
                checksums = module.generate(samples, dataset.sample_folder, terminal.counting(update))
            write_text(path, format_checksums(dataset.sample_folder.name, checksums))


@contextmanager
def _making(path: Path, made_from: Mapping[str, str]) -> Iterator[Path | None]:
    """Yield `path` if it has to be made from `made_from`, else None; record it when it has been made."""
    declared = key_of(made_from)
    with locked(path.parent):
        known = recorded(path)
        if known and known.declared == declared and path.is_file() and sha256_file(path) == known.sha256:
            yield None
            return
        yield path
        facts = Recorded(sha256=sha256_file(path), bytes=path.stat().st_size, declared=declared, source="made here")
        record(path, facts)


@contextmanager
def _memory(*, force: bool = False, remember: bool = True) -> Iterator[dict[str, Checked]]:
    """Yield what is remembered of files that were read, and keep what is added. With `force` nothing is remembered."""
    known = _recall()
    found = {} if force else dict(known)
    try:
        yield found
    finally:
        if remember and {**known, **found} != known:
            _remember({**known, **found})


def _sha256(path: Path, known: dict[str, Checked]) -> str:
    """Return the file's SHA-256, from `known` if it has not changed since; else note it there once it has settled."""
    status = path.stat()
    seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    old = known.get(display(path))
    if old and seen == (old.bytes, old.mtime_ns, old.ctime_ns, old.inode):
        return old.sha256
    sha256 = sha256_file(path)
    if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S:
        known[display(path)] = Checked(*seen, sha256)
    return sha256


def _recall() -> dict[str, Checked]:
    try:
        return msgspec.json.decode(MEMORY.read_bytes(), type=dict[str, Checked])
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return {}


def _remember(known: dict[str, Checked]) -> None:
    with suppress(
        RequestError, UnicodeError
    ):  # a build/ that cannot be written: whoever has to write there will say so
        write_text(MEMORY, msgspec.json.encode(known).decode() + "\n")


def _restore(path: Path, benchmark: Benchmark, kind: str) -> str:
    if path.is_relative_to(DATA) or path.is_relative_to(MODELS):
        return f'fetch it with: make download_{kind} RUN_ARGS="--benchmarks={benchmark.name}"'
    return f"it is shipped with Engineroom; bring it back with: git checkout -- {shlex.quote(display(path))}"
