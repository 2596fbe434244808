"""Compares two records of an inventory: of runs, of machines, or of what is here now."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engineroom import runs, yaml_file
from engineroom.detection import Machine
from engineroom.errors import RequestError, plain, shown
from engineroom.paths import RUNS, display, typed
from engineroom.steps.inventory.words import machine_in_words

HERE = "this"  # stands for what is found here and now
ENVIRONMENT = "env.json"
NAMED = 5  # runs that a message names
BYTES_MAX = 50_000_000  # a record has some kilobytes

Groups = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Record:
    """What is on record of one run or machine: by group, each fact in words. `name` is how a person asks for it."""

    name: str
    groups: Groups


@dataclass(frozen=True)
class Difference:
    """What two records differ in: by group and fact, the words of each.

    `one_sided` names the facts that only one of them has on record, where that does not mean that the other had none;
    a group without names is on record as a whole in only one.
    """

    a: str
    b: str
    differences: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    one_sided: dict[str, list[str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether nothing differs of what both have on record."""
        return not self.differences


# Groups that are on record whole or not at all: what is missing in one of them was not there.
WHOLE = {"packages": "not installed", "settings": "not set", "engines": "none", "benchmarks": "none"}


def compare(a: Record, b: Record) -> Difference:
    """Return what differs between two records."""
    found = Difference(a.name, b.name)
    for title in dict.fromkeys((*a.groups, *b.groups)):
        left, right = a.groups.get(title, {}), b.groups.get(title, {})
        if title not in a.groups or title not in b.groups:
            found.one_sided[title] = []
            continue
        absent = WHOLE.get(title)
        for name in dict.fromkeys((*left, *right)):
            if absent is None and (name not in left or name not in right):
                found.one_sided.setdefault(title, []).append(name)
                continue
            pair = left.get(name, absent or ""), right.get(name, absent or "")
            if pair[0] != pair[1]:
                found.differences.setdefault(title, {})[name] = pair
    return found


# Finding and reading records


def find_record(name: str, here: Callable[[], Mapping[str, Any]], *, folder: Path = RUNS) -> Record:
    """Return the record that `name` asks for: `this`, a run's folder, a part of its name, its env.json, or a file that
    `make info RUN_ARGS=--json` wrote. `here` takes the inventory. Raises RequestError if there is none, or several.
    """
    if name == HERE:
        return Record("this", _groups(here(), HERE))
    path = typed(name)
    if not os.path.lexists(path):
        path = _run(name, folder)
    if path.is_dir():
        path = path / ENVIRONMENT
    facts = _read(path)
    groups = _groups(facts, display(path))
    is_run = path.name == ENVIRONMENT
    return Record(path.parent.name if is_run else display(path), {**groups, **(_of_run(path.parent) if is_run else {})})


def _run(name: str, folder: Path) -> Path:
    """Return the folder of the run whose name is or contains `name`."""
    names = sorted(path.name for path in folder.glob("*") if (path / ENVIRONMENT).is_file())
    if name in names:
        return folder / name
    matches = [each for each in names if name in each]
    if len(matches) == 1:
        return folder / matches[0]
    newest = "\n    ".join([f"the newest in {display(folder)}:", *(matches or names)[-NAMED:]])
    if matches:
        raise RequestError(f"{len(matches)} runs bear {shown(name)} in their names", where="--diff", mend=newest)
    raise RequestError(
        f"{shown(name)} is no file and no run",
        where="--diff",
        mend="name a run, a file that make info RUN_ARGS=--json wrote, or `this`; "
        + (newest if names else "no run is here yet"),
    )


def _read(path: Path) -> dict[str, Any]:
    where = display(path)
    try:
        if not path.is_file() or path.stat().st_size > BYTES_MAX:
            raise RequestError(f"is no record of a run or a machine: {_kind(path)}", where=where)
        facts = json.loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=where) from None
    except (ValueError, RecursionError):
        mend = "name a run, or a file that make info RUN_ARGS=--json wrote"
        raise RequestError("is no JSON", where=where, mend=mend) from None
    if not isinstance(facts, dict) or not isinstance(facts.get("machine"), dict):
        raise RequestError("is no record of a run or a machine: it has no `machine`", where=where)
    return facts


def _kind(path: Path) -> str:
    if not path.exists():
        return "there is no such file"
    return "it is too large" if path.is_file() else "it is no regular file"


def _of_run(folder: Path) -> dict[str, dict[str, str]]:
    """Return the settings of a run and what it was made from, as far as they were written."""
    groups: dict[str, dict[str, str]] = {}
    if (folder / runs.RUN_CONFIG).is_file():
        settings = yaml_file.load(folder / runs.RUN_CONFIG)
        groups["settings"] = {name: _word(value) for name, value in settings.items()}
    if made_from := _mapping(_json(folder / runs.RESULT), "made_from"):
        groups["made from"] = {name: _short(str(value)) for name, value in made_from.items()}
    return groups


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _groups(facts: Mapping[str, Any], where: str) -> dict[str, dict[str, str]]:
    """Return a record's facts in words, by group. Records of any version are read; what is unknown is left out."""
    names = {"engineroom": "version", "revision": "revision", "python": "python"}
    alone = {word: str(facts[name]) for name, word in names.items() if facts.get(name)}
    groups = {"engineroom": alone, "machine": machine_in_words(_machine(facts["machine"], where))}
    for title, items in facts.items():
        if isinstance(items, list):
            groups[title] = _of_components(items)
    if distributions := _mapping(facts, "distributions"):
        groups["packages"] = {name: str(version) for name, version in distributions.items()}
    return groups


def _of_components(items: list[Any]) -> dict[str, str]:
    """Return each component's version, or how it stands where that is not known; copies are named together."""
    words: dict[str, list[str]] = {}
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            known = [str(item[name]) for name in ("version", "problem") if item.get(name)]
            words.setdefault(item["name"], []).append(", ".join(known) or "here")
    return {name: "\n".join(known) for name, known in words.items()}


# Records of before `machine` had rooms of its own: what a fact was called then.
_OLD_CPU = {
    "cpu_model": "model",
    "logical_cpus": "threads",
    **{name: name for name in ("sockets", "cores", "usable_cores", "isa", "architecture")},
}


def _machine(facts: Mapping[str, Any], where: str) -> Machine:
    facts = dict(facts)
    if "cpu" not in facts:
        facts["cpu"] = {new: facts.pop(old) for old, new in _OLD_CPU.items() if old in facts}
    if isinstance(facts.get("container"), str):
        facts["container"] = {"kind": facts["container"]}
    if isinstance(facts.get("gpus"), list):
        facts["gpus"] = [{"name": gpu} if isinstance(gpu, str) else gpu for gpu in facts["gpus"]]
    try:
        return msgspec.convert(facts, Machine)
    except msgspec.ValidationError as error:
        raise RequestError(f"its machine cannot be read: {plain(str(error))}", where=where) from None


def _mapping(facts: Any, name: str) -> dict[str, Any]:
    value = facts.get(name) if isinstance(facts, dict) else None
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    if value is None:
        return WHOLE["settings"]
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: str) -> str:
    is_hash = len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_hash else value
