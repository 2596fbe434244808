"""The rules of the rounds: what the files say, held against LoadGen itself and against the statistics behind it."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

import pytest

from engineroom import rounds
from engineroom.config import fields
from engineroom.errors import RequestError
from engineroom.steps import native
from engineroom.terms import Scenario

NEWEST = rounds.names()[-1]
PLAIN = (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM, Scenario.SERVER)


@cache
def loadgen() -> Path:
    """Return the folder of LoadGen's sources, those that the harness is built from."""
    return native.loadgen_source()


@cache
def built_in() -> dict[str, float]:
    """Return the mlperf.conf that is compiled into LoadGen."""
    text = (loadgen() / "mlperf_conf.h").read_text(encoding="utf-8")
    return {key: float(value) for key, value in re.findall(r'"(\S+) = ([0-9.]+)\\n"', text)}


def test_the_default_is_the_newest_round_and_every_round_can_be_asked_for() -> None:
    assert fields.defaults()["round"] == NEWEST
    assert fields.choices_of("round") == list(rounds.names())
    assert {name: rounds.read(name).round for name in rounds.names()} == {name: name for name in rounds.names()}


@pytest.mark.parametrize("name", rounds.names())
def test_every_section_says_its_source(name: str) -> None:
    sections = (getattr(rounds.read(name), each) for each in rounds.Round.__struct_fields__ if each != "round")
    assert all(len(section.source) > 20 for section in sections)


def test_loadgen_has_the_seeds_of_the_newest_round() -> None:
    text = (loadgen() / "mlperf_conf.h").read_text(encoding="utf-8")  # as whole numbers: a float would round them
    seeds = {name: int(value) for name, value in re.findall(r'"\*\.\*\.(\w+_rng_seed) = (\d+)\\n"', text)}
    assert rounds.read(NEWEST).seeds.all().items() <= seeds.items()
    version, _ = native.loadgen_pin()
    assert [name for name in rounds.names() if version in rounds.read(name).loadgen.versions] == [NEWEST]


@pytest.mark.parametrize("scenario", PLAIN)
def test_durations_percentiles_and_queries_are_loadgens(scenario: Scenario) -> None:
    rules = rounds.read(NEWEST)
    assert built_in()[f"*.{scenario}.min_duration"] == rules.duration.min_duration_ms
    assert built_in()[f"*.{scenario}.target_latency_percentile"] == rules.percentiles.of(scenario)
    assert built_in().get(f"*.{scenario}.samples_per_query") == rules.samples_per_query.of(scenario)


@pytest.mark.parametrize("name", rounds.read(NEWEST).benchmarks.models)
def test_the_limits_of_a_benchmark_are_loadgens(name: str) -> None:
    model = rounds.read(NEWEST).benchmarks.models[name]
    ours = {
        "*.performance_sample_count_override": model.performance_sample_count,
        "Offline.min_query_count": model.offline_min_samples,
        "Server.target_latency": model.latency_ms.get(Scenario.SERVER),
    }
    if name == "wan-2.2-t2v-a14b":  # LoadGen has the size of the data set, the submission checker asks for fewer
        ours = dict.fromkeys(ours)
    said = {key: built_in().get(f"{name}.{key}") for key in ours}
    assert {key: value for key, value in said.items() if value and ours[key]} == {
        key: value for key, value in ours.items() if value and said[key]
    }
    if name == "resnet50":  # nothing of it has been left out by the comparison
        assert said == ours == {**ours, "Server.target_latency": 15}


@pytest.mark.parametrize("scenario", PLAIN)
def test_early_stopping_needs_what_the_binomial_distribution_says(scenario: Scenario) -> None:
    """The rules: the chance of so few queries over the limit, were the percentile missed, is at most 1%.

    Server may have none over its limit; a stream must have one more than it leaves out (appendix, "Early Stopping").
    """
    rules, over = rounds.read(NEWEST), 0 if scenario is Scenario.SERVER else 1
    percentile = (rules.percentiles.of(scenario) or 0) / 100

    def chance(queries: int) -> float:
        return sum(
            math.comb(queries, each) * (1 - percentile) ** each * percentile ** (queries - each)
            for each in range(over + 1)
        )

    least = next(queries for queries in range(2, 2000) if chance(queries) <= 0.01)
    assert rules.early_stopping.of(scenario) == least


@pytest.mark.parametrize("name", rounds.read(NEWEST).benchmarks.models)
def test_the_limits_per_token_are_loadgens(name: str) -> None:
    ours = rounds.read(NEWEST).benchmarks.models[name].token_latency_ms
    for scenario, limits in ours.items():
        model = re.sub(r"-99(\.9)?$", "", name).replace("llama3.1", "llama3_1")
        model += "-interactive" if scenario == "Interactive" else ""
        told = {key: built_in()[f"{model}.Server.{key}_latency"] for key in ("ttft", "tpot")}
        assert told == {"ttft": limits.ttft, "tpot": limits.tpot}
    assert ours or not built_in().get(f"{name}.Server.ttft_latency")


@pytest.mark.parametrize("name", rounds.names())
def test_scenarios_categories_and_gates_fit_together(name: str) -> None:
    rules = rounds.read(name)
    for model in rules.benchmarks.models.values():
        either = {*model.edge.all(), *model.datacenter.all(), *model.datacenter_edge.all()}
        assert either and either <= set(rules.results.fields)
        assert set(model.latency_ms) | set(model.token_latency_ms) <= {"Server", "Interactive"}
        assert all(
            gate.least is None or gate.most is None or gate.least < gate.most for gate in model.accuracy.values()
        )
        assert set(model.accuracy) <= set(rules.metrics.before)
        for scenario in model.accuracy_sample_counts:
            assert scenario in either
    assert set(rules.benchmarks.also_named.values()) <= set(rules.benchmarks.models)
    assert set(rules.benchmarks.checker_names) <= set(rules.benchmarks.models)


def test_one_of_server_and_interactive_is_required_where_either_will_do() -> None:
    scenarios = rounds.read("v6.1").benchmarks.models["llama3.1-8b"].scenarios("datacenter")
    assert scenarios.missing(["Offline", "Interactive"]) == scenarios.missing(["Server", "Offline"]) == ()
    assert scenarios.missing(["Server"]) == ("Offline",)
    assert scenarios.missing([]) == ("Offline", "Server or Interactive")
    resnet50 = rounds.read("v6.1").benchmarks.models["resnet50"]
    assert resnet50.scenarios("edge").missing(["Offline"]) == ("SingleStream", "MultiStream")
    assert resnet50.scenarios("datacenter").all() == ()
    assert rounds.read("v5.0").benchmarks.models["resnet50"].scenarios("datacenter").all() == ("Server", "Offline")


def test_a_score_may_have_an_upper_limit_or_another_one_by_scenario() -> None:
    models = rounds.read("v6.1").benchmarks.models
    tokens = models["llama2-70b-99.9"].accuracy["TOKENS_PER_SAMPLE"]
    assert (tokens.least, tokens.most) == (pytest.approx(0.9 * 294.45), pytest.approx(1.1 * 294.45))
    f1 = models["qwen3-vl-235b-a22b"].accuracy["F1_HIERARCHICAL"]
    assert f1.least_in("Interactive") == pytest.approx(0.779922) and f1.least_in("Offline") == pytest.approx(0.782397)
    assert models["qwen3-vl-235b-a22b"].accuracy_samples("Interactive") == 8000
    assert models["gpt-oss-120b"].accuracy_samples("Offline") == 4395
    assert models["resnet50"].accuracy_samples("Offline") == 50_000


def test_the_layout_changed_with_v6_0() -> None:
    old, new = (rounds.read(name).layout for name in ("v5.1", "v6.0"))
    names = {"division": "closed", "submitter": "us", "system": "box", "benchmark": "resnet50", "scenario": "Offline"}
    of_system = "closed/us/{}/box/resnet50/Offline"
    assert new.results.format(**names) == of_system.format("results") == old.results.format(**names)
    assert new.measurements == new.audits == new.results
    assert old.measurements.format(**names) == of_system.format("measurements")
    assert old.audits.format(**names) == of_system.format("compliance")
    assert (old.code.format(**names), new.code.format(**names)) == ("closed/us/code", "closed/us/src")
    assert old.system == new.system and old.accuracy_files == new.accuracy_files


def test_every_key_of_user_conf_is_one_that_loadgen_reads_there() -> None:
    """And the other way round. What LoadGen reads from mlperf.conf alone, such as the seeds, is in no list."""
    source = (loadgen() / "test_settings_internal.cc").read_text(encoding="utf-8")
    built_in_only = source[
        source.index("conf_type == 0) {\n    lookupkv") : source.index("// keys that can be overriden")
    ]
    read = set(re.findall(r'lookupkv\([^;]*?"(\w+)",\s*(?:&|nullptr|0)', source))
    conf = rounds.read(NEWEST).user_conf
    named = {key.rpartition(".")[2] for key in (*conf.allowed, *conf.open_only, *conf.by_effect)}
    assert named == read - set(re.findall(r'"(\w+)"', built_in_only))
    assert {"qsl_rng_seed", "schedule_rng_seed"} <= read - named


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("min_duration_ms", "min_duration"), "unknown field `min_duration`"),
        (("  source: rules", "  sauce: rules"), "unknown field `sauce`"),
        (("600000", "ten minutes"), "Expected `int`"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = tmp_path / "v9.9.yaml"
    path.write_text((rounds.FOLDER / f"{NEWEST}.yaml").read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(RequestError, match=said):
        rounds.read_file(path)


def test_an_unknown_round_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match=NEWEST):
        rounds.read("v6.2")


def test_a_system_of_both_categories_infers_only_what_the_datacenter_does_not_have() -> None:
    def inferred(name: str, benchmark: str, system_type: str) -> set[str]:
        rules = rounds.read(name)
        return {way.scenario for way in rules.inferences(rules.benchmarks.models[benchmark], system_type)}

    assert inferred("v6.1", "resnet50", "edge") == inferred("v5.0", "resnet50", "edge") == {"MultiStream", "Offline"}
    assert inferred("v6.1", "resnet50", "datacenter") == set()
    assert inferred("v6.1", "resnet50", "datacenter,edge") == {"MultiStream", "Offline"}, "it has no resnet50"
    assert inferred("v5.0", "resnet50", "datacenter,edge") == {"MultiStream"}
