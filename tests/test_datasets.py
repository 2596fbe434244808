"""Manifests and sample maps: what is read, and what is refused in one pass with its line."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineroom import datasets
from engineroom.datasets import (
    MOST_SHOWN,
    Agreement,
    Dataset,
    Difference,
    Sample,
    format_checksums,
    format_map,
    parse_map,
    read_checksums,
    read_manifest,
    read_map,
)
from engineroom.errors import Mistakes, RequestError
from engineroom.terms import TensorSpec

MANIFEST = f"""\
name: toys
description: Two toys.
homepage: https://example.org/toys
licence:
  name: CC0
  url: https://example.org/cc0
  attribution: nobody
sample:
  name: pixels
  dtype: uint8
  shape: [2, 2]
labels: 3
files:
  toys.csv:
    sha256: {"ab" * 32}
    bytes: 12
    sources: [https://example.org/toys.csv]
parts:
  evaluation:
    map: val_map.txt
    samples: 2
  calibration:
    map: cal_map.txt
    samples: 1
    labelled: false
"""

# A segment of a path: anything printable but the separators, and no blanks at its ends.
_segments = st.text(
    st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="/\\"), min_size=1, max_size=12
).filter(lambda text: text == text.strip() and text not in (".", ".."))
_paths = st.lists(_segments, min_size=1, max_size=3).map("/".join).filter(lambda path: not path.startswith("\ufeff"))
_samples = st.lists(st.builds(Sample, _paths, st.integers(0, 9)), min_size=1, max_size=20, unique_by=lambda s: s.file)


def mistakes_of(text: str, labels: int | None = 10) -> list[str]:
    """Return what is wrong with a map, one line each; none if it is read."""
    try:
        parse_map(text, "map", labels=labels)
    except Mistakes as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


@settings(max_examples=25)
@given(_samples)
def test_a_map_reads_back_as_it_was_written(samples: list[Sample]) -> None:
    assert parse_map(format_map(samples), "map", labels=10) == tuple(samples)


@settings(max_examples=25)
@given(_samples)
def test_a_map_without_labels_reads_back_too(samples: list[Sample]) -> None:
    bare = tuple(Sample(sample.file) for sample in samples)
    assert parse_map(format_map(bare), "map", labels=None) == bare


@settings(max_examples=25)
@given(_samples, st.data())
def test_line_ends_and_blank_lines_change_nothing(samples: list[Sample], data: st.DataObject) -> None:
    blank = st.sampled_from(["", "\r", "  ", "\t"])
    lines = format_map(samples).removesuffix("\n").split("\n")
    carriage = st.sampled_from(["", "\r"])
    mixed = "\n".join(f"{data.draw(blank)}\n{line}{data.draw(carriage)}" for line in lines)
    assert parse_map(mixed, "map", labels=10) == tuple(samples)


@settings(max_examples=25)
@given(_samples, st.data())
def test_each_broken_line_is_named_and_no_other(samples: list[Sample], data: st.DataObject) -> None:
    lines = format_map(samples).removesuffix("\n").split("\n")
    broken = data.draw(st.sets(st.integers(1, len(lines)), max_size=MOST_SHOWN))
    ruin = st.sampled_from(["no_label", "a\tx", "a\t-1", "a\t10", "a\t1\t2", "../a\t1", "/a\t1", "a/../b\t1", "\t1"])
    for number in broken:
        lines[number - 1] = data.draw(ruin)
    named = {int(mistake.split(":")[1]) for mistake in mistakes_of("\n".join(lines))}
    assert named == broken


@given(st.text())
def test_any_text_is_read_or_refused_cleanly(text: str) -> None:
    try:
        samples = parse_map(text, "map", labels=10)
    except Mistakes as error:
        assert error.mistakes
    else:
        assert all(sample.label is not None and 0 <= sample.label < 10 for sample in samples)
        assert all(".." not in sample.file.split("/") and not sample.file.startswith("/") for sample in samples)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.png", "no label; expected file<TAB>label"),
        ("a.png\tseven", "'seven': a label is a whole number from 0 to 9"),
        ("a.png\t٣", "a label is a whole number"),
        ("a.png\t+3", "a label is a whole number"),
        ("a.png\t10", "a label is a whole number from 0 to 9"),
        ("a.png\t1\t2", "3 columns; expected file<TAB>label"),
        ("../a.png\t1", "must be relative and stay inside"),
        ("a/../../b\t1", "must be relative and stay inside"),
        ("/etc/passwd\t1", "must be relative and stay inside"),
        ("a//b\t1", "must be relative and stay inside"),
        ("a\\..\\b\t1", "no backslash"),
        ("a\x00b\t1", "no control characters"),
        (" a.png\t1", "blanks at its ends"),
        ("\t1", "must not be empty"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: str, said: str) -> None:
    [mistake] = mistakes_of(f"good.png\t0\n\n{line}\n")
    assert mistake.startswith("map:3: ")
    assert said in mistake


def test_a_name_twice_names_both_lines() -> None:
    assert mistakes_of("a\t1\nb\t2\na\t3\n") == ["map:3: 'a' is already named in line 1"]


def test_names_that_only_look_alike_are_two_samples() -> None:
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    assert len(parse_map("".join(f"{name}\t1\n" for name in names), "map", labels=10)) == 2


def test_a_label_in_a_map_without_labels_is_refused() -> None:
    assert mistakes_of("a\nb\t1\n", labels=None) == ["map:2: has a label, but this map has none"]


def test_an_empty_map_is_refused() -> None:
    assert mistakes_of("\n \r\n") == ["map: names no sample"]


def test_many_mistakes_are_counted_instead_of_shown() -> None:
    shown = mistakes_of("wrong\n" * 5_000)
    assert len(shown) == MOST_SHOWN + 1
    assert shown[-1] == f"map: and {5_000 - MOST_SHOWN:,} more mistakes"


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_bytes("\ufeffa\t1\n".encode())
    assert read_map(path, labels=10) == (Sample("a", 1),)
    path.write_bytes(b"a\t1\n\xe9\t2\n")
    with pytest.raises(RequestError, match=r"map\.txt:2: is not UTF-8"):
        read_map(path, labels=10)
    with pytest.raises(RequestError, match="cannot be read"):
        read_map(tmp_path / "absent.txt", labels=10)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A whole, valid data set."""
    (tmp_path / "dataset.yaml").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "val_map.txt").write_text("toys.csv#0\t2\ntoys.csv#1\t0\n", encoding="utf-8")
    (tmp_path / "cal_map.txt").write_text("toys.csv#2\n", encoding="utf-8")
    return tmp_path


def test_a_data_set_is_read(toys: Path) -> None:
    dataset = Dataset("toys", toys)
    assert dataset.manifest.sample == TensorSpec("pixels", "uint8", (2, 2))
    assert dataset.manifest.files["toys.csv"].bytes == 12
    assert dataset.samples("calibration") == (Sample("toys.csv#2"),)
    assert dataset.labels("evaluation") == [2, 0]


def test_asking_for_what_is_not_there(toys: Path) -> None:
    dataset = Dataset("toys", toys)
    with pytest.raises(RequestError, match="did you mean evaluation"):
        dataset.samples("evalution")
    with pytest.raises(RequestError, match=r"cal_map\.txt: has no labels"):
        dataset.labels("calibration")


def test_a_map_of_another_length_than_the_manifest_says(toys: Path) -> None:
    (toys / "val_map.txt").write_text("toys.csv#0\t2\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"val_map\.txt: names 1 samples, but dataset\.yaml says 2"):
        Dataset("toys", toys).samples("evaluation")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("labels: 3", "labels: three", 12, "labels: Expected int, got str"),
        ("labels: 3", "labels: 0", 12, "labels: Expected int >= 1"),
        ("labels: 3", "lables: 3", 12, "did you mean labels"),
        ("labels: 3", "", 1, "the field labels is missing"),
        ("  url: https://example.org/cc0\n", "", 4, "the field url is missing"),
        ("ab" * 32, "AB" * 32, 15, "sha256: Expected str matching regex"),
        ("bytes: 12", "bytes: 12.5", 16, "bytes: Expected int, got float"),
        ("sources: [https://example.org/toys.csv]", "sources: [ftp://x.org/y]", 17, "sources: Expected str matching"),
        ("    sources:", "    unpack: {members: a, bytes: 1, file: 2}\n    sources:", 17, "did you mean files"),
        ("    sources:", "    md5: 12\n    sources:", 17, "md5: Expected str, got int"),
        ("shape: [2, 2]", "shape: 2", 8, "sample: Expected array, got int"),
        ("toys.csv:\n", "../toys.csv:\n", 14, "must be relative and stay inside"),
        ("map: val_map.txt", "map: ../val_map.txt", 20, "map: Expected str matching regex"),
        ("samples: 2", "samples: 2\n    samples: 3", 22, "stands here a second time"),
        ("name: toys", "name: [toys", 2, "is not YAML"),
        ("licence:\n", "licence: free\nx:\n", 4, "licence: Expected object, got str"),
    ],
)
def test_a_wrong_manifest_says_what_and_where(toys: Path, old: str, new: str, line: int, said: str) -> None:
    path = toys / "dataset.yaml"
    path.write_text(MANIFEST.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        read_manifest(path)
    assert any(f"dataset.yaml:{line}: " in text and said in text for text in _blocks(str(caught.value)))


def test_all_mistakes_of_a_manifest_come_in_one_pass(toys: Path) -> None:
    path = toys / "dataset.yaml"
    path.write_text(MANIFEST.replace("labels: 3", "labels: x").replace("sha256: ", "sha265: "), encoding="utf-8")
    with pytest.raises(Mistakes) as caught:
        read_manifest(path)
    assert [mistake.where for mistake in caught.value.mistakes] == [f"{path}:12", f"{path}:15", f"{path}:14"]


def _blocks(text: str) -> list[str]:
    """Join each message with the indented lines that belong to it."""
    return text.replace("\n  ", " ").split("\n")


# Files that the map names


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of three photographs, whose files lie below build/data."""
    folder = tmp_path / "photos"
    folder.mkdir()
    text = MANIFEST.replace("labels: 3", "labels: 3\nfolder: images").replace("samples: 2", "samples: 3")
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    (folder / "val_map.txt").write_text("a.JPEG\t0\n\nb.JPEG\t1\nc.JPEG\t2\n", encoding="utf-8")
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    dataset = Dataset("photos", folder)
    dataset.sample_folder.mkdir(parents=True)
    for name in "abc":
        (dataset.sample_folder / f"{name}.JPEG").write_bytes(b"photograph")
    dataset.checksums.write_text(format_checksums("images", {f"{name}.JPEG": "0" * 64 for name in "abc"}))
    return dataset


def test_files_that_a_map_names_and_nobody_has_are_told_with_their_lines(photos: Dataset) -> None:
    photos.check_files("evaluation")
    (photos.sample_folder / "a.JPEG").unlink()
    (photos.sample_folder / "c.JPEG").unlink()
    with pytest.raises(Mistakes) as caught:
        photos.check_files("evaluation", "bring them")
    where = photos.map_of("evaluation")
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        f"{where}:1: a.JPEG is not in {photos.sample_folder}",
        f"{where}:4: c.JPEG is not in {photos.sample_folder}\n  bring them",
    ]
    for file in photos.sample_folder.iterdir():
        file.unlink()
    photos.sample_folder.rmdir()
    with pytest.raises(Mistakes, match="b.JPEG is not in"):
        photos.check_files("evaluation")


def test_all_that_is_wrong_with_a_map_is_told_in_one_pass(photos: Dataset) -> None:
    """Lines that are no samples, files that are not there or have no checksum, and how many there are."""
    where = photos.map_of("evaluation")
    where.write_text("gone.JPEG\t0\na.JPEG\t0\na.JPEG\t1\n../b.JPEG\t1\nc.JPEG\t9\nnew.JPEG\t2\n", encoding="utf-8")
    (photos.sample_folder / "new.JPEG").write_bytes(b"photograph")
    with pytest.raises(Mistakes) as caught:
        photos.check_files("evaluation", "bring them")
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        f"{where}:1: gone.JPEG is not in {photos.sample_folder}",
        f"{where}:3: 'a.JPEG' is already named in line 2",
        f"{where}:4: '../b.JPEG': a path must be relative and stay inside the data set's folder",
        f"{where}:5: '9': a label is a whole number from 0 to 2",
        f"{where}:6: new.JPEG is not in {photos.checksums}",
        f"{where}: names 6 samples, but dataset.yaml says 3\n  bring them",
    ]


def test_a_map_that_is_wrong_in_itself_sends_nobody_to_fetch_files(photos: Dataset) -> None:
    photos.map_of("evaluation").write_text("a.JPEG\t0\na.JPEG\t1\nc.JPEG\t2\n", encoding="utf-8")
    with pytest.raises(Mistakes, match="already named in line 1$"):
        photos.check_files("evaluation", "bring them")


def test_a_file_without_a_checksum_is_told_with_its_line(photos: Dataset) -> None:
    photos.checksums.write_text(format_checksums("images", {f"{name}.JPEG": "0" * 64 for name in "ac"}))
    with pytest.raises(Mistakes, match=r"val_map\.txt:3: b\.JPEG is not in .*images\.sha256$"):
        photos.check_files("evaluation")


def test_a_list_of_checksums_is_read_anew_when_it_has_changed_and_refused_when_damaged(tmp_path: Path) -> None:
    path = tmp_path / "images.sha256"
    path.write_text(format_checksums("images", {"a": "0" * 64}))
    assert read_checksums(path) == {"a": "0" * 64}
    path.write_text(format_checksums("images", {"b c": "1" * 64, "d": "2" * 64}))
    assert read_checksums(path) == {"b c": "1" * 64, "d": "2" * 64}
    path.write_text(f"{'0' * 64}  images/a\n{'0' * 63}  images/b\nx\n")
    with pytest.raises(Mistakes) as caught:
        read_checksums(path)
    assert [mistake.where for mistake in caught.value.mistakes] == [f"{path}:2", f"{path}:3"]
    with pytest.raises(RequestError, match="cannot be read"):
        read_checksums(tmp_path / "absent")


# Golden predictions


@pytest.mark.parametrize("text", ["2\n0\n1\n", "\n2\r\n0\r\n\r\n1", "c.JPEG\t1\na.JPEG\t2\nb.JPEG\t0\n"])
def test_golden_predictions_are_read_in_the_maps_order(photos: Dataset, text: str) -> None:
    assert photos.golden("resnet50") is None
    (photos.folder / "golden").mkdir()
    (photos.folder / "golden" / "resnet50.txt").write_text(text)
    assert photos.golden("resnet50") == [2, 0, 1]
    assert photos.golden("mobilenet-v2") is None
    (photos.place / "golden").mkdir()
    (photos.place / "golden" / "resnet50.txt").write_text("0\n0\n0\n")
    assert photos.golden("resnet50") == [0, 0, 0]  # the user's own
    (photos.place / "golden" / "resnet50.txt").write_text("0\n-1\n0\n")
    assert photos.golden("resnet50") == [0, -1, 0]  # the background, as in predictions.txt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n", ["has 1 classes, but there are 3 evaluation samples"]),
        ("1\n3\nx\n0\n", ["has 4 classes", ":2: '3': a label is", ":3: 'x': a label is"]),
        ("a.JPEG\t0\nd.JPEG\t1\na.JPEG\t1\n7\nc.JPEG\t3\n",
         [":2: 'd.JPEG' is no evaluation sample", ":3: 'a.JPEG' stands here a second time",
          ":4: '7' is no evaluation sample", ":5: '3': a label is", "says nothing of 'b.JPEG'"]),
        ("", ["has 0 classes"]),
    ],
)  # fmt: skip
def test_all_mistakes_of_golden_predictions_are_told_at_once(photos: Dataset, text: str, said: list[str]) -> None:
    (photos.folder / "golden").mkdir()
    (photos.folder / "golden" / "toys.txt").write_text(text)
    with pytest.raises(Mistakes) as caught:
        photos.golden("toys")
    assert len(caught.value.mistakes) == len(said)
    for mistake, words in zip(caught.value.mistakes, said, strict=True):
        assert "golden/toys.txt" in str(mistake) and words in str(mistake)


def test_predictions_are_compared_sample_by_sample(photos: Dataset) -> None:
    found = photos.compare([2, 0, 1], [2, 1, 1])
    assert found == Agreement(agree=2, total=3, differing=(Difference("b.JPEG", golden=0, ours=1),))
    assert photos.compare([0, 0, 0], [0, 0, 0]) == Agreement(3, 3, ())
