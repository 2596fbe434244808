"""Descriptions of systems: systems/<name>.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engineroom.errors import did_you_mean
from engineroom.rounds import Round
from engineroom.steps.submission.validate import rulebook, sight
from engineroom.steps.submission.validate.findings import MOST, Finding, Near

COUNTS = ("number_of_nodes", "host_processors_per_node", "host_processor_core_count", "accelerators_per_node")
EXACT = ("system_type",)  # the checker compares it as it stands
POSITIVE = ("number_of_nodes",)
NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)")
NOTHING = ("", "n/a", "na", "none", "-", "0", "null")


def check(
    root: Path, file: str, division: str, submitter: str, rules: Round, findings: list[Finding]
) -> Mapping[str, Any]:
    """Return a description, and note what is wrong with it."""
    told = sight.json_object(root, file, findings)
    if told is None:
        return {}
    findings += _fields(file, told, division, rules)
    findings += _values(file, told, division, submitter, rules)
    findings += _accelerators(file, told)
    findings += _network(file, told, division, rules)
    return told


def is_network(told: Mapping[str, Any]) -> bool:
    """Tell whether a description says that its system is reached through a network."""
    return str(told.get("is_network", "")).strip().lower() == "true"


def _fields(file: str, told: Mapping[str, Any], division: str, rules: Round) -> Iterator[Finding]:
    wanted = rules.system_description
    known = {*wanted.not_empty, *wanted.optional, *wanted.may_be_empty, *wanted.network, *wanted.power}
    unknown, nearest = [each for each in told if each not in known], Near()
    for name in (*wanted.not_empty, *wanted.may_be_empty):
        if name not in told:
            near = did_you_mean(name, unknown[:MOST], "")
            yield rulebook.FIELD_MISSING.at(
                file, name, found="not there", expected="a text", mend=near and f"{near} rename it"
            )
    for name, value in told.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield rulebook.FIELD_NUMBER_TYPE.at(file, name, found=value, expected="a text")
        elif not isinstance(value, str) and name in known:
            yield rulebook.FIELD_TYPE.at(file, name, found=_kind(value), expected="a text")
        if name in wanted.not_empty and isinstance(value, str) and not value.strip():
            yield rulebook.FIELD_EMPTY.at(file, name, found="an empty text", expected="a value")
        if name not in known:
            mend = nearest(name, known, rulebook.FIELD_UNKNOWN.mend)
            yield rulebook.FIELD_UNKNOWN.at(
                file, name, found="a field of another name", expected="a known field", mend=mend
            )


def _kind(value: object) -> str:
    return {type(None): "null", list: "a list", dict: "an object", bool: "true or false"}.get(type(value), "no text")


def _values(file: str, told: Mapping[str, Any], division: str, submitter: str, rules: Round) -> Iterator[Finding]:
    for name, allowed in rules.system_description.allowed.items():
        if name in told and (str(told[name]) if name in EXACT else str(told[name]).lower()) not in allowed:
            yield rulebook.FIELD_VALUE.at(file, name, found=told[name], expected=f"one of {' / '.join(allowed)}")
    for name, folder in (("submitter", submitter), ("division", division)):
        if name in told and str(told[name]).lower() != folder.lower():
            yield rulebook.FIELD_FOLDER.at(file, name, found=told[name], expected=f"{folder}, as its folder")
    for name in COUNTS:
        if name not in told or (isinstance(told[name], str) and not told[name].strip()):
            continue
        number = NUMBER.match(str(told[name]))
        if number is None or (name in POSITIVE and float(number[1]) < 1):
            least = 1 if name in POSITIVE else 0
            yield rulebook.FIELD_VALUE.at(file, name, found=told[name], expected=f"a number of at least {least}")


def _accelerators(file: str, told: Mapping[str, Any]) -> Iterator[Finding]:
    if not {"accelerators_per_node", "accelerator_model_name"} <= told.keys():
        return
    count = NUMBER.match(str(told["accelerators_per_node"]))
    if count is None:
        return
    name = str(told["accelerator_model_name"]).strip()
    if (float(count[1]) == 0) != (name.lower() in NOTHING):
        what = "N/A, as accelerators_per_node is 0" if float(count[1]) == 0 else f"a name, as there are {count[1]}"
        yield rulebook.ACCELERATORS.at(file, "accelerator_model_name", found=name, expected=what)


def _network(file: str, told: Mapping[str, Any], division: str, rules: Round) -> Iterator[Finding]:
    networked = is_network(told)
    if division == "network" and not networked:
        yield rulebook.NETWORK.at(file, "is_network", found=told.get("is_network", "not there"), expected="true")
    if division == "closed" and networked:
        yield rulebook.NETWORK.at(
            file, "is_network", found=told["is_network"], expected="false, or the network division"
        )
    if networked or division == "network" or told.get("is_network"):  # the checker: wherever it says anything, also no
        for name in rules.system_description.network:
            if name not in told:
                yield rulebook.NETWORK.at(file, name, found="not there", expected="a text")
