"""Model and data are the right ones or are named, all at once, with the command that brings them back."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from engineroom.benchmarks.digits import BENCHMARK, Digits
from engineroom.errors import Mistakes
from engineroom.paths import ROOT, sha256_file
from engineroom.steps import fetch


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
