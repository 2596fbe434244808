"""Files and folders: missing, extra, misnamed, misplaced; links, and what is no file."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from faults import Faults, Sound, the_log

FAULTS = Faults()
add, disk = FAULTS.add, FAULTS.disk


for name in (
    "performance/run_1/mlperf_log_detail.txt",
    "performance/run_1/mlperf_log_summary.txt",
    "accuracy/accuracy.txt",
    "accuracy/mlperf_log_accuracy.json",
    "accuracy/mlperf_log_detail.txt",
    "accuracy/mlperf_log_summary.txt",
):  # noqa: E501
    add(f"gone: {name}", lambda sound, n=name: sound.remove(f"{sound.results}/{n}"), "tree-missing-file")
for name in ("user.conf", "README.md"):
    add(f"gone: {name}", lambda sound, n=name: sound.remove(f"{sound.beside}/{n}"), "tree-missing-file")
add("gone: a scenario", lambda sound: sound.remove(sound.results), "scenario-missing")
add("gone: the performance run", lambda sound: sound.remove(f"{sound.results}/performance"), "tree-missing-file")
add("gone: the accuracy run", lambda sound: sound.remove(sound.accuracy), "tree-missing-file")
add("gone: sources", lambda sound: sound.remove(sound.tree.code.as_posix()), "tree-code")
add(
    "calibration: empty",
    lambda sound: sound.files.update({sound.tree.calibration.as_posix(): b""}),
    "tree-empty-file",
)


def power(sound: Sound, minute: str = "05:00.123") -> None:
    """Measure power: a sample at this minute of the hour in which the test began."""
    run = f"{sound.results}/performance"
    begin = re.search(rb'"power_begin", "value": "([^"]*:)\d\d:\d\d\.', sound.files[sound.log])
    assert begin
    time = f"{begin[1].decode()}{minute}"
    names = ("client.json", "client.log", "ptd_logs.txt", "server.json", "server.log")
    sound.files.update({f"{run}/power/{name}": b"x" for name in names})
    for name in ("mlperf_log_detail.txt", "mlperf_log_summary.txt"):
        sound.files[f"{run}/ranging/{name}"] = sound.files[f"{run}/run_1/{name}"]
    for folder in ("run_1", "ranging"):
        sound.files[f"{run}/{folder}/spl.txt"] = f"Time,{time},Watts,14.91,Volts,245.27\n".encode()


def without_ranging(sound: Sound) -> None:
    power(sound)
    sound.remove(f"{sound.results}/performance/ranging")


add("power: no ranging", without_ranging, "power-files")
add("power: of another time", lambda sound: power(sound, "59:00.123"), "power-samples")
add("gone: calibration", lambda sound: sound.remove(sound.tree.calibration.as_posix()), "tree-calibration")
add(
    "scenario misnamed",
    lambda sound: sound.move(sound.results, sound.results.replace("SingleStream", "SinglStream")),
    "scenario-unknown",
)
add(
    "scenario in lower case",
    lambda sound: sound.move(sound.results, sound.results.replace("SingleStream", "singlestream")),
    "scenario-spelled",
    doubtful=True,
)
add(
    "benchmark misnamed",
    lambda sound: sound.move(
        sound.results.rpartition("/")[0], sound.results.rpartition("/")[0].replace("resnet50", "resnet5")
    ),
    "benchmark-unknown",
)
add(
    "another benchmark's folder",
    lambda sound: sound.move(
        sound.results.rpartition("/")[0], sound.results.rpartition("/")[0].replace("resnet50", "bert-99")
    ),
)
add("division misnamed", lambda sound: sound.move("closed", "close"), "tree-unknown-folder")
add("another division", lambda sound: sound.move("closed", "open"), "system-field-folder")
add("network division", lambda sound: sound.move("closed", "network"), "network-division")
add("another submitter", lambda sound: sound.move("closed/Acme", "closed/Emca"), "system-field-folder")
add("results of another name", lambda sound: sound.move("closed/Acme/results", "closed/Acme/result"), "tree-no-result")
add(
    "scenarios swapped",
    lambda sound: sound.swap_folders(sound.results, sound.results.replace("SingleStream", "MultiStream")),
    "scenario-inferred",
)
add(
    "logs of two scenarios swapped",
    lambda sound: sound.swap(sound.log, sound.log.replace("SingleStream", "Offline")),
    "scenario-inferred",
)
add(
    "a run for two systems",
    lambda sound: sound.files.update(
        {name.replace("box", "twin"): data for name, data in sound.files.items() if "box" in name}
    ),
    "result-duplicate",
)
add(
    "scenario too many",
    lambda sound: sound.files.update(
        {
            name.replace("SingleStream", "Server"): data
            for name, data in sound.files.items()
            if name.startswith(sound.results)
        }
    ),
    "scenario-unknown",
)
for where, expected in (
    ("performance/run_1/notes.txt", ("tree-unexpected-file",)),
    ("performance/run_2/mlperf_log_detail.txt", ("tree-misplaced",)),
    ("accuracy/old.bin", ("tree-unexpected-file",)),
    ("mlperf_log_detail.txt", ("tree-misplaced",)),
    ("performance/mlperf_log_summary.txt", ("tree-misplaced",)),
    ("accuracy/user.conf", ("tree-misplaced",)),
    ("a b.txt", ("tree-name",)),
    (".hidden", ("tree-name",)),
    ("accuracy/two\nlines.txt", ("tree-name",)),
    ("accuracy/\udcff.txt", ("tree-name",)),
    ("accuracy/Résumé.txt", ("tree-unexpected-file",)),
):
    add(f"extra: {where!a}", lambda sound, w=where: sound.files.update({f"{sound.results}/{w}": b"x"}), *expected)
add(
    "extra: a log beside the results",
    lambda sound: sound.files.update({"closed/Acme/mlperf_log_detail.txt": b"x"}),
    "tree-misplaced",
)
add(
    "extra: a log beside the divisions",
    lambda sound: sound.files.update({"mlperf_log_detail.txt": b"x"}),
    "tree-misplaced",
)
add(
    "extra: a file beside the submitters",
    lambda sound: sound.files.update({"closed/notes.txt": b"x"}),
    "tree-unknown-entry",
    doubtful=True,
)
add(
    "extra: a folder beside the results",
    lambda sound: sound.files.update({"closed/Acme/stuff/x": b"x"}),
    "tree-unknown-entry",
    doubtful=True,
)
add(
    "extra: a document beside a result",
    lambda sound: sound.files.update({f"{sound.results}/notes.md": b"x"}),
    "tree-extra-document",
    doubtful=True,
)
add(
    "extra: an audit",
    lambda sound: sound.files.update({f"{sound.audit('TEST05')}/verify_performance.txt": b"TEST PASS"}),
    "audit-unknown",
    doubtful=True,
)
add(
    "extra: a file in an audit",
    lambda sound: sound.files.update({f"{sound.audit('TEST04')}/x.bin": b"x"}),
    "tree-unexpected-file",
)
add(
    "large file",
    lambda sound: sound.files.update(
        {"closed/Acme/src/large" if sound.round == "v6.1" else "closed/Acme/code/large": b"\0" * (51 << 20)}
    ),
    "tree-large-file",
)
add(
    "the other layout",
    lambda sound: sound.files.update(
        {"closed/Acme/measurements/x/y/z/user.conf": b"x"} if sound.round == "v6.1" else {"closed/Acme/src/x": b"x"}
    ),
    "tree-other-layout",
)
add(
    "orphaned measurements",
    lambda sound: sound.files.update({f"{sound.beside.replace('box', 'gone')}/user.conf": b"x"}),
    "result-orphan",
    "system-missing",
    "tree-missing-file",
)
add("rehearsal", lambda sound: sound.json(sound.measured, rehearsal="this is none"), "tree-rehearsal")
add(
    "mapping in the closed division",
    lambda sound: sound.files.update({"closed/Acme/model_mapping.json": b"{}"}),
    "tree-misplaced",
)


def link(target: str) -> Callable[[Path, Sound], None]:
    def act(root: Path, sound: Sound) -> None:
        (root / sound.log).unlink()
        (root / sound.log).symlink_to(target)

    return act


disk("link out of the tree", link("/etc/passwd"), "tree-link")
disk("link to nothing", link("nowhere"), "tree-link")
disk("link to itself", link("mlperf_log_detail.txt"), "tree-link")
disk("link to a folder above", lambda root, sound: (root / sound.results / "loop").symlink_to(".."), "tree-link")


def instead(of: Callable[[Sound], str], make: Callable[[Path], object]) -> Callable[[Path, Sound], None]:
    """Put something else in the place of a file or a folder."""

    def act(root: Path, sound: Sound) -> None:
        path = root / of(sound)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return act


def the_results(sound: Sound) -> str:
    return sound.results


disk("link instead of a result", instead(the_results, lambda path: path.symlink_to("Offline")), "tree-link")
disk("file instead of a result", instead(the_results, lambda path: path.write_text("x")), "scenario-missing")
disk("link in the sources", lambda root, sound: (root / sound.tree.code / "x").symlink_to("README.md"), "tree-link")
disk("pipe", instead(the_log, os.mkfifo), "tree-special")
disk("folder instead of a file", instead(the_log, Path.mkdir), "tree-missing-file")
disk(
    "file instead of a folder",
    instead(lambda sound: f"{sound.results}/performance", lambda path: path.write_text("x")),
    "tree-missing-file",
)
disk("empty folder", lambda root, sound: (root / sound.results / "empty").mkdir(), "tree-unexpected-file")
disk("deep folders", lambda root, sound: (root / sound.results / "/".join("d" * 60)).mkdir(parents=True), "tree-deep")
disk("system is a folder", instead(lambda sound: sound.system, Path.mkdir), "system-missing")


def linked_division(root: Path, sound: Sound) -> None:
    (root / "closed").rename(root / "elsewhere")
    (root / "closed").symlink_to("elsewhere")


disk("link instead of a division", linked_division, "tree-link")
disk("link beside the divisions", lambda root, sound: (root / "open").symlink_to("closed"), "tree-link")
disk("pipe beside the divisions", lambda root, sound: os.mkfifo(root / "pipe"), "tree-special")
disk("pipe beside the submitters", lambda root, sound: os.mkfifo(root / "closed/pipe"), "tree-special")


def large(path: Path) -> None:
    """Write a file, without using as much of the disk, that is larger than a repository takes."""
    path.write_bytes(b"")
    os.truncate(path, 51 << 20)


disk("large file beside the divisions", lambda root, sound: large(root / "x.md"), "tree-large-file")
disk("large file of a submitter", lambda root, sound: large(root / "closed/Acme/x.md"), "tree-large-file")
disk(
    "large file beside the systems",
    lambda root, sound: large((root / sound.system).with_name("box_power.yaml")),
    "tree-large-file",
)
