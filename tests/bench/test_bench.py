"""The bench: its statistics, its flags, its table, and one short measurement from end to end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.bench import __main__ as bench
from engineroom.bench import models, product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import highest_rate
from engineroom.errors import EngineError, EngineroomError, ExitCode
from engineroom.terms import Precision

ROOT = Path(__file__).resolve().parents[2]
PAIRS = st.lists(st.tuples(*[st.floats(0.01, 1e6)] * 2), min_size=1, max_size=20)


@given(PAIRS)
def test_ratio_is_that_of_the_medians(pairs: list[tuple[float, float]]) -> None:
    ours, peer = zip(*pairs, strict=True)
    figure = Figure("rate", "samples/s", ours, peer, "peer", Comparison.RATIO, 0.95)
    assert figure.value == median(ours) / median(peer)
    assert figure.met == (figure.value >= 0.95)
    low, high = figure.middle_half
    ratios = [a / b for a, b in pairs]
    assert min(ratios) <= low <= high <= max(ratios)


def test_middle_half_is_of_the_pairs_and_not_of_the_medians() -> None:
    # A machine that gets slower in every round: the pairs agree, though the values do not.
    figure = Figure("rate", "samples/s", (90, 45, 30, 18, 9), (100, 50, 100 / 3, 20, 10), "peer", Comparison.RATIO)
    assert figure.middle_half == pytest.approx((0.9, 0.9))
    assert figure.value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("comparison", "ours", "limit", "verdict"),
    [
        (Comparison.RATIO, 9.5, 0.95, "met"),
        (Comparison.RATIO, 9.4, 0.95, "below"),
        (Comparison.DIFFERENCE, 10.3, 0.31, "met"),
        (Comparison.DIFFERENCE, 10.4, 0.3, "over"),
        (Comparison.DIFFERENCE, 9.0, 0.3, "met"),
        (Comparison.ALONE, 180.0, 180.0, "met"),
        (Comparison.ALONE, 181.0, 180.0, "over"),
        (Comparison.ALONE, 181.0, None, ""),
    ],
)
def test_verdict(comparison: Comparison, ours: float, limit: float | None, verdict: str) -> None:
    peer = () if comparison is Comparison.ALONE else (10.0,)
    assert Figure("it", "s", (ours,), peer, "peer", comparison, limit).verdict == verdict


def test_values_are_taken_in_turn_and_every_second_round_backwards() -> None:
    order: list[str] = []

    def take(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = interleaved("test", 3, {name: lambda name=name: take(name) for name in "ab"})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert taken == {"a": (1.0, 4.0, 5.0), "b": (2.0, 3.0, 6.0)}


def test_table_shows_medians_comparison_limit_and_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("Offline", "samples/s", (90.0, 96.0, 300.0), (100.0, 100.0, 100.0), "app", Comparison.RATIO, 0.95)
    bench._print_table(bench.Report({"CPU": "Test CPU"}, [figure], {"memory": "no"}))
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if "Offline" in line)
    assert re.split(r" {2,}", row.strip()) == [
        *("Offline", "samples/s", "96.00", "100.0", "app", "0.960", "0.930 to 1.980", "at least 0.95", "met")
    ]
    assert "FAILED" in next(line for line in shown.splitlines() if "memory" in line)
    assert "CPU: Test CPU" in shown


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--only=startap"], "did you mean startup?"),
        (["--pairs=0"], "--pairs"),
        (["--pears=3"], "did you mean (--)?pairs?"),
        (["--only=latency", "--benchmarks=resnet5"], "did you mean resnet50?"),
        (["--only=harness", "--benchmarks=resnet50"], "--only=throughput,latency,server"),
        (["--only=server", "--precisions=int9"], "--precisions: there is no precision 'int9'"),
        (["--only=server", "--precisions=int8,bf16,"], "there is no precision ''"),
        (["--only=latency", "--precisions=fp8"], "none of digits is measured in fp8 on this machine"),
        (["--only=startup", "--precisions=int8"], "--only=throughput,latency,server"),
        (["--reference=.."], "--only=reference"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_measured(argv: list[str], said: str) -> None:
    with pytest.raises(EngineroomError, match=said):
        bench.main(argv)


def test_every_measurement_has_its_file_and_its_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    others = {"__init__", "__main__", "figures", "loop", "models", "product", "recipe", "search", "trees"}
    files = {path.stem for path in (ROOT / "code/engineroom/bench").glob("*.py")}
    assert files == others | set(bench.MEASUREMENTS)
    assert bench.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in bench.MEASUREMENTS)


def test_what_takes_minutes_or_packages_is_measured_only_when_asked_for() -> None:
    usual = ["startup", "overhead", "throughput", "latency", "memory", "harness"]
    assert bench._chosen({}) == usual
    assert bench._chosen({"fresh": None}) == [*usual, "fresh"]
    assert bench._chosen({"only": "torch_loop,precisions"}) == ["precisions", "torch_loop"]
    assert bench._chosen({"only": "fresh"}) == ["fresh"]
    assert bench._chosen({"only": "startup", "fresh": None}) == ["startup", "fresh"]
    assert bench._chosen({"only": "all"}) == list(bench.MEASUREMENTS)


def test_the_models_and_their_precisions_may_be_named() -> None:
    both = [(models.DIGITS, Precision.INT8), (models.DIGITS, Precision.FP32)]
    assert models.subjects(None) == models.subjects("digits", "fp32,int8") == both
    assert models.subjects("resnet50,digits", "fp32") == [
        (models.DIGITS, Precision.FP32),
        (models.RESNET50, Precision.FP32),
    ]


def test_close_limits_are_measured_by_fifteen_pairs_others_by_five(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}
    monkeypatch.setattr(bench, "_measure", lambda name, pairs, own, report: asked.update({name: pairs}))
    bench.main([])
    assert asked["harness"] == asked["throughput"] == 15
    assert {pairs for name, pairs in asked.items() if name not in ("harness", "throughput")} == {5}
    bench.main(["--pairs=7"])
    assert set(asked.values()) == {7}


@pytest.mark.parametrize(
    ("flags", "said"), [([], "git clone"), (["--reference=."], "no vision/classification_and_detection/python/main.py")]
)
def test_without_the_reference_application_it_says_what_is_missing(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--only=reference", *flags]) == ExitCode.ENGINE
    assert said in capsys.readouterr().err


def test_peak_memory_is_the_commands_own() -> None:
    code = "room = bytearray(200_000_000); room[::4096] = room[::4096]"
    small, large = (product.peak_rss_bytes([sys.executable, "-S", "-c", words]) for words in ("", code))
    assert 190e6 < large - small < 215e6


def test_a_command_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(EngineError, match="status 3") as caught:
        product.seconds([sys.executable, "-c", "import sys; sys.exit(print('no engine', file=sys.stderr) or 3)"])
    assert "no engine" in str(caught.value)


@pytest.mark.parametrize("limit", [50_000.0, 99_999.0, 100_000.0, 123_000.0, 480_000.0])
def test_the_highest_rate_still_holds_and_is_within_a_tenth_of_what_does(limit: float) -> None:
    asked: list[float] = []

    def valid(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    assert limit / 1.1 < highest_rate(valid, 50_000.0) <= limit
    assert all(asked.count(rate) == 1 for rate in asked if rate <= limit)
    with pytest.raises(EngineError, match="not even 500,000 queries/s"):
        highest_rate(valid, 500_000.0)


def test_a_stall_of_the_machine_does_not_decide_a_rate() -> None:
    stalled: set[float] = set()

    def valid(rate: float) -> bool:
        if rate not in stalled:
            stalled.add(rate)
            return False
        return rate <= 100_000

    assert highest_rate(valid, 50_000.0) == 100_000


@pytest.mark.heavy
def test_bench_measures_from_end_to_end() -> None:
    """One pair of the two quickest measurements: the values make sense, and no run folder is left behind."""
    runs = ROOT / "build" / "runs"
    before = set(runs.iterdir()) if runs.is_dir() else set()
    command = [sys.executable, "-m", "engineroom.bench", "--only=startup,harness", "--pairs=1", "--json"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "code"), "RUN_ARGS": "--no-such-flag"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    figures = {figure["name"]: figure for figure in record["figures"]}
    assert not record["failures"]
    assert 0 < figures["bare make"]["ours"][0] < figures["bare make"]["peer"][0]
    for scenario in ("SingleStream", "MultiStream", "Offline"):  # a hand-off to another thread would be below
        assert figures[f"{scenario}, null engine"]["value"] > 0.3
    assert set(runs.iterdir()) == before
