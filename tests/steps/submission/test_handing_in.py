"""Logs are cut as MLCommons' tool does and can be put back; archives have the same bytes; an export loses nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from engineroom.actions import published, validator
from engineroom.actions import submission as action
from engineroom.errors import EngineroomError
from engineroom.paths import locked
from engineroom.steps.submission import pack, stage
from engineroom.terms import Scenario

if TYPE_CHECKING:
    from conftest import Runs

WHO = ["--submitter=Acme", "--division=open", "--category=edge"]
PLACE = "results/bench/resnet50/SingleStream/accuracy"
MEAN = '"result_mean_latency_ns", "value": '


@pytest.fixture
def staged(made: Runs, tmp_path: Path) -> Path:
    """Return the folder of a submitter whose results are staged, and not cut yet."""
    made.answers = 50_000
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


def test_a_full_disk_leaves_nothing_of_a_cut_that_was_not_finished(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    before = _all(staged)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EngineroomError, match="there is no space left"):
        action.truncate_results(WHO)
    assert _all(staged) == before


def test_what_is_not_cut_or_lost_a_file_is_not_packed(staged: Path) -> None:
    long = r"accuracy/mlperf_log_accuracy.json: found .* bytes, expected at most 10,240 \(accuracy-log-long\)"
    with pytest.raises(EngineroomError, match=rf"{long}\n  make truncate_results"):
        action.pack_submission(WHO)
    action.truncate_results(WHO)
    (staged / "results/bench/resnet50/Offline/user.conf").write_text("")
    (staged / "results/bench/resnet50/MultiStream/performance/run_1/mlperf_log_detail.txt").unlink()
    with pytest.raises(EngineroomError) as caught:
        action.pack_submission(WHO)
    said = str(caught.value)
    assert "Offline/user.conf: found 0 bytes" in said and "run_1/mlperf_log_detail.txt: found not there" in said


FAULTS = [
    ("performance/run_1/mlperf_log_summary.txt", "Result is : VALID", "Result is : INVALID", "summary-differs"),
    ("performance/run_1/mlperf_log_detail.txt", f"{MEAN}1", f"{MEAN}9", "figures"),
    ("accuracy/accuracy.txt", "good=38228", "good=38229", "accuracy-contradiction"),
    ("user.conf", "min_duration = 600000", "min_duration = 700000", "user-conf-not-used"),
]


@pytest.mark.parametrize("more", [[], ["--rehearsal"]], ids=["submission", "rehearsal"])
def test_what_contradicts_itself_is_packed_neither_as_a_submission_nor_as_a_rehearsal(
    made: Runs, tmp_path: Path, more: list[str]
) -> None:
    made.answers = 50_000
    made.pair(Scenario.SINGLE_STREAM)
    who = [*WHO, *more]
    action.stage_results([*who, "--benchmarks=resnet50"])
    action.truncate_results(who)
    (place,) = (tmp_path / "submission").glob("v6.1*/open/Acme/results/*/resnet50/SingleStream")
    for file, old, new, rule in FAULTS:
        before = (place / file).read_text()
        assert old in before
        (place / file).write_text(before.replace(old, new))
        with pytest.raises(EngineroomError, match=rf"SingleStream/{file}:.*\({rule}\)"):
            action.pack_submission(who)
        (place / file).write_text(before)
    assert action.pack_submission(who) == 0


def test_a_closed_submission_has_its_audits_and_is_believed(made: Runs, tmp_path: Path) -> None:
    made.answers = 50_000
    made.audited(Scenario.SINGLE_STREAM)
    who = ["--submitter=Acme", "--division=closed"]
    action.stage_results([*who, "--benchmarks=resnet50"])
    assert action.truncate_results(who) == action.pack_submission(who) == 0
    with tarfile.open(tmp_path / "submission/v6.1-closed-Acme.tar.gz") as tar:
        names = set(tar.getnames())
    assert "closed/Acme/results/bench/resnet50/Offline/TEST01/verify_accuracy.txt" in names


def test_what_a_rehearsal_falls_short_of_is_told_by_rule(
    made: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.answers = 50_000
    made.pair(Scenario.SINGLE_STREAM, valid=False, divisions=())
    who = [*WHO, "--rehearsal"]
    action.stage_results([*who, "--benchmarks=resnet50"])
    action.truncate_results(who)
    capsys.readouterr()
    assert action.pack_submission(who) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "not met, as a rehearsal may: validity, 3 times: LoadGen calls the run VALID" in told
    assert "not met, as a rehearsal may: tree-rehearsal, 5 times" in told  # its mark, its system, its measurements


def test_what_a_kill_left_half_way_is_mended_by_whoever_comes_next(staged: Path, tmp_path: Path) -> None:
    built, before = tmp_path / "submission", _all(staged)
    record = built / "v6.1-open-Acme.staged.json"
    shutil.copytree(staged, built / "v6.1-open-Acme.partial/open/Acme")
    (built / "v6.1-open-Acme.partial/open/Acme/new.md").write_text("new\n")
    (built / "v6.1-open-Acme.partial/.staged.json").write_text('{"runs": {"new": {}}}')
    staged.rename(built / "v6.1-open-Acme.former")  # killed between the two renames
    assert action.truncate_results([*WHO, "--restore"]) == 0
    assert _all(staged) == before and "new" not in record.read_text()

    (built / "v6.1-open-Acme.partial").mkdir()
    (built / "v6.1-open-Acme.partial/.staged.json").write_text('{"runs": {"new": {}}}')
    shutil.copytree(staged, built / "v6.1-open-Acme.former")  # killed after them
    assert action.truncate_results([*WHO, "--restore"]) == 0
    assert _all(staged) == before and "new" in record.read_text()
    assert not [path.name for path in built.iterdir() if path.suffix in (".partial", ".former")]


@pytest.mark.parametrize("how", ["between the renames", "after them"])
def test_who_only_reads_finds_a_whole_tree_too(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    built, before = tmp_path / "submission", _all(staged)
    tasks = (
        lambda: published.summarize_results(["--json"]),
        lambda: validator.check_submission([str(built / "v6.1"), "--round=v6.1", "--json"]),
        lambda: published.import_submission([str(built / "v6.1"), "--json"]),
    )
    for task in tasks:
        capsys.readouterr()
        task()
        told = capsys.readouterr().out
        shutil.copytree(staged, built / "v6.1-open-Acme.partial/open/Acme")
        (built / "v6.1-open-Acme.partial/.staged.json").write_text('{"runs": {"new": {}}}')
        if how == "after them":
            shutil.rmtree(built / "v6.1-open-Acme.partial/open/Acme")
            shutil.copytree(staged, built / "v6.1-open-Acme.former")
        else:
            staged.rename(built / "v6.1-open-Acme.former")
        task()
        assert capsys.readouterr().out == told and _all(staged) == before
        assert not [path.name for path in built.iterdir() if path.suffix in (".partial", ".former")]


def test_who_only_reads_waits_for_who_stages_but_not_for_other_peoples_trees(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits, read = Event(), Event()
    monkeypatch.setattr(stage, "_waits", waits.set)
    shutil.copytree(tmp_path / "submission/v6.1", tmp_path / "theirs")

    def summarize() -> None:
        published.summarize_results(["--json"])
        read.set()

    with locked(stage.SUBMISSION):
        validator.check_submission([str(tmp_path / "theirs"), "--round=v6.1"])
        assert not waits.is_set()
        other = Thread(target=summarize)
        other.start()
        assert waits.wait(20) and not read.is_set()
    other.join(20)
    assert read.is_set()


def test_a_kill_while_a_broken_off_staging_is_removed_makes_it_no_finished_one(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "submission"
    record, root = built / "v6.1-open-Acme.staged.json", built / "v6.1-open-Acme.partial"
    before = record.read_text()
    shutil.copytree(staged, root / "open/Acme")
    (root / ".staged.json").write_text('{"runs": {"new": {}}}')
    remove = shutil.rmtree

    def killed(path: Path, **more: bool) -> None:
        if path == root:
            remove(root / "open")
            raise KeyboardInterrupt
        remove(path, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage.shutil, "rmtree", killed)
        action.truncate_results([*WHO, "--restore"])
    action.truncate_results([*WHO, "--restore"])
    assert record.read_text() == before and not root.exists()


def test_who_cuts_packs_or_exports_waits_for_who_stages(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, waits = _all(staged), Event()
    monkeypatch.setattr(stage.terminal, "say", lambda text: waits.set())
    with locked(stage.SUBMISSION):
        other = Thread(target=action.truncate_results, args=[WHO])
        other.start()
        assert waits.wait(20) and _all(staged) == before
    other.join(20)
    assert _all(staged) != before


def test_the_archive_of_a_former_tree_is_not_taken_for_that_of_the_new_one(
    made: Runs, staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "submission/v6.1-open-Acme.tar.gz"
    action.truncate_results(WHO)
    action.pack_submission(WHO)
    first = archive.read_bytes()
    kept = archive.with_name(f"v6.1-open-Acme-former-{hashlib.sha256(first).hexdigest()[:12]}.tar.gz")
    action.stage_results([*WHO, "--benchmarks=resnet50"])
    assert not archive.exists() and not archive.with_name(f"{archive.name}.sha256").exists()
    assert kept.read_bytes() == first and kept.name in "".join(capsys.readouterr().out.split())
    action.truncate_results(WHO)
    action.pack_submission(WHO)
    assert archive.read_bytes() == first and not kept.exists()  # the same runs: the same tree


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


def test_an_export_that_was_broken_off_knows_its_files_again(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action.truncate_results(WHO)
    to = [*WHO, f"--to={tmp_path / 'repository'}"]
    system, copy = staged / "systems/bench.json", pack._copy

    def broken(source: Path, target: Path) -> None:
        copy(source, target)
        if target.name == system.name:
            raise KeyboardInterrupt

    for name in ("A CPU", "Another CPU", "Third CPU"):
        system.write_text(system.read_text().replace("Test CPU", name))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pack, "_copy", broken)
            action.export_submission(to)
        system.write_text(system.read_text().replace(name, "Test CPU"))  # staged anew
    assert action.export_submission(to) == 0
    assert _all(tmp_path / "repository/open/Acme") == _all(staged)


def test_nothing_staged_is_told(made: Runs) -> None:
    with pytest.raises(EngineroomError, match="v6.1/open/Acme: nothing is staged there\n  make stage_results"):
        action.truncate_results(WHO)


CHECKER = """import sys
print("INFO:main:---", sys.argv[1:])
print("ERROR:main:results/x has no TEST01")
print("[2026-02-01 10:00:00,000 accuracy_check.py:129 WARNING] results/x has an accuracy above the target")
for place in ("x", "y", "z"):
    print(f"[2026-02-01 10:00:00,000 base.py:37 WARNING] Execution of check endpoints_model_check skipped for {place}.")
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
    assert "  warning: results/x has an accuracy above the target\n" in out
    assert "  warning: Execution of check endpoints_model_check skipped, 3 times\n" in out, (
        "for none of them it applies"
    )
    root = str(tmp_path / "submission/v6.1")
    validator.check_submission([root, "--round=v6.1", f"--official={tmp_path / 'inference'}", "--json"])
    told = json.loads(capsys.readouterr().out)["official"]["Acme"]
    assert (told["accepted"], told["warnings"][0]) == (code == 0, "results/x has an accuracy above the target")
    validator.check_submission([root, "--round=v6.1", f"--official={tmp_path / 'inference'}"])
    assert ", 2 warnings" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(EngineroomError, match="has no tools/submission/submission_checker/main.py"):
        action.pack_submission([*WHO, f"--official={tmp_path}"])


def test_a_cut_log_is_held_against_the_whole_one_that_was_kept(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    action.truncate_results(WHO)
    log = staged / PLACE / "mlperf_log_accuracy.json"
    cut = log.read_bytes()
    for place in (100, len(cut) - 100):  # in its beginning, and in its end
        log.write_bytes(cut[:place] + b"#" + cut[place + 1 :])
        with pytest.raises(EngineroomError, match="is not the beginning and the end of the log it was cut from"):
            action.truncate_results(WHO)
        action.truncate_results([*WHO, "--restore"])
        action.truncate_results(WHO)
        assert log.read_bytes() == cut
    capsys.readouterr()
    action.truncate_results(WHO)
    assert "3 accuracy logs: cut before\n" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "submission/originals")
    action.truncate_results(WHO)
    told = " ".join(capsys.readouterr().out.split())
    assert "3 accuracy logs: cut before, and no whole one with their hash is kept here any more" in told


def test_an_export_lasts_before_it_takes_the_place_of_another(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action.truncate_results(WHO)
    synced: set[Path] = set()
    replace, sync = Path.replace, pack.sync_file

    def replaced(path: Path, target: Path) -> Path:
        assert path in synced or not path.is_relative_to(tmp_path / "repository")
        return replace(path, target)

    def noted(path: Path) -> None:
        sync(path)
        synced.add(path)

    monkeypatch.setattr(pack, "sync_file", noted)
    monkeypatch.setattr(Path, "replace", replaced)
    assert action.export_submission([*WHO, f"--to={tmp_path / 'repository'}"]) == 0
    assert len(synced) == len(_all(staged))
