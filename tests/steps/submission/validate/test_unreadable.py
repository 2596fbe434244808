"""What must not be read is told, and the rest of the tree is judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engineroom.bench import trees
from engineroom.steps.submission.validate import whole


@pytest.mark.parametrize("part", ["closed/Acme/src", "closed/Acme/results/box", "closed/Acme/documentation"])
def test_a_folder_that_may_not_be_entered_is_told(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: data for name, data in trees.small("v6.1").items() if "/results/" not in name or "/Offline/" in name}
    trees.write(tmp_path, files)
    closed = f"{tmp_path}/{part}"
    assert Path(closed).is_dir()

    def refusing(really: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if f"{path!s}/".startswith(f"{closed}/"):
                raise PermissionError(13, "Permission denied", str(path))
            return really(path, *args, **kwargs)

        return call

    # As the kernel does of a folder without rights, which root, who may run this, would enter all the same.
    for name in ("stat", "lstat", "scandir", "open"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    found = {each.file for each in whole.validate(tmp_path, workers=1).findings}
    assert any(each.startswith(part) for each in found)
