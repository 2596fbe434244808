"""Data sets: the manifest of one, data_maps/<name>/dataset.yaml, and the maps of its parts.

A map has one sample a line, `file` or `file<TAB>label`; the sample's index is its place among the lines that are not
blank. Every mistake of a file is reported in one pass, each with its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from engineroom.errors import Mistakes, RequestError, did_you_mean, plain, shown
from engineroom.paths import DATA, DATA_MAPS, display, layers
from engineroom.sources import UNPUBLISHED, Count, Licence, Name, SourceFile, Text
from engineroom.terms import TensorSpec
from engineroom.yaml_file import Entry, entries

MANIFEST = "dataset.yaml"
GOLDEN = "golden"  # folder of what reference models answered, beside the manifest or where the data lie
BACKGROUND = "-1"  # in a golden file, as in predictions.txt: the model named no class of the data set
MOST_SHOWN = 20  # mistakes of one file: a map of 50,000 lines can be wrong in each

_LABEL = re.compile(r"[0-9]{1,9}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"\w[\w-]*(\.\w+)?", re.ASCII)  # surely a path: most are, and 50,000 are soon looked at
_CHECKSUM = re.compile(r"([0-9a-f]{64})  (?:[^/]+/)?([^/]+)")


class DataFile(SourceFile, frozen=True, kw_only=True):
    """A raw file. One that is `shipped` stands beside the manifest, others are fetched to build/data/<name>."""

    shipped: bool = False


class PartMap(msgspec.Struct, frozen=True):
    """The map of one part; `samples` is how many it names, `labelled` whether with labels, `about` where it is from.

    It stands beside the manifest, unless it is made when the data are fetched: of the first `samples` lines of the raw
    file `made_from`, which is ImageNet's val.txt.
    """

    map: Name
    samples: Count
    labelled: bool = True
    made_from: Name | None = None
    about: Text | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What dataset.yaml says. Labels are 0..labels-1.

    `sample` is one raw sample, before a benchmark prepares it, where all have one shape. `folder` is that of the
    samples below build/data/<name>, where the maps' paths begin. `generator` is the module of engineroom.images that
    draws them. `calibration_from` is the data set that has the calibration samples, where this one has none.
    `submittable`: may a result with these data be submitted to MLPerf?
    """

    name: Text
    description: Text
    homepage: Text
    licence: Licence
    labels: Count
    parts: dict[str, PartMap]
    files: dict[str, DataFile] = {}
    sample: TensorSpec | None = None
    folder: Name | None = None
    generator: Name | None = None
    calibration_from: Name | None = None
    submittable: bool = False


def schema() -> dict[str, Any]:
    """Return the JSON Schema of dataset.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Manifest)}


@dataclass(frozen=True)
class Sample:
    """One line of a map: a path below the data set's folder, and the index of its class if the map has labels."""

    file: str
    label: int | None = None


class Difference(msgspec.Struct, frozen=True):
    """A sample that was given another class than the golden one."""

    file: str
    golden: int
    ours: int


class Agreement(msgspec.Struct, frozen=True):
    """How many of `total` samples were given the golden class, and the first of those that were not."""

    agree: int
    total: int
    differing: tuple[Difference, ...]


def folder_of(name: str) -> Path:
    """Return the folder of data_maps/ that is a data set's: ours, or that of the strongest overlay that has it."""
    found = [folder / name for folder in layers(DATA_MAPS) if (folder / name).is_dir()]
    return found[-1] if found else DATA_MAPS / name


class Dataset:
    """A data set's manifest and maps, each read when first asked for."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name = name
        self.folder = folder or folder_of(name)
        self._samples: dict[str, tuple[Sample, ...]] = {}

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest. Raises Mistakes with all that is wrong in it."""
        return read_manifest(self.folder / MANIFEST)

    @property
    def drawn(self) -> bool:
        """Whether its samples are drawn here, and its labels mean nothing."""
        return self.manifest.generator is not None

    @property
    def place(self) -> Path:
        """The folder of build/data where what is fetched, registered or generated lies."""
        return DATA / self.name

    @property
    def sample_folder(self) -> Path:
        """Where the maps' paths begin."""
        return self.place / self.manifest.folder if self.manifest.folder else self.folder

    @property
    def checksums(self) -> Path:
        """The list of the SHA-256s of the files in `sample_folder`, which `read_checksums` reads."""
        return self.place / f"{self.manifest.folder}.sha256"

    def place_of(self, file: str) -> Path:
        """Return where a raw file of the manifest lies."""
        return (self.folder if self.manifest.files[file].shipped else self.place) / file

    def raw_files(self) -> dict[Path, str]:
        """Return what has to be here before samples can be read, each with the SHA-256 that is published for it.

        A folder of samples is stood for by the list of their checksums.
        """
        files = self.manifest.files
        found = {file.result(self.place_of(name)): file.result_sha256 for name, file in files.items()}
        if self.manifest.generator:
            found[self.checksums] = UNPUBLISHED
        made = {self.map_of(part): UNPUBLISHED for part, about in self.manifest.parts.items() if about.made_from}
        return {**found, **made}

    def map_of(self, part: str) -> Path:
        """Return where the map of a part lies."""
        about = self.part(part)
        return (self.place if about.made_from else self.folder) / about.map

    def part(self, name: str) -> PartMap:
        """Return what the manifest says of a part. Raises RequestError if it has no such part."""
        parts = self.manifest.parts
        if name not in parts:
            raise RequestError(
                f"no part {shown(str(name))} here",
                where=display(self.folder / MANIFEST),
                mend=did_you_mean(name, parts),
            )
        return parts[name]

    def samples(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of a part in their order. Raises Mistakes, or RequestError if their number is wrong."""
        if name not in self._samples:
            part, path = self.part(name), self.map_of(name)
            samples = read_map(path, labels=self._labels_of(part))
            _raise(_wrong_number(len(samples), part, display(path)), display(path))
            self._samples[name] = samples
        return self._samples[name]

    def labels(self, name: str) -> list[int]:
        """Return the labels of a part's samples in their order. Raises RequestError if its map has none."""
        labels = [sample.label for sample in self.samples(name) if sample.label is not None]
        if len(labels) != len(self.samples(name)):
            raise RequestError("has no labels", where=display(self.map_of(name)))
        return labels

    def check_files(self, name: str, mend: str | None = None) -> None:
        """Check a part's map, and that the files it names are there and have checksums, in one pass.

        Raises Mistakes with the map's line for each. `mend` is what brings files here, said once, after the last.
        """
        if not self.manifest.folder:
            return
        part, path, folder = self.part(name), self.map_of(name), self.sample_folder
        samples, wrong = _parsed(_read_text(path), self._labels_of(part))
        listed, count = read_checksums(self.checksums), len(samples) + len(wrong)
        lost = set(absent((sample.file for sample in samples.values()), folder))
        missing = {number: sample.file for number, sample in samples.items() if sample.file in lost}
        unlisted = {
            number: sample.file for number, sample in samples.items() if PurePath(sample.file).name not in listed
        }
        wrong |= {number: f"{file} is not in {display(self.checksums)}" for number, file in unlisted.items()}
        wrong |= {number: f"{file} is not in {display(folder)}" for number, file in missing.items()}
        mistakes = [*_at_lines(wrong, display(path)), *_wrong_number(count, part, display(path))]
        _raise(mistakes, display(path), mend if missing or unlisted else None)

    def _labels_of(self, part: PartMap) -> int | None:
        return self.manifest.labels if part.labelled else None

    def golden(self, benchmark: str) -> list[int] | None:
        """Return the class that a benchmark's reference gave to each evaluation sample; None if nobody has it here.

        It stands in golden/<benchmark>.txt below build/data/<name> or else beside the manifest: one class a line in the
        map's order, or `file<TAB>class` in any order; -1 is the background. Raises Mistakes with all that is wrong.
        """
        for folder in (self.place, self.folder):
            path = folder / GOLDEN / f"{benchmark}.txt"
            if path.is_file():
                files = [sample.file for sample in self.samples("evaluation")]
                return _golden(_read_text(path), display(path), files, self.manifest.labels)
        return None

    def compare(self, golden: Sequence[int], ours: Sequence[int]) -> Agreement:
        """Compare what was answered to the evaluation samples, sample by sample."""
        rows = zip(self.samples("evaluation"), golden, ours, strict=True)
        differing = [Difference(sample.file, one, other) for sample, one, other in rows if one != other]
        return Agreement(len(ours) - len(differing), len(ours), tuple(differing[:MOST_SHOWN]))


def read_map(path: Path, *, labels: int | None) -> tuple[Sample, ...]:
    """Return the samples of a map. With `labels`, every line has one of 0..labels-1; without, no line has one.

    Lines may end in LF or CRLF, and a byte order mark is skipped. Raises Mistakes with file:line for each.
    """
    return parse_map(_read_text(path), display(path), labels=labels)


def parse_map(text: str, where: str, *, labels: int | None) -> tuple[Sample, ...]:
    """Return the samples of a map's text; `where` names it in errors. Otherwise as `read_map`."""
    samples, wrong = _parsed(text, labels)
    mistakes = _at_lines(wrong, where)
    if not samples and not mistakes:
        mistakes.append(RequestError("names no sample", where=where))
    _raise(mistakes, where)
    return tuple(samples.values())


def _parsed(text: str, labels: int | None) -> tuple[dict[int, Sample], dict[int, str]]:
    """Return the samples of a map's text, and what is wrong with the other lines, both by the line's number."""
    samples: dict[int, Sample] = {}
    wrong: dict[int, str] = {}
    lines: dict[str, int] = {}
    for number, line in _lines(text):
        file, *columns = line.split("\t")
        mistake = _wrong_path(file) or _wrong_label(columns, labels)
        if not mistake and file in lines:
            mistake = f"{shown(file)} is already named in line {lines[file]}"
        if mistake:
            wrong[number] = mistake
            continue
        lines[file] = number
        samples[number] = Sample(file, int(columns[0]) if columns else None)
    return samples, wrong


def _at_lines(wrong: Mapping[int, str], where: str) -> list[RequestError]:
    return [RequestError(what, where=f"{where}:{number}") for number, what in sorted(wrong.items())]


def _wrong_number(count: int, part: PartMap, where: str) -> list[RequestError]:
    if count == part.samples:
        return []
    return [RequestError(f"names {count} samples, but {MANIFEST} says {part.samples}", where=where)]


def format_map(samples: Iterable[Sample]) -> str:
    """Return the text of a map, the inverse of `parse_map`."""
    return "".join(
        f"{sample.file}\n" if sample.label is None else f"{sample.file}\t{sample.label}\n" for sample in samples
    )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, each with its number from 1."""
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also cut at U+2028 and its like
        if line.strip():
            yield number, line.removesuffix("\r")


def _golden(text: str, where: str, files: Sequence[str], labels: int) -> list[int]:
    """Return the class of each of `files`, from the text of a golden file."""
    lines, known, named = list(_lines(text)), set(files), "\t" in text
    mistakes: list[RequestError] = []
    classes: dict[str, int] = {}
    if not named and len(lines) != len(files):
        what = f"has {len(lines):,} classes, but there are {len(files):,} evaluation samples"
        mistakes.append(RequestError(what, where=where))
    for (number, line), at in zip(lines, range(len(lines) if named else len(files)), strict=False):
        file, *columns = line.split("\t") if named else (files[at], line)
        wrong = None if columns == [BACKGROUND] else _wrong_label(columns, labels)
        if file not in known:
            wrong = f"{shown(file)} is no evaluation sample"
        elif file in classes:
            wrong = f"{shown(file)} stands here a second time"
        if wrong:
            mistakes.append(RequestError(wrong, where=f"{where}:{number}"))
        classes.setdefault(file, 0 if wrong else int(columns[0]))
    if named:
        mistakes += [
            RequestError(f"says nothing of {shown(file)}", where=where) for file in files if file not in classes
        ]
    _raise(mistakes, where)
    return [classes[file] for file in files]


def absent(files: Iterable[str], folder: Path) -> list[str]:
    """Return those of the files, paths in a folder, that are not there. It is listed: to ask 50,000 times is slow."""
    there: dict[str, set[str]] = {}
    missing = []
    for file in files:
        parent, _, name = file.rpartition("/")
        if parent not in there:
            there[parent] = _listed(folder / parent)
        if name not in there[parent]:
            missing.append(file)
    return missing


def _listed(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries_:
            return {entry.name for entry in entries_}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(folder)) from error


def read_checksums(path: Path) -> dict[str, str]:
    """Return the SHA-256 (hex) of each file in a list that `sha256sum` could check, by the file's own name.

    Raises Mistakes for lines that are none. The list is read again only if it has changed: callers must not change it.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from error
    return _checksums(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=8)
def _checksums(path: Path, mtime_ns: int, size: int, inode: int) -> dict[str, str]:
    found: dict[str, str] = {}
    mistakes = []
    for number, line in _lines(_read_text(path)):
        if match := _CHECKSUM.fullmatch(line):
            found[match[2]] = match[1]
        else:
            mistakes.append(RequestError("is no line of sha256sum", where=f"{display(path)}:{number}"))
    _raise(mistakes, display(path))
    return found


def format_checksums(folder: str, checksums: Mapping[str, str]) -> str:
    """Return the text of such a list, for files of one folder that lies beside the list."""
    return "".join(f"{sha256}  {folder}/{name}\n" for name, sha256 in sorted(checksums.items()))


def read_manifest(path: Path) -> Manifest:
    """Return a manifest. Raises Mistakes with file:line for every unknown, missing or ill-typed field."""
    reader = _ManifestReader(display(path))
    values = reader.fields(Manifest, entries(path), 1)
    for entry in entries(path):
        for file in entry.children() if entry.key == "files" else ():
            if wrong := _wrong_path(file.key):
                reader.note(wrong, file.line)
    _raise(reader.mistakes, display(path))
    return Manifest(**values)


class _ManifestReader:
    """Turns the entries of a YAML file into msgspec's types, level by level, and gathers the mistakes."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.mistakes: list[RequestError] = []

    def note(self, what: str, line: int, mend: str | None = None) -> None:
        """Gather a mistake."""
        self.mistakes.append(RequestError(what, where=f"{self.where}:{line}", mend=mend))

    def fields(self, kind: Any, found: list[Entry], line: int) -> dict[str, Any]:
        """Return the fields of the Struct `kind` from a mapping's entries; `line` is where the mapping begins."""
        types = get_type_hints(kind, include_extras=True)
        values = {}
        for entry in found:
            if entry.key in types:
                values[entry.key] = self.value(types[entry.key], entry)
            else:
                self.note(f"{plain(entry.key)}: unknown field", entry.line, did_you_mean(entry.key, types))
        for field in msgspec.structs.fields(kind):
            if field.required and field.name not in values:
                self.note(f"the field {field.name} is missing", line)
        return values

    def value(self, kind: Any, entry: Entry) -> Any:
        """Return an entry's value as `kind`; what it returns after noting a mistake is of no use."""
        before = len(self.mistakes)
        if type(None) in get_args(kind):  # a field that may be left out
            [kind] = (each for each in get_args(kind) if each is not type(None))
        try:
            if entry.is_mapping and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                values = self.fields(kind, entry.children(), entry.line)
                return kind(**values) if len(self.mistakes) == before else None
            if entry.is_mapping and get_origin(kind) is dict:
                return {child.key: self.value(get_args(kind)[1], child) for child in entry.children()}
            return msgspec.convert(entry.value(), kind)
        except msgspec.ValidationError as error:
            self.note(f"{plain(entry.key)}: {str(error).replace('`', '')}", entry.line)
        except RequestError as error:
            self.mistakes.append(error)
        return None


def _wrong_path(file: str) -> str | None:
    """A path of a map or manifest stays below its folder: relative, with slashes, and without `.` or `..`."""
    if _PLAIN.fullmatch(file):
        return None
    if not file or file != file.strip():
        return f"{shown(file)}: a path must not be empty or have blanks at its ends"
    if _CONTROL.search(file) or "\\" in file:
        return f"{shown(file)}: a path must have no control characters and no backslash"
    if {"", ".", ".."} & set(file.split("/")):
        return f"{shown(file)}: a path must be relative and stay inside the data set's folder"
    return None


def _wrong_label(columns: list[str], labels: int | None) -> str | None:
    if len(columns) > 1:
        return f"{1 + len(columns)} columns; expected file<TAB>label"
    if labels is None:
        return "has a label, but this map has none" if columns else None
    if not columns:
        return "no label; expected file<TAB>label"
    if not _LABEL.fullmatch(columns[0]) or int(columns[0]) >= labels:
        return f"{shown(columns[0])}: a label is a whole number from 0 to {labels - 1}"
    return None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise RequestError("is not UTF-8 text", where=f"{display(path)}:{line}") from error


def _raise(mistakes: list[RequestError], where: str, mend: str | None = None) -> None:
    if len(mistakes) > MOST_SHOWN:
        more = RequestError(f"and {len(mistakes) - MOST_SHOWN:,} more mistakes", where=where)
        mistakes = [*mistakes[:MOST_SHOWN], more]
    if mistakes:
        last = mistakes[-1]
        raise Mistakes([*mistakes[:-1], RequestError(last.what, where=last.where, mend=last.mend or mend)])
