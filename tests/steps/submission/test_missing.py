"""What a submission still runs, and which of the runs that are there it takes instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from desk import OFFLINE, SINGLE, WHO, record

from engineroom import versions
from engineroom.actions import missing, staging, works
from engineroom.actions import submission as action
from engineroom.errors import EngineroomError

if TYPE_CHECKING:
    from conftest import Runs


def test_a_submission_says_before_it_runs_anything_that_its_code_has_no_revision(
    made: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "git_revision", lambda: versions.UNKNOWN)
    with pytest.raises(EngineroomError, match="what is missing would be run outside of a git checkout"):
        action.submission([*WHO, "--benchmarks=resnet50", "--weights=synthetic"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--scenarios=Server",), "v6.1 has no Server of resnet50 in the category edge"),
        (("--scenarios=Offline",), "v6.1 also requires SingleStream, MultiStream of resnet50 in the category edge"),
        (("--category=datacenter", "--scenarios=Offline"), "v6.1 has no resnet50 in the category datacenter"),
        (("--scenarios=SingleStream",), "open division: resnet50 SingleStream: "),
        (("--scenarios=SingleStream",), "a submission needs these fields of the system's description: "),
    ],
)
def test_what_cannot_succeed_is_refused_before_anything_runs(
    made: Runs, monkeypatch: pytest.MonkeyPatch, flags: Sequence[str], said: str
) -> None:
    monkeypatch.setattr(staging.systems, "read_all", dict)
    with pytest.raises(EngineroomError) as caught:
        action.submission([*WHO[:2], "--benchmarks=resnet50", "--weights=synthetic", "--plan", *flags])
    assert said in str(caught.value)


def test_a_submission_stages_no_other_runs_than_those_it_was_asked_for(
    made: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.answers = 50_000
    asked, _ = made.pair(SINGLE)
    made.pair(SINGLE, engine="onnxruntime", log={"early_stopping_latency_ss": 1_000})  # faster, and not meant
    monkeypatch.setattr(works.systems, "detect", lambda: made.machine)
    flags = ("--benchmarks=resnet50", "--scenarios=SingleStream", "--engine=openvino", "--precision=fp32")
    assert action.submission([*WHO, *flags]) == 0
    assert record(tmp_path)["bench resnet50 SingleStream"]["performance"] == str(asked)


@pytest.fixture
def now(made: Runs, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return the runs, on the machine they are of; what would be run now is made like those of made.revision."""
    monkeypatch.setattr(works.systems, "detect", lambda: made.machine)
    monkeypatch.setattr(missing._Now, "made", lambda self, run: run.revision == made.revision)
    made.answers = 50_000
    return made


OFFLINE_ALONE = ("--benchmarks=resnet50", "--scenarios=Offline", "--engine=openvino", "--precision=fp32")


def test_finished_runs_of_scenarios_that_were_not_asked_for_count(now: Runs, tmp_path: Path) -> None:
    stream, _ = now.pair(SINGLE)  # from which MultiStream follows
    offline, _ = now.pair(OFFLINE)
    assert action.submission([*WHO, *OFFLINE_ALONE]) == 0
    assert {place: told["performance"] for place, told in record(tmp_path).items()} == {
        "bench resnet50 SingleStream": str(stream),
        "bench resnet50 MultiStream": str(stream),
        "bench resnet50 Offline": str(offline),
    }


@pytest.fixture
def lacking(now: Runs, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[missing.Piece]]:
    """Return the function that returns what a submission would run, by its flags."""
    found: list[missing.Piece] = []
    monkeypatch.setattr(action, "_plan", lambda request, asked, lacking: found.extend(lacking) or 0)

    def ask(*flags: str) -> list[missing.Piece]:
        found.clear()
        assert action.submission([*flags, "--engine=openvino", "--precision=fp32", "--plan"]) == 0
        return list(found)

    return ask


def test_only_what_was_asked_for_is_run_beside_finished_runs(
    now: Runs, lacking: Callable[..., list[missing.Piece]]
) -> None:
    now.pair(SINGLE)
    (piece,) = lacking(*WHO, "--benchmarks=resnet50", "--scenarios=Offline")
    assert str(piece) == "resnet50 Offline: performance, accuracy"


def test_the_tests_of_a_rehearsal_are_short_unless_a_flag_says_otherwise(
    lacking: Callable[..., list[missing.Piece]],
) -> None:
    """Where audits follow, LoadGen must be able to call a run VALID; what a person typed counts in any case."""

    def asked(*flags: str) -> list[tuple[str, str]]:
        pieces = lacking("--benchmarks=resnet50", "--rehearsal", *flags)
        overrides = [piece.work.request.overrides for piece in pieces]
        return [(each["min_duration"], each["min_query_count"]) for each in overrides]

    assert asked("--division=open") == [("1000", "64")] * 3
    assert asked("--division=closed") == [("1000", "64"), ("1000", "662"), ("1000", "64")]
    assert asked("--division=closed", "--min_query_count=64", "--min_duration=5000") == [("5000", "64")] * 3


def test_finished_runs_of_other_code_do_not_complete_what_is_run_now(now: Runs) -> None:
    now.pair(SINGLE, revision="0123abc")
    with pytest.raises(EngineroomError, match="v6.1 also requires SingleStream, MultiStream of resnet50"):
        action.submission([*WHO, *OFFLINE_ALONE, "--plan"])
