"""Staging finished runs: what belongs together, what is refused and why, and that nothing is ever half done."""

from __future__ import annotations

import errno
import json
import pydoc
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import count as count_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engineroom import rounds, run_args, versions
from engineroom.actions import staging, works
from engineroom.actions import submission as action
from engineroom.benchmarks.resnet50 import BENCHMARK as RESNET50
from engineroom.config.values import convert
from engineroom.errors import EngineroomError
from engineroom.paths import ROOT
from engineroom.steps.submission import stage
from engineroom.steps.submission.layout import Place, Tree
from engineroom.terms import Scenario, TestMode

if TYPE_CHECKING:
    from conftest import Runs

WHO = ("--submitter=Acme", "--division=open", "--category=edge")
CLOSED = ("--submitter=Acme", "--division=closed", "--category=edge")
SINGLE, MULTI, OFFLINE = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM, Scenario.OFFLINE
EDGE = (SINGLE, MULTI, OFFLINE)


def staged(who: Sequence[str] = WHO, *more: str) -> None:
    assert action.stage_results([*who, "--benchmarks=resnet50", *more]) == 0


def refused(who: Sequence[str] = WHO, *more: str) -> str:
    with pytest.raises(EngineroomError) as caught:
        action.stage_results([*who, "--benchmarks=resnet50", *more])
    assert caught.value.code == 2
    return str(caught.value)


def tree(tmp_path: Path, name: str = "v6.1", division: str = "open") -> Path:
    return tmp_path / "submission" / name / division / "Acme"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(tmp_path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, Any] = json.loads((tmp_path / "submission/v6.1-open-Acme.staged.json").read_text())
    return dict(found["runs"])


def all_scenarios(made: Runs, **more: Any) -> None:
    for scenario in EDGE:
        made.pair(scenario, **more)


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


def test_runs_of_another_round_are_refused(made: Runs) -> None:
    all_scenarios(made)
    assert "was held against the rules of v6.1, not of v5.1" in refused(WHO, "--round=v5.1")


def test_the_best_valid_run_is_taken_with_the_accuracy_run_made_alike(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    made.add(OFFLINE, log={"result_samples_per_second": 999.0}, valid=False)  # the fastest, but INVALID
    best, accuracy = made.pair(OFFLINE, log={"result_samples_per_second": 300.0}, batch_size=8)
    stream, _ = made.pair(SINGLE, log={"early_stopping_latency_ss": 4_000_000})  # a latency: less is better
    made.pair(SINGLE, log={"early_stopping_latency_ss": 4_500_000})
    staged()
    assert record(tmp_path)["bench resnet50 Offline"] == {"performance": str(best), "accuracy": str(accuracy)}
    assert record(tmp_path)["bench resnet50 SingleStream"]["performance"] == str(stream)


def test_a_better_run_without_its_accuracy_run_is_told(made: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    all_scenarios(made)
    made.add(OFFLINE, log={"result_samples_per_second": 900.0}, batch_size=64)
    staged()
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"resnet50 Offline: \S+PerformanceOnly has no accuracy run: .*differs in batch_size 64 and 1", told
    )


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"batch_size": 8}, "differs in batch_size 1 and 8"),
        ({"made_from": {"model": "n" * 64}}, "differs in model mmmmmmmmmmmm... and nnnnnnnnnnnn..."),
        ({"performance_sample_count": 1024}, "differs in performance_sample_count None and 1024"),
        ({"divisions": ()}, "is not submittable to the open division"),
    ],
)
def test_an_accuracy_run_made_otherwise_is_refused_with_what_differs(
    made: Runs, tmp_path: Path, more: dict[str, Any], why: str
) -> None:
    for scenario in (SINGLE, MULTI):
        made.pair(scenario)
    made.add(OFFLINE)
    made.add(OFFLINE, TestMode.ACCURACY_ONLY, **more)
    said = refused()
    assert "resnet50 Offline: has no accuracy run that belongs to its performance run" in said
    assert why in said and "make submission RUN_ARGS=" in said
    assert not (tmp_path / "submission" / "v6.1").exists()


def test_all_scenarios_come_from_one_revision_of_the_code(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    made.pair(OFFLINE, revision="0123abc", log={"result_samples_per_second": 999.0})
    staged()
    assert "999" not in (tree(tmp_path) / "results/bench/resnet50/Offline/README.md").read_text()


@pytest.mark.parametrize(
    ("revision", "why"),
    [
        ("0123abc-dirty", "was run with changes to the code that no revision names: commit them first"),
        ("unknown", "was run outside of a git checkout, so no revision names its code: run it in a clone"),
    ],
)
def test_code_that_no_revision_names_is_refused_but_for_a_rehearsal(made: Runs, revision: str, why: str) -> None:
    all_scenarios(made, revision=revision)
    assert why in refused()
    staged(("--division=open", "--rehearsal"))


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


@pytest.mark.parametrize("content", ["[]", '{"revision": "x", "machine": []}'])
def test_a_run_whose_environment_is_damaged_is_named_and_not_used(made: Runs, content: str) -> None:
    all_scenarios(made)
    path = next(made.folder.glob("*Offline-PerformanceOnly")) / "env.json"
    path.write_text(content)
    assert "env.json: cannot be read" in refused_offline(made)


def test_a_partial_run_and_one_of_another_version_are_named_and_not_used(made: Runs) -> None:
    for scenario in (SINGLE, MULTI):
        made.pair(scenario)
    performance, accuracy = made.pair(OFFLINE)
    performance.rename(performance.with_name(f"{performance.name}.partial"))
    config = accuracy / "run_config.yaml"
    config.write_text(f"{config.read_text()}of_tomorrow: 1\n")
    said = refused_offline(made)
    assert "did not finish" in said and "does not fit this version of Engineroom" in said


def refused_offline(made: Runs) -> str:
    """Return why Offline is refused, where no scenario is there that it could be inferred from."""
    for path in made.folder.glob("*Stream*"):
        shutil.rmtree(path)
    return refused()


@pytest.mark.parametrize("name", ["mlperf_log_detail.txt", "recipe/user.conf"])
@pytest.mark.parametrize("how", ["edited", "gone"])
def test_a_run_that_was_edited_is_refused(made: Runs, tmp_path: Path, name: str, how: str) -> None:
    all_scenarios(made)
    path = next(made.folder.glob("*Offline-PerformanceOnly")) / name
    if how == "gone":
        path.unlink()
    else:
        path.write_text(f"{path.read_text()}\n")
    said = refused()
    assert f"{name}: {'is gone' if how == 'gone' else 'is not what the run wrote'}" in said
    assert not (tmp_path / "submission" / "v6.1").exists()


def test_a_result_that_says_more_than_its_log_is_refused(made: Runs) -> None:
    all_scenarios(made)
    path = next(made.folder.glob("*Offline-PerformanceOnly")) / "result.json"
    told = json.loads(path.read_text())
    told["performance"]["value"] = 999.0
    path.write_text(json.dumps(told))
    assert "says that value is 999.0, but LoadGen's log says 100.0" in refused()


def test_a_benchmark_without_runs_says_how_to_run_it(made: Runs) -> None:
    said = refused()
    assert "resnet50 SingleStream: has no performance run that fits on bench" in said
    assert (
        'make submission RUN_ARGS="--benchmarks=resnet50 --division=open --category=edge" runs what is missing' in said
    )


def test_two_machines_of_one_name_are_refused(made: Runs) -> None:
    other = replace(made.machine, cpu=replace(made.machine.cpu, model="Another CPU"))
    for scenario in (SINGLE, MULTI):
        made.pair(scenario)
    made.pair(OFFLINE, machine=other)
    said = refused()
    assert "two machines bear the name bench: 1x Test CPU of 4 cores" in said and "1x Another CPU" in said


def test_a_system_that_is_staged_already_keeps_its_name(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    staged()
    shutil.copytree(tree(tmp_path) / "results/bench/resnet50", tree(tmp_path) / "results/bench/bert-99")
    path = tree(tmp_path) / "systems/bench.json"
    path.write_text(path.read_text().replace("Test CPU", "Another CPU"))
    assert "two systems bear the name bench: host_processor_model_name is 'Another CPU' there" in refused()


@pytest.mark.parametrize(
    "name", ["host_memory_capacity", "host_processor_core_count", "number_of_nodes", "accelerators_per_node"]
)
def test_another_machine_of_the_same_name_is_told_by_any_of_its_parts(tmp_path: Path, name: str) -> None:
    item, root, layout = another_benchmark(tmp_path, {name: "1"})
    with pytest.raises(EngineroomError, match=f"two systems bear the name bench: {name} is '1' there, '2' now"):
        stage._description(root, layout, replace(item, description=described({name: "2"})))


def test_a_systems_description_names_the_frameworks_of_all_its_results(tmp_path: Path) -> None:
    item, root, layout = another_benchmark(tmp_path, {"framework": "TensorRT 10, PyTorch 2"})
    now = replace(item, description=described({"framework": "PyTorch 2, OpenVINO 2026"}))
    assert json.loads(stage._description(root, layout, now))["framework"] == "TensorRT 10, PyTorch 2, OpenVINO 2026"
    with pytest.raises(EngineroomError, match="has results of the category edge there, now it is datacenter"):
        stage._description(root, layout, replace(item, description=described({"system_type": "datacenter"})))


def described(told: dict[str, str]) -> str:
    return json.dumps({**dict.fromkeys(stage.SAME_SYSTEM, "x"), "framework": "", "system_type": "edge", **told})


def another_benchmark(root: Path, told: dict[str, str]) -> tuple[stage.Item, Path, Tree]:
    """Return an item of a system that another benchmark has results of, with this description."""
    layout = Tree(rounds.read("v6.1").layout, "open", "Acme")
    (root / layout.results(Place("bench", "bert-99", "Offline"))).mkdir(parents=True)
    path = root / layout.system("bench")
    path.parent.mkdir(parents=True)
    path.write_text(described(told))
    return stage.Item("bench", RESNET50, {}, described({})), root, layout


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


def test_at_the_edge_what_was_not_run_is_inferred(made: Runs, tmp_path: Path) -> None:
    made.pair(SINGLE)
    staged()
    results = tree(tmp_path) / "results/bench/resnet50"
    multi, offline = ((results / each / "README.md").read_text() for each in (MULTI, OFFLINE))
    assert "p99 latency of 8 samples 84 ms" in multi and "from SingleStream, 8 * early_stopping_latency_ms" in multi
    assert "throughput 100 samples/s" in offline and "the logs are those of SingleStream" in offline
    source = results / SINGLE / "performance/run_1/mlperf_log_detail.txt"
    assert (results / OFFLINE / "performance/run_1/mlperf_log_detail.txt").read_bytes() == source.read_bytes()


def test_nothing_is_inferred_from_too_few_queries_or_in_a_datacenter(made: Runs) -> None:
    made.pair(SINGLE, log={"early_stopping_latency_ms": 0, "result_qps_without_loadgen_overhead": 0})
    assert "resnet50 MultiStream: has no performance run that fits" in refused()
    assert "v6.1 has no resnet50 in the category datacenter" in refused((*WHO[:2], "--category=datacenter"))


def test_the_closed_division_wants_the_audits_of_these_very_runs(made: Runs, tmp_path: Path) -> None:
    for scenario in EDGE:
        made.audited(scenario)
    staged(CLOSED)
    closed = tree(tmp_path, division="closed") / "results/bench/resnet50/Offline"
    assert (closed / "TEST01/verify_accuracy.txt").is_file() and (closed / "TEST04/verify_performance.txt").is_file()
    for path in made.folder.glob("*-Offline-TEST04"):
        shutil.rmtree(path)
    assert re.search(r"resnet50 Offline: has no TEST04 .*\n.*has no TEST04: it was not run", refused(CLOSED))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"batch_size": 8}, "differs in batch_size 1 and 8"),
        ({"engine": "onnxruntime"}, "differs in engine openvino and onnxruntime"),
        ({"made_from": {"model": "n" * 64}}, "differs in model mmmmmmmmmmmm... and nnnnnnnnnnnn..."),
        ({"revision": "0123abc"}, "it was not run"),
    ],
)
def test_an_audit_that_names_a_run_and_was_made_otherwise_is_refused(
    made: Runs, more: dict[str, Any], why: str
) -> None:
    for scenario in (SINGLE, MULTI):
        made.audited(scenario)
    made.audited(OFFLINE, audits=more)
    assert re.search(rf"has no TEST01: (\S+-TEST01 )?{re.escape(why)}", refused(CLOSED))


def test_an_audit_of_another_machine_is_refused(made: Runs) -> None:
    for scenario in (SINGLE, MULTI):
        made.audited(scenario)
    made.audited(OFFLINE, audits={"machine": replace(made.machine, cpu=replace(made.machine.cpu, model="Another CPU"))})
    assert "two machines bear the name bench" in refused(CLOSED)


def test_a_newer_accuracy_run_takes_nothing_from_the_audits_of_an_older_one(made: Runs, tmp_path: Path) -> None:
    made.audited(SINGLE)
    (older,) = made.folder.glob("*-SingleStream-AccuracyOnly")
    newer = made.add(SINGLE, TestMode.ACCURACY_ONLY)
    assert newer.name > older.name
    staged(CLOSED)
    kept = json.loads((tmp_path / "submission/v6.1-closed-Acme.staged.json").read_text())["runs"]
    assert kept["bench resnet50 SingleStream"]["accuracy"] == str(older)


def test_an_audit_that_passes_makes_up_for_none_that_found_other_answers(made: Runs) -> None:
    performance, accuracy = made.pair(SINGLE)
    caught = made.audit("TEST01", SINGLE, performance, accuracy, agrees=False)
    for test, beside in (("TEST01", accuracy), ("TEST04", "")):
        made.audit(test, SINGLE, performance, beside)
    assert f"has other answers than {performance}: {caught} found it" in refused(CLOSED)
    staged(WHO)  # the open division asks for no audits


@pytest.mark.parametrize("how", ["is not what the run wrote", "is gone", "is not of the run"])
def test_an_audit_whose_files_were_touched_is_refused(made: Runs, how: str) -> None:
    for scenario in EDGE:
        made.audited(scenario)
    path = next(made.folder.glob("*-Offline-TEST01")) / "TEST01/verify_accuracy.txt"
    if how == "is gone":
        path.unlink()
    elif how == "is not of the run":
        path = path.with_name("notes.txt")
        path.write_text("more\n")
    else:
        path.write_text("TEST PASS\n")
    assert f"TEST01/{path.name}: {how}" in refused(CLOSED)


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


def test_whether_a_model_of_ones_own_was_retrained_is_never_guessed(made: Runs, tmp_path: Path) -> None:
    from engineroom.steps.submission import documents, entry

    own = RESNET50.variant("imagenet", RESNET50.weights)
    own.own_model = tmp_path / "mine.onnx"
    settings = entry.read_settings({"submitter": "Acme"}, tmp_path)
    with pytest.raises(EngineroomError, match="mine.onnx was trained further"):
        documents.retraining(own, entry.entry_of(settings, "v6.1", rehearsal=False))
    assert documents.retraining(own, entry.entry_of(settings, "v6.1", rehearsal=True)) == "unknown (rehearsal)"
    (tmp_path / "submission.yaml").write_text("submitter: Acme\nretraining: no\n")
    for flags, said in (({}, "no"), ({"retraining": "yes"}, "yes")):
        told = entry.entry_of(entry.read_settings(flags, tmp_path), "v6.1", rehearsal=False)
        assert documents.retraining(own, told) == said
        assert documents.retraining(RESNET50, told) == "no"


def typed(readme: str) -> list[tuple[list[str], run_args.Request]]:
    """Return the make targets of each command in a README.md, and what they are asked for, as the tasks parse it."""
    block = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert block
    words = [shlex.split(line) for line in block[1].splitlines() if line.startswith("make ")]
    targets = [[word for word in line[1:] if "=" not in word] for line in words]
    known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {target for line in targets for target in line} <= {*known}
    flags = [next(word.removeprefix("RUN_ARGS=") for word in line if word.startswith("RUN_ARGS=")) for line in words]
    return [(names, run_args.parse(run_args.split(text))) for names, text in zip(targets, flags, strict=True)]


def test_every_command_of_a_results_readme_is_one_that_can_be_typed(made: Runs, tmp_path: Path) -> None:
    known: dict[str, Any] = {
        "batch_size": 4,
        "cpus": (0, 1, 2),
        "pin_workers": True,
        "float_layers": ("stage 1.*", "fc"),
        "watchdog_s": 12.5,
    }
    for scenario in EDGE:
        made.audited(scenario, **known)
    staged(CLOSED)
    readme = (tree(tmp_path, division="closed") / "results/bench/resnet50/Offline/README.md").read_text()
    prepare, performance, accuracy, *audits = typed(readme)
    assert prepare[0] == ["download_model", "download_data"]
    assert [names for names, _ in (performance, accuracy, *audits)] == [
        ["run_harness"],
        ["run_harness"],
        ["run_audit_test01"],
        ["run_audit_test04"],
    ]
    for _, request in (performance, accuracy, *audits):
        assert (request.benchmarks, request.scenarios) == (("resnet50",), (OFFLINE,))
        for name, value in {**known, "dataset": "imagenet", "engine": "openvino", "precision": "fp32"}.items():
            assert convert(name, request.overrides[name], from_text=True) == value
    assert performance[1].test_modes == (TestMode.PERFORMANCE_ONLY,)
    assert all(request.test_modes == run_args.Request.test_modes for _, request in audits)  # an audit refuses any


def test_a_model_and_an_overlay_of_ones_own_can_be_put_back(
    made: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was scrubbed from a command is explained, and the overlay is published beside the code."""
    own = RESNET50.variant("imagenet", RESNET50.weights)
    own.own_model = Path("/home/jdoe/mine.onnx")
    monkeypatch.setattr(staging, "benchmark_of", lambda config: own)
    overlay = tmp_path / "jdoe-lab"
    for name in ("configs/bench/resnet50.yaml", "engines/mine.py", ".git/config"):
        (overlay / name).parent.mkdir(parents=True, exist_ok=True)
        (overlay / name).write_text("# by jdoe\n")
    for scenario in EDGE:
        made.pair(scenario, overlays=(overlay,), model_path="/home/jdoe/mine.onnx", divisions=("open",))
    assert "engines/mine.py:1: holds a user: jdoe" in refused(WHO, "--retraining=yes")
    (overlay / "engines/mine.py").write_text("# by me\n")
    for path in made.folder.iterdir():
        shutil.rmtree(path)
    for scenario in EDGE:
        made.pair(scenario, overlays=(overlay,), model_path="/home/jdoe/mine.onnx", divisions=("open",))
    staged(WHO, "--retraining=yes")
    place = tree(tmp_path) / "results/bench/resnet50/Offline"
    readme = (place / "README.md").read_text()
    prepare, performance, _ = typed(readme)
    assert prepare[0] == ["download_data"] and performance[1].overrides["model_path"] == "<path-1>"
    assert "put the path of your copy of it there" in readme
    assert "- `<path-1>`: a path on the machine that it ran on; put the path there" in readme
    (name,) = re.findall(r"^export ENGINEROOM_PATH=\.\./(overlay-\w+)$", readme, re.MULTILINE)
    published = tree(tmp_path) / "src" / name
    assert files(published) == {"configs/bench/resnet50.yaml": b"# by <user-1>\n", "engines/mine.py": b"# by me\n"}
    assert json.loads((place / "measurements.json").read_text())["retraining"] == "yes"
    (overlay / "engines/mine.py").write_text("changed\n")
    shutil.rmtree(published)
    assert "this overlay is no longer what the run used" in refused(WHO, "--retraining=yes")


def test_a_description_that_lacks_what_only_a_person_knows_is_refused(
    made: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engineroom.actions import staging

    all_scenarios(made)
    monkeypatch.setattr(staging.systems, "read_all", dict)
    said = refused()
    assert (
        "systems/bench.yaml: a submission needs these fields" in said
        and "cooling" in said
        and "make add_system" in said
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--division=open",), "submitter: nobody is named who submits"),
        (("--submitter=A B",), "submitter is 'A B', must be letters"),
        (("--submitter=Acme", "--division=network"), "the network division is not in this version"),
        (("--submitter=Acme", "--category=phone"), "category is 'phone'"),
        (("--submitter=Acme", "--round=v1.0"), "no rules of a round 'v1.0' are here"),
        (("--submitter=Acme", "--submiter=Acme"), "unknown flag --submiter"),
    ],
)
def test_what_is_wrong_with_the_entry_is_told(made: Runs, flags: Sequence[str], said: str) -> None:
    assert said in refused(flags)
