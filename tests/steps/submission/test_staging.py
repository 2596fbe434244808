"""The tree that is staged: either layout, what is in it already, and that nothing is ever half done."""

from __future__ import annotations

import errno
import json
import os
import pydoc
import shutil
from itertools import count as count_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desk import CLOSED, EDGE, OFFLINE, SINGLE, WHO, all_scenarios, files, record, refused, staged, tree

from engineroom.actions import submission as action
from engineroom.errors import EngineroomError

if TYPE_CHECKING:
    from conftest import Runs


def test_the_new_layout_holds_everything_of_a_result_in_one_folder(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    staged()
    new = set(files(tree(tmp_path)))
    code = f"src/engineroom-0.1.0-{made.revision[:12]}/Makefile"
    common = {"systems/bench.json", "src/resnet50/README.md", code}
    measured = {f"results/bench/resnet50/{each}/{name}" for each in EDGE for name in ("measurements.json", "user.conf")}
    logs = {f"results/bench/resnet50/{each}/performance/run_1/mlperf_log_detail.txt" for each in EDGE}
    assert common | measured | logs | {"documentation/calibration.md"} <= new
    readme = (tree(tmp_path) / "results/bench/resnet50/Offline/README.md").read_text()
    assert "--batch_size=1" in readme and "--test_mode=AccuracyOnly" in readme and "throughput 100 samples/s" in readme


def test_the_old_layout_has_trees_of_their_own_for_measurements_and_code(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made, round="v5.1")
    staged(WHO, "--round=v5.1")
    old = set(files(tree(tmp_path, "v5.1")))
    assert "measurements/bench/resnet50/Offline/bench_openvino_Offline.json" in old
    assert {"measurements/bench/resnet50/Offline/user.conf", "code/resnet50/openvino/README.md"} <= old
    assert not [name for name in old if name.startswith("src/") or name.endswith("/measurements.json")]


def test_models_of_another_name_go_to_the_open_division_with_a_mapping(made: Runs, tmp_path: Path) -> None:
    """MLCommons' checkers look for it beside systems/, and stop at resnet50, which they call resnet."""
    made.answers = 50_000
    made.pair(SINGLE)
    made.pair(SINGLE, benchmark="mobilenet-v2", divisions=("open",))
    action.stage_results([*WHO, "--benchmarks=mobilenet-v2"])
    staged()
    mapping = json.loads((tree(tmp_path) / "model_mapping.json").read_text())
    assert mapping == {"mobilenet-v2": "resnet"}
    assert (tree(tmp_path) / "results/bench/mobilenet-v2/Offline/measurements.json").is_file()
    assert action.truncate_results(WHO) == action.pack_submission(WHO) == 0
    with pytest.raises(EngineroomError, match="mobilenet-v2 is another model than resnet50's.*\n.*--division=open"):
        action.stage_results([*CLOSED, "--benchmarks=mobilenet-v2"])
    with pytest.raises(EngineroomError, match="has no benchmark digits"):
        action.stage_results([*WHO, "--benchmarks=digits"])


def test_a_rehearsal_is_marked_everywhere_and_nothing_else_takes_it(made: Runs, tmp_path: Path) -> None:
    made.answers = 50_000
    made.pair(SINGLE, valid=False, divisions=())
    assert "LoadGen calls it INVALID" in refused()
    who = ("--submitter=Acme", "--division=open", "--rehearsal")
    staged(who)
    rehearsal = tree(tmp_path, "v6.1-rehearsal")
    place = rehearsal / "results/bench-rehearsal/resnet50/Offline"
    assert (place / "README.md").read_text().startswith("# REHEARSAL")
    assert "rehearsal" in json.loads((place / "measurements.json").read_text())
    assert "rehearsal" in json.loads((rehearsal / "systems/bench-rehearsal.json").read_text())["sw_notes"]
    assert action.truncate_results(who) == action.pack_submission(who) == 0
    assert (tmp_path / "submission/v6.1-rehearsal-open-Acme.tar.gz").is_file()
    shutil.copytree(tmp_path / "submission/v6.1-rehearsal", tmp_path / "submission/v6.1")  # passed off as a real one
    (tree(tmp_path) / "REHEARSAL.md").unlink()
    for task in (action.truncate_results, action.pack_submission):
        with pytest.raises(
            EngineroomError, match="holds a rehearsal, which is never submitted: system bench-rehearsal"
        ):
            task(WHO)


def test_staging_again_keeps_other_benchmarks_and_drops_nothing(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    staged()
    before = files(tree(tmp_path))
    shutil.copytree(tree(tmp_path) / "results/bench/resnet50", tree(tmp_path) / "results/bench/bert-99")
    path = tmp_path / "submission/v6.1-open-Acme.staged.json"
    other, gone = {"bench bert-99 Offline": {"performance": "x"}}, {"bench gone Offline": {"performance": "y"}}
    path.write_text(json.dumps({"runs": {**record(tmp_path), **other, **gone}, "placeholders": {"<user-1>": "z"}}))
    staged()
    assert record(tmp_path).keys() == {"bench bert-99 Offline", *(f"bench resnet50 {each}" for each in EDGE)}
    assert json.loads(path.read_text())["placeholders"] == {"<user-1>": "z"}
    after = files(tree(tmp_path))
    assert {name: text for name, text in after.items() if "bert-99" not in name} == before
    assert any("bert-99/Offline" in name for name in after)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("fails", "writer"),
    [
        (FULL, "stage._copy"),
        (KeyboardInterrupt(), "stage._copy"),
        (FULL, "stage.os.link"),
        (FULL, "tarfile.copyfileobj"),
    ],
)
def test_a_full_disk_or_an_interrupt_leaves_the_former_tree(
    made: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: BaseException, writer: str
) -> None:
    all_scenarios(made)
    staged()
    shutil.rmtree(next((tree(tmp_path) / "src").glob("engineroom-*")))  # so that it is written again
    before, told = files(tree(tmp_path)), record(tmp_path)
    made.pair(OFFLINE, log={"result_samples_per_second": 999.0})
    module, _, name = writer.rpartition(".")
    place = pydoc.locate(module if module == "tarfile" else f"engineroom.steps.submission.{module}")
    write, count = getattr(place, name), count_of()

    def failing(*words: Any, **more: Any) -> None:
        if next(count) == (0 if module == "tarfile" else 7):
            raise fails
        write(*words, **more)

    monkeypatch.setattr(place, name, failing)
    with pytest.raises((EngineroomError, KeyboardInterrupt)) as caught:
        action.stage_results([*WHO, "--benchmarks=resnet50"])
    assert isinstance(caught.value, KeyboardInterrupt) or "there is no space left" in str(caught.value)
    assert files(tree(tmp_path)) == before and record(tmp_path) == told
    left = [path.name for path in (tmp_path / "submission").iterdir()]
    assert not [name for name in left if name.endswith((".partial", ".former"))]


def test_a_record_goes_with_its_tree(made: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_scenarios(made)
    staged()
    before, told = files(tree(tmp_path)), record(tmp_path)
    made.pair(OFFLINE, log={"result_samples_per_second": 999.0})
    rename = Path.rename

    def broken(path: Path, target: Path) -> Path:
        if path.parent.name == "open" and path.parents[1].name.endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)  # the second of the two
    assert "Input/output error" in refused()
    assert files(tree(tmp_path)) == before and record(tmp_path) == told


def test_a_new_tree_lasts_before_it_takes_its_place(
    made: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the power go after the renames, no file may be there empty."""
    all_scenarios(made)
    synced: list[str] = []
    rename, built = Path.rename, tmp_path / "submission/v6.1-open-Acme.partial/open/Acme"

    def renamed(path: Path, target: Path) -> Path:
        if path == built:
            every = {str(each) for each in (built, *built.rglob("*"))}
            assert every and every <= {*synced}
            synced.clear()
        return rename(path, target)

    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "rename", renamed)
    staged()
    assert str(tree(tmp_path).parent) in synced, "the folder that has its name, too"
