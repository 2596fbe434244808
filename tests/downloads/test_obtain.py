"""Files come here once, verified, from a server or from where the user has them; what is wrong never counts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from engineroom.datasets import read_checksums
from engineroom.errors import Mistakes, RequestError
from engineroom.paths import sha256_file
from engineroom.sources import RECORDED, UNPUBLISHED, Licence, SourceFile, Unpack, recorded
from engineroom.steps.fetch.obtain import State, Wanted, missing_bytes, obtain, state_of

MODEL = b"model" * 1000
FREE = Licence("free", "https://example.org/free", "nobody")
STRICT = Licence("strict", "https://example.org/strict", "nobody", accept=True)
IMAGES = {f"x_{number}.jpg": f"image {number}".encode() for number in range(3)}
UNPACK = Unpack(members="x_*.jpg", files=3, bytes=1000, into="images")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"set/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = archive_of(IMAGES)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder that files are brought to."""
    return tmp_path / "build" / "data"


def wanted(place: Path, *sources: str, licence: Licence = FREE, **facts: Any) -> Wanted:
    file = SourceFile(sources=sources, **{"sha256": UNPUBLISHED, **facts})
    return Wanted(place / "file", file, licence, "toys", 'make download_data RUN_ARGS="--benchmarks=toys')


def bring(*asked: Wanted, given: Path | None = None, accepted: tuple[str, ...] = ()) -> list[str]:
    done = obtain(asked, sha256_file, given=given, accepted=accepted)
    assert [state_of(each, sha256_file) for each in asked] == [State.RIGHT] * len(asked)
    return done


def refused(*asked: Wanted, given: Path | None = None, accepted: tuple[str, ...] = ()) -> str:
    with pytest.raises(RequestError) as caught:
        obtain(asked, sha256_file, given=given, accepted=accepted)
    return str(caught.value)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in (".lock", RECORDED))


def test_a_file_is_fetched_once(server: Any, place: Path) -> None:
    server.add("/file", MODEL)
    asked = wanted(place, server.url("/file"), sha256=sha256(MODEL))
    assert state_of(asked, sha256_file) is State.MISSING
    [line] = bring(asked)
    assert f"verified, from {server.url('/file')}" in line
    assert bring(asked) == []
    assert len(server.asked) == 1
    assert visible(place) == ["file"]


def test_about_a_size_is_said_beforehand_and_nothing_is_held_to_it(
    server: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("/file", MODEL)
    asked = wanted(place, server.url("/file"), about_bytes=7_000_000)
    assert missing_bytes(asked, State.MISSING) == (7_000_000, 0)
    bring(asked)
    assert "about 7.0 MB; " in capsys.readouterr().err
    assert (place / "file").read_bytes() == MODEL


def test_a_source_that_sends_something_else_is_told_although_a_mirror_is_right(
    server: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("/file", MODEL[::-1])
    server.add("/mirror", MODEL)
    [done] = bring(wanted(place, server.url("/file"), server.url("/mirror"), sha256=sha256(MODEL)))
    assert f"verified, from {server.url('/mirror')}" in done
    assert f"fetched from another source, as\n  {server.url('/file')}: is not the right file" in capsys.readouterr().err


def test_files_of_several_folders_are_announced_with_the_folder_of_all(
    server: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("/file", MODEL)
    bring(*(wanted(place / name, server.url("/file"), sha256=sha256(MODEL)) for name in ("one", "two")))
    assert f"fetching 2 files to {place}: " in capsys.readouterr().err


def test_what_nobody_knows_the_size_of_is_not_said_to_be_nothing(
    server: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("/set.tgz", ARCHIVE)
    server.add("/other", MODEL)
    asked = wanted(place, server.url("/set.tgz"), unpack=UNPACK)
    assert missing_bytes(asked, State.MISSING) == (None, 1000)
    assert missing_bytes(asked, State.HERE) == (0, 1000)
    bring(asked)
    assert f"fetching file to {place}: of unknown size, at most 1 kB unpacked; " in capsys.readouterr().err
    known = SourceFile(sha256=sha256(MODEL), bytes=len(MODEL), sources=(server.url("/other"),))
    (place / "images.sha256").unlink()
    bring(asked, Wanted(place / "other", known, FREE, "toys", asked.command))
    assert f"fetching 2 files to {place}: 5 kB and 1 of unknown size, " in capsys.readouterr().err


def test_a_disk_that_is_too_small_for_about_a_size_is_tried(server: Any, place: Path) -> None:
    server.add("/file", MODEL)
    bring(wanted(place, server.url("/file"), about_bytes=10**18))
    assert (place / "file").read_bytes() == MODEL


def test_what_nobody_publishes_is_recorded_and_held_to(server: Any, place: Path) -> None:
    file = server.add("/file", MODEL)
    asked = wanted(place, server.url("/file"))
    [line] = bring(asked)
    assert "recorded, as nobody publishes its checksum" in line
    assert json.loads((place / RECORDED).read_text())["file"]["sha256"] == sha256(MODEL)
    (place / "file").unlink()
    file.content = b"other" * 1000
    assert f"must be {sha256(MODEL)}" in refused(asked)
    assert visible(place) == []
    file.content = MODEL
    bring(asked)


def test_a_manifest_that_declares_another_file_is_not_held_to_the_old_record(server: Any, place: Path) -> None:
    server.add("/old", MODEL)
    server.add("/new", b"new")
    bring(wanted(place, server.url("/old"), md5=hashlib.md5(MODEL).hexdigest()))
    newer = wanted(place, server.url("/new"), md5=hashlib.md5(b"new").hexdigest())
    assert state_of(newer, sha256_file) is not State.RIGHT
    bring(newer)
    assert (place / "file").read_bytes() == b"new"
    assert (place / "file.wrong").read_bytes() == MODEL


def test_a_file_that_was_put_there_by_hand_is_verified_and_used(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "file").write_bytes(MODEL)
    asked = wanted(place, "http://127.0.0.1:9/file", md5=hashlib.md5(MODEL).hexdigest())
    assert state_of(asked, sha256_file) is State.HERE
    [line] = bring(asked)
    assert "verified, from here" in line
    known = recorded(place / "file")
    assert known and known.sha256 == sha256(MODEL)


def test_what_has_changed_is_moved_aside_and_fetched_again(server: Any, place: Path, capsys: Any) -> None:
    server.add("/file", MODEL)
    asked = wanted(place, server.url("/file"), sha256=sha256(MODEL))
    bring(asked)
    (place / "file").write_bytes(b"damaged")
    bring(asked)
    assert (place / "file").read_bytes() == MODEL
    assert (place / "file.wrong").read_bytes() == b"damaged"
    assert f"it has been moved to {place / 'file.wrong'}" in capsys.readouterr().err


def test_an_archive_is_fetched_unpacked_and_not_kept(server: Any, place: Path) -> None:
    server.add("/set.tgz", ARCHIVE)
    asked = wanted(place, server.url("/set.tgz"), sha256=sha256(ARCHIVE), unpack=UNPACK, bytes=len(ARCHIVE))
    assert missing_bytes(asked, State.MISSING) == (len(ARCHIVE), 1000)
    bring(asked)
    assert visible(place) == ["images", "images.sha256"]
    assert {path.name: path.read_bytes() for path in (place / "images").iterdir()} == IMAGES
    assert read_checksums(place / "images.sha256") == {name: sha256(content) for name, content in IMAGES.items()}
    checked = subprocess.run(["sha256sum", "-c", "--quiet", "images.sha256"], cwd=place, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert bring(asked) == []
    shutil.rmtree(place / "images")
    assert state_of(asked, sha256_file) is State.MISSING
    bring(asked)


def test_one_member_of_an_archive_lies_beside_it(server: Any, place: Path) -> None:
    server.add("/set.tgz", ARCHIVE)
    bring(wanted(place, server.url("/set.tgz"), unpack=Unpack(members="x_1.jpg", bytes=100)))
    assert visible(place) == ["x_1.jpg"]
    known = recorded(place / "x_1.jpg")
    assert known and known.sha256 == sha256(IMAGES["x_1.jpg"])


def test_an_archive_with_the_wrong_members_is_refused_and_not_held_to(server: Any, place: Path) -> None:
    file = server.add("/set.tgz", archive_of({"x_0.jpg": b"0"}))
    asked = wanted(place, server.url("/set.tgz"), unpack=UNPACK)
    said = refused(asked)
    assert "has 1 files x_*.jpg, must have 3" in said
    assert f"it has been moved to {place / 'file.wrong'}" in said
    assert visible(place) == ["file.wrong"]
    file.content = ARCHIVE
    bring(asked)


def test_an_archive_for_which_there_is_no_room_stays(server: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mkdir(parents=True)
    (place / "file").write_bytes(ARCHIVE)
    asked = wanted(place, server.url("/set.tgz"), sha256=sha256(ARCHIVE), unpack=UNPACK)
    with monkeypatch.context() as small:
        usage = shutil.disk_usage(place)
        small.setattr(shutil, "disk_usage", lambda path: usage._replace(free=999))
        assert "the disk is too small" in refused(asked)
    assert visible(place) == ["file"]
    bring(asked)
    assert server.asked == []


def test_a_file_of_the_user_is_verified_and_linked(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "cluster" / "model.onnx"
    own.parent.mkdir()
    own.write_bytes(MODEL)
    asked = wanted(place, "http://127.0.0.1:9/model.onnx?download=1", sha256=sha256(MODEL))
    bring(asked, given=own.parent)
    assert (place / "file").readlink() == own
    own.write_bytes(b"changed")
    assert state_of(asked, sha256_file) is State.HERE
    said = refused(asked, given=own)
    assert f"{own}: is not the right file: its sha256 is {sha256(b'changed')}, must be {sha256(MODEL)}" in said
    assert own.read_bytes() == b"changed"
    assert not (place / "file").is_symlink()


def test_an_archive_of_the_user_is_unpacked_and_stays(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "set.tar"
    own.write_bytes(ARCHIVE)
    bring(wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK), given=own)
    assert len(list((place / "images").iterdir())) == 3
    assert own.read_bytes() == ARCHIVE


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    folder = tmp_path / "own images"
    folder.mkdir()
    for name, content in {**IMAGES, "x_3.jpg": b"one more", "notes.txt": b"-"}.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_of_the_user_is_recorded_and_linked(place: Path, own_images: Path) -> None:
    asked = wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK)
    [line] = bring(asked, given=own_images)
    assert line == f"{place / 'images.sha256'}: 3 files recorded, from {own_images}"
    assert (place / "images").readlink() == own_images
    assert list(read_checksums(place / "images.sha256")) == list(IMAGES)


def test_another_folder_is_held_to_what_was_recorded(place: Path, own_images: Path, tmp_path: Path) -> None:
    asked = wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK)
    bring(asked, given=own_images)
    moved = own_images.rename(tmp_path / "moved")
    bring(asked, given=moved)
    (moved / "x_1.jpg").write_bytes(b"another")
    (place / "images").unlink()
    assert f"{moved / 'x_1.jpg'}: is not the file that was recorded at the first use" in refused(asked, given=moved)


def test_all_that_is_wrong_in_a_folder_is_named_at_once(place: Path, own_images: Path) -> None:
    (own_images / "x_0.jpg").write_bytes(b"")
    (own_images / "x_1.jpg").unlink()
    (own_images / "x_1.jpg").symlink_to("nowhere")
    (own_images / "x_2.jpg").unlink()
    (own_images / "x_3.jpg").unlink()
    said = refused(wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK), given=own_images).splitlines()
    assert said == [
        f"{own_images / 'x_0.jpg'}: is no file, or an empty one",
        f"{own_images / 'x_1.jpg'}: is no file, or an empty one",
        f"{own_images}: has 2 files x_*.jpg, must have 3",
    ]
    assert visible(place) == []


def test_a_file_that_is_right_already_says_that_another_one_is_not_looked_at(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = tmp_path / "first" / "file", tmp_path / "other" / "file"
    for each in (first, other):
        each.parent.mkdir()
        each.write_bytes(each.parent.name.encode())
    asked = wanted(place)
    bring(asked, given=first)
    bring(asked, given=first.parent)
    assert "not used" not in capsys.readouterr().err
    bring(asked, given=other)
    assert f"{place}/file is here and right: --from={other} is not used for that" in capsys.readouterr().err
    assert (place / "file").read_bytes() == b"first"


def test_a_member_counts_for_its_archive_only_where_nothing_could_be_verified(place: Path, tmp_path: Path) -> None:
    (tmp_path / "x_1.jpg").write_bytes(IMAGES["x_1.jpg"])
    one = Unpack(members="x_1.jpg", bytes=100)
    published = wanted(place, sha256=sha256(ARCHIVE), unpack=one)
    assert "cannot be verified: a checksum is published only of file" in refused(published, given=tmp_path)
    unpublished = wanted(place, unpack=one)
    bring(unpublished, given=tmp_path / "x_1.jpg")
    (place / "x_1.jpg").unlink()
    (tmp_path / "x_1.jpg").write_bytes(b"another")
    said = refused(unpublished, given=tmp_path)
    assert "is not the file that was recorded at the first use" in said
    assert f"if it is the right one: rm {place / RECORDED}, and type the command again" in said
    (place / RECORDED).unlink()
    bring(unpublished, given=tmp_path)


def test_a_licence_has_to_be_accepted_and_the_command_is_told(server: Any, place: Path) -> None:
    server.add("/file", MODEL)
    asked = wanted(place, server.url("/file"), licence=STRICT, sha256=sha256(MODEL))
    assert refused(asked) == (
        "toys is under a licence that you have to accept: strict, https://example.org/strict\n"
        '  if you do: make download_data RUN_ARGS="--benchmarks=toys --accept_licence=toys"'
    )
    assert server.asked == []
    assert f"--accept_licence=toys --from={place.parent}" in refused(asked, given=place.parent)
    owned = Wanted(place / "own", SourceFile(sha256=UNPUBLISHED), STRICT, "toys", asked.command)
    with pytest.raises(Mistakes) as caught:
        obtain([asked, owned], sha256_file, given=None, accepted=())
    licence, by_hand = caught.value.mistakes  # in one pass: nobody shall accept it only to be told the rest
    assert "licence that you have to accept" in licence.what
    assert "--accept_licence=toys --from=FOLDER" in str(by_hand.mend)
    bring(asked, accepted=("toys",))
    bring(asked)  # what is here is not asked about again


def test_what_came_is_told_although_more_is_missing(place: Path, own_images: Path, capsys: Any) -> None:
    images = wanted(place, unpack=UNPACK)
    labels = Wanted(place / "labels", SourceFile(sha256=UNPUBLISHED), FREE, "toys", images.command)
    assert "labels is still missing" in refused(images, labels, given=own_images)
    assert f"3 files recorded, from {own_images}" in capsys.readouterr().err


def test_without_a_network_the_way_is_told_for_every_file(place: Path) -> None:
    there = wanted(place, "http://127.0.0.1:9/model.onnx")
    owned = Wanted(place / "own", SourceFile(sha256=UNPUBLISHED), STRICT, "own", there.command)
    with pytest.raises(Mistakes) as caught:
        obtain([there, owned], sha256_file, given=None, accepted=("own",))
    said = sorted(str(mistake) for mistake in caught.value.mistakes)
    assert "get file where there is a network, from http://127.0.0.1:9/model.onnx" in said[0]
    assert 'then: make download_data RUN_ARGS="--benchmarks=toys --from=FOLDER"' in said[0]
    assert "cannot be fetched for you: its owner hands it out to registered users only" in said[1]
    assert 'then: make download_data RUN_ARGS="--benchmarks=toys --accept_licence=own --from=FOLDER"' in said[1]


def test_what_the_given_folder_does_not_have_is_told(place: Path, tmp_path: Path) -> None:
    said = refused(wanted(place, "http://127.0.0.1:9/set.tgz", unpack=UNPACK), given=tmp_path)
    assert f"is still missing: {tmp_path} has no file or set.tgz, or the folder of its 3 files x_*.jpg" in said
    assert 'fetch it with: make download_data RUN_ARGS="--benchmarks=toys"' in said
    assert "is not there" in refused(wanted(place), given=tmp_path / "absent")


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    server: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("/set.tgz", ARCHIVE)
    asked = wanted(place, server.url("/set.tgz"), bytes=5_000_000, unpack=UNPACK)
    usage = shutil.disk_usage(place.parents[1])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_500))
    assert "the disk is too small: 5.0 MB needed, 5.0 MB free" in refused(asked)
    assert server.asked == []


def test_a_damaged_record_is_no_licence_to_trust(server: Any, place: Path) -> None:
    server.add("/file", MODEL)
    asked = wanted(place, server.url("/file"))
    bring(asked)
    (place / RECORDED).write_text("{")
    assert f"{place / RECORDED}: cannot be read" in refused(asked)


def test_two_processes_fetch_a_file_once(server: Any, place: Path) -> None:
    server.add("/file", MODEL * 100, piece_s=0.05)
    code = (
        "import sys; from pathlib import Path\n"
        "from engineroom.paths import sha256_file\n"
        "from engineroom.sources import Licence, SourceFile\n"
        "from engineroom.steps.fetch.obtain import Wanted, obtain\n"
        "file = SourceFile(sha256='unpublished', sources=(sys.argv[2],))\n"
        "asked = Wanted(Path(sys.argv[1]), file, Licence('free', '-', '-'), 'toys', 'make')\n"
        "print(len(obtain([asked], sha256_file, given=None, accepted=())))"
    )
    command = [sys.executable, "-c", code, str(place / "file"), server.url("/file")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) for _ in range(3)]
    assert sorted(child.communicate()[0].strip() for child in children) == ["0", "0", "1"]
    assert len(server.asked) == 1


@pytest.mark.parametrize("within", ["", "val"])
def test_images_sorted_by_class_are_linked_one_by_one(place: Path, own_images: Path, within: str) -> None:
    """As many clusters have ImageNet: val/n01440764/ILSVRC2012_val_00000293.JPEG."""
    folder = own_images / within
    for number, name in enumerate(IMAGES):
        (folder / f"class {number}").mkdir(parents=True)
        (own_images / name).rename(folder / f"class {number}" / name)
    (own_images / "x_3.jpg").unlink()
    [line] = bring(wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK), given=own_images)
    assert line == f"{place / 'images.sha256'}: 3 files recorded, from {folder}"
    assert {path.name: path.read_bytes() for path in (place / "images").iterdir()} == IMAGES
    assert all(path.is_symlink() for path in (place / "images").iterdir())


def test_one_name_in_two_classes_is_refused(place: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "own" / folder).mkdir(parents=True)
        for name, content in IMAGES.items():
            (tmp_path / "own" / folder / name).write_bytes(content)
    said = refused(wanted(place, unpack=UNPACK), given=tmp_path / "own")
    assert f"{tmp_path}/own/b/x_0.jpg: is there twice, also as {tmp_path}/own/a/x_0.jpg" in said


@pytest.mark.parametrize("given", ["", "images"])
def test_a_folder_that_was_put_where_it_belongs_is_recorded_and_stays(place: Path, given: str) -> None:
    (place / "images").mkdir(parents=True)
    for name, content in IMAGES.items():
        (place / "images" / name).write_bytes(content)
    bring(wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK), given=place / given)
    assert {path.name: path.read_bytes() for path in (place / "images").iterdir()} == IMAGES
    assert not (place / "images").is_symlink()


def test_links_never_take_the_place_of_what_they_lead_to(place: Path) -> None:
    (place / "images" / "class").mkdir(parents=True)
    for name, content in IMAGES.items():
        (place / "images" / "class" / name).write_bytes(content)
    for given in (place, place / "images", place / "images" / "class"):
        assert "to it would stand\n  move it to another place" in refused(wanted(place, unpack=UNPACK), given=given)
    assert {path.name for path in (place / "images" / "class").iterdir()} == IMAGES.keys()


def test_a_folder_that_was_not_made_here_is_moved_aside(place: Path, own_images: Path) -> None:
    (place / "images").mkdir(parents=True)
    (place / "images" / "mine").write_bytes(b"dear")
    bring(wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK), given=own_images)
    assert (place / "images").readlink() == own_images
    assert (place / "images.wrong" / "mine").read_bytes() == b"dear"


def test_members_that_have_gone_are_told_and_brought_again(server: Any, place: Path, capsys: Any) -> None:
    server.add("/set.tgz", ARCHIVE)
    asked = wanted(place, server.url("/set.tgz"), sha256=sha256(ARCHIVE), unpack=UNPACK)
    bring(asked)
    (place / "images" / "x_1.jpg").unlink()
    assert state_of(asked, sha256_file) is State.MISSING
    bring(asked)
    assert f"{place / 'images'} has lost 1 of its files: x_1.jpg\n" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (place / "images").iterdir()} == IMAGES


def test_a_member_whose_own_checksum_is_published_can_be_registered(place: Path, tmp_path: Path) -> None:
    (tmp_path / "x_1.jpg").write_bytes(IMAGES["x_1.jpg"])
    one = Unpack(members="x_1.jpg", bytes=100, sha256=sha256(IMAGES["x_1.jpg"]))
    asked = wanted(place, sha256=sha256(ARCHIVE), unpack=one)
    [line] = bring(asked, given=tmp_path)
    assert "x_1.jpg: verified, from" in line
    (place / "x_1.jpg").unlink()
    (tmp_path / "x_1.jpg").write_bytes(b"another")
    assert f"its sha256 is {sha256(b'another')}, must be {one.sha256}" in refused(asked, given=tmp_path)
    (tmp_path / "x_1.jpg").unlink()
    said = refused(asked, given=tmp_path)
    assert "has no file or x_1.jpg\n  get file (x_1.jpg out of it will do) where there is a network" in said


def test_files_that_cannot_be_read_are_all_named(
    place: Path, own_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sha256_file

    def broken(path: Path) -> str:
        if path.name in ("x_0.jpg", "x_2.jpg"):
            raise RequestError("cannot be read: Input/output error", where=str(path))
        return whole(path)

    monkeypatch.setattr("engineroom.steps.fetch.obtain.sha256_file", broken)
    assert refused(wanted(place, unpack=UNPACK), given=own_images).splitlines() == [
        f"{own_images / f'x_{number}.jpg'}: cannot be read: Input/output error" for number in (0, 2)
    ]


def test_a_folder_that_may_not_be_entered_is_told(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "own":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    (tmp_path / "own").mkdir()
    monkeypatch.setattr(Path, "is_file", is_file)
    assert refused(wanted(place), given=tmp_path / "own") == f"{tmp_path}/own/file: cannot be used: Permission denied"


def test_who_means_another_folder_is_told_how_to_begin_anew(place: Path, own_images: Path) -> None:
    asked = wanted(place, sha256=sha256(ARCHIVE), unpack=UNPACK)
    bring(asked, given=own_images)
    for name in ("x_1.jpg", "x_2.jpg"):
        (own_images / name).write_bytes(b"mended")
    (place / "images").unlink()
    said = refused(asked, given=own_images)
    assert said.endswith(f"if these files are the right ones: rm {place}/images.sha256, and type the command again")
    (place / "images.sha256").unlink()
    bring(asked, given=own_images)


def test_room_is_told_before_it_is_unpacked(place: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "set.tar").write_bytes(ARCHIVE)
    asked = wanted(place, sha256=sha256(ARCHIVE), unpack=Unpack(members="x_*.jpg", files=3, bytes=6_000_000, into="i"))
    bring(asked, given=tmp_path / "set.tar")
    assert re.search(r"unpacking .*/file: at most 6.0 MB, [0-9.]+ [GT]B free", capsys.readouterr().err)
