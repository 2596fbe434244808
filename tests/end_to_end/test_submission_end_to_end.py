"""The whole way with real runs: from nothing to a packed tree, in both layouts, as a rehearsal."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engineroom.steps.submission import rehearsal

if TYPE_CHECKING:
    from conftest import Checkout

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"val_map.txt": 8, "cal_map.txt": 8}
MODEL = "--benchmarks=resnet50 --weights=synthetic --engine=onnxruntime --precision=fp32 --batch_size=8"
SHORT = "--min_duration=200 --min_query_count=2 --probe_s=0.2 --watchdog_s=120"
ASKED = f"{MODEL} {SHORT} --division=open --category=edge --rehearsal"
# An engine that answers at once: the estimates of early stopping want hundreds of queries, each audit as many again.
AT_ONCE = "--benchmarks=resnet50 --weights=synthetic --engine=null --precision=fp32"
CLOSED = f"{AT_ONCE} --min_duration=300 --probe_s=0.2 --division=closed --category=edge --rehearsal"
EDGE = ("SingleStream", "MultiStream", "Offline")


@pytest.fixture(scope="module")
def few(
    house: Checkout, copy_checkout: Callable[[Path, Path], Checkout], tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """Return a checkout with few drawn images."""
    checkout = copy_checkout(ROOT, tmp_path_factory.mktemp("few") / "checkout")
    folder = checkout.root / "data_maps" / "imagenet-synthetic"
    manifest = (folder / "dataset.yaml").read_text()
    for name, count in IMAGES.items():
        lines = (folder / name).read_text().splitlines()
        manifest = manifest.replace(f"samples: {len(lines)}", f"samples: {count}")
        (folder / name).write_text("\n".join(lines[:count]) + "\n")
    (folder / "dataset.yaml").write_text(manifest)
    return checkout


def test_a_rehearsal_goes_from_nothing_to_an_archive_in_both_layouts(few: Checkout) -> None:
    planned = few.good("submission", f"{ASKED} --plan --json")
    plan = json.loads(planned.out)
    assert plan["missing"] == [f"resnet50 {each}: performance, accuracy" for each in EDGE]
    assert plan["hours"]["least"] > 0 and plan["hours"]["most"] is None, "no rate is recorded yet, so it has no end"
    assert not few.results()

    few.inv("run_harness", f"{MODEL} {SHORT} --scenarios=SingleStream,MultiStream --test_mode=PerformanceOnly")
    before = few.results()
    assert len(before) == 2
    done = few.good("submission", ASKED)  # which only runs what is missing still
    assert before.items() <= few.results().items()
    assert (
        "missing: resnet50 SingleStream: accuracy; resnet50 MultiStream: accuracy; resnet50 Offline: perf" in done.err
    )
    assert "this will take" in done.err and "must not be submitted" in done.out
    runs = few.results()
    assert {(run["scenario"], run["test_mode"]) for run in runs.values()} == {
        (each, mode) for each in EDGE for mode in ("PerformanceOnly", "AccuracyOnly")
    }
    built = few.root / "build" / "submission"
    new = built / "v6.1-rehearsal/open/rehearsal"
    (system,) = (path.stem for path in (new / "systems").glob("*.json"))
    assert system.endswith("-rehearsal")
    packed = built / "v6.1-rehearsal-open-rehearsal.tar.gz"
    with tarfile.open(packed) as tar:
        names = set(tar.getnames())
    for each in EDGE:
        place = f"open/rehearsal/results/{system}/resnet50/{each}"
        assert {f"{place}/performance/run_1/mlperf_log_detail.txt", f"{place}/accuracy/accuracy.txt"} <= names
        assert (new.parents[1] / place / "README.md").read_text().startswith("# REHEARSAL")

    again = few.good("submission", f"{ASKED} --round=v5.1")  # with the same runs
    assert "missing" not in again.err and few.results() == runs
    old = built / "v5.1-rehearsal/open/rehearsal"
    assert (old / f"measurements/{system}/resnet50/Offline/{system}_onnxruntime_Offline.json").is_file()
    assert (old / "code/resnet50/onnxruntime/README.md").is_file()

    first = packed.read_bytes()
    few.good("submission", ASKED)
    assert packed.read_bytes() == first

    figures = json.loads(few.good("summarize_results", "--json").out)
    assert sum(each["division"] == "open" for each in figures) == 6 and all(each["rehearsal"] for each in figures)
    refused = few.inv("stage_results", "--submitter=Acme --benchmarks=resnet50")
    assert refused.code == 2 and "the weights are synthetic" in refused.err
    assert not (built / "v6.1").exists()


def test_the_closed_division_is_rehearsed_with_audits_that_run(
    few: Checkout, copy_checkout: Callable[[Path, Path], Checkout], tmp_path: Path
) -> None:
    """Audits run for real, their files are staged, and the validator finds only what a rehearsal may fall short of.

    An INVALID run is good enough for it, and is audited as it is.
    """
    own = copy_checkout(few.root, tmp_path / "checkout")  # what was run in few and has no audits is not inferred
    short = own.inv("run_harness", f"{AT_ONCE} --scenarios=Offline --min_duration=5000 --offline_expected_qps=1")
    (invalid,) = (path for path, run in own.results().items() if run["performance"])
    assert short.code == 1 and not own.results()[invalid]["performance"]["valid"]
    done = own.good("submission", CLOSED)
    assert "resnet50 MultiStream: performance, accuracy, TEST01, TEST04; resnet50 Offline: TEST01, TEST04" in done.err
    runs = own.results()
    assert {run["audit"]["reference"] for run in runs.values() if run["audit"] and run["scenario"] == "Offline"} == {
        str(invalid.relative_to(own.root))
    }
    audits = [run["audit"] for run in runs.values() if run["audit"]]
    assert {each["test"] for each in audits} == {"TEST01", "TEST04"} and len(audits) >= 2 * len(EDGE)
    told = {(each["compared"] > 0, each["different"]) for each in audits if each["test"] == "TEST01"}
    assert told == {(True, 0)}
    built = own.root / "build" / "submission"
    with tarfile.open(built / "v6.1-rehearsal-closed-rehearsal.tar.gz") as tar:
        names = set(tar.getnames())
    (system,) = (path.stem for path in (built / "v6.1-rehearsal/closed/rehearsal/systems").glob("*.json"))
    for each in EDGE:
        place = f"closed/rehearsal/results/{system}/resnet50/{each}"
        logs = {f"{place}/{test}/performance/run_1/mlperf_log_detail.txt" for test in ("TEST01", "TEST04")}
        assert logs | {f"{place}/TEST01/verify_accuracy.txt", f"{place}/TEST04/verify_performance.txt"} <= names

    judged = own.inv("check_submission", "build/submission/v6.1-rehearsal/closed --round=v6.1 --json")
    broken = {each["rule"] for each in json.loads(judged.out)["findings"] if each["level"] == "error"}
    assert judged.code == 1 and {"tree-rehearsal", "min-duration"} <= broken <= rehearsal.MAY_BREAK
    own.good("submission", CLOSED)
    assert own.results() == runs
