"""Shows settings: what they are merged to and from where, what each one means, and the schemas that editors use."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engineroom import datasets, legacy, registry, run_args, systems, terminal
from engineroom.actions.work import Work
from engineroom.actions.works import works
from engineroom.config import Resolved, fields, units
from engineroom.config.layers import VARIABLE, Kind, files, unread
from engineroom.config.rules import RULES
from engineroom.config.schema import settings_schema
from engineroom.config.values import ranges
from engineroom.errors import ExitCode, RequestError, did_you_mean, plain
from engineroom.paths import CONFIGS, DATA_MAPS, ROOT, SYSTEMS, display, layers, write_text
from engineroom.steps.submission import entry
from engineroom.terms import Scenario

COLUMNS = ("Setting", "Value", "Scenario", "Origin")
ALL = "all"  # scenarios
SCHEMA = "schema.json"
PATHS_SHOWN = 3  # of many


def config(argv: Sequence[str]) -> int:
    """Print the merged settings of each run, each with its origin."""
    request, asked = works(argv)
    found = [(work, {each: work.resolve(each, request.test_modes[0]) for each in work.scenarios}) for work in asked]
    if request.json:
        print(json.dumps([_as_json(resolved) for _, runs in found for resolved in runs.values()], indent=1))
        return ExitCode.GOOD
    for work, runs in found:
        title = f"{work.benchmark.name} on {work.system}"
        _table(title, list(_rows(runs)))
        read = files(work.benchmark.name, work.system, layers(CONFIGS))
        terminal.note(f"read: {', '.join(map(display, read)) or 'no file'}")
        own = CONFIGS / work.system / f"{work.benchmark.name}.yaml"
        if not any(path.parent.name == work.system for path in read):
            terminal.note(f"settings for this system alone would stand in {display(own)}")
    for why, paths in unread(layers(CONFIGS), list(registry.find("benchmarks"))).items():
        more = f" and {len(paths) - PATHS_SHOWN:,} more" if len(paths) > PATHS_SHOWN else ""
        terminal.note(f"not read: {', '.join(map(display, paths[:PATHS_SHOWN]))}{more} ({why})")
    return ExitCode.GOOD


def _table(title: str, rows: list[tuple[str, str, str, str]]) -> None:
    """Print the settings; where four columns do not fit, two: names of files, to be copied, shall stay whole."""
    if terminal.fits(COLUMNS, rows):
        terminal.table(title, COLUMNS, rows)
        return
    narrow = []
    for name, value, scenario, origin in rows:
        where = f"\n{' '.join(scenario.split())}" if scenario != ALL else ""
        narrow.append((f"{name}{where}", f"{value}\n{origin}"))
    terminal.table(title, ("Setting", "Value and origin"), narrow, whole=("Setting",))


def _as_json(resolved: Resolved) -> dict[str, Any]:
    values = msgspec.to_builtins(resolved.config)
    return {
        **{name: values[name] for name in fields.IDENTITY},
        "settings": {
            name: {
                "value": values[name],
                "unit": fields.about(name).unit,
                "origin": resolved.origins[name].text,
                "kind": resolved.origins[name].kind,
            }
            for name in fields.settable()
        },
        "warnings": list(resolved.warnings),
    }


def _rows(runs: Mapping[Scenario, Resolved]) -> Iterator[tuple[str, str, str, str]]:
    """Yield one row per setting and origin; scenarios that share both share the row."""
    for name in fields.settable():
        about = fields.about(name)
        used = [
            scenario
            for scenario, resolved in runs.items()
            if scenario in (about.scenarios or runs)
            and resolved.config.engine in (_engines(name) or [resolved.config.engine])
        ]
        shared: dict[tuple[str, str], list[Scenario]] = {}
        for scenario in used:
            resolved = runs[scenario]
            shared.setdefault((_value(name, resolved), resolved.origins[name].text), []).append(scenario)
        for (value, origin), scenarios in shared.items():
            yield name, value, ALL if len(scenarios) == len(runs) > 1 else ", ".join(scenarios), origin


def _value(name: str, resolved: Resolved) -> str:
    value, about = getattr(resolved.config, name), fields.about(name)
    if value is None:
        return f"none: {about.null}"
    if fields.is_words(name):
        return ", ".join(value) or "empty"
    if fields.is_list(name):
        return ranges(value) or "empty"
    if fields.is_switch(name):
        return str(value).lower()
    if not isinstance(value, int | float):
        return str(value)
    text = units.written(value, about.unit)
    readable = value / 1e6 if about.unit == "ns" else 0
    return f"{text} ({readable:,g} ms)" if readable >= 1 else text


VALUES = {"": "alone", "*": "any value"}  # how legacy.FLAGS is told
HANGING = 12  # columns before the text of a line of `explain`


NAMES = {"NAME ...": "settings, ours or NVIDIA's or LoadGen's names for them; none: a list of all"}


def explain(argv: Sequence[str]) -> int:
    """Say what a setting means, who uses it, and where it is set now."""
    if run_args.asks_help(argv):
        raise run_args.Help({**NAMES, **run_args.flags()})
    names = [word for place, word in enumerate(argv) if not any(each.startswith("--") for each in argv[: place + 1])]
    known = [_known(name) for name in names]
    request, asked = works(argv[len(names) :])
    if not names:
        rows = [(name, fields.in_short(name), fields.about(name).unit) for name in fields.settable()]
        if request.json:
            print(json.dumps([dict(zip(("name", "meaning", "unit"), row, strict=True)) for row in rows], indent=1))
        else:
            terminal.table("Settings", ("Setting", "Meaning", "Unit"), rows, whole=("Setting", "Unit"))
            terminal.note('more on one of them: make explain RUN_ARGS="batch_size"')
        return ExitCode.GOOD
    told = [fact for name, ours in zip(names, known, strict=True) for fact in _told(name, ours, asked)]
    if request.json:
        print(json.dumps(told, indent=1))
        return ExitCode.GOOD
    for place, facts in enumerate(told):
        if place:
            print()
        _print(facts)
    return ExitCode.GOOD


def _known(name: str) -> list[str]:
    """Return the fields that a name stands for; [] for a flag or target. Raises RequestError with the nearest name."""
    name = name.replace("-", "_")
    if name in fields.names():
        return [name]
    if name in legacy.FIELDS:
        return [legacy.FIELDS[name]]
    by_loadgen = fields.by_loadgen(name)
    if by_loadgen or name in (*run_args.flags(), *legacy.FLAGS, *legacy.TARGETS, *_targets()):
        return by_loadgen
    mend = did_you_mean(name, [*fields.names(), *legacy.FIELDS, *run_args.flags()], otherwise="make explain lists them")
    raise RequestError(f"unknown setting {plain(name)}", where=run_args.WHERE, mend=mend)


def _targets() -> dict[str, str]:
    """Return the Makefile's targets, each with what its help says."""
    lines = re.findall(r"^([a-z0-9_]+):.*#- (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return dict(lines)


def _told(name: str, ours: list[str], asked: Sequence[Work]) -> Iterator[dict[str, Any]]:
    name = name.replace("-", "_")
    if not ours:
        yield {"name": name, **_of_flag(name)}
    for each in ours:
        yield _of_field(each, asked) | ({} if name == each else {"asked_as": name})


def _of_flag(name: str) -> dict[str, Any]:
    if name in legacy.FLAGS:
        values = [
            {"value": VALUES.get(value, value), "flags": flags, "words": words}
            for value, (flags, words) in legacy.FLAGS[name].items()
        ]
        return {"meaning": "a flag of NVIDIA's", "values": values}
    if name in legacy.TARGETS:
        return {"meaning": f"a target of NVIDIA's: {legacy.TARGETS[name]}"}
    flags = run_args.flags()
    return {"meaning": f"a flag: {flags[name]}" if name in flags else f"a target of make: {_targets()[name]}"}


def _of_field(name: str, asked: Sequence[Work]) -> dict[str, Any]:
    about = fields.about(name)
    nvidia = [theirs for theirs, ours in legacy.FIELDS.items() if ours == name]
    return {
        "name": name,
        "meaning": about.meaning,
        "type": fields.kind_of(name),
        "unit": about.unit,
        "usual": about.usual,
        "default": _default(name),
        "flag": None if name in fields.IDENTITY else f"--{name}",
        "variable": None if name in fields.IDENTITY else f"{VARIABLE}{name.upper()}",
        "nvidia": nvidia,
        "loadgen": about.loadgen,
        "engines": _engines(name),
        "scenarios": about.scenarios,
        "now": [
            {
                "benchmark": work.benchmark.name,
                "scenario": scenario,
                "value": msgspec.to_builtins(getattr(resolved.config, name)),
                "text": _value(name, resolved),
                "origin": resolved.origins[name].text,
                "over": [
                    {"value": msgspec.to_builtins(setting.value), "origin": setting.origin.text}
                    for setting in resolved.said[name][:-1]
                ],
            }
            for work in asked
            for scenario in work.scenarios
            if scenario in (about.scenarios or work.scenarios)
            for resolved in [work.resolve(scenario, work.request.test_modes[0])]
        ],
    }


def _engines(name: str) -> list[str]:
    """Return the engines to which a setting means something, [] if it is every one."""
    only, known = fields.about(name).engines, registry.find("engines")
    found = [
        engine
        for engine, plugin in known.items()
        if engine in (only or known) and name not in plugin.load().ENGINE.ignores
    ]
    return found if len(found) < len(known) else []


def _default(name: str) -> str:
    if name in RULES:
        rule = RULES[name]
        return f"by rule {rule.__name__}: {(inspect.getdoc(rule) or '').splitlines()[0]}"
    if name in fields.IDENTITY:
        return "said by the request"
    value = fields.defaults()[name]
    if value is None:
        return f"none: {fields.about(name).null}"
    return "empty" if value == () else str(value).lower() if isinstance(value, bool) else f"{value}"


def _print(facts: Mapping[str, Any]) -> None:
    print(f"{facts['name']}: {facts['meaning']}")
    for each in facts.get("values", ()):
        served = "refused: " if each["flags"] is None else "".join(f"{flag}: " for flag in each["flags"])
        terminal.note(f"  {each['value']:<9} {served}{each['words']}", hanging=HANGING)
    if "type" not in facts:
        return
    usual = f"; usual is {facts['usual'][0]:,.10g} to {facts['usual'][1]:,.15g}" if facts["usual"] else ""
    flag = (
        f"{facts['flag']}=, {facts['variable']}=, or `{facts['name']}:` in a file of configs/" if facts["flag"] else ""
    )
    loadgen = facts["loadgen"] and facts["loadgen"] + (", there in ms" if facts["unit"] == "ns" else "")
    lines = {
        "asked as": f"{facts['asked_as']}" if "asked_as" in facts else "",
        "type": facts["type"] + usual,
        "unit": facts["unit"],
        "default": facts["default"],
        "set by": flag,
        "NVIDIA": ", ".join(facts["nvidia"]),
        "LoadGen": loadgen,
        "used by": f"{_any(facts['engines'], 'engine')}, {_any(facts['scenarios'], 'scenario')}",
    }
    for key, text in lines.items():
        if text:
            terminal.note(f"  {key:<9} {text}", hanging=HANGING)
    for now in facts["now"]:
        told = f"{now['benchmark']} {now['scenario']}: {now['text']}, {now['origin']}"
        terminal.note(f"  now       {told}", hanging=HANGING)
        for over in reversed(now["over"]):
            if over["origin"] != Kind.DEFAULT:
                terminal.note(f"{'':{HANGING}}over {over['value']}, {over['origin']}")


def _any(names: Sequence[str], kind: str) -> str:
    return f"{kind} {', '.join(names)}" if names else f"every {kind}"


def schemas(argv: Sequence[str]) -> int:
    """Write the JSON Schemas of configs/, systems/ and data_maps/, beside the files that they are for."""
    asked = run_args.options(argv, {"output=FOLDER": "write into FOLDER/configs, /systems and /data_maps instead"})
    if (output := asked.get("output")) == "":
        raise RequestError("no folder is named", where=f"{run_args.WHERE}: --output")
    for path, schema in all_schemas().items():
        target = Path(output) / path.parent.name / path.name if output else path
        write_text(target, json.dumps(schema, indent=1) + "\n")
        print(f"wrote {display(target)}")
    return ExitCode.GOOD


def all_schemas() -> dict[Path, dict[str, Any]]:
    """Return each schema of YAML files by the file that it is kept in."""
    return {
        CONFIGS / SCHEMA: settings_schema(),
        CONFIGS / entry.SCHEMA: entry.schema(),
        SYSTEMS / SCHEMA: systems.schema(),
        DATA_MAPS / SCHEMA: datasets.schema(),
    }
