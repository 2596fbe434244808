"""Audits from logs: what is compared and how, within which bounds, and what is written for a submission."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engineroom import rounds
from engineroom.errors import RequestError
from engineroom.steps import audit, recipes
from engineroom.steps.audit import TEST01, TEST04, Answers, Fallback
from engineroom.terms import METRICS, Scenario, TensorSpec

RULES = rounds.read("v6.1")
TESTS = RULES.audits.tests
LOGITS = (TensorSpec("logits", "float32", (2,)),)


def logged(path: Path, *answers: tuple[int, tuple[float, ...]]) -> Path:
    """Write an accuracy log as LoadGen does."""
    lines = [
        {"seq_id": place, "qsl_idx": index, "data": struct.pack(f"<{len(values)}f", *values).hex().upper()}
        for place, (index, values) in enumerate(answers)
    ]
    path.write_text(json.dumps(lines))
    return path


def compared(folder: Path, *answers: tuple[int, tuple[float, ...]]) -> Answers:
    """Compare answers with those of an accuracy run over the samples 0 to 3, whose answer is their number, twice."""
    expected = logged(folder / "expected.json", *((index, (float(index), float(index))) for index in range(4)))
    return audit.compare(expected, logged(folder / "audited.json", *answers), LOGITS)


def log(value: float, valid: str = "VALID", scenario: Scenario = Scenario.OFFLINE, **more: Any) -> dict[str, Any]:
    """Return what LoadGen's detail log says."""
    return {METRICS[scenario].key: value, "result_validity": valid, "errors": [], **more}


def test_a_round_says_which_audits_a_benchmark_needs_and_others_can_be_asked_for() -> None:
    assert audit.chosen(RULES, "resnet50", []) == [TEST01, TEST04]
    assert audit.chosen(RULES, "digits", [TEST04]) == [TEST04]
    with pytest.raises(RequestError, match="asks for no audit of digits"):
        audit.chosen(RULES, "digits", [])


@pytest.mark.parametrize("name", ["TEST06", "TEST07", "TEST08", "TEST09"])
def test_an_audit_that_cannot_be_run_is_named(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} is not in this version of Engineroom: it checks") as error:
        audit.chosen(RULES, "resnet50", [name])
    assert error.value.code == 2
    with pytest.raises(RequestError, match="TEST06 is not in this version"):
        audit.chosen(RULES, "llama3.1-8b", [])
    with pytest.raises(RequestError, match="did you mean TEST01"):
        audit.chosen(RULES, "resnet50", ["TEST1"])


def test_the_settings_are_those_of_the_test_the_benchmark_and_the_scenario() -> None:
    seed = 720381539243781796
    wanted = {"mode": 2, "accuracy_log_rng_seed": seed, "accuracy_log_sampling_target": 4096}
    assert TESTS[TEST01].of("resnet50", Scenario.OFFLINE) == wanted
    assert TESTS[TEST01].of("yolo-99", Scenario.OFFLINE)["accuracy_log_sampling_target"] == 64
    offline = TESTS[TEST04].of("stable-diffusion-xl", Scenario.OFFLINE)
    assert offline["min_query_count"] == 500
    assert "min_query_count" not in TESTS[TEST04].of("stable-diffusion-xl", Scenario.SINGLE_STREAM)


def test_the_rendered_settings_are_for_any_model_as_loadgen_asks_for_them() -> None:
    settings = TESTS[TEST04].of("resnet50", Scenario.MULTI_STREAM)
    values = {"scenario": Scenario.MULTI_STREAM, "audit": {"test": TEST04, "settings": settings}}
    lines = recipes.render(audit.CONFIG, "any", values).splitlines()
    assert lines[0].startswith("# TEST04") and set(lines[1:]) == {
        "*.MultiStream.mode = 2",
        "*.MultiStream.performance_issue_unique = 0",
        "*.MultiStream.performance_issue_same = 1",
        "*.MultiStream.performance_issue_same_index = 3",
    }


def test_the_same_numbers_are_the_same_answer_whatever_their_bytes(tmp_path: Path) -> None:
    found = compared(tmp_path, (0, (0.0, -0.0)), (3, (3.0, 3.0)), (3, (3.0, 3.0)))
    assert found.same and found.num_perf_log_qsl_idx_match == 3 and found.num_acc_log_entries == 4
    assert found.lines()[-1] == "TEST PASS" and "num_perf_log_data_mismatch = 0" in found.lines()


@pytest.mark.parametrize(
    ("answers", "counts"),
    [
        ([(1, (1.0, 1.0)), (2, (2.5, 2.0))], {"num_perf_log_data_mismatch": 1}),
        ([(2, (2.0, 2.0000002))], {"num_perf_log_data_mismatch": 1}),  # not only the first number counts
        ([(2, (2.0,))], {"num_perf_log_data_mismatch": 1}),
        ([(1, (1.0, 1.0)), (7, (7.0, 7.0))], {"num_missing_qsl_idxs": 1}),
        ([], {"num_perf_log_entries": 0}),
    ],
)
def test_other_answers_are_found(
    tmp_path: Path, answers: list[tuple[int, tuple[float, ...]]], counts: Mapping[str, int]
) -> None:
    found = compared(tmp_path, *answers)
    assert not found.same and found.lines()[-1] == "TEST FAIL"
    assert {name: getattr(found, name) for name in counts} == counts


def test_both_answers_of_a_contradiction_in_the_accuracy_run_are_told(tmp_path: Path) -> None:
    expected = logged(tmp_path / "expected.json", (0, (1.0, 1.0)), (0, (2.0, 1.0)), (1, (1.0, 1.0)))
    found = audit.compare(expected, logged(tmp_path / "audited.json", (1, (1.0, 1.0))), LOGITS)
    assert (found.num_acc_log_duplicate_keys, found.num_acc_log_data_mismatch) == (1, 1)


@pytest.mark.parametrize(
    ("test", "scenario", "reference", "passing", "failing"),
    [  # by MLCommons' verify_performance.py of each test: latencies in ns, rates per second
        (TEST01, Scenario.OFFLINE, 1000.0, (900.0, 1100.0), (899.0, 1101.0)),
        (TEST01, Scenario.SINGLE_STREAM, 250_000.0, (225_000.0, 275_000.0), (224_000.0, 276_000.0)),
        (TEST01, Scenario.SINGLE_STREAM, 200_000.0, (160_000.0, 240_000.0), (159_000.0, 241_000.0)),
        (TEST01, Scenario.MULTI_STREAM, 1_600_000.0, (1_280_000.0, 1_920_000.0), (1_270_000.0, 1_930_000.0)),
        (TEST01, Scenario.MULTI_STREAM, 1_700_000.0, (1_530_000.0, 1_870_000.0), (1_520_000.0, 1_880_000.0)),
        (TEST04, Scenario.OFFLINE, 1000.0, (1.0, 1099.0), (1101.0, 2000.0)),
        (TEST04, Scenario.SINGLE_STREAM, 1_000_000.0, (840_000.0, 9_000_000.0), (830_000.0, 1000.0)),
        (TEST04, Scenario.SINGLE_STREAM, 4_000.0, (3_640.0, 9_000.0), (3_630.0, 1000.0)),  # 250,000 queries/s: 10%
    ],
)
def test_the_bounds_are_those_of_the_official_verifiers(
    test: str, scenario: Scenario, reference: float, passing: tuple[float, ...], failing: tuple[float, ...]
) -> None:
    before = log(reference, scenario=scenario)
    for value in passing:
        assert audit.score(TESTS[test], scenario, before, log(value, scenario=scenario)).reasons == ()
    for value in failing:
        assert "the score" in audit.score(TESTS[test], scenario, before, log(value, scenario=scenario)).reasons[0]


def test_both_runs_must_be_valid_and_of_one_latency_limit() -> None:
    def reasons(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
        return audit.score(TESTS[TEST01], Scenario.SERVER, before, now).reasons

    good = log(100.0, scenario=Scenario.SERVER, effective_target_latency_ns=15)
    assert reasons(good, good) == ()
    assert reasons(good, {**good, "result_validity": "INVALID"}) == ("LoadGen calls the audit INVALID",)
    assert reasons({**good, "result_validity": "INVALID"}, good) == ("LoadGen calls the performance run INVALID",)
    assert reasons(good, {**good, "effective_target_latency_ns": 16}) == ("the latency limits of both runs differ",)
    assert reasons(good, {**good, "errors": ["x"]}) == ("LoadGen's log of the audit holds errors",)
    assert len(reasons(good, {"errors": []})) == 3, "a log without a score has none"


@pytest.mark.parametrize(
    ("baseline", "compliance", "delta_percent", "holds"),
    [(76.0, 76.0, 0.1, True), (76.0, 75.3, 1.0, True), (76.0, 75.2, 1.0, False), (75.0, 76.0, 1.0, False)]
    + [(90.0, 89.8, 0.1, False), (76.0, 0.0, 1.0, False), (0.0, 0.0, 1.0, False)],
)
def test_scores_over_the_same_samples_may_differ_by_the_rules_delta(
    baseline: float, compliance: float, delta_percent: float, holds: bool
) -> None:
    assert Fallback(baseline, compliance, "", "", delta_percent).holds is holds


@pytest.mark.parametrize("test", [TEST01, TEST04])
@pytest.mark.parametrize("same", [True, False])
def test_what_is_written_is_what_the_round_asks_for(tmp_path: Path, test: str, same: bool) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in (*audit.LOGS, "mlperf_log_accuracy.json"):
        (run / name).write_text(name)
    scores = audit.score(TESTS[test], Scenario.OFFLINE, log(1000.0), log(1050.5))
    answers = compared(tmp_path, (1, (1.0 if same else 2.0, 1.0))) if test == TEST01 else None
    files = {"accuracy/accuracy.txt": "accuracy=99.000%, good=99, total=100"} if answers else {}
    wanted = set(TESTS[test].required_files)
    if answers and not same:
        files |= dict.fromkeys(TESTS[test].fallback_files, "accuracy=99.000%, good=99, total=100")
        wanted |= set(TESTS[test].fallback_files)
    audit.write(tmp_path / test, run, scores, answers, files)
    assert {str(path.relative_to(tmp_path / test)) for path in (tmp_path / test).rglob("*.*")} == wanted
    lines = (tmp_path / test / "verify_performance.txt").read_text().splitlines()
    assert [line.lower() for line in lines] == ["reference score = 1000.0", "test score = 1050.5", "test pass"]
    assert (tmp_path / test / "performance/run_1/mlperf_log_detail.txt").read_text() == "mlperf_log_detail.txt"


def test_a_failure_says_why(tmp_path: Path) -> None:
    for name in audit.LOGS:
        (tmp_path / name).write_text("")
    scores = audit.score(TESTS[TEST04], Scenario.OFFLINE, log(1000.0), log(1500.0, "INVALID"))
    audit.write(tmp_path / TEST04, tmp_path, scores, None, {})
    words = (
        "TEST FAIL: LoadGen calls the audit INVALID; the score 1500 is not at most 1100: the performance run has 1000"
    )
    assert (tmp_path / TEST04 / "verify_performance.txt").read_text().splitlines()[-1] == words


def test_the_settings_of_a_test_have_no_benchmark_that_the_round_has_not() -> None:
    for name in rounds.names():
        rules = rounds.read(name)
        for test in rules.audits.tests.values():
            assert set(test.models) <= set(rules.benchmarks.models)
        first = rules.audits.tests[TEST01]
        for benchmark in first.models:
            gates = rules.benchmarks.models[benchmark].accuracy.values()
            assert gates and all(gate.audit_delta_percent for gate in gates), f"{name} {benchmark}"
        assert msgspec.to_builtins(first.band) == msgspec.to_builtins(TESTS[TEST01].band)
