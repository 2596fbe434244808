"""Archives of strangers: what is asked for comes out, and nothing else ever does."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from engineroom import archives
from engineroom.archives import unpack
from engineroom.errors import RequestError
from engineroom.sources import Unpack

ASKED = Unpack(members="*.jpg", files=2, bytes=1000)


def member(name: str, content: bytes = b"content", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def unpacked(path: Path, folder: Path, asked: Unpack = ASKED) -> dict[str, str]:
    folder.mkdir()
    return unpack(path, asked, folder, lambda done, total: None)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_members_come_out_flat_and_only_those(tmp_path: Path, mode: str) -> None:
    path = archive(
        tmp_path / "a", member("./x/a.jpg", b"a"), member("b.jpg", b"b", mode=0o4777), member("c.txt"), mode=mode
    )
    found = unpacked(path, tmp_path / "out")
    assert found == {f"{name}.jpg": hashlib.sha256(name.encode()).hexdigest() for name in "ab"}
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]
    assert (tmp_path / "out" / "b.jpg").stat().st_mode & 0o7111 == 0


def _members() -> Iterable[tuple[str, tuple[tarfile.TarInfo, bytes]]]:
    yield "leads out of the folder", member("../b.jpg")
    yield "leads out of the folder", member("x/../../b.txt")
    yield "leads out of the folder", member("/etc/b.jpg")
    yield "leads out of the folder", member("b.txt", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    yield "leads out of the folder", member("b.txt", b"", type=tarfile.LNKTYPE, linkname="../../etc/passwd")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        yield "is a link or a device", member("b.jpg", b"", type=kind, linkname="a.jpg")
    yield "is a link or a device", member("b\n.jpg")
    yield "one of them twice", member("y/a.jpg")
    yield "of 1,000 bytes together", member("b.jpg", bytes(2000))
    yield "has 1 files *.jpg, must have 2", member("b.txt")


@pytest.mark.parametrize(("said", "bad"), list(_members()))
def test_an_archive_that_tries_something_is_refused(
    tmp_path: Path, said: str, bad: tuple[tarfile.TarInfo, bytes]
) -> None:
    path = archive(tmp_path / "a", member("x/a.jpg"), bad)
    with pytest.raises(RequestError, match=said.replace("*", r"\*")):
        unpacked(path, tmp_path / "out")
    assert {item.name for item in tmp_path.iterdir()} == {"a", "out"}
    assert {item.name for item in (tmp_path / "out").iterdir()} <= {"a.jpg"}


def test_more_files_than_expected_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a", *(member(f"{name}.jpg") for name in "abc"))
    with pytest.raises(RequestError, match="has more than 2 files"):
        unpacked(path, tmp_path / "out")


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a", member("zeros", bytes(20_000_000)), member("a.jpg"), member("b.jpg"))
    with pytest.raises(RequestError, match="unpacks to more than"):
        unpacked(path, tmp_path / "out")
    monkeypatch.setattr(archives, "MEMBERS_MAX", 1)
    with pytest.raises(RequestError, match="unpacks to more than"):
        unpacked(archive(tmp_path / "b", member("a.jpg"), member("b.jpg")), tmp_path / "other")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("ruin", [_cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 999)])
def test_a_damaged_archive_is_refused(tmp_path: Path, mode: str, ruin: Callable[[Path], None]) -> None:
    content = hashlib.shake_128(b"").digest(400)
    path = archive(tmp_path / "a", member("a.jpg", content), member("b.jpg", content), mode=mode)
    if mode == "w":
        path.write_bytes(path.read_bytes()[: 512 * 4])  # without the empty blocks at its end
    ruin(path)
    with pytest.raises(RequestError):
        unpacked(path, tmp_path / "out")


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_asks_for_much_memory_is_refused_unread(tmp_path: Path, kind: bytes) -> None:
    path = archive(tmp_path / "a", member("header", bytes(300_000_000), type=kind))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="a header announces 300,000,000 bytes"):
            unpacked(path, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = -(1 << 40)
    (tmp_path / "a").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(RequestError, match="damaged"):
        unpacked(tmp_path / "a", tmp_path / "out")


def test_long_names_are_read_as_ever(tmp_path: Path) -> None:
    folder = "folder/" * 60
    path = archive(tmp_path / "a", member(f"{folder}a.jpg"), member(f"{folder}b.jpg"))
    assert unpacked(path, tmp_path / "out").keys() == {"a.jpg", "b.jpg"}
