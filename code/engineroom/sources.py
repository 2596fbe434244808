"""Files that are not shipped with Engineroom: where each can be had, and how it is known to be the right one.

Models and raw data are declared alike: a model in its benchmark's own file, raw data in data_maps/<name>/dataset.yaml.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
from msgspec import Meta

from engineroom.errors import RequestError
from engineroom.paths import MODELS, display, write_text

RECORDED = "recorded.json"

# Stands for a SHA-256 that nobody publishes: it is recorded at the first verified use, and held to from then on.
UNPUBLISHED = "unpublished"

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^\w[\w.-]*$")]
Sha256 = Annotated[str, Meta(pattern=f"^([0-9a-f]{{64}}|{UNPUBLISHED})$")]
Md5 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s/]+/\S+$")]


class Licence(msgspec.Struct, frozen=True):
    """Under what a thing may be used, and the words its authors are to be named with.

    With `accept`, the user says that he accepts it before it is fetched or registered.
    """

    name: Text
    url: Text
    attribution: Text
    accept: bool = False


class Unpack(msgspec.Struct, frozen=True, kw_only=True):
    """What of a tar archive is kept: the regular files whose own names match the pattern `members`.

    With `into`, they lie in that folder beside the archive; without, `members` is the name of one file, which lies
    beside it. There must be exactly `files` of them, and together they have at most `bytes`.

    `sha256` is that of the one file, where somebody publishes it: who has only that can register it.
    """

    members: Text
    files: Count = 1
    bytes: Count
    into: Name | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file: its checksums in hex, its size where that is known, and where it can be had; the first is tried first.

    `about_bytes` is about its size, where no more is known: nothing is held to it. A file without sources is registered
    by the user, who gets it from the data set's homepage.
    """

    sha256: Sha256
    md5: Md5 | None = None
    bytes: Count | None = None
    about_bytes: Count | None = None
    sources: tuple[Url, ...] = ()
    unpack: Unpack | None = None

    @property
    def likely_bytes(self) -> int:
        """Its size, or about its size; 0 if neither is known."""
        return self.bytes or self.about_bytes or 0

    @property
    def digests(self) -> dict[str, str]:
        """The published checksums, by the names that hashlib knows."""
        published = {"sha256": None if self.sha256 == UNPUBLISHED else self.sha256, "md5": self.md5}
        return {name: value for name, value in published.items() if value}

    @property
    def declared(self) -> str:
        """What is declared of the content: another file under the same name is declared otherwise."""
        return " ".join(f"{name}:{value}" for name, value in self.digests.items()) or " ".join(self.sources)

    @property
    def result_sha256(self) -> str:
        """The SHA-256 of what is used in the end, if that is published: of an archive's members it never is."""
        return UNPUBLISHED if self.unpack else self.sha256

    def result(self, place: Path) -> Path:
        """Return what is used in the end, if the file itself lies at `place`: an archive's members stand for it.

        For members in a folder of their own it is the list of their SHA-256s beside the folder.
        """
        if self.unpack is None:
            return place
        return place.with_name(f"{self.unpack.into}.sha256" if self.unpack.into else self.unpack.members)


class ModelFile(SourceFile, frozen=True, kw_only=True):
    """A model that a benchmark runs. `name` is where it lies below build/models: <folder>/<file>."""

    name: Annotated[str, Meta(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
    licence: Licence
    note: str = ""

    @property
    def place(self) -> Path:
        """Where the file itself lies, an archive too."""
        return MODELS / PurePosixPath(self.name)

    @property
    def path(self) -> Path:
        """The model: the file itself, or the member that its archive is fetched for."""
        return self.result(self.place)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a file was at its first verified use. `declared` is what was declared of it then, `source` where it is from.

    It lies beside the files, in recorded.json: a checkout is not changed by being used, and who removes the files
    removes their record too.
    """

    sha256: str
    bytes: int
    declared: str
    source: str


def recorded(path: Path) -> Recorded | None:
    """Return what is recorded of a file; None if nothing is."""
    return _records(path.parent).get(path.name)


def record(path: Path, found: Recorded) -> None:
    """Record a file that has been verified. The caller holds the lock of its folder."""
    records = {**_records(path.parent), path.name: found}
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(records.items()))), indent=1)
    write_text(path.with_name(RECORDED), text.decode() + "\n")


def _records(folder: Path) -> dict[str, Recorded]:
    try:
        return msgspec.json.decode((folder / RECORDED).read_bytes(), type=dict[str, Recorded])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        mend = "restore it; without it, the files beside it have to be fetched or registered anew"
        raise RequestError(f"cannot be read: {error}", where=display(folder / RECORDED), mend=mend) from error
