"""What was made once is reused exactly as long as nothing it depends on has changed, and never half made."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineroom import checksums
from engineroom.artifacts import (
    MANIFEST,
    UNKNOWN,
    State,
    check_content,
    key_of,
    look_up,
    newest,
    obtain,
    sha256_in_use,
)
from engineroom.errors import EngineError, RequestError
from engineroom.paths import sha256_file

INPUTS = {"model": "a" * 64, "precision": "int8"}
inputs_strategy = st.dictionaries(st.text(), st.text(), max_size=6)


class Maker:
    """Makes one file, and counts how often."""

    def __init__(self, content: bytes = b"content") -> None:
        self.content, self.calls = content, 0

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.calls += 1
        (folder / "part").mkdir()
        (folder / "part" / "file").write_bytes(self.content)
        return {"answer": 42}


@given(inputs_strategy, st.randoms())
def test_the_key_depends_on_the_content_alone(inputs: dict[str, str], random: Any) -> None:
    shuffled = list(inputs.items())
    random.shuffle(shuffled)
    assert key_of(dict(shuffled)) == key_of(inputs)
    assert re.fullmatch("[0-9a-f]{16}", key_of(inputs))


@given(inputs_strategy, inputs_strategy)
def test_other_inputs_have_another_key(one: dict[str, str], other: dict[str, str]) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


def test_keys_are_the_same_in_every_version() -> None:
    """A key that changed would silently make everybody rebuild everything."""
    assert key_of({"model": "é", "batch_size": "1"}) == "4928d5cb03831b7b"


def test_it_is_made_once_and_then_reused(tmp_path: Path) -> None:
    make = Maker()
    made = obtain(tmp_path / "shelf", INPUTS, make, what="it")
    again = obtain(tmp_path / "shelf", dict(reversed(INPUTS.items())), make, what="it")
    assert (made.reused, made.why, again.reused, again.why, make.calls) == (
        False,
        "first time",
        True,
        "unchanged: precision, model",
        1,
    )
    assert again.key == made.key
    assert again.facts == {"answer": 42}
    assert again.file("part/file").read_bytes() == b"content"
    assert again.files == made.files
    assert again.files["part/file"]["bytes"] == 7


def test_what_changed_is_said(tmp_path: Path) -> None:
    obtain(tmp_path, INPUTS, Maker(), what="it")
    made = obtain(tmp_path, {"model": "b" * 64, "calibration": "x"}, Maker(), what="it")
    assert made.why == "model: aaaaaaaaaaaa -> bbbbbbbbbbbb; precision: int8 -> none; calibration: none -> x"


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_maker_that_fails_leaves_nothing(tmp_path: Path, fault: type[BaseException]) -> None:
    def fail(folder: Path) -> Mapping[str, Any]:
        (folder / "half").write_text("a model")
        raise fault

    with pytest.raises(fault):
        obtain(tmp_path, INPUTS, fail, what="it")
    assert look_up(tmp_path, INPUTS) is None
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_a_killed_maker_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / f".{key_of(INPUTS)}.partial" / "old").mkdir(parents=True)
    made = obtain(tmp_path, INPUTS, Maker(), what="it")
    assert set(made.files) == {"part/file"}


def test_a_resumable_maker_gets_what_it_left_unless_forced(tmp_path: Path) -> None:
    seen = []

    def fail(folder: Path) -> Mapping[str, Any]:
        seen.append([path.name for path in folder.iterdir()])
        (folder / "half").write_text("a model")
        raise ValueError

    for force in (False, False, True):
        with pytest.raises(ValueError):
            obtain(tmp_path, INPUTS, fail, what="it", resumable=True, force=force)
        assert look_up(tmp_path, INPUTS) is None
    assert seen == [[], ["half"], []]
    made = obtain(tmp_path, INPUTS, Maker(), what="it", resumable=True)
    assert set(made.files) == {"half", "part/file"}


def test_what_another_key_left_unfinished_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".0123456789abcdef.partial" / "large").mkdir(parents=True)
    made = obtain(tmp_path, INPUTS, Maker(), what="it", resumable=True)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [made.folder]


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_a_damaged_file_is_noticed_and_made_again(tmp_path: Path, damage: str) -> None:
    make = Maker()
    file = obtain(tmp_path, INPUTS, make, what="it").file("part/file")
    file.write_bytes(b"con") if damage == "cut" else file.unlink()
    again = obtain(tmp_path, INPUTS, make, what="it")
    assert again.why == "part/file is missing or cut off"
    assert file.read_bytes() == b"content"


manifests = st.binary() | st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
).flatmap(
    lambda value: st.sampled_from(
        [value, {"inputs": value, "files": {}, "facts": {}}, {"inputs": INPUTS, "files": value, "facts": value}]
    )
).map(lambda value: json.dumps(value).encode())


@settings(max_examples=25)  # each is synced to the disk
@given(manifests)
def test_a_damaged_manifest_means_made_again(tmp_path_factory: pytest.TempPathFactory, manifest: bytes) -> None:
    shelf = tmp_path_factory.getbasetemp() / "manifests"
    folder = shelf / key_of(INPUTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_bytes(manifest)
    found = obtain(shelf, INPUTS, Maker(), what="it")
    assert found.reused or found.file("part/file").read_bytes() == b"content"
    shutil.rmtree(found.folder)
    assert look_up(shelf, INPUTS) is None


def test_changed_content_of_the_same_size_is_made_again(tmp_path: Path) -> None:
    file = obtain(tmp_path, INPUTS, Maker(), what="it").file("part/file")
    file.write_bytes(b"c0ntent")
    again = obtain(tmp_path, INPUTS, Maker(), what="it")
    assert again.why == "part/file has changed since it was made"
    assert file.read_bytes() == b"content"


def test_a_copy_with_new_times_is_reused(tmp_path: Path) -> None:
    file = obtain(tmp_path, INPUTS, Maker(), what="it").file("part/file")
    os.utime(file, (1, 1))
    assert obtain(tmp_path, INPUTS, Maker(), what="it").reused


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_change_that_size_and_time_do_not_show_is_found_before_a_run(tmp_path: Path, damage: str) -> None:
    artifact = obtain(tmp_path, INPUTS, Maker(), what="it")
    check_content(artifact)
    file = artifact.file("part/file")
    status = file.stat()
    if damage == "change":
        file.write_bytes(b"c0ntent")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert obtain(tmp_path, INPUTS, Maker(), what="it").reused
    else:
        file.unlink()
    with pytest.raises(EngineError, match="part/file: is not what was made; it has been removed"):
        check_content(artifact)
    assert not obtain(tmp_path, INPUTS, Maker(), what="it").reused


def test_nothing_is_made_where_that_was_forbidden(tmp_path: Path) -> None:
    obtain(tmp_path, {**INPUTS, "precision": "fp32"}, Maker(), what="it")
    with pytest.raises(
        RequestError, match=r"the engine has to be made \(precision: fp32 -> int8\)\n  leave out --no_b"
    ):
        obtain(tmp_path, INPUTS, Maker(), what="the engine", may_make=False)
    with pytest.raises(RequestError, match="first time"):
        obtain(tmp_path / "new", INPUTS, Maker(), what="the engine", may_make=False)
    assert not (tmp_path / "new").exists()


def test_force_makes_it_again_but_once(tmp_path: Path) -> None:
    obtain(tmp_path, INPUTS, Maker(b"old"), what="it")
    _in_another_process()
    make = Maker(b"new")
    forced = [obtain(tmp_path, INPUTS, make, what="it", force=True) for _ in range(2)]
    assert [item.why for item in forced] == ["asked for by --force", "unchanged: model, precision"]
    assert forced[1].file("part/file").read_bytes() == b"new"


LARGE = 5 << 20


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of 5 MiB be cut in five pieces, the last two of which are not whole."""
    monkeypatch.setattr(checksums, "PIECE_BYTES", 1 << 20)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("at", [0, 1 << 20, LARGE // 2, LARGE - 1, LARGE + 99])
def test_a_flipped_bit_is_found_in_whatever_piece_it_is(tmp_path: Path, at: int) -> None:
    made = obtain(tmp_path, INPUTS, Maker(random.randbytes(LARGE + 100)), what="it")
    assert len(made.files["part/file"]["pieces"]) == 6
    check_content(made)
    content = bytearray(made.file("part/file").read_bytes())
    content[at] ^= 1
    made.file("part/file").write_bytes(content)
    with pytest.raises(EngineError, match="is not what was made"):
        check_content(made)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("size", [LARGE - 1, LARGE + 1])
def test_a_file_of_another_size_is_found(tmp_path: Path, size: int) -> None:
    content = random.randbytes(LARGE + 1)
    made = obtain(tmp_path, INPUTS, Maker(content[:LARGE]), what="it")
    made.file("part/file").write_bytes(content[:size])
    with pytest.raises(EngineError, match="is not what was made"):
        check_content(made)


@pytest.mark.usefixtures("cut")
def test_who_waits_long_for_a_check_sees_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = obtain(tmp_path, INPUTS, Maker(bytes(LARGE)), what="it")
    check_content(made)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(checksums, "SILENT_S", 0)
    check_content(made)
    assert capsys.readouterr().err == f"check {made.folder} ...\n"


def test_what_was_checked_is_read_again_only_if_somebody_touched_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = obtain(tmp_path, INPUTS, Maker(), what="it")
    path = made.file("part/file")
    read: list[Path] = []
    monkeypatch.setattr("engineroom.artifacts.sha256_file", lambda path: read.append(path) or sha256_file(path))
    check_content(made)
    right = sha256_in_use(path)
    assert right == hashlib.sha256(b"content").hexdigest() and not read
    status = path.stat()
    path.write_bytes(b"c0ntent")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sha256_in_use(path) == hashlib.sha256(b"c0ntent").hexdigest() and read == [path]


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    make = Maker()

    def slow(folder: Path) -> Mapping[str, Any]:
        time.sleep(0.1)
        return make(folder)

    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(obtain(tmp_path, INPUTS, slow, what="it"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1
    assert sorted(item.reused for item in found) == [False, True, True]


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    def fill(folder: Path) -> Mapping[str, Any]:
        raise OSError(28, "No space left on device", str(folder / "model"))

    with pytest.raises(RequestError, match="no space left"):
        obtain(tmp_path, INPUTS, fill, what="it")


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("case", ["nothing there", "unchanged", "another input", "damaged", "forced"])
def test_a_plan_says_what_the_next_call_does_and_does_nothing(tmp_path: Path, case: str) -> None:
    shelf, make = tmp_path / "shelf", Maker()
    if case != "nothing there":
        inputs = {**INPUTS, "precision": "fp32"} if case == "another input" else INPUTS
        file = obtain(shelf, inputs, make, what="it").file("part/file")
        _in_another_process()
        if case == "damaged":
            file.write_bytes(b"c0ntent")
    before, calls, force = _files(tmp_path), make.calls, case == "forced"
    plan = obtain(shelf, INPUTS, make, what="it", plan=True, force=force)
    assert (_files(tmp_path), make.calls) == (before, calls)
    done = obtain(shelf, INPUTS, make, what="it", force=force)
    assert (plan.folder, plan.reused, plan.why) == (done.folder, done.reused, done.why)
    assert plan.planned == (case != "unchanged")
    assert plan.sha256("part/file") == (UNKNOWN if plan.planned else done.sha256("part/file"))


def _in_another_process() -> None:
    from engineroom import artifacts

    artifacts._made_here.clear()


def test_a_plan_of_what_must_not_be_made_is_refused_as_the_call_is(tmp_path: Path) -> None:
    said = []
    for plan in (True, False):
        with pytest.raises(RequestError) as caught:
            obtain(tmp_path / "shelf", INPUTS, Maker(), what="the engine", may_make=False, plan=plan)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_what_follows_from_something_unmade_is_open_if_it_may_come_out_as_it_was(tmp_path: Path) -> None:
    unknown = {**INPUTS, "model": UNKNOWN}
    assert obtain(tmp_path, unknown, Maker(), what="it", plan=True).state is State.TO_MAKE
    obtain(tmp_path, INPUTS, Maker(), what="it")
    perhaps = obtain(tmp_path, unknown, Maker(), what="it", plan=True)
    assert (perhaps.state, perhaps.why) == (State.OPEN, "reused if this comes out as it was: model")
    other = obtain(tmp_path, {**unknown, "precision": "fp32"}, Maker(), what="it", plan=True)
    assert other.state is State.TO_MAKE


def test_how_long_it_took_is_on_record_and_older_manifests_are_without(tmp_path: Path) -> None:
    def slow(folder: Path) -> Mapping[str, Any]:
        time.sleep(0.1)
        return Maker()(folder)

    manifest = obtain(tmp_path, INPUTS, slow, what="it").file(MANIFEST)
    made = newest(tmp_path)
    assert made and made.seconds and 0.1 <= made.seconds < 5 and made.bytes == 7
    old = json.loads(manifest.read_text())
    del old["seconds"]
    manifest.write_text(json.dumps(old))
    made = newest(tmp_path)
    assert made and made.seconds is None
    assert obtain(tmp_path, INPUTS, slow, what="it").reused
