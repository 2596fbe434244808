"""Logs are cut as MLCommons' tool does and can be put back; archives have the same bytes; an export loses nothing."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engineroom.actions import submission as action
from engineroom.errors import EngineroomError
from engineroom.terms import Scenario

if TYPE_CHECKING:
    from conftest import Runs

pytestmark = pytest.mark.usefixtures("small_sources")
WHO = ["--submitter=Acme", "--division=open", "--category=edge"]
PLACE = "results/bench/resnet50/SingleStream/accuracy"


@pytest.fixture
def staged(made: Runs, tmp_path: Path) -> Path:
    """Return the folder of a submitter whose results are staged, and not cut yet."""
    made.pair(Scenario.SINGLE_STREAM)
    action.stage_results([*WHO, "--benchmarks=resnet50"])
    return tmp_path / "submission/v6.1/open/Acme"


def _all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_log_is_cut_as_mlcommons_tool_does_and_put_back(staged: Path, tmp_path: Path) -> None:
    before = _all(staged)
    whole = before[f"{PLACE}/mlperf_log_accuracy.json"]
    assert len(whole) > 10240
    assert action.truncate_results(WHO) == 0
    cut = _all(staged)
    assert cut[f"{PLACE}/mlperf_log_accuracy.json"] == whole[:4096] + b"\n\n...\n\n" + whole[-4096:]
    sha256 = hashlib.sha256(whole).hexdigest()
    assert cut[f"{PLACE}/accuracy.txt"].decode().splitlines()[-1] == f"hash={sha256}"
    kept = tmp_path / "submission/originals/v6.1/open/Acme" / PLACE / "mlperf_log_accuracy.json"
    assert kept.read_bytes() == whole
    assert action.truncate_results(WHO) == 0
    assert _all(staged) == cut  # twice is once
    assert action.truncate_results([*WHO, "--restore"]) == 0
    assert _all(staged) == before


def test_a_kept_log_that_was_changed_is_not_put_back(staged: Path, tmp_path: Path) -> None:
    action.truncate_results(WHO)
    kept = tmp_path / "submission/originals/v6.1/open/Acme" / PLACE / "mlperf_log_accuracy.json"
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(EngineroomError, match="no whole log with the hash in accuracy.txt is kept"):
        action.truncate_results([*WHO, "--restore"])


def test_cutting_goes_on_where_it_was_broken_off(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engineroom.steps.submission import truncate

    write: Callable[[Path, bytes], None] = truncate._write

    def broken(path: Path, content: bytes) -> None:
        if path.name.endswith(".json"):
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(truncate, "_write", broken)
        action.truncate_results(WHO)
    assert action.truncate_results(WHO) == 0
    assert (staged / PLACE / "accuracy.txt").read_text().count("hash=") == 1
    assert (staged / PLACE / "mlperf_log_accuracy.json").stat().st_size == 2 * 4096 + 7


def test_what_is_not_cut_or_lost_a_file_is_not_packed(staged: Path) -> None:
    with pytest.raises(EngineroomError, match="mlperf_log_accuracy.json: is not cut short\n  make truncate_results"):
        action.pack_submission(WHO)
    action.truncate_results(WHO)
    (staged / "results/bench/resnet50/Offline/user.conf").write_text("")
    (staged / "results/bench/resnet50/MultiStream/performance/run_1/mlperf_log_detail.txt").unlink()
    with pytest.raises(EngineroomError) as caught:
        action.pack_submission(WHO)
    said = str(caught.value)
    assert "Offline/user.conf: is empty" in said and "run_1/mlperf_log_detail.txt: is missing" in said


def test_the_same_tree_gives_the_same_archive(staged: Path, tmp_path: Path) -> None:
    action.truncate_results(WHO)
    archive = tmp_path / "submission/v6.1-open-Acme.tar.gz"
    action.pack_submission(WHO)
    first = archive.read_bytes()
    for path in staged.rglob("*"):
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o060)
        path.touch()
    action.pack_submission(WHO)
    assert archive.read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        packed = {member.name: member for member in tar.getmembers()}
    assert {name.removeprefix("open/Acme/") for name in packed} == set(_all(staged))
    assert {(member.mtime, member.uid, member.uname) for member in packed.values()} == {(0, 0, "")}
    told = archive.with_name(f"{archive.name}.sha256").read_text().split()
    assert told == [hashlib.sha256(first).hexdigest(), archive.name]


def test_an_export_replaces_only_what_it_wrote_itself(staged: Path, tmp_path: Path) -> None:
    action.truncate_results(WHO)
    target = tmp_path / "repository"
    ours = target / "open/Acme"
    (ours / "src").mkdir(parents=True)
    (ours / "src" / "own.txt").write_text("mine\n")
    to = f"--to={target}"
    assert action.export_submission([*WHO, to]) == 0
    assert {**_all(staged), "src/own.txt": b"mine\n"} == _all(ours)
    system = staged / "systems/bench.json"
    system.write_text(system.read_text().replace("Test CPU", "Test  CPU"))
    assert action.export_submission([*WHO, to]) == 0  # it is ours from the last time
    assert (ours / "systems/bench.json").read_bytes() == system.read_bytes()
    (ours / "systems/bench.json").write_text("somebody's\n")
    with pytest.raises(EngineroomError, match="systems/bench.json: is there and not from an export"):
        action.export_submission([*WHO, to])
    assert (ours / "systems/bench.json").read_text() == "somebody's\n"


def test_nothing_staged_is_told(made: Runs) -> None:
    with pytest.raises(EngineroomError, match="v6.1/open/Acme: nothing is staged there\n  make stage_results"):
        action.truncate_results(WHO)


CHECKER = """import sys
print("INFO:main:---", sys.argv[1:])
print("ERROR:main:results/x has no TEST01")
print("ERROR:main:SUMMARY: submission has errors")
sys.exit(1)
"""


@pytest.mark.parametrize(("code", "words"), [(0, "accepts it"), (1, "refuses it")])
def test_the_official_checker_is_an_outside_judge(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, words: str
) -> None:
    """A script stands for MLCommons' checker, which is not shipped."""
    action.truncate_results(WHO)
    checker = tmp_path / "inference/tools/submission/submission_checker"
    checker.mkdir(parents=True)
    (checker / "main.py").write_text(CHECKER.replace("sys.exit(1)", f"sys.exit({code})"))
    assert action.pack_submission([*WHO, f"--official={tmp_path / 'inference'}"]) == code
    out = capsys.readouterr().out
    assert f"MLCommons' checker {words}" in out and "SUMMARY: submission has errors" in out and "no TEST01" in out
    with pytest.raises(EngineroomError, match="has no tools/submission/submission_checker/main.py"):
        action.pack_submission([*WHO, f"--official={tmp_path}"])
