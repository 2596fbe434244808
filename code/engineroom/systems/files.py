"""Reads systems/<id>.yaml: how a machine is recognised, and what only a person knows of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engineroom.errors import Mistakes, RequestError, did_you_mean, plain, shown
from engineroom.paths import SYSTEMS, display, layers
from engineroom.systems import typed
from engineroom.systems.conditions import Condition, Match, condition
from engineroom.yaml_file import Entry, entries

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
RESERVED = "default"  # configs/default/ holds what every system shares

Text = Annotated[str, Meta(min_length=1, max_length=1000, extra={"wanted": "a text; put it in quotes"})]
Count = Annotated[int, Meta(ge=0, le=9_999_999, extra={"wanted": "a whole number"})]
TextOrCount = Annotated[
    Count | Annotated[str, Meta(min_length=1, max_length=1000)], Meta(extra={"wanted": "a text or a whole number"})
]

T = TypeVar("T")


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """MLPerf's system description, by MLPerf's names and in its order.

    The fields and their meaning: "<system_desc_id>.json metadata" in mlcommons/policies, submission_rules.adoc; the
    names: SYSTEM_DESC_REQUIRED_FIELDS of mlcommons/inference, tools/submission/submission_checker/constants.py (v6.1).
    """

    submitter: Annotated[Text | UnsetType, Meta(description="organization that submits")] = UNSET
    division: Annotated[
        Literal["closed", "open", "network"] | UnsetType, Meta(description="division of the submission")
    ] = UNSET
    system_type: Annotated[
        Literal["datacenter", "edge", "datacenter,edge", "edge,datacenter"] | UnsetType,
        Meta(description="category: datacenter, edge or both"),
    ] = UNSET
    system_type_detail: Annotated[
        Text | UnsetType, Meta(description="kind of it: cloud, on-premise, edge-server, edge-device")
    ] = UNSET
    status: Annotated[
        Literal["available", "preview", "rdi"] | UnsetType, Meta(description="availability of the system")
    ] = UNSET
    system_name: Annotated[Text | UnsetType, Meta(description="name of the system as results tables show it")] = UNSET
    number_of_nodes: Annotated[Count | UnsetType, Meta(description="machines that work together")] = UNSET
    host_processors_per_node: Annotated[Count | UnsetType, Meta(description="processors")] = UNSET
    host_processor_model_name: Annotated[Text | UnsetType, Meta(description="maker and model of the processors")] = (
        UNSET
    )
    host_processor_core_count: Annotated[TextOrCount | UnsetType, Meta(description="cores of one processor")] = UNSET
    host_processor_frequency: Annotated[Text | UnsetType, Meta(description="clock of the processors")] = UNSET
    host_processor_caches: Annotated[Text | UnsetType, Meta(description="caches of the processors")] = UNSET
    host_processor_interconnect: Annotated[Text | UnsetType, Meta(description="links between the processors")] = UNSET
    host_memory_capacity: Annotated[Text | UnsetType, Meta(description="memory of the machine")] = UNSET
    host_memory_configuration: Annotated[Text | UnsetType, Meta(description="memory modules: number, size, kind")] = (
        UNSET
    )
    host_storage_capacity: Annotated[Text | UnsetType, Meta(description="size of the disks")] = UNSET
    host_storage_type: Annotated[Text | UnsetType, Meta(description="kind of the disks")] = UNSET
    host_networking: Annotated[Text | UnsetType, Meta(description="kind of the network")] = UNSET
    host_network_card_count: Annotated[TextOrCount | UnsetType, Meta(description="network cards and their speed")] = (
        UNSET
    )
    host_networking_topology: Annotated[Text | UnsetType, Meta(description="how the network is laid out")] = UNSET
    accelerators_per_node: Annotated[Count | UnsetType, Meta(description="accelerators; 0: none")] = UNSET
    accelerator_model_name: Annotated[Text | UnsetType, Meta(description="maker and model of the accelerators")] = UNSET
    accelerator_frequency: Annotated[Text | UnsetType, Meta(description="clock of the accelerators")] = UNSET
    accelerator_host_interconnect: Annotated[
        Text | UnsetType, Meta(description="link between host and accelerator")
    ] = UNSET
    accelerator_interconnect: Annotated[Text | UnsetType, Meta(description="link between the accelerators")] = UNSET
    accelerator_interconnect_topology: Annotated[Text | UnsetType, Meta(description="how those links are laid out")] = (
        UNSET
    )
    accelerator_memory_capacity: Annotated[Text | UnsetType, Meta(description="memory of one accelerator")] = UNSET
    accelerator_memory_configuration: Annotated[
        Text | UnsetType, Meta(description="kind of the accelerators' memory")
    ] = UNSET
    accelerator_on_chip_memories: Annotated[
        Text | UnsetType, Meta(description="caches and scratch memories of one accelerator")
    ] = msgspec.field(default=UNSET, name="accelerator_on-chip_memories")
    cooling: Annotated[Text | UnsetType, Meta(description="how the machine is cooled")] = UNSET
    hw_notes: Annotated[Text | UnsetType, Meta(description="what else is to be said of the hardware")] = UNSET
    framework: Annotated[Text | UnsetType, Meta(description="inference library and its version")] = UNSET
    operating_system: Annotated[Text | UnsetType, Meta(description="operating system and its version")] = UNSET
    other_software_stack: Annotated[Text | UnsetType, Meta(description="other software that matters")] = UNSET
    sw_notes: Annotated[Text | UnsetType, Meta(description="what else is to be said of the software")] = UNSET


class SystemFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file systems/<id>.yaml."""

    match: Annotated[Match | None, Meta(description="how the machine is recognised")] = None
    description: Annotated[
        Description | None, Meta(description="what only a person knows; it goes before what is detected")
    ] = None


def description_fields() -> tuple[str, ...]:
    """Return the names of MLPerf's system description, in its order."""
    return tuple(typed.types(Description))


@dataclass(frozen=True)
class Asserted:
    """What a person says of a machine in a field of MLPerf's system description; `where` is its file:line."""

    text: str
    where: str


@dataclass(frozen=True)
class System:
    """What the file of one system says. `replaces` is the file of the same id in a weaker folder."""

    id: str
    path: Path
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    description: Mapping[str, Asserted] = field(default_factory=dict)
    replaces: Path | None = None


def read_all(systems: Path = SYSTEMS) -> dict[str, System]:
    """Return every system by its id, those of overlays too. Raises Mistakes with what is wrong in any of the files."""
    found: dict[str, System] = {}
    mistakes: list[RequestError] = []
    for system_id, paths in files(systems).items():
        for path in paths:
            try:
                system = read(path, system_id, mistakes)
            except RequestError as error:
                mistakes.append(error)
                continue
            found[system_id] = replace(system, replaces=found[system_id].path if system_id in found else None)
    if mistakes:
        raise Mistakes(mistakes)
    return found


def files(systems: Path = SYSTEMS) -> dict[str, list[Path]]:
    """Return the files of each system by its id, the weakest first."""
    found: dict[str, list[Path]] = {}
    for folder in layers(systems):
        for path in sorted(folder.glob("*.yaml")):
            if not path.name.startswith("."):  # an editor's lock file
                found.setdefault(path.stem, []).append(path)
    return found


def read(path: Path, system_id: str, mistakes: list[RequestError]) -> System:
    """Return what a system's file says, and note what is wrong in it. Raises RequestError if it cannot be read."""
    if problem := problem_of_id(system_id):
        mistakes.append(RequestError(f"the name of a system {problem}", where=display(path), mend="rename the file"))
    sections: dict[str, Entry] = {}
    for entry in entries(path, mistakes):
        where = f"{display(path)}:{entry.line}"
        if entry.key not in typed.types(SystemFile):
            what, mend = f"unknown section {plain(entry.key)}", did_you_mean(entry.key, typed.types(SystemFile))
            mistakes.append(RequestError(what, where=where, mend=mend))
        elif not entry.is_mapping:
            mistakes.append(RequestError(f"{entry.key} must hold `name: value` lines", where=where))
        else:
            sections[entry.key] = entry
    return System(
        system_id,
        path,
        {
            name: value
            for name, value, _ in _values(sections.get("match"), path, typed.types(Match), condition, mistakes)
        },
        {
            name: Asserted(value, where)
            for name, value, where in _values(
                sections.get("description"), path, typed.types(Description), _asserted, mistakes
            )
        },
    )


def _asserted(name: str, value: Any) -> str:
    return str(typed.converted(value, typed.types(Description)[name]))


def _values(
    section: Entry | None,
    path: Path,
    known: Iterable[str],
    convert: Callable[[str, Any], T],
    mistakes: list[RequestError],
) -> list[tuple[str, T, str]]:
    """Return the name, converted value and file:line of each entry of a section, and note what is wrong."""
    found: list[tuple[str, T, str]] = []
    for entry in section.children() if section else []:
        where, name = f"{display(path)}:{entry.line}", f"{section.key if section else ''}.{plain(entry.key)}"
        if entry.key not in known:
            mend = did_you_mean(entry.key, known)
            mistakes.append(RequestError(f"{name}: unknown field", where=where, mend=mend))
            continue
        try:
            found.append((entry.key, convert(entry.key, entry.value()), where))
        except ValueError as error:
            mistakes.append(RequestError(f"{name} {error}", where=where))
        except RequestError as error:
            mistakes.append(error)
    return found


def problem_of_id(system_id: str) -> str | None:
    """Say why a text cannot be the id of a system, which is a folder's name in configs/, or return None."""
    if not ID.fullmatch(system_id):
        return f"is {shown(system_id)}, must be letters, digits, dots, _, + or -, a letter or digit first"
    return f"cannot be {RESERVED}: configs/{RESERVED}/ is for every system" if system_id == RESERVED else None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of systems/<id>.yaml, draft 2020-12."""
    made = msgspec.json.schema(SystemFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
