"""`make check_submission`: what a person sees, and the code it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engineroom.actions import validator
from engineroom.bench import trees
from engineroom.errors import EngineroomError
from engineroom.steps.submission.validate import whole

LOG = "closed/Acme/results/box/resnet50/Offline/performance/run_1/mlperf_log_detail.txt"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    trees.write(tmp_path, trees.small("v6.1"))
    return tmp_path


def spoil(tree: Path) -> None:
    log = tree / LOG
    log.write_text(log.read_text().replace('"VALID"', '"INVALID"'))


def test_a_sound_tree_ends_with_0(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validator.check_submission([str(tree)]) == 0
    said = capsys.readouterr().out
    read = "accuracy only read in accuracy.txt, as the log is cut short: resnet50 (3)"
    assert said == f"{read}\n0 errors and 0 warnings in 3 results of {tree}, by the rules of v6.1\n"


def test_a_fault_is_told_with_place_source_and_remedy(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(tree)
    assert validator.check_submission([str(tree)]) == 1
    said = capsys.readouterr().out
    assert "error validity: LoadGen calls the run VALID" in said
    assert LOG in said
    assert "to mend: run the test again" in said
    assert "source: LoadGen, results.cc" in said


def test_warnings_alone_end_with_0(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "closed/Acme/notes.txt").write_text("x")
    assert validator.check_submission([str(tree)]) == 0
    assert "0 errors and 1 warning" in capsys.readouterr().out


def test_json_holds_every_finding(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(tree)
    assert validator.check_submission([str(tree), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["round"], told["results"], told["errors"]) == ("v6.1", 3, 2)
    (finding,) = (each for each in told["findings"] if each["rule"] == "validity")
    assert finding["where"].startswith(f"{LOG}:line ")
    assert (finding["found"], finding["expected"], finding["level"]) == ("INVALID", "VALID", "error")


@pytest.mark.parametrize("part", ["", "closed", "closed/Acme"])
def test_a_part_of_a_tree_can_be_judged(tree: Path, part: str) -> None:
    trees.write(tree, trees.small("v6.1", "Other"))
    report = whole.validate(tree / part)
    assert report.findings == []
    assert report.submitters == (("Acme",) if part.endswith("Acme") else ("Acme", "Other"))


def test_results_are_judged_alike_by_one_process_and_by_several(tmp_path: Path) -> None:
    list(trees.many(tmp_path, "v6.1", 27, 0))
    spoiled = tmp_path / "closed/Acme0/results/box5/resnet50/Offline/user.conf"
    spoiled.write_text("nothing")
    (tmp_path / "closed/Acme0/src/link").symlink_to("README.md")
    reports = [whole.validate(tmp_path, workers=workers) for workers in (1, 2)]
    assert reports[0] == reports[1]
    assert {each.rule for each in reports[0].findings} == {"user-conf-line", "tree-link"}


@pytest.mark.parametrize("words", [["/nowhere"], ["a", "b"], ["--round=v9.9"], ["--no-such-flag"]])
def test_a_request_that_cannot_be_served_is_told(words: list[str]) -> None:
    with pytest.raises(EngineroomError):
        validator.check_submission(words)


def test_a_folder_without_results_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validator.check_submission([str(tmp_path)]) == 1
    assert "tree-no-result" in capsys.readouterr().out


CHECKER = """import argparse, sys
parser = argparse.ArgumentParser()
for name in ("input", "version", "submitter", "csv"):
    parser.add_argument("--" + name)
asked = parser.parse_args()
print("ERROR:main: " + asked.submitter + " is refused")
sys.exit(1)
"""


def test_the_official_verdict_stands_beside_ours(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = tree / "checkout/tools/submission"
    tools.mkdir(parents=True)
    (tools / "submission_checker.py").write_text(CHECKER)
    assert validator.check_submission([str(tree / "closed"), f"--official={tree / 'checkout'}"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Acme"))
    assert row.split()[1:4] == ["accepted", "1", "error"]
    assert "Acme is refused" in row


def test_a_checkout_without_the_official_checker_is_told_before_the_tree_is_judged(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "validate", lambda *args, **kwargs: pytest.fail("it was judged"))
    with pytest.raises(EngineroomError, match="has no tools/submission/submission_checker/main.py"):
        validator.check_submission([str(tree), f"--official={tree}"])
