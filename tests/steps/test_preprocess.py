"""Samples become memory-mappable arrays, once per content of everything they were made from, by several processes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engineroom import datasets, registry
from engineroom.artifacts import Artifact
from engineroom.benchmarks import Part, _classification
from engineroom.benchmarks.digits import BENCHMARK, Digits
from engineroom.errors import EngineError, Mistakes, RequestError
from engineroom.paths import CODE, DATA_MAPS
from engineroom.steps import fetch
from engineroom.steps import preprocess as step

DATA = fetch.check_data(BENCHMARK)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the tests make out of build/."""
    monkeypatch.setattr(step, "PREPROCESSED_DATA", tmp_path)
    return tmp_path


def _made(part: Part = Part.EVALUATION, data: dict[Path, str] = DATA, **switches: bool) -> Artifact:
    return step.preprocess(BENCHMARK, part, data, **switches)


@pytest.mark.parametrize("part", [Part.CALIBRATION, Part.EVALUATION])
def test_a_part_becomes_one_array_per_input_that_can_be_mapped(part: Part) -> None:
    made = _made(part)
    (spec,) = BENCHMARK.inputs
    array = np.load(made.file("input.npy"), mmap_mode="r")
    assert array.shape == (BENCHMARK.sample_count(part), *spec.shape)
    assert array.dtype == np.dtype(spec.dtype)
    assert array.flags.c_contiguous
    assert np.array_equal(array, BENCHMARK.preprocess(part, 0, BENCHMARK.sample_count(part))["input"])


def test_samples_are_made_once_and_again_when_the_data_changes() -> None:
    first, again = _made(), _made()
    assert (first.reused, again.reused, again.key) == (False, True, first.key)
    changed = _made(data=dict.fromkeys(DATA, "0" * 64))
    assert changed.key != first.key
    assert changed.why.startswith("data: ")


@pytest.mark.parametrize("change", ["labels: 10", "samples: 500"])
def test_labels_and_samples_are_those_of_the_manifest(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many labels there are decides whether a model's first class is the background."""
    before = step.inputs_of(BENCHMARK, Part.EVALUATION, DATA)
    maps = tmp_path / "data_maps"
    shutil.copytree(DATA_MAPS / "digits", maps / "digits")
    manifest = maps / "digits" / datasets.MANIFEST
    name, _, number = change.partition(": ")
    manifest.write_text(manifest.read_text().replace(change, f"{name}: {int(number) - 1}"))
    monkeypatch.setattr(datasets, "DATA_MAPS", maps)
    _classification._dataset.cache_clear()
    after = step.inputs_of(BENCHMARK, Part.EVALUATION, DATA)
    _classification._dataset.cache_clear()
    assert {key for key in before if before[key] != after[key]} == {name}


def test_parts_never_share_a_shelf(shelf: Path) -> None:
    assert _made(Part.CALIBRATION).folder.parent != _made(Part.EVALUATION).folder.parent


def test_nothing_is_made_where_that_was_forbidden(shelf: Path) -> None:
    with pytest.raises(RequestError, match=r"the preprocessed evaluation data of digits has to be made"):
        _made(may_make=False)
    assert not list(shelf.iterdir())


class Wrong(Digits):
    """A benchmark that does not keep what its facts promise."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._arrays = arrays

    def preprocess(self, part: Part, first: int, last: int) -> dict[str, Any]:
        return self._arrays


COUNT = BENCHMARK.sample_count(Part.EVALUATION)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "benchmark digits: input input was not made"),
        ({"input": np.zeros((COUNT, 8, 8), "float32")}, r"came out as float32 \(500, 8, 8\), must be float32"),
        ({"input": np.zeros((COUNT, 1, 8, 8), "float64")}, r"came out as float64 .*, must be float32 \(500, 1, 8, 8\)"),
        ({"input": np.zeros((COUNT - 1, 1, 8, 8), "float32")}, r"came out as float32 \(499,"),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_refused(shelf: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        step.preprocess(Wrong(arrays), Part.EVALUATION, DATA)
    assert not list(shelf.rglob("manifest.json"))


# Many samples, several processes: a benchmark of an overlay, whose samples say which they are

NUMBERS = """
import os, time
import numpy as np
from engineroom.benchmarks import Benchmark, Part
from engineroom.errors import Mistakes, RequestError
from engineroom.terms import TensorSpec

class Numbers(Benchmark):
    name, dataset = "numbers", "digits"
    inputs = (TensorSpec("image", "uint8", (3, 224, 224)), TensorSpec("number", "int64", ()))

    def model_file(self): ...
    def data_files(self): ...
    def labels(self): ...
    def classes_of(self, outputs): ...
    def answers(self, responses, count): ...
    def score(self, responses, labels): ...
    def sample_count(self, part): return int(os.environ.get("NUMBERS", "600"))

    def preprocess(self, part, first, last):
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{first} {last} {os.getpid()}\\n")
        time.sleep(float(os.environ.get("SLEEP_S", "0")))
        bad = [n for n in map(int, os.environ.get("BAD", "").split()) if first <= n < last ]
        if bad:
            raise Mistakes(RequestError("is bad", where=str(n)) for n in bad)
        if os.environ.get("KILLED") and first:
            os.kill(os.getpid(), 9)
        numbers = np.arange(first, last)
        return {"image": np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (last - first, 3, 224, 224)),
                "number": numbers}

BENCHMARK = Numbers()
"""

# What another process runs: it makes the samples below sys.argv[1] and says how much memory it took.
MAKE = """
import json, resource, sys
from pathlib import Path
from engineroom import registry
from engineroom.benchmarks import Part
from engineroom.steps import preprocess as step
step.PREPROCESSED_DATA = Path(sys.argv[1])
benchmark = registry.get("benchmarks", "numbers").load().BENCHMARK
made = step.preprocess(benchmark, Part.EVALUATION, {}, cores=int(sys.argv[2]))
# Its own ru_maxrss would hold what the process had that started it.
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"folder": str(made.folder), "bytes": [own * 1024, workers * 1024]}))
"""


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the benchmark known, here and in what is started; return the file that it writes its calls to."""
    (tmp_path / "overlay" / "benchmarks").mkdir(parents=True)
    (tmp_path / "overlay" / "benchmarks" / "numbers.py").write_text(NUMBERS, encoding="utf-8")
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path / "overlay"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "engineroom_overlay.benchmarks.numbers", raising=False)
    return tmp_path / "calls"


def _numbers(cores: int, folder: Path | None = None) -> Artifact:
    benchmark = registry.get("benchmarks", "numbers").load().BENCHMARK
    return step.preprocess(benchmark, Part.EVALUATION, {}, cores=cores)


def _started(folder: Path, cores: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAKE, str(folder), str(cores)]
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def _calls(path: Path) -> list[tuple[int, ...]]:
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()]


def _assert_whole(made: Artifact, count: int = 600) -> None:
    assert {path.name for path in made.folder.iterdir()} == {"image.npy", "number.npy", "manifest.json"}
    images = np.load(made.file("image.npy"), mmap_mode="r")
    assert images.shape == (count, 3, 224, 224)
    assert np.array_equal(np.load(made.file("number.npy")), np.arange(count))
    assert np.array_equal(images.max(axis=(1, 2, 3)), np.arange(count) % 256)
    assert np.array_equal(images.min(axis=(1, 2, 3)), np.arange(count) % 256)


def test_several_processes_make_the_same_files_as_one(
    overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = _numbers(cores=1)
    assert {pid for _, _, pid in _calls(overlay)} == {os.getpid()}
    overlay.unlink()
    monkeypatch.setattr(step, "PREPROCESSED_DATA", tmp_path / "other")
    together = _numbers(cores=2)
    assert os.getpid() not in {pid for _, _, pid in _calls(overlay)}
    _assert_whole(together)
    assert [fact["sha256"] for fact in together.files.values()] == [fact["sha256"] for fact in alone.files.values()]
    np.save(tmp_path / "saved.npy", np.arange(600))
    assert together.file("number.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_step_goes_on_where_it_stopped(
    overlay: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    monkeypatch.setenv("SLEEP_S", "0.3")
    process = _started(shelf)
    _eventually(lambda: any(path.stat().st_size for path in shelf.rglob(step.DONE)))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(ending)
    process.wait(timeout=30)
    assert process.returncode != 0
    _eventually(lambda: not any(worker.is_running() for worker in workers))
    (record,) = shelf.rglob(step.DONE)
    done = {tuple(map(int, line.split()[:2])) for line in record.read_text().splitlines()}
    assert done
    overlay.unlink()
    monkeypatch.setenv("SLEEP_S", "0")
    made = _numbers(cores=1)
    again = {call[:2] for call in _calls(overlay)}
    assert not again & done
    assert len(again) + len(done) == 6
    _assert_whole(made)


def test_chunks_that_were_lost_or_changed_since_are_made_again(overlay: Path, shelf: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BAD", "599")
    with pytest.raises(Mistakes):
        _numbers(cores=1)
    (partial,) = shelf.rglob(".*.partial")
    images = np.load(partial / "image.npy", mmap_mode="r+")
    images[0, 0, 0, 0] += 1
    images.flush()
    with (partial / step.DONE).open("a") as file:
        file.write("111 222 zz\n5 ")  # as a crash may leave it
    overlay.unlink()
    monkeypatch.setenv("BAD", "")
    _assert_whole(_numbers(cores=1))
    assert [call[0] for call in _calls(overlay)] == [0, 555]


@pytest.mark.parametrize("cores", [1, 2])
def test_all_bad_samples_are_told_in_one_pass_and_the_good_ones_are_kept(
    overlay: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setenv("BAD", "3 70 71 250 599")
    with pytest.raises(Mistakes) as caught:
        _numbers(cores)
    assert [mistake.where for mistake in caught.value.mistakes] == ["3", "70", "71", "250", "599"]
    overlay.unlink()
    monkeypatch.setenv("BAD", "")
    _assert_whole(_numbers(cores))
    assert sorted(call[:2] for call in _calls(overlay)) == [(0, 111), (222, 333), (555, 600)]


def test_a_thousand_bad_samples_are_counted(overlay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAD", " ".join(map(str, range(600))))
    with pytest.raises(Mistakes, match="digits: and 580 more bad samples") as caught:
        _numbers(cores=1)
    assert len(caught.value.mistakes) == 21


def test_a_process_that_is_killed_is_told_and_nothing_hangs(
    overlay: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILLED", "1")
    with pytest.raises(EngineError, match="a process that prepared samples was killed.*\n.*goes on where it stopped"):
        _numbers(cores=2)
    assert not list(shelf.rglob("manifest.json"))


def test_force_begins_anew_and_what_another_key_left_is_removed(
    overlay: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD", "0")
    with pytest.raises(Mistakes):
        _numbers(cores=1)
    monkeypatch.setenv("BAD", "")
    benchmark = registry.get("benchmarks", "numbers").load().BENCHMARK
    overlay.unlink()
    other = step.preprocess(benchmark, Part.EVALUATION, {Path("other"): "1"}, cores=1)
    assert len(_calls(overlay)) == 6
    assert [path for path in other.folder.parent.iterdir() if path.name != ".lock"] == [other.folder]
    monkeypatch.setenv("BAD", "0")
    with pytest.raises(Mistakes):
        _numbers(cores=1)
    overlay.unlink()
    monkeypatch.setenv("BAD", "")
    step.preprocess(benchmark, Part.EVALUATION, {}, cores=1, force=True)
    assert len(_calls(overlay)) == 6


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(
    overlay: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBERS", "10000000000")
    with pytest.raises(RequestError, match=r"the samples need 1,?505.* TB, but .* are free here\n  make room"):
        _numbers(cores=1)
    assert not overlay.exists() and not list(shelf.rglob("*.npy"))


def test_a_missing_package_is_told_with_the_command_that_brings_it() -> None:
    class Needy(Digits):
        modules = ("no_such_module",)
        extra = "imagenet"

    with pytest.raises(RequestError) as caught:
        step.preprocess(Needy(), Part.EVALUATION, DATA)
    assert str(caught.value) == (
        "preparing the samples of digits needs no_such_module, not installed here\n"
        '  make install RUN_ARGS="--extra=imagenet"'
    )


def test_two_thousand_samples_take_the_memory_of_a_few(
    overlay: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBERS", "2000")
    process = _started(shelf)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    said = json.loads(out)
    assert (Path(said["folder"]) / "image.npy").stat().st_size > 300e6
    assert max(said["bytes"]) < 150e6  # Python with NumPy is half of it


# Photographs, from the files to the array

PHOTOS = """
from pathlib import Path
from engineroom.benchmarks.resnet50 import ResNet50

class Photos(ResNet50):
    name = dataset = "photos"
    datasets = ()

BENCHMARK = Photos()
"""
PHOTOS_MANIFEST = """
name: photos
description: Photographs.
homepage: https://example.org
licence: {name: free, url: https://example.org, attribution: nobody}
labels: 1000
folder: images
parts:
  evaluation: {map: val_map.txt, samples: %d}
"""


class Photos:
    """A data set of photographs in an overlay, whose files lie in `images`."""

    def __init__(self, folder: Path) -> None:
        self.maps, self.images = folder / "overlay" / "data_maps" / "photos", folder / "data" / "photos" / "images"
        for each in (self.maps, self.images, folder / "overlay" / "benchmarks"):
            each.mkdir(parents=True)
        (folder / "overlay" / "benchmarks" / "photos.py").write_text(PHOTOS, encoding="utf-8")

    def write(self, contents: dict[str, bytes]) -> None:
        """Write the photographs, their map and the list of their checksums."""
        from engineroom.datasets import format_checksums

        for name, content in contents.items():
            (self.images / name).write_bytes(content)
        (self.maps / "dataset.yaml").write_text(PHOTOS_MANIFEST % len(contents))
        (self.maps / "val_map.txt").write_text("".join(f"{name}\t1\n" for name in sorted(contents)))
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        (self.images.parent / "images.sha256").write_text(format_checksums("images", sums))

    def prepare(self) -> Artifact:
        """Prepare them."""
        benchmark = registry.get("benchmarks", "photos").load().BENCHMARK
        return step.preprocess(benchmark, Part.EVALUATION, {}, cores=1)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Photos]:
    """Make the data set known, and each of its samples a chunk."""
    pytest.importorskip("cv2")
    from engineroom import datasets
    from engineroom.benchmarks import _classification

    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path / "overlay"))
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    monkeypatch.setattr(step, "CHUNK_BYTES", 1)
    monkeypatch.delitem(sys.modules, "engineroom_overlay.benchmarks.photos", raising=False)
    _classification._dataset.cache_clear()
    yield Photos(tmp_path)
    _classification._dataset.cache_clear()


def _jpeg(height: int = 60, width: int = 80, mode: str = "RGB", **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


def test_every_bad_photograph_is_named_and_the_good_ones_are_not_made_twice(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from engineroom.images import preprocess as images

    turned = Image.Exif()
    turned[0x0112] = 6
    good = {
        "cmyk.JPEG": _jpeg(mode="CMYK"),
        "grey.JPEG": _jpeg(mode="L"),
        "progressive.JPEG": _jpeg(progressive=True),
        "turned.JPEG": _jpeg(exif=turned),
    }
    bad = {
        "empty.JPEG": b"",
        "half.JPEG": _jpeg(300, 300)[:900],
        "pixel.JPEG": _jpeg(1, 1),
        "png.JPEG": _jpeg(format="PNG"),
        "png16.JPEG": _jpeg(mode="I;16", format="PNG"),
        "wide.JPEG": _jpeg(20, 30_000),
        "folder.JPEG": b"to become one",
        "pipe.JPEG": b"to become one",
    }
    photos.write({**good, **bad})
    for name in ("folder.JPEG", "pipe.JPEG"):
        (photos.images / name).unlink()
    (photos.images / "folder.JPEG").mkdir()
    os.mkfifo(photos.images / "pipe.JPEG")  # nobody writes into it
    with pytest.raises(Mistakes) as caught:
        photos.prepare()
    assert {Path(str(mistake.where)).name for mistake in caught.value.mistakes} == bad.keys()
    mends = [str(mistake.mend) for mistake in caught.value.mistakes if mistake.mend]
    assert [mend.count(f"rm {photos.images}.sha256 && make download_data RUN_ARGS=") for mend in mends] == [2]
    (photos.images / "folder.JPEG").rmdir()
    (photos.images / "pipe.JPEG").unlink()
    photos.write({**good, **dict.fromkeys(bad, _jpeg())})
    read: list[str] = []
    whole = images._bytes
    monkeypatch.setattr(images, "_bytes", lambda path: (read.append(path.name), whole(path))[1])
    made = photos.prepare()
    assert sorted(read) == sorted(bad)
    (name,) = (name for name in made.files if name.endswith(".npy"))
    assert np.load(made.file(name)).shape == (len(good) + len(bad), 3, 224, 224)


def test_missing_photographs_are_named_before_any_is_prepared(photos: Photos, shelf: Path) -> None:
    photos.write({f"{name}.JPEG": _jpeg() for name in "abc"})
    for name in "ac":
        (photos.images / f"{name}.JPEG").unlink()
    with pytest.raises(Mistakes) as caught:
        photos.prepare()
    found = [str(mistake.where).rpartition("/")[2] for mistake in caught.value.mistakes]
    assert found == ["val_map.txt:1", "val_map.txt:3"]
    assert not list(shelf.rglob("*.npy"))
