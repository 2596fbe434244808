"""What must not be read, or is not looked at, is told, and the rest of the tree is judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engineroom.bench import trees
from engineroom.steps.submission.validate import whole

RESULT = "closed/Acme/results/box/resnet50/Offline"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {name: data for name, data in trees.small("v6.1").items() if "/results/" not in name or RESULT in name}
    trees.write(tmp_path, files)
    return tmp_path


def close(closed: str, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...]) -> None:
    """Let calls of the kernel fail as they do without rights, which root, who may run this, has all the same."""

    def refusing(really: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if f"{path!s}/".startswith(f"{closed}/"):
                raise PermissionError(13, "Permission denied", str(path))
            return really(path, *args, **kwargs)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


@pytest.mark.parametrize("part", ["closed/Acme/src", "closed/Acme/results/box", "closed/Acme/documentation"])
def test_a_folder_that_may_not_be_entered_is_told(part: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (tree / part).is_dir()
    close(f"{tree}/{part}", monkeypatch, ("stat", "lstat", "scandir", "open"))
    found = {each.file for each in whole.validate(tree, workers=1).findings}
    assert any(each.startswith(part) for each in found)


@pytest.mark.parametrize(
    "name",
    [
        "closed/Acme/systems/box.json",
        *(f"{RESULT}/{name}" for name in ("user.conf", "README.md", "measurements.json", "accuracy/accuracy.txt")),
        *(f"{RESULT}/performance/run_1/mlperf_log_{name}" for name in ("detail.txt", "summary.txt", "accuracy.json")),
        *(f"{RESULT}/accuracy/mlperf_log_{name}" for name in ("detail.txt", "summary.txt", "accuracy.json")),
        *(f"{RESULT}/TEST01/{name}" for name in ("verify_accuracy.txt", "verify_performance.txt")),
        *(f"{RESULT}/TEST01/{name}" for name in ("accuracy/mlperf_log_accuracy.json", "accuracy/accuracy.txt")),
    ],
)
def test_a_file_that_may_not_be_read_is_told(name: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (tree / name).is_file()
    close(f"{tree}/{name}", monkeypatch, ("open",))
    findings = whole.validate(tree, "v6.1", workers=1).findings
    assert "tree-unreadable" in {each.rule for each in findings if each.file == name}


def test_the_round_is_not_detected_through_a_link(tree: Path) -> None:
    log = tree / RESULT / "performance"
    log.rename(tree / "elsewhere")
    log.symlink_to(tree / "elsewhere")
    assert {"round-unclear", "tree-link"} <= {each.rule for each in whole.validate(tree, workers=1).findings}
