"""Brings models and raw data here: fetched from their sources, or registered where the user has them already.

Nothing that is right is fetched again, and nothing counts as right before it has been verified. What a user registers
is linked, never copied. All that is missing or wrong is said in one pass.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from engineroom import archives, downloads, terminal
from engineroom.datasets import MOST_SHOWN, absent, format_checksums, read_checksums
from engineroom.errors import Mistakes, RequestError
from engineroom.paths import display, locked, not_writable, sha256_file, sha256_text, write_text
from engineroom.sources import RECORDED, Licence, Recorded, SourceFile, Unpack, record, recorded

CHUNK_BYTES = 1 << 20
WITHIN = "val"  # where a folder of ImageNet has its validation images, beside train/ with 1.3 million others


class State(StrEnum):
    """RIGHT: nothing to do. HERE: to be verified, and unpacked if it is an archive. MISSING: to be fetched."""

    RIGHT = "right"
    HERE = "here"
    MISSING = "missing"


@dataclass(frozen=True)
class Wanted:
    """A file that is wanted at `place`. `owner` is what its licence is accepted for, `command` what the user typed."""

    place: Path
    file: SourceFile
    licence: Licence
    owner: str
    command: str  # make download_data RUN_ARGS="--benchmarks=resnet50

    @property
    def result(self) -> Path:
        """What is used in the end."""
        return self.file.result(self.place)

    @property
    def names(self) -> list[str]:
        """The names under which somebody may have the file."""
        return list(
            dict.fromkeys([self.place.name, *(PurePosixPath(urlsplit(url).path).name for url in self.file.sources)])
        )

    @property
    def one_will_do(self) -> bool:
        """Whether the one file that it is unpacked for can be verified alone, or nobody can verify more."""
        unpack = self.file.unpack
        return bool(unpack and not unpack.into and (unpack.sha256 or not self.file.digests))

    @property
    def accepted(self) -> str:
        """The flag by which its licence is accepted."""
        return f"--accept_licence={self.owner}"

    def typed(self, *flags: str) -> str:
        """Return what the user types to bring it here, with `flags` added."""
        accepted = [self.accepted] if self.licence.accept else []
        return " ".join([self.command, *accepted, *flags]) + '"'


Hashed = Callable[[Path], str]  # the SHA-256 of a file, which may be remembered


def state_of(wanted: Wanted, hashed: Hashed) -> State:
    """Tell whether a file is here and is the right one."""
    result, known = wanted.result, _known(wanted.result, wanted.file)
    right = wanted.file.result_sha256 if known is None else known.sha256
    if result.is_file() and hashed(result) == right and _members_are_here(wanted):
        return State.RIGHT
    return State.HERE if wanted.place.is_file() else State.MISSING


def missing_bytes(wanted: Wanted, state: State) -> tuple[int | None, int]:
    """Return how many bytes are to be fetched, if only about, or None if nobody knows; and how many unpacking adds."""
    unpacked = wanted.file.unpack.bytes if wanted.file.unpack and state is not State.RIGHT else 0
    if state is not State.MISSING:
        return 0, unpacked
    likely = wanted.file.likely_bytes
    return max(0, likely - _order(wanted).arrived_bytes) if likely else None, unpacked


def obtain(asked: Sequence[Wanted], hashed: Hashed, *, given: Path | None, accepted: Collection[str]) -> list[str]:
    """Make sure that every file is here and right; return one line for each that was not, of what was done.

    `given` is a file or folder that has them already: then nothing is fetched. `accepted` names the owners whose
    licence the user accepts. Raises Mistakes with all that could not be brought here.
    """
    with _locks({wanted.place.parent for wanted in asked}):
        todo = [wanted for wanted in asked if state_of(wanted, hashed) is not State.RIGHT]
        _tell_what_is_lost(todo, hashed)
        if _under_open_licences(todo, accepted):
            raise Mistakes(refusals(todo, given=given, accepted=accepted))
        done: list[str] = []
        mistakes: list[RequestError] = []
        missing = [wanted for wanted in todo if not _take_what_is_here(wanted, done, mistakes)]
        if given and (words := not_used([wanted for wanted in asked if wanted not in missing], given)):
            terminal.say(words)
        if given:
            _register(missing, given, done, mistakes)
        else:
            _download(missing, done, mistakes)
        if mistakes:
            for line in done:  # nobody else will
                terminal.say(line)
            raise Mistakes(mistakes)
        return done


def not_used(right: Sequence[Wanted], given: Path) -> str:
    """Return a line that says for which files, right already, what --from names is not looked at; "" if it has them."""
    places = {wanted.result: wanted.result.resolve() for wanted in right}
    others = [result for result, place in places.items() if not place.is_relative_to(given.resolve())]
    if not others:
        return ""
    more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
    return f"{display(others[0])}{more} here and right: --from={shlex.quote(str(given))} is not used for that"


@contextmanager
def _locks(folders: Iterable[Path]) -> Iterator[None]:
    with ExitStack() as stack:
        for folder in sorted(folders):
            words = f"another process is at work in {display(folder)}; waiting for it"
            stack.enter_context(locked(folder, partial(terminal.say, words)))
        yield


def refusals(todo: Iterable[Wanted], *, given: Path | None, accepted: Collection[str]) -> list[RequestError]:
    """Return what keeps files that are not right here from coming: a licence, or that nobody can fetch them."""
    todo, flags = list(todo), [f"--from={shlex.quote(str(given))}"] if given else []
    licences = [
        RequestError(
            f"{owner} is under a licence that you have to accept: {wanted.licence.name}, {wanted.licence.url}",
            mend=f"if you do: {wanted.typed(*flags)}",
        )
        for owner, wanted in _under_open_licences(todo, accepted).items()
    ]
    missing = [] if given else [wanted for wanted in todo if not wanted.place.is_file()]
    return [*licences, *_cannot_be_fetched(missing)]


def _under_open_licences(todo: Iterable[Wanted], accepted: Collection[str]) -> dict[str, Wanted]:
    """Return, by its owner, a file of each licence that is still to be accepted."""
    return {wanted.owner: wanted for wanted in todo if wanted.licence.accept and wanted.owner not in accepted}


def _cannot_be_fetched(missing: Iterable[Wanted]) -> Iterator[RequestError]:
    for wanted in missing:
        if not wanted.file.sources:
            what = f"{wanted.place.name} cannot be fetched for you: its owner hands it out to registered users only"
            yield RequestError(what, where=display(wanted.place), mend=by_hand(wanted))


# What is here already


def _take_what_is_here(wanted: Wanted, done: list[str], mistakes: list[RequestError]) -> bool:
    """Use what lies at the file's place, if it is right."""
    if not wanted.place.is_file():
        return False
    try:
        sha256 = _verify(wanted.place, wanted)
    except RequestError as error:
        terminal.warn(f"{error}\n  {_set_aside(wanted.place)}")
        return False
    known = recorded(wanted.place)
    _finish(wanted, sha256, known.source if known else "here", done, mistakes)
    return True


def _set_aside(path: Path) -> str:
    """Move a wrong file away and say so: it may be dear to somebody. Of one that is registered only the link goes."""
    if path.is_symlink():
        path.unlink()
        return "the link to it has been removed"
    return f"it has been moved to {display(path.replace(path.with_name(f'{path.name}.wrong')))}"


def _finish(wanted: Wanted, sha256: str, source: str, done: list[str], mistakes: list[RequestError]) -> None:
    """Record a verified file; if it is an archive, unpack it first, so that nothing is held to one that cannot be."""
    try:
        if wanted.file.unpack:
            _unpack(wanted, wanted.file.unpack)
    except RequestError as error:
        mistakes.append(error)
        return
    _record(wanted.place, wanted, sha256, source)
    if wanted.file.unpack and source in wanted.file.sources:
        wanted.place.unlink()  # fetched, and now unpacked: it would only take room
    done.append(f"{display(wanted.result)}: {_origin(wanted, source)} ({sha256[:12]})")


def _origin(wanted: Wanted, source: str) -> str:
    how = "verified" if wanted.file.digests else "recorded, as nobody publishes its checksum"
    return f"{how}, from {source}"


def _known(path: Path, file: SourceFile) -> Recorded | None:
    """Return what is recorded of a file under what is declared of it now."""
    known = recorded(path)
    return known if known and known.declared == file.declared else None


def _verify(path: Path, wanted: Wanted) -> str:
    """Return the SHA-256 of a file after comparing it with all that is known of it. Raises RequestError."""
    file, found = wanted.file, _digests(path, ("sha256", *wanted.file.digests))
    right = dict(file.digests)
    if known := _known(wanted.place, file):
        right["sha256"] = known.sha256
    wrong = [f"its {name} is {found[name]}, must be {value}" for name, value in right.items() if found[name] != value]
    if file.bytes and path.stat().st_size != file.bytes:
        wrong.append(f"it has {path.stat().st_size:,} bytes, must have {file.bytes:,}")
    if wrong:
        raise RequestError(f"is not the right file: {'; '.join(wrong)}", where=display(path))
    return found["sha256"]


def _digests(path: Path, names: Iterable[str]) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    try:
        size = path.stat().st_size
        with path.open("rb") as file, terminal.progress(f"verifying {display(path)}", max(size, 1)) as update:
            while chunk := file.read(CHUNK_BYTES):
                for each in hashes.values():
                    each.update(chunk)
                update(file.tell(), f"{terminal.size(file.tell())} of {terminal.size(size)}")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from error
    return {name: each.hexdigest() for name, each in hashes.items()}


def _record(path: Path, wanted: Wanted, sha256: str, source: str) -> None:
    facts = Recorded(sha256=sha256, bytes=path.stat().st_size, declared=wanted.file.declared, source=source)
    record(path, facts)


def _members_are_here(wanted: Wanted) -> bool:
    unpack = wanted.file.unpack
    if not (unpack and unpack.into):
        return True
    return not absent(read_checksums(wanted.result), wanted.place.with_name(unpack.into))


def _tell_what_is_lost(todo: Iterable[Wanted], hashed: Hashed) -> None:
    """Warn of members that have gone since they were recorded: who looks after their folder should know."""
    for wanted in todo:
        into, known = wanted.file.unpack and wanted.file.unpack.into, _known(wanted.result, wanted.file)
        if into and known and wanted.result.is_file() and hashed(wanted.result) == known.sha256:
            folder = wanted.place.with_name(into)
            lost = absent(read_checksums(wanted.result), folder)
            terminal.warn(
                f"{display(folder)} has lost {len(lost):,} of its files: "
                f"{', '.join(lost[:3])}{' ...' * (len(lost) > 3)}"
            )


def _unpack(wanted: Wanted, asked: Unpack) -> None:
    """Unpack an archive beside itself. What was there before is replaced by one rename."""
    place, unfinished = wanted.place, _unfinished(wanted)
    shutil.rmtree(unfinished, ignore_errors=True)
    room = f"at most {terminal.size(asked.bytes)}, {terminal.size(_check_room(place.parent, asked.bytes))} free"
    try:
        unfinished.mkdir()
        with terminal.progress(f"unpacking {display(place)}: {room}", 1) as update:
            checksums = _members_of(place, asked, unfinished, terminal.counting(update))
        os.sync()
        if asked.into:
            _put_folder(wanted, asked.into, unfinished)
            _write_checksums(wanted, asked.into, checksums, place.name)
        else:
            (unfinished / asked.members).replace(wanted.result)
            _record(wanted.result, wanted, checksums[asked.members], place.name)
    except OSError as error:
        raise not_writable(unfinished, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _members_of(place: Path, asked: Unpack, folder: Path, update: Callable[[int, int], None]) -> dict[str, str]:
    """Unpack into `folder`. An archive that has not what it should have is moved aside, to be fetched anew."""
    try:
        return archives.unpack(place, asked, folder, update)
    except RequestError as error:
        raise RequestError(error.what, where=error.where, mend=_set_aside(place)) from error


def _write_checksums(wanted: Wanted, folder: str, checksums: dict[str, str], source: str) -> None:
    text = format_checksums(folder, checksums)
    write_text(wanted.result, text)
    _record(wanted.result, wanted, sha256_text(text), source)


def _unfinished(wanted: Wanted) -> Path:
    return wanted.place.with_name(f".{wanted.place.name}.partial")


def _put_folder(wanted: Wanted, into: str, made: Path) -> None:
    """Rename the folder or link `made` to where the members belong.

    What was there goes if it is a link, or was unpacked here; what somebody put there is moved aside.
    """
    place = wanted.place.with_name(into)
    if place.is_symlink():
        place.unlink()
    elif place.exists() and recorded(wanted.result):
        shutil.rmtree(place)
    elif place.exists():
        terminal.warn(f"{display(place)} was not made here: {_set_aside(place)}")
    made.rename(place)


# What the user has


def _register(missing: Sequence[Wanted], given: Path, done: list[str], mistakes: list[RequestError]) -> None:
    if not given.exists():
        raise RequestError("is not there", where=f"--from={given}")
    for wanted in missing:
        try:
            found = _find(wanted, given.resolve(), alone=len(missing) == 1)
            if found.is_dir():
                _register_folder(wanted, found, done)
            elif wanted.file.unpack and found.name == wanted.result.name:
                _register_member(wanted, found, done)
            else:
                _register_file(wanted, found, done, mistakes)
        except RequestError as error:
            mistakes.append(error)
        except OSError as error:
            mistakes.append(RequestError(f"cannot be used: {error.strerror}", where=str(error.filename or given)))


def _find(wanted: Wanted, given: Path, *, alone: bool) -> Path:
    """Return the file, or the folder of an archive's members, that `given` is or holds. Raises RequestError."""
    unpack = wanted.file.unpack
    names = [*wanted.names, wanted.result.name] if unpack and not unpack.into else wanted.names
    if given.is_file() and (alone or given.name in names):
        return given
    for name in names:
        if (given / name).is_file():
            return given / name
    if unpack and unpack.into:
        folders = [folder for folder in (given, given / unpack.into, given / WITHIN) if folder.is_dir()]
        for matching in (_matching, _sorted_by_class):
            for folder in folders:
                if matching(folder, unpack.members):
                    return folder.resolve()
    or_folder = f", or the folder of its {unpack.files:,} files {unpack.members}" if unpack and unpack.into else ""
    useful = [name for name in names if name != wanted.result.name or wanted.one_will_do]
    raise RequestError(
        f"{display(wanted.place)} is still missing: {given} has no {' or '.join(useful)}{or_folder}",
        mend=f"fetch it with: {wanted.typed()}\n  or {by_hand(wanted)}" if wanted.file.sources else by_hand(wanted),
    )


def _register_file(wanted: Wanted, found: Path, done: list[str], mistakes: list[RequestError]) -> None:
    sha256 = _verify(found, wanted)
    wanted.place.unlink(missing_ok=True)  # a link whose target has gone
    wanted.place.symlink_to(found)
    _finish(wanted, sha256, str(found), done, mistakes)


def _register_member(wanted: Wanted, found: Path, done: list[str]) -> None:
    """Register the one file that an archive is fetched for. Raises RequestError if only the archive can be verified."""
    published = wanted.file.unpack and wanted.file.unpack.sha256
    if not wanted.one_will_do:
        what = f"cannot be verified: a checksum is published only of {wanted.place.name}, which it is in"
        raise RequestError(what, where=str(found), mend=by_hand(wanted))
    known, sha256 = _known(wanted.result, wanted.file), _digests(found, ["sha256"])["sha256"]
    if published and sha256 != published:
        what = f"is not the right file: its sha256 is {sha256}, must be {published}"
        raise RequestError(what, where=str(found), mend=by_hand(wanted))
    if not published and known and known.sha256 != sha256:
        what = f"is not the file that was recorded at the first use: its sha256 is {sha256}, was {known.sha256}"
        forget = shlex.quote(display(wanted.result.with_name(RECORDED)))
        raise RequestError(
            what, where=str(found), mend=f"if it is the right one: rm {forget}, and type the command again"
        )
    wanted.result.unlink(missing_ok=True)
    wanted.result.symlink_to(found)
    _record(wanted.result, wanted, sha256, str(found))
    done.append(f"{display(wanted.result)}: {_origin(wanted, str(found))} ({sha256[:12]})")


def _register_folder(wanted: Wanted, folder: Path, done: list[str]) -> None:
    """Register a folder that holds an archive's members: nobody publishes their checksums, so they are recorded."""
    asked = wanted.file.unpack
    assert asked is not None and asked.into is not None
    paths = _members(folder, asked.members)[: asked.files]
    mistakes = [RequestError("is no file, or an empty one", where=str(path)) for path in paths if not _is_useful(path)]
    mistakes += [
        RequestError(f"is there twice, also as {one}", where=str(other))
        for one, other in pairwise(paths)
        if one.name == other.name
    ]
    if len(paths) < asked.files:
        mistakes.append(
            RequestError(f"has {len(paths):,} files {asked.members}, must have {asked.files:,}", where=str(folder))
        )
    _raise(mistakes, folder)
    checksums = _checksums(folder, paths)
    _compare(wanted, paths, checksums, folder)
    _link(wanted, asked.into, folder, paths)
    _write_checksums(wanted, asked.into, checksums, str(folder))
    done.append(f"{display(wanted.result)}: {len(paths):,} files recorded, from {folder}")


def _members(folder: Path, pattern: str) -> list[Path]:
    """Return the files that match, in the order of their names: of the folder or, if it has none, of those in it."""
    found = _matching(folder, pattern) or _sorted_by_class(folder, pattern)
    return sorted(found, key=lambda path: (path.name, path))


def _matching(folder: Path, pattern: str) -> list[Path]:
    with os.scandir(folder) as found:
        return [folder / name for name in fnmatch.filter([entry.name for entry in found], pattern)]


def _sorted_by_class(folder: Path, pattern: str) -> list[Path]:
    """Return the files that match of all folders in a folder: many have one for each class."""
    return [path for each in folder.iterdir() if each.is_dir() for path in _matching(each, pattern)]


def _link(wanted: Wanted, into: str, folder: Path, paths: Sequence[Path]) -> None:
    """Put a link to the folder where the members belong, or a folder of links if they lie in several."""
    place, flat, unfinished = wanted.place.with_name(into), paths[0].parent == folder, _unfinished(wanted)
    if folder == place.resolve() and flat:
        return
    if folder.is_relative_to(place.resolve()):
        what = f"lies where {'the link' if flat else 'links'} to it would stand"
        raise RequestError(what, where=display(folder), mend="move it to another place, and name that")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.unlink(missing_ok=True)
    if flat:
        unfinished.symlink_to(folder)
    else:
        unfinished.mkdir()
        for path in paths:
            (unfinished / path.name).symlink_to(path)
    _put_folder(wanted, into, unfinished)


def _is_useful(path: Path) -> bool:
    return path.name.isprintable() and path.is_file() and path.stat().st_size > 0


def _checksums(folder: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, by its name; several are read at once, as folders on a network answer late.

    Raises Mistakes for all that cannot be read.
    """
    found: dict[str, str] = {}
    mistakes: list[RequestError] = []
    pool = ThreadPoolExecutor()
    try:
        with terminal.progress(f"reading {folder}", len(paths)) as update:
            for number, (path, outcome) in enumerate(zip(paths, pool.map(_outcome, paths), strict=True), start=1):
                if isinstance(outcome, RequestError):
                    mistakes.append(outcome)
                else:
                    found[path.name] = outcome
                update(number, f"{number:,} of {len(paths):,} files")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for 50,000 files
    _raise(mistakes, folder)
    return found


def _outcome(path: Path) -> str | RequestError:
    try:
        return sha256_file(path)
    except RequestError as error:
        return error


def _compare(wanted: Wanted, paths: Iterable[Path], checksums: dict[str, str], folder: Path) -> None:
    """Hold files to what was recorded of them. Raises Mistakes for all that differ."""
    if not (_known(wanted.result, wanted.file) and wanted.result.is_file()):
        return
    first = read_checksums(wanted.result)
    changed = [path for path in paths if first.get(path.name, checksums[path.name]) != checksums[path.name]]
    what = f"is not the file that was recorded at the first use, in {display(wanted.result)}"
    mistakes = [RequestError(what, where=str(path)) for path in changed]
    if mistakes:
        mend = (
            f"if these files are the right ones: rm {shlex.quote(display(wanted.result))}, and type the command again"
        )
        mistakes[-1:] = [RequestError(what, where=mistakes[-1].where, mend=mend)]
    _raise(mistakes, folder)


def _raise(mistakes: list[RequestError], folder: Path) -> None:
    if len(mistakes) > MOST_SHOWN:
        more = RequestError(f"and {len(mistakes) - MOST_SHOWN:,} more mistakes", where=str(folder))
        mistakes = [*mistakes[:MOST_SHOWN], more]
    if mistakes:
        raise Mistakes(mistakes)


# What has to be fetched


def _download(missing: Sequence[Wanted], done: list[str], mistakes: list[RequestError]) -> None:
    """Fetch what can be fetched; say of the rest how the user comes by it."""
    mistakes += _cannot_be_fetched(missing)
    fetched = [wanted for wanted in missing if wanted.file.sources]
    if not fetched:
        return
    title = _announce(fetched)
    for wanted, outcome in zip(fetched, downloads.download([_order(each) for each in fetched], title), strict=True):
        if isinstance(outcome, RequestError):
            mistakes.append(RequestError(outcome.what, where=outcome.where, mend=outcome.mend or by_hand(wanted)))
            continue
        if outcome.failures:
            terminal.warn("\n  ".join([f"{display(wanted.place)}: fetched from another source, as", *outcome.failures]))
        _finish(wanted, outcome.sha256, outcome.source, done, mistakes)


def _order(wanted: Wanted) -> downloads.Order:
    """Return the order, held to the published checksums and to what was recorded at the first use."""
    known = _known(wanted.place, wanted.file)
    digests = {**wanted.file.digests, **({"sha256": known.sha256} if known else {})}
    return downloads.Order(wanted.place, wanted.file.sources, digests, wanted.file.bytes)


def _announce(fetched: Sequence[Wanted]) -> str:
    """Return in words what will be fetched. Raises RequestError if there is surely no room for it."""
    sizes = [missing_bytes(wanted, State.MISSING) for wanted in fetched]
    unpacked = sum(size for _, size in sizes)
    free = _check_disks(zip(fetched, sizes, strict=True))
    folder = Path(os.path.commonpath([wanted.place.parent for wanted in fetched]))
    files = fetched[0].place.name if len(fetched) == 1 else f"{len(fetched)} files"
    size = _size_of([size for size, _ in sizes], about=any(wanted.file.about_bytes for wanted in fetched))
    limit = f", at most {terminal.size(unpacked)} unpacked" if unpacked else ""
    return f"fetching {files} to {display(folder)}: {size}{limit}; {terminal.size(free)} free"


def _check_disks(files: Iterable[tuple[Wanted, tuple[int | None, int]]]) -> int:
    """Return the free bytes where least are free: the folders may be links to several disks."""
    disks: dict[int, tuple[Path, int]] = {}
    for wanted, (size, unpacked) in files:
        place = wanted.place.parent
        folder, needed = disks.get(place.stat().st_dev, (place, 0))
        disks[place.stat().st_dev] = folder, needed + unpacked + ((size or 0) if wanted.file.bytes else 0)
    return min(_check_room(folder, needed) for folder, needed in disks.values())


def _size_of(sizes: Sequence[int | None], *, about: bool) -> str:
    """Return in words how much several files are; None is one of unknown size."""
    known = [size for size in sizes if size is not None]
    told = ("about " if about else "") + terminal.size(sum(known))
    if len(known) == len(sizes):
        return told
    return f"{told} and {len(sizes) - len(known)} of unknown size" if known else "of unknown size"


def _check_room(folder: Path, needed: int) -> int:
    """Return the free bytes of the disk of a folder that exists. Raises RequestError if `needed` is more."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"the disk is too small: {terminal.size(needed)} needed, {terminal.size(free)} free",
            where=display(folder),
            mend="make room, or put a link to a larger disk in its place",
        )
    return free


def by_hand(wanted: Wanted) -> str:
    """Say how a file comes here without a network, or from a site that asks who one is."""
    whence, unpack = wanted.file.sources[0] if wanted.file.sources else wanted.licence.url, wanted.file.unpack
    or_folder = f", or name the folder that has its files {unpack.members}" if unpack and unpack.into else ""
    alone = f" ({wanted.result.name} out of it will do)" if wanted.one_will_do else ""
    return (
        f"get {wanted.place.name}{alone} where there is a network, from {whence}\n"
        f"  put it into any folder here{or_folder}, then: {wanted.typed('--from=FOLDER')}"
    )
