"""Where things lie, and how files are written: beside, synced, then renamed."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engineroom.errors import RequestError

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
RECIPES = BUILD / "recipes"
RUNS = BUILD / "runs"


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


def ensure_folder(path: Path) -> Path:
    """Create `path` and its parents. Raises RequestError that names user, path, owner and the mending command."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise not_writable(path)
    return path


def not_writable(path: Path, error: OSError | None = None) -> RequestError:
    """Explain why this user cannot write at `path`, whose it is, and the command that mends it."""
    import pwd

    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    user = _user_name(os.geteuid(), pwd)
    owner = _user_name(nearest.stat().st_uid, pwd)
    why = f" ({error.strerror})" if error and error.strerror else ""
    if owner == user:
        command = f"chmod u+rwx {shlex.quote(str(nearest))}"
    else:
        command = f"sudo chown -R {shlex.quote(user)} {shlex.quote(str(nearest))}"
    return RequestError(
        f"user {user} cannot write here{why}; {nearest} belongs to {owner}",
        where=display(path),
        mend=f"mend it with: {command}",
    )


def _user_name(uid: int, pwd: object) -> str:
    try:
        return str(pwd.getpwuid(uid).pw_name)  # type: ignore[attr-defined]
    except KeyError:  # a container may run with a uid that has no name
        return str(uid)


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, else removed.

    Raises RequestError if the folder cannot be written or the disk is full.
    """
    ensure_folder(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old content or the new, never a part."""
    with write_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
