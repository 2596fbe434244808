"""Where things lie, and how files are written: beside, synced, then renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from engineroom.errors import RequestError, shown

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "code"
CONFIGS = ROOT / "configs"
SYSTEMS = ROOT / "systems"
DATA_MAPS = ROOT / "data_maps"
TEMPLATES = CODE / "engineroom" / "templates"

BUILD = ROOT / "build"
VENV = BUILD / "venv"
LIB = BUILD / "lib"
LOADGEN = BUILD / "loadgen"
NATIVE = BUILD / "native"
WHEELHOUSE = BUILD / "wheelhouse"
DATA = BUILD / "data"
MODELS = BUILD / "models"
PREPROCESSED_DATA = BUILD / "preprocessed_data"
CALIBRATION = BUILD / "calibration"
ENGINES = BUILD / "engines"
TIMING_CACHE = BUILD / "timing_cache"  # of TensorRT: how fast each kernel was
RUNS = BUILD / "runs"
SUBMISSION = BUILD / "submission"
PUBLISHED = BUILD / "published"


OVERLAYS = "ENGINEROOM_PATH"
OVERLAID = ("systems", "configs", "data_maps", "templates", "benchmarks", "engines", "calibrators")


def typed(text: str) -> Path:
    """Return the path that a person typed: "~" and "~user" are resolved, where there is such a user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (Path's own raises where there is no such user)


def overlays() -> tuple[Path, ...]:
    """Return the folders that add to the checkout, the weakest first: ENGINEROOM_PATH names the strongest first.

    Each may hold systems/, configs/, data_maps/ and templates/ and plug-ins (benchmarks/, engines/, calibrators/).
    Raises RequestError for one that is no folder, or that has folders and none of these: its own are elsewhere.
    """
    words = os.environ.get(OVERLAYS, "").split(os.pathsep)
    named = [typed(word).absolute() for word in words if word]
    for folder in named:
        name = str(folder) if str(folder).isprintable() else shown(str(folder))
        if not folder.is_dir():
            raise RequestError(f"{name} is no folder", where=OVERLAYS, mend="name folders, with : between them")
        if not any((folder / each).is_dir() for each in OVERLAID) and _has_folders(folder):
            wanted = ", ".join(f"{each}/" for each in OVERLAID)
            raise RequestError(f"{name} has none of {wanted}", where=OVERLAYS, mend="name the folder that has them")
    return tuple(reversed(dict.fromkeys(named)))


def _has_folders(folder: Path) -> bool:
    try:
        return any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())
    except OSError:  # who may not look into it may still use what is in it
        return False


def overlay_files(folder: Path) -> list[Path]:
    """Return the files of an overlay that count, in order: those of the folders that it may have, none hidden."""
    found = (path for name in OVERLAID for path in (folder / name).rglob("*") if path.is_file())
    return sorted(path for path in found if not _is_generated(path.relative_to(folder)))


def _is_generated(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts) or path.suffix == ".pyc"


def overlay_version(folder: Path) -> str:
    """Return what tells this state of an overlay from any other: the beginning of a SHA-256 over its files."""
    told = (f"{path.relative_to(folder)} {sha256_file(path)}" for path in overlay_files(folder))
    return sha256_text("\n".join(told))[:12]


def overlay_versions() -> tuple[str, ...]:
    """Return the states of the overlays, the strongest first. Raises RequestError as `overlays` does."""
    return tuple(map(overlay_version, reversed(overlays())))


def layers(folder: Path) -> tuple[Path, ...]:
    """Return a folder of the checkout and what overlays have in its place, the weakest first."""
    return (folder, *(found for root in overlays() if (found := root / folder.name).is_dir()))


def display(path: Path) -> str:
    """Return `path` as a person in the checkout would type it."""
    try:
        return str(path.relative_to(ROOT))
    except ValueError:
        return str(path)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex. Raises RequestError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from error


def sha256_files(paths: Iterable[Path]) -> str:
    """Return one SHA-256 over the contents of several files in their order, in hex."""
    return sha256_text(" ".join(sha256_file(path) for path in paths))


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def ensure_folder(path: Path) -> Path:
    """Create `path` and its parents. Raises RequestError, see `not_writable`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise not_writable(path, OSError(errno.EROFS, os.strerror(errno.EROFS)) if read_only else None)
    return path


def not_writable(path: Path, error: OSError | None = None) -> RequestError:
    """Explain why nothing can be written at `path`. Where it is a permission: for whom, whose it is, and the command.

    `error` is what the attempt raised; default: permission denied.
    """
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    where, quoted = display(path), shlex.quote(str(nearest))
    number = error.errno if error else errno.EACCES
    if number in (errno.EACCES, errno.EPERM):
        return _not_permitted(path, nearest)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return RequestError(
            "there is no space left to write this", where=where, mend=f"see what is free: df -h {quoted}"
        )
    if number == errno.EROFS:
        return RequestError(
            "lies on a file system that is mounted read-only",
            where=where,
            mend=f"see how it is mounted: findmnt -T {quoted}",
        )
    if number in (errno.EEXIST, errno.ENOTDIR) and not nearest.is_dir():
        return RequestError(f"{nearest} is in the way: it is no folder", where=where, mend="move it away or remove it")
    about = f" ({error.filename})" if error and error.filename not in (None, str(path)) else ""
    return RequestError(f"cannot be written: {error.strerror if error else ''}{about}", where=where)


def _not_permitted(path: Path, nearest: Path) -> RequestError:
    """Explain a missing permission at `nearest`, the existing folder closest to `path`."""
    from engineroom.bootstrap import user_name

    user, owner = user_name(os.geteuid()), user_name(nearest.lstat().st_uid)
    quoted = shlex.quote(str(nearest))
    if owner == user:
        command = f"chmod u+rwx {quoted}"
    elif nearest.is_relative_to(BUILD):
        command = f"sudo chown -R {shlex.quote(user)} {quoted}"
    elif nearest == path:
        command = f"sudo chown {shlex.quote(user)} {quoted}"
    else:  # never hand over a folder that may be the whole system's: only a new one in it
        missing = nearest / path.relative_to(nearest).parts[0]
        command = f"sudo install -d -o {shlex.quote(user)} {shlex.quote(str(missing))}"
    return RequestError(
        f"user {user} cannot write here; {nearest} belongs to {owner}",
        where=display(path),
        mend=f"mend it with: {command}",
    )


@contextmanager
def locked(folder: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a folder's lock: two processes in one checkout take turns instead of doing the same work twice.

    `waits` is called if another process holds it. Raises RequestError if the folder cannot be written, or if its file
    system has no locks.
    """
    lock = ensure_folder(folder) / ".lock"
    try:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise not_writable(lock, error) from error
    try:
        _lock(handle, lock, waits)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, lock: Path, waits: Callable[[], None]) -> None:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:  # an NFS without its lock daemon, or a file system in user space
        raise RequestError(
            f"this file system gives no locks ({error.strerror})",
            where=display(lock),
            mend="keep build/ on a local disk: it may be a link to a folder there",
        ) from error


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, else removed.

    Raises RequestError if the folder cannot be written or the disk is full.
    """
    ensure_folder(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        sync_file(beside)
        beside.replace(path)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Let what was written into a file last. Raises OSError."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let what was created or renamed in `folder` last. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unpack_whole(archive: IO[bytes], folder: Path) -> None:
    """Unpack a tar archive whose content is known to be good; what others made is for `engineroom.archives`."""
    import tarfile  # slow to load, and seldom needed

    with tarfile.open(fileobj=archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 have none
        tar.extractall(folder)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old content or the new, never a part."""
    with write_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
