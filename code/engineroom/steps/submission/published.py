"""Results of anybody, in one form: from a tree as submissions have it, or from MLCommons' summary_results.json.

Trees and summaries of the rounds from v2.0 on are read. What changed between them: the score of Server (scheduled rate
up to v4.0, completed rate since), names of scenarios in lower case, numbers as texts, tokens for language models. Which
field of LoadGen's log is the score stands in the rules of the rounds; here stand only the rounds that have none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engineroom import detail_log, rounds
from engineroom.errors import RequestError, shown
from engineroom.paths import display
from engineroom.steps.submission import rehearsal
from engineroom.steps.submission.entry import REHEARSAL
from engineroom.steps.submission.layout import ACCURACY, DETAIL_LOG, DIVISIONS, PERFORMANCE_RUN, SPELLED, model_mapping

SUMMARY = "summary_results.json"
ROUND = re.compile(r"v\d+\.\d+")
LOADGEN_VERSION = re.compile(r"v?(\d+\.\d+)")
NS_PER_MS = 1e6
RATE, TOKENS, LATENCY = "samples/s", "tokens/s", "ms"
UNITS = {  # of a summary; a query of Server is one sample
    "samples/s": RATE,
    "queries/s": RATE,
    "tokens/s": TOKENS,
    "latency (ms)": LATENCY,
    "latency (s)": "s",
    "milliseconds": LATENCY,
    "seconds": "s",
}
# The columns of the checker's table, which is what there is of v2.0 to v3.1, and their names in summaries since v4.0:
# mlcommons/inference at b66003e1, tools/submission/generate_final_report.py. Model and MlperfModel became UsedModel and
# Model.
NAMES_NOW = {
    "Organization": "Submitter",
    "Division": "Category",
    "SystemType": "Suite",
    "SystemName": "System",
    "number_of_nodes": "Nodes",
    "host_processor_model_name": "Processor",
    "accelerator_model_name": "Accelerator",
    "accelerators_per_node": "a#",
    "framework": "Software",
    "Result": "Performance_Result",
    "Units": "Performance_Units",
}

# The score in LoadGen's detail log in the rounds before those in code/engineroom/rounds: mlcommons/inference, tools/
# submission at the tags v2.0 to v4.1, RESULT_FIELD_NEW and RESULT_FIELD_BENCHMARK_OVERWRITE.
SCHEDULED, COMPLETED = "result_scheduled_samples_per_sec", "result_completed_samples_per_sec"
OFFLINE = "result_samples_per_second"
LAST_WITH_SCHEDULED_RATE = (4, 0)
TOKEN_FIELDS = {"Offline": "result_tokens_per_second", "Server": "result_completed_tokens_per_second"}
INFERRED_FIELDS = {
    "Offline": "result_inferred_tokens_per_second",
    "Server": "result_inferred_completed_tokens_per_second",
}
OWN_FIELDS: dict[tuple[int, ...], dict[str, dict[str, str]]] = {  # by round, and by what a benchmark's name begins with
    (4, 0): {"llama2-70b": {**TOKEN_FIELDS, "Server": COMPLETED}},
    (4, 1): {"llama2-70b": TOKEN_FIELDS, "mixtral-8x7b": TOKEN_FIELDS, "gptj": INFERRED_FIELDS},
}
STREAMS = {  # with what stands there instead in logs from before LoadGen knew early stopping
    "SingleStream": ("early_stopping_latency_ss", "result_90.00_percentile_latency_ns"),
    "MultiStream": ("early_stopping_latency_ms", "result_99.00_percentile_per_query_latency_ns"),
}
MAPPING = "model_mapping.json"


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a round. `value` is in `unit`; "" and 0 stand for what is not told.

    `inferred_from` is the scenario that was run instead. `cores` are those of one processor. `location` is its folder.
    """

    round: str
    division: str
    submitter: str
    category: str
    status: str
    system: str
    system_name: str
    benchmark: str
    scenario: str
    value: float
    unit: str
    valid: bool = True
    inferred_from: str = ""
    accuracy: str = ""
    nodes: int = 1
    accelerator: str = ""
    accelerators: int = 0  # of all nodes
    processor: str = ""
    processors: int = 0  # of all nodes
    cores: int = 0
    framework: str = ""
    weight_data_types: str = ""
    power: float | None = None
    power_unit: str = ""
    location: str = ""
    rehearsal: bool = False

    @property
    def per_accelerator(self) -> float | None:
        """The rate of one accelerator; None for a latency, or without accelerators."""
        return self.value / self.accelerators if self.accelerators and self.is_rate else None

    @property
    def per_core(self) -> float | None:
        """The rate of one core, of a system without accelerators."""
        cores = self.processors * self.cores
        return self.value / cores if cores and not self.accelerators and self.is_rate else None

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")


def read(path: Path, round_name: str = "") -> tuple[list[Published], list[str]]:
    """Return the results in a tree or a summary, and what was passed over and why.

    Raises RequestError if there is neither, or none of it can be read.
    """
    if not path.exists():
        raise RequestError("there is no such folder or file", where=display(path))
    if path.is_file():
        return _read_summary(path, round_name)
    if any((path / division).is_dir() for division in DIVISIONS):
        return _read_tree(path, round_name)
    if (path / SUMMARY).is_file():
        return _read_summary(path / SUMMARY, round_name)
    raise RequestError(
        f"holds neither {', '.join(DIVISIONS)} nor {SUMMARY}",
        where=display(path),
        mend="name the folder that holds the divisions, or the file",
    )


# Trees


def _read_tree(root: Path, round_name: str) -> tuple[list[Published], list[str]]:
    found: list[Published] = []
    passed_over: list[str] = []
    named = round_name or next(iter(ROUND.findall(root.resolve().name)), "")
    for division in DIVISIONS:
        for results in sorted((root / division).glob("*/results")):
            for folder in sorted(results.glob("*/*/*")):
                if folder.is_dir() and folder.name.lower() in SPELLED:
                    try:
                        found.append(_result(root, folder, named))
                    except RequestError as error:
                        passed_over.append(str(error).replace("\n", ";"))
    return found, passed_over


def _result(root: Path, folder: Path, round_name: str) -> Published:
    benchmark, system_folder = folder.parent, folder.parent.parent
    submitter = system_folder.parent.parent
    system, scenario = system_folder.name, SPELLED[folder.name.lower()]
    log_path = folder / PERFORMANCE_RUN / DETAIL_LOG
    if not log_path.is_file():
        raise RequestError("has no log of LoadGen's", where=display(log_path))
    log = detail_log.read(log_path)
    described = _json(submitter / "systems" / f"{system}.json")
    name = round_name or _round_of(log)
    mapped = model_mapping(submitter / MAPPING).get(benchmark.name, benchmark.name)
    value, unit, inferred_from = _score(log, scenario, name, mapped)
    nodes = _whole(described.get("number_of_nodes"), 1)
    measured = _measurements(submitter, folder, system, benchmark.name, folder.name)
    return Published(
        round=name,
        division=submitter.parent.name,
        submitter=submitter.name,
        category=str(described.get("system_type", "")),
        status=str(described.get("status", "")),
        system=system,
        system_name=str(described.get("system_name", "")),
        benchmark=benchmark.name,
        scenario=scenario,
        value=value,
        unit=unit,
        valid=log.get("result_validity") == "VALID",
        inferred_from=inferred_from,
        accuracy=_accuracy(folder / "accuracy" / ACCURACY),
        nodes=nodes,
        accelerator=_of_accelerator(described),
        accelerators=nodes * _whole(described.get("accelerators_per_node"), 0),
        processor=str(described.get("host_processor_model_name", "")),
        processors=nodes * _whole(described.get("host_processors_per_node"), 1),
        cores=_whole(described.get("host_processor_core_count"), 0),
        framework=str(described.get("framework", "")),
        weight_data_types=str(measured.get("weight_data_types", "")),
        location=str(folder.relative_to(root)),
        rehearsal=rehearsal.is_named(system) or REHEARSAL in measured,
    )


def _score(log: Mapping[str, Any], scenario: str, round_name: str, benchmark: str) -> tuple[float, str, str]:
    """Return the score, its unit, and the scenario that was run instead, if it was another one."""
    ran = str(log.get("effective_scenario") or log.get("requested_scenario") or scenario)
    is_server = scenario in ("Server", "Interactive")
    if ran == scenario or (is_server and ran == "Server"):
        return *_own_score(log, scenario, ran, round_name, benchmark), ""
    way = next((each for each in _rules(round_name).inferred.ways if (each.by, each.scenario) == (ran, scenario)), None)
    value = _figure(log, way.field) if way else 0.0
    if way is None or not value:
        raise RequestError(f"{scenario} cannot be inferred from a log of {ran}", where=f"{round_name} {scenario}")
    score = way.factor / value if way.inverse else way.factor * value
    return (score / NS_PER_MS, LATENCY, ran) if scenario in STREAMS else (score, RATE, ran)


def _own_score(log: Mapping[str, Any], scenario: str, ran: str, round_name: str, benchmark: str) -> tuple[float, str]:
    names = (*_fields(round_name, benchmark, scenario, ran), *STREAMS.get(scenario, ()))
    name, value = _first(log, names)
    unit = unit_of(name)
    return (value / NS_PER_MS, unit) if unit == LATENCY else (value, unit)


def unit_of(name: str) -> str:
    """Return the unit of a field of LoadGen's, which is in its name; that of a latency, in ns there, is ms here."""
    if name.startswith("early_stopping_latency") or name.endswith("_ns"):
        return LATENCY
    return TOKENS if name.endswith("tokens_per_second") else RATE


def _rules(round_name: str) -> rounds.Round:
    """Return the rules of a round, of one that has none here the newest."""
    known = rounds.names()
    return rounds.read(round_name if round_name in known else known[-1])


def _fields(round_name: str, benchmark: str, scenario: str, ran: str) -> tuple[str, ...]:
    """Return the fields that can be the score, the one that the round names first.

    The others are for the open division: its models need not tell what their benchmark's would.
    """
    number = number_of(round_name)
    if number > max(OWN_FIELDS):
        rules = _rules(round_name)
        model = rules.model(benchmark)
        tokens = TOKEN_FIELDS.get(ran) if model is None else None  # a language model, if it counts them at all
        named = (tokens, rules.score_field(model, scenario, ran), rules.score_field(None, scenario, ran))
    else:
        own = OWN_FIELDS.get(number, {})
        model_fields: Mapping[str, str] = next((own[name] for name in own if benchmark.startswith(name)), {})
        server = (SCHEDULED, COMPLETED) if number <= LAST_WITH_SCHEDULED_RATE else (COMPLETED, SCHEDULED)
        named = (model_fields.get(ran), *(server if ran == "Server" else (OFFLINE,) if ran == "Offline" else ()))
    return tuple(dict.fromkeys(name for name in named if name))


def _first(log: Mapping[str, Any], names: Sequence[str]) -> tuple[str, float]:
    for name in names:
        if value := _figure(log, name):
            return name, value
    raise RequestError(f"LoadGen's log has no {' or '.join(names)}")


def _figure(log: Mapping[str, Any], name: str) -> float:
    """Return a figure of LoadGen's log, 0 where it has none. Raises RequestError for what is no finite number."""
    told = log.get(name) or 0
    try:
        value = float(told)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise RequestError(f"{name} is {shown(told)} in LoadGen's log, must be a number")
    return value


def number_of(round_name: str) -> tuple[int, ...]:
    """Return what sorts a round among others; one whose name has no number is the newest."""
    return tuple(int(part) for part in re.findall(r"\d+", round_name)) or (99,)


def _round_of(log: Mapping[str, Any]) -> str:
    """Return the round by its seeds where they are known here, else by the version of LoadGen."""
    for name in rounds.names():
        if all(log.get(f"effective_{seed}") == value for seed, value in rounds.read(name).seeds.all().items()):
            return name
    version = LOADGEN_VERSION.match(str(log.get("loadgen_version", "")))
    return f"v{version[1]}" if version else ""


def _accuracy(path: Path) -> str:
    """Return what the scorer said, without the hash of the log."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    told = [line.strip() for line in lines if re.search(r"\d", line) and not line.startswith("hash=")]
    return told[0][:200] if told else ""


def _measurements(submitter: Path, results: Path, system: str, benchmark: str, scenario: str) -> Mapping[str, Any]:
    """Return what was done to the model: in one file beside the results, or in a tree of its own up to v5.1."""
    beside = submitter / "measurements" / system / benchmark / scenario
    paths = [results / "measurements.json", *sorted(beside.glob(f"{system}*.json"))]
    return next((_json(path) for path in paths if path.is_file()), {})


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_accelerator(described: Mapping[str, Any]) -> str:
    name = str(described.get("accelerator_model_name", ""))
    return "" if name.upper() in ("N/A", "NONE", "-") else name


def _whole(value: object, otherwise: int) -> int:
    """Return the number that a text begins with, as descriptions have it: 8, "8", "8 (2 sockets)", 32.0."""
    found = re.match(r"\s*(\d+)", str(value))
    return int(found[1]) if found else otherwise


# Summaries


def _read_summary(path: Path, round_name: str) -> tuple[list[Published], list[str]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot be read: {error}", where=display(path)) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RequestError("is no list of results", where=display(path))
    found: list[Published] = []
    passed_over: list[str] = []
    for place, row in enumerate(rows, 1):
        try:
            found.append(_row(row, round_name))
        except (KeyError, TypeError, ValueError) as error:
            passed_over.append(f"{display(path)}: result {place}: {type(error).__name__} {error}")
    return found, passed_over


def _row(told: Mapping[str, Any], round_name: str) -> Published:
    row = _named_as_now(told)
    nodes = _whole(row.get("Nodes"), 1)
    has_power = str(row.get("has_power")).lower() == "true"
    return Published(
        round=round_name or str(row.get("version", "")),
        division=str(row["Category"]),
        submitter=str(row["Submitter"]),
        category=str(row.get("Suite", "")),
        status=str(row.get("Availability", "")),
        system=str(row["Platform"]),
        system_name=str(row.get("System", "")),
        benchmark=str(row.get("UsedModel") or row["Model"]),
        scenario=SPELLED[str(row["Scenario"]).lower()],
        value=float(row["Performance_Result"]),
        unit=_told_unit(row, round_name),
        inferred_from="another scenario" if str(row.get("inferred", 0)) not in ("0", "", "0.0") else "",
        accuracy=str(row.get("Accuracy", "")),
        nodes=nodes,
        accelerator=_of_accelerator({"accelerator_model_name": row.get("Accelerator") or ""}),
        accelerators=nodes * _whole(row.get("a#"), 0),
        processor=str(row.get("Processor", "")),
        processors=nodes * _whole(row.get("host_processors_per_node"), 1),
        cores=_whole(row.get("host_processor_core_count"), 0),
        framework=str(row.get("Software", "")),
        weight_data_types=str(row.get("weight_data_types", "")),
        power=float(row["Power_Result"]) if has_power and "Power_Result" in row else None,
        power_unit=str(row.get("Power_Units", "")) if has_power else "",
        location=str(row.get("Location", "")),
    )


def _named_as_now(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row by the names that summaries have now. Where it bears both, these count."""
    models = {"UsedModel": row.get("Model"), "Model": row["MlperfModel"]} if "MlperfModel" in row else {}
    old_first = sorted(row, key=lambda name: name not in NAMES_NOW)
    return {**{NAMES_NOW.get(name, name): row[name] for name in old_first}, **models}


def _told_unit(row: Mapping[str, Any], round_name: str) -> str:
    """Return the unit of a row. The field decides: v5.1's summary calls whisper's tokens/s samples/s."""
    said = str(row.get("Performance_Units") or "").lower()
    told, scenario = UNITS.get(said, said), SPELLED[str(row["Scenario"]).lower()]
    name = round_name or str(row.get("version", ""))
    if told != RATE or name not in rounds.names():
        return told
    rules = rounds.read(name)
    ran = "Server" if scenario == "Interactive" else scenario
    return unit_of(rules.score_field(rules.model(str(row.get("Model", ""))), scenario, ran))


# As tables

COLUMNS = (
    *(
        "round",
        "division",
        "submitter",
        "system",
        "benchmark",
        "scenario",
        "value",
        "unit",
        "per_accelerator",
        "per_core",
    ),
    *(
        "accuracy",
        "valid",
        "inferred_from",
        "category",
        "status",
        "system_name",
        "nodes",
        "accelerator",
        "accelerators",
    ),
    *("processor", "processors", "cores", "framework", "weight_data_types", "power", "power_unit", "location"),
    "rehearsal",
)


def rows(found: Iterable[Published]) -> Iterator[dict[str, Any]]:
    """Yield each result as plain data, with what follows from it."""
    for each in found:
        yield {name: getattr(each, name) for name in COLUMNS}
