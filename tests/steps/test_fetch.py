"""Model and data are the right ones or are named, all at once, with the command that brings them back."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engineroom import registry
from engineroom.benchmarks.digits import BENCHMARK, Digits
from engineroom.datasets import Dataset
from engineroom.errors import Mistakes
from engineroom.images import imagenet
from engineroom.paths import ROOT, sha256_file
from engineroom.steps import fetch


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is remembered out of build/, and let what the tests write count as settled."""
    monkeypatch.setattr(fetch, "MEMORY", tmp_path / "build" / "checked_files.json")
    monkeypatch.setattr(fetch, "SETTLED_S", -1.0)
    return fetch.MEMORY


class Elsewhere(Digits):
    """The quick start with files of our own."""

    def __init__(self, model: Path, data: dict[Path, str]) -> None:
        self._model, self._data = model, data

    def model_file(self) -> tuple[Path, str]:
        return self._model, "0" * 64

    def data_files(self) -> dict[Path, str]:
        return self._data


def test_the_shipped_files_are_the_right_ones() -> None:
    assert fetch.has_files(BENCHMARK)
    assert fetch.check_model(BENCHMARK) == sha256_file(BENCHMARK.model_file()[0])
    assert {path: sha256_file(path) for path in fetch.check_data(BENCHMARK)} == fetch.check_data(BENCHMARK)


def test_every_wrong_file_is_named_at_once(tmp_path: Path) -> None:
    right, wrong, absent, folder = (tmp_path / name for name in ("right", "wrong", "absent", "folder"))
    right.write_bytes(b"")
    wrong.write_bytes(b"other")
    folder.mkdir()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    benchmark = Elsewhere(wrong, dict.fromkeys((right, wrong, absent, folder), empty))
    assert not fetch.has_files(benchmark)
    with pytest.raises(Mistakes) as caught:
        fetch.check_data(benchmark)
    said = [str(mistake) for mistake in caught.value.mistakes]
    assert [line.partition(":")[0] for line in said] == [str(wrong), str(absent), str(folder)]
    assert (
        "is not the right file: its SHA-256 is d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
        in said[0]
    )
    assert f"must be {empty}" in said[0]
    assert "the data of digits is missing" in said[1]
    with pytest.raises(Mistakes, match="the model of digits is not the right file"):
        fetch.check_model(benchmark)


def test_the_command_that_restores_a_file_can_be_pasted() -> None:
    path = ROOT / "data_maps" / "it's; gone"
    with pytest.raises(Mistakes) as caught:
        fetch.check_data(Elsewhere(path, {path: ""}))
    command = str(caught.value).partition("bring it back with: ")[2]
    assert shlex.split(command) == ["git", "checkout", "--", "data_maps/it's; gone"]


def test_data_that_only_the_user_can_bring_are_asked_for_in_the_first_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images have no source, the labels have one: two commands, each of which does all that it can."""
    monkeypatch.setattr("engineroom.datasets.DATA", tmp_path)
    with pytest.raises(Mistakes) as caught:
        fetch.check_data(registry.get("benchmarks", "resnet50").load().BENCHMARK)
    images, labels = caught.value.mistakes
    command = 'make download_data RUN_ARGS="--benchmarks=resnet50 --accept_licence=imagenet'
    assert (images.where, labels.where) == (
        f"{tmp_path}/imagenet/images.sha256",
        f"{tmp_path}/imagenet/val.txt, {tmp_path}/imagenet/val_map.txt",
    )
    assert "get ILSVRC2012_img_val.tar" in str(images.mend)
    assert str(images.mend).endswith(f'{command} --from=FOLDER"')
    assert labels.mend == f'fetch it with: {command}"'


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"")
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of the files that are read from here on."""
    paths: list[Path] = []

    def hashed(path: Path) -> str:
        paths.append(path)
        return sha256_file(path)

    monkeypatch.setattr(fetch, "sha256_file", hashed)
    return paths


def test_a_file_that_has_not_changed_is_read_once(data: Path, read: list[Path]) -> None:
    benchmark = Elsewhere(data, {data: EMPTY})
    for _ in range(3):
        fetch.check_data(benchmark)
    assert read == [data]
    fetch.check_data(benchmark, force=True)
    assert read == [data] * 2
    fetch.MEMORY.write_text("{")
    fetch.check_data(benchmark)
    assert read == [data] * 3


def _changed(path: Path) -> None:
    path.write_bytes(b"x")


def _changed_without_trace(path: Path) -> None:
    """Put other content of the same size there, with the old time of change."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    shutil.copystat(path, other)
    other.replace(path)


@pytest.mark.parametrize("change", [_changed, _changed_without_trace, _replaced])
def test_a_changed_file_is_noticed_all_the_same(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"content")
    benchmark = Elsewhere(path, {path: sha256_file(path)})
    fetch.check_data(benchmark)
    change(path)
    for _ in range(2):
        with pytest.raises(Mistakes, match="is not the right file"):
            fetch.check_data(benchmark)


def test_a_file_that_was_written_just_now_is_not_remembered_yet(
    data: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time has a resolution: a second change within it would go unnoticed."""
    monkeypatch.setattr(fetch, "SETTLED_S", 60.0)
    for _ in range(2):
        fetch.check_data(Elsewhere(data, {data: EMPTY}))
    assert read == [data] * 2


def test_a_map_is_made_again_when_the_code_that_writes_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset("imagenet")
    monkeypatch.setattr("engineroom.datasets.DATA", tmp_path / "data")
    (source,) = {part.made_from for part in dataset.manifest.parts.values() if part.made_from}
    dataset.place.mkdir(parents=True)
    (dataset.place / source).write_text("".join(f"{imagenet.name(n)} 7\n" for n in range(1, imagenet.IMAGES + 1)))
    (making,) = fetch.data_makings(dataset)
    fetch.make(making)
    assert fetch.is_made(making)
    code = tmp_path / "imagenet.py"
    code.write_bytes(Path(imagenet.__file__).read_bytes() + b"# changed\n")
    monkeypatch.setattr(imagenet, "__file__", str(code))
    assert not fetch.is_made(fetch.data_makings(dataset)[0])


def test_a_plan_leaves_no_memory_behind(data: Path, memory: Path) -> None:
    fetch.check_data(Elsewhere(data, {data: EMPTY}), remember=False)
    assert not memory.parent.exists()


def test_a_build_folder_that_cannot_be_written_is_no_hindrance(data: Path, memory: Path) -> None:
    memory.parent.write_text("in the way")
    fetch.check_data(Elsewhere(data, {data: EMPTY}))
