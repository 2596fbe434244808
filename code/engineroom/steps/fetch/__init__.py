"""Makes sure that models and data are here and are the right ones, by their SHA-256, and brings them here.

Data can be large, so what was found is remembered: as in git, a file is read again when its size, times or inode are
not those that it had when it was read.
"""

from __future__ import annotations

import importlib
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from engineroom import datasets, registry, terminal, versions
from engineroom.artifacts import key_of
from engineroom.benchmarks import Benchmark
from engineroom.datasets import Dataset, absent, format_checksums, format_map
from engineroom.errors import Mistakes, RequestError
from engineroom.images import imagenet
from engineroom.networks import layout
from engineroom.paths import (
    BUILD,
    display,
    ensure_folder,
    locked,
    sha256_file,
    sha256_files,
    sha256_text,
    write_text,
)
from engineroom.sources import UNPUBLISHED, Recorded, record, recorded
from engineroom.steps.fetch import obtain
from engineroom.steps.fetch.obtain import State, Wanted, by_hand, missing_bytes, not_used, refusals

__all__ = [
    "State",
    "Wanted",
    "Making",
    "bring",
    "check_data",
    "check_model",
    "data_makings",
    "data_wanted",
    "has_files",
    "is_made",
    "make",
    "missing_bytes",
    "model_makings",
    "model_wanted",
    "not_used",
    "refusals",
    "states",
]

MEMORY = BUILD / "checked_files.json"
# A file that has just been written may be changed again without its time showing it, so it is not remembered yet.
SETTLED_S = 2.0
_made_here: set[Path] = set()  # `force` makes a file again once in a process, however often it is asked for


class Checked(msgspec.Struct, frozen=True):
    """A file as it was when it was read, and its SHA-256 (hex)."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str


def has_files(benchmark: Benchmark) -> bool:
    """Tell whether the benchmark's model and data are on this machine, or can be made here, without reading them."""
    made = benchmark.made_model is not None or benchmark.model_file()[0].is_file()
    return made and (Dataset(benchmark.dataset).drawn or all(path.is_file() for path in benchmark.data_files()))


def check_model(benchmark: Benchmark, *, force: bool = False, remember: bool = True) -> str:
    """Return the model's SHA-256 after checking it. Raises RequestError if it is missing or another one.

    `force` reads the file whatever is remembered of it; without `remember` nothing is written.
    """
    path, expected = benchmark.model_file()
    if benchmark.own_model:
        return _own_sha256(path, force=force, remember=remember)
    return _check({path: expected}, benchmark, "model", force, remember)[path]


def _own_sha256(path: Path, *, force: bool, remember: bool) -> str:
    """Return the SHA-256 of a model of the user's, with the files that hold its weights, whatever it is."""
    try:
        with _memory(force=force, remember=remember) as found:
            sha256s = [_sha256(file, found) for file in (path, *layout.external_files(path))]
            return sha256s[0] if len(sha256s) == 1 else sha256_text(" ".join(sha256s))
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from error


def check_data(benchmark: Benchmark, *, force: bool = False, remember: bool = True) -> dict[Path, str]:
    """Return the raw data files with their SHA-256 after checking them. Raises Mistakes for all wrong files.

    `force` and `remember` are as in `check_model`.
    """
    return _check(benchmark.data_files(), benchmark, "data", force, remember)


def _check(files: dict[Path, str], benchmark: Benchmark, kind: str, force: bool, remember: bool) -> dict[Path, str]:
    """Return the SHA-256 of each file. One that nobody publishes has to be what was recorded at the first use."""
    right: dict[Path, str] = {}
    mistakes: list[RequestError] = []
    what = f"the {kind} of {benchmark.name}"
    with _memory(force=force, remember=remember) as found:
        for path, published in files.items():
            where = display(path)
            try:
                if not path.is_file():
                    continue
                known = recorded(path) if published == UNPUBLISHED else None
                if published == UNPUBLISHED and known is None:
                    raise RequestError(
                        f"{what} has not been verified yet", where=where, mend=_restore(path, benchmark, kind)
                    )
                sha256, right[path] = _sha256(path, found), known.sha256 if known else published
                if sha256 != right[path]:
                    wrong = f"{what} is not the right file: its SHA-256 is {sha256}, must be {right[path]}"
                    raise RequestError(wrong, where=where, mend=_restore(path, benchmark, kind))
            except RequestError as error:
                mistakes.append(error)
    for mend, missing in _missing(files, benchmark, kind).items():
        mistakes.append(RequestError(f"{what} is missing", where=", ".join(map(display, missing)), mend=mend))
    if mistakes:
        raise Mistakes(mistakes)
    return right


def _missing(files: Iterable[Path], benchmark: Benchmark, kind: str) -> dict[str, list[Path]]:
    """Return the files that are not here, by what brings them."""
    found: dict[str, list[Path]] = {}
    for path in files:
        if not path.is_file():
            found.setdefault(_restore(path, benchmark, kind), []).append(path)
    return found


def model_wanted(benchmark: Benchmark) -> list[Wanted]:
    """Return the file that has to be fetched or registered for a benchmark's model: none if it is shipped or made."""
    source = None if benchmark.made_model else benchmark.model_source
    command = f'make download_model RUN_ARGS="--benchmarks={benchmark.name}'
    return [Wanted(source.place, source, source.licence, benchmark.name, command)] if source else []


def data_wanted(dataset: Dataset, benchmark: Benchmark) -> list[Wanted]:
    """Return the files that have to be fetched or registered for a data set, those that are shipped left out."""
    manifest = dataset.manifest
    command = f'make download_data RUN_ARGS="--benchmarks={benchmark.name}{_named(dataset, benchmark)}'
    return [
        Wanted(dataset.place_of(name), file, manifest.licence, dataset.name, command)
        for name, file in manifest.files.items()
        if not file.shipped
    ]


def _named(dataset: Dataset, benchmark: Benchmark) -> str:
    """Return the flag that names the data set, where it is not the benchmark's usual one."""
    return "" if dataset.name == type(benchmark).dataset else f" --dataset={dataset.name}"


def states(asked: Sequence[Wanted], *, remember: bool = True) -> list[State]:
    """Tell of each file whether it is right, here or missing. Without `remember` nothing is written."""
    with _memory(remember=remember) as found:
        return [obtain.state_of(wanted, lambda path: _sha256(path, found)) for wanted in asked]


def bring(asked: Sequence[Wanted], *, given: Path | None = None, accepted: Collection[str] = ()) -> list[str]:
    """Make sure that every file is here and right, as `obtain.obtain` says; return a line for each that was not."""
    with _memory() as found:
        return obtain.obtain(asked, lambda path: _sha256(path, found), given=given, accepted=accepted)


@dataclass(frozen=True)
class Making:
    """A file that is made here, not fetched: `make` writes it, and whatever lies beside it, from what `made_from` keys.

    `bytes` is about what it adds to the disk. `check` raises RequestError if a package is missing that `make` needs.
    `whole` tells whether what lies beside the file is there.
    """

    path: Path
    what: str
    made_from: Mapping[str, str]
    make: Callable[[Path], None]
    bytes: int = 0
    check: Callable[[], None] = lambda: None
    whole: Callable[[], bool] = lambda: True


def model_makings(benchmark: Benchmark) -> list[Making]:
    """Return the model files of a benchmark that are made here."""
    made = [benchmark.made_model, benchmark.twin if benchmark.made_model else None]
    return [
        Making(
            each.path,
            f"{benchmark.name}, synthetic {'weights' if each is benchmark.made_model else 'weights in float'}",
            {"code": sha256_files(each.sources), **versions.of_distributions(each.distributions)},
            each.write,
            each.bytes,
            partial(_check_installed, each.modules, each.extra, each.path),
        )
        for each in made
        if each
    ]


def data_makings(dataset: Dataset) -> list[Making]:
    """Return the files of a data set that are made here: images that are drawn, and maps made from a raw file.

    A map whose raw file is not here is left out.
    """
    makings = [_drawing(dataset, dataset.manifest.generator)] if dataset.manifest.generator else []
    for name, part in dataset.manifest.parts.items():
        source = dataset.place / (part.made_from or "")
        if part.made_from and source.is_file():
            code = sha256_files((Path(imagenet.__file__), Path(datasets.__file__)))
            made_from = {"from": sha256_file(source), "samples": str(part.samples), "code": code}
            what = f"{dataset.name}, map of the {name} samples"
            makings.append(Making(dataset.map_of(name), what, made_from, partial(_write_map, source, part.samples)))
    return makings


def is_made(making: Making, *, remember: bool = True, force: bool = False) -> bool:
    """Tell whether a file is as it would be made. Without `remember` nothing is written.

    With `force` nothing counts as made but what this process made.
    """
    if force and making.path not in _made_here:
        return False
    known = recorded(making.path)
    if known is None or known.declared != key_of(making.made_from) or not making.path.is_file():
        return False
    if not making.whole():
        return False
    with _memory(remember=remember) as found:
        return _sha256(making.path, found) == known.sha256


def make(making: Making, *, force: bool = False) -> None:
    """Make the file unless it is there as it would be made. Raises RequestError or Mistakes for what is wrong."""
    ensure_folder(making.path.parent)
    with locked(making.path.parent):
        if is_made(making, force=force):
            return
        making.check()
        making.make(making.path)
        declared, size = key_of(making.made_from), making.path.stat().st_size
        record(
            making.path,
            Recorded(sha256=sha256_file(making.path), bytes=size, declared=declared, source="made here"),
        )
        _made_here.add(making.path)


def _check_installed(modules: tuple[str, ...], extra: str | None, path: Path) -> None:
    if absent := registry.missing(modules):
        raise RequestError(
            f"making it needs {', '.join(absent)}, not installed here",
            where=display(path),
            mend=f'make install RUN_ARGS="--extra={extra}"' if extra else None,
        )


def _drawing(dataset: Dataset, name: str) -> Making:
    module = importlib.import_module(f"engineroom.images.{name}")
    samples = [sample.file for part in dataset.manifest.parts for sample in dataset.samples(part)]
    made_from = {
        "code": sha256_file(Path(str(module.__file__))),
        "samples": sha256_text("\n".join(samples)),
        **versions.of_distributions(module.DISTRIBUTIONS),
    }

    def draw(path: Path) -> None:
        ensure_folder(dataset.sample_folder)
        with terminal.progress(f"drawing {len(samples):,} images of {dataset.name}", 1) as update:
            checksums = module.generate(samples, dataset.sample_folder, terminal.counting(update))
        write_text(path, format_checksums(dataset.sample_folder.name, checksums))

    check = partial(_check_installed, module.MODULES, module.EXTRA, dataset.checksums)
    folder, size = dataset.sample_folder, module.BYTES * len(samples)
    what = f"{dataset.name}, drawn images"
    return Making(dataset.checksums, what, made_from, draw, size, check, lambda: not absent(samples, folder))


def _write_map(source: Path, samples: int, path: Path) -> None:
    text = source.read_text(encoding="utf-8")
    write_text(path, format_map(imagenet.samples(text, display(source), samples)))


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
    """Say what the user types, or does, so that the right file is at `path`."""
    if wanted := _brings(path, benchmark, kind):
        return f"fetch it with: {wanted.typed()}" if wanted.file.sources else by_hand(wanted)
    if path.is_relative_to(BUILD):
        return "put the right one there"
    return f"it is shipped with Engineroom; bring it back with: git checkout -- {shlex.quote(display(path))}"


def _brings(path: Path, benchmark: Benchmark, kind: str) -> Wanted | None:
    """Return what has to be fetched or registered so that `path` is there: itself, or what it is made from."""
    if kind == "model":
        return next((wanted for wanted in model_wanted(benchmark) if wanted.result == path), None)
    dataset = Dataset(benchmark.dataset)
    made_from = {dataset.map_of(name): part.made_from for name, part in dataset.manifest.parts.items()}
    found = data_wanted(dataset, benchmark)
    return next((each for each in found if each.result == path or each.result.name == made_from.get(path)), None)
