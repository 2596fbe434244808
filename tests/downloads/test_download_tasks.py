"""download_model and download_data, as they are typed: for a benchmark of an overlay whose files a server has."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

MODEL = b"no model, but a file" * 1000
VAL_TXT = "".join(f"ILSVRC2012_val_{number:08d}.JPEG {number % 1000}\n" for number in range(1, 50_001)).encode()
IMAGES = {f"ILSVRC2012_val_{number:08d}.JPEG": b"image %d" % number for number in range(1, 4)}

BENCHMARK = '''"""A benchmark that has to be fetched."""
from engineroom.benchmarks.digits import Digits
from engineroom.datasets import Dataset
from engineroom.sources import Licence, ModelFile

SOURCE = ModelFile(
    name="toys/toys.onnx", sha256="unpublished", md5="{md5}", bytes={bytes}, sources=("{url}/toys.onnx",),
    licence=Licence("free", "https://example.org/free", "nobody"),
)


class Toys(Digits):
    name, dataset, model_source = "toys", "toys", SOURCE

    def model_file(self):
        return SOURCE.path, SOURCE.result_sha256

    def data_files(self):
        return Dataset(self.dataset).raw_files()


BENCHMARK = Toys()
'''
MANIFEST = """\
name: toys
description: Three toys.
homepage: https://example.org/toys
licence: {{name: strict, url: https://example.org/strict, attribution: nobody, accept: true}}
labels: 1000
folder: images
files:
  toys.tar:
    sha256: {toys}
    unpack: {{members: ILSVRC2012_val_*.JPEG, files: 3, bytes: 100, into: images}}
  labels.tar:
    sha256: {labels}
    sources: ["{url}/labels.tar"]
    unpack: {{members: val.txt, bytes: 4000000}}
parts:
  evaluation: {{map: val_map.txt, samples: 3, made_from: val.txt}}
"""


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


TOYS, LABELS = archive_of(IMAGES), archive_of({"val.txt": VAL_TXT})


@pytest.fixture
def toys(server: Any, checkout: Path, command: Any, tmp_path: Path) -> Any:
    """Return the function that runs a task on the benchmark `toys`; it returns what was said."""
    overlay = tmp_path / "overlay"
    (overlay / "benchmarks").mkdir(parents=True)
    (overlay / "data_maps" / "toys").mkdir(parents=True)
    facts = {"md5": hashlib.md5(MODEL, usedforsecurity=False).hexdigest(), "bytes": len(MODEL), "url": server.address}
    (overlay / "benchmarks" / "toys.py").write_text(BENCHMARK.format(**facts))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in (("toys", TOYS), ("labels", LABELS))}
    (overlay / "data_maps" / "toys" / "dataset.yaml").write_text(MANIFEST.format(url=server.address, **sums))
    server.add("/toys.onnx", MODEL)
    server.add("/labels.tar", LABELS)
    environ = {
        "PYTHONPATH": str(checkout / "code"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ENGINEROOM_PATH": str(overlay),
    }

    def run(task: str, flags: str = "", code: int = 0) -> Any:
        run_args = f"--benchmarks=toys {flags}"
        done = command([sys.executable, "-m", "invoke", task], checkout, RUN_ARGS=run_args, **environ)
        assert done.returncode == code, done.stderr
        return done

    return run


def test_a_model_is_fetched_once_and_a_run_asks_for_it(toys: Any, server: Any, checkout: Path) -> None:
    assert "the model of toys is missing" in toys("generate_engines", code=2).stderr
    said = toys("generate_engines", code=2).stderr
    assert 'fetch it with: make download_model RUN_ARGS="--benchmarks=toys"' in said
    for _ in range(2):
        sha256 = hashlib.sha256(MODEL).hexdigest()
        assert toys("download_model").stdout == f"toys: build/models/toys/toys.onnx is right ({sha256[:12]})\n"
    assert len(server.asked) == 1
    (checkout / "build" / "models" / "toys" / "recorded.json").unlink()
    assert "has not been verified yet" in toys("generate_engines", code=2).stderr
    toys("download_model")
    assert len(server.asked) == 1


@pytest.mark.heavy
def test_data_come_in_two_steps_one_registered_and_one_fetched(
    toys: Any, server: Any, checkout: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "toys.tar").write_bytes(TOYS)
    assert "--benchmarks=toys --accept_licence=toys" in toys("download_data", code=2).stderr
    said = toys("download_data", f"--accept_licence=toys --from={own}", code=2).stderr
    assert "build/data/toys/labels.tar is still missing" in said
    toys("download_data", "--accept_licence=toys")
    place = checkout / "build" / "data" / "toys"
    assert (place / "val_map.txt").read_text() == "".join(f"{name}\t{i}\n" for i, name in enumerate(IMAGES, start=1))
    assert {path.name: path.read_bytes() for path in (place / "images").iterdir()} == IMAGES
    assert toys("download_data").stdout.count("is right") == 3
    assert server.asked == [("/labels.tar", None, 200)]
    (place / "val_map.txt").write_text("damaged")
    toys("download_data")
    assert (place / "val_map.txt").read_text().startswith("ILSVRC2012_val_00000001.JPEG\t1\n")


def test_a_plan_tells_what_would_be_fetched_and_fetches_nothing(toys: Any, server: Any, checkout: Path) -> None:
    [model] = json.loads(toys("download_model", "--plan --json").stdout)["steps"]
    assert (model["what"], model["state"], model["cost"]["disk_bytes"]["most"]) == (
        "toys, toys.onnx",
        "fetch",
        len(MODEL),
    )
    refused = toys("download_data", "--plan --json", code=2)
    data = json.loads(refused.stdout)["steps"]
    assert [(step["what"], step["state"]) for step in data] == [
        ("toys, toys.tar", "by hand"),
        ("toys, labels.tar", "fetch"),
    ]
    assert all("under strict" in step["why"] for step in data)
    assert refused.stderr == toys("download_data", code=2).stderr
    own = checkout.parent / "toys.tar"
    own.write_bytes(TOYS)
    given = json.loads(toys("download_data", f"--plan --json --accept_licence=toys --from={own}").stdout)["steps"]
    assert {step["state"] for step in given} == {"register"}
    assert server.asked == []
    assert not (checkout / "build" / "models").exists()
    toys("download_model")
    [model] = json.loads(toys("download_model", "--plan --json").stdout)["steps"]
    assert model["state"] == "reuse"


@pytest.mark.heavy
def test_flags_of_downloads_are_theirs_alone_and_checked(toys: Any) -> None:
    assert "unknown flag --from" in toys("generate_engines", "--from=/x", code=2).stderr
    said = toys("download_data", "--accept_licence=toy", code=2).stderr
    assert "did you mean toys?" in said
    assert "is not there" in toys("download_model", "--from=/no/such", code=2).stderr
    assert "--accept_licence" in toys("download_data", "--help").stdout
