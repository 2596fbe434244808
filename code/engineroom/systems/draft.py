"""Writes the file of a system that is not listed yet: conditions that recognise this machine, blanks for a person."""

from __future__ import annotations

import glob
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engineroom.detection import Machine
from engineroom.errors import Mistakes, RequestError
from engineroom.paths import SYSTEMS, display, write_beside
from engineroom.systems import typed
from engineroom.systems.files import Description, System, problem_of_id, read, read_all
from engineroom.systems.identity import derived_id, recognise

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
MARGIN = 0.1  # what kernels keep of the memory differs by a few percent; other sizes differ by more
NAME_MAX = 60  # signs of a name that make its pattern


@dataclass(frozen=True)
class Added:
    """A file that was written, and whether one of the same id was there before and was changed."""

    id: str
    path: Path
    changed: bool


def add(
    machine: Machine,
    system_id: str | None = None,
    *,
    blanks: Iterable[str] = (),
    force: bool = False,
    systems: Path = SYSTEMS,
) -> Added:
    """Write `<system_id>.yaml` so that it, and no other, recognises the machine; default: the id made from hardware.

    `blanks` are the fields of the description that are left for a person. Of a file that is there only the conditions
    change: what a person wrote stays. Raises RequestError if the machine is recognised already or the file has other
    conditions, both unless `force`, and if another system would win nevertheless.
    """
    listed = read_all(systems)
    wanted = derived_id(machine) if system_id is None else system_id
    if problem := problem_of_id(wanted):
        raise RequestError(f"the name of a system {problem}", where="--id")
    if not force:
        _refuse_to_repeat(wanted, listed, recognise(machine, listed))
    match, description = ["match:", *_conditions(machine)], [*_description(blanks)]
    if wanted in listed:
        path = listed[wanted].path
        lines = _changed(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), match, description)
    else:
        path = systems / f"{wanted}.yaml"
        lines = [*_head(wanted), *match, "", *description]
    with write_beside(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _check(machine, beside, path, wanted, listed)
    return Added(wanted, path, changed=wanted in listed)


def _refuse_to_repeat(wanted: str, listed: dict[str, System], matching: System | None) -> None:
    if matching:
        raise RequestError(
            f"this machine is recognised already, as {matching.id}",
            where=display(matching.path),
            mend="change that file, or write one of more conditions beside it with --force",
        )
    if wanted in listed and listed[wanted].conditions:
        raise RequestError(
            "is there already, for another machine",
            where=display(listed[wanted].path),
            mend="give another name with --id=NAME, or replace its conditions with --force",
        )


def _check(machine: Machine, draft: Path, path: Path, wanted: str, listed: dict[str, System]) -> None:
    """Read the draft of `path` as every command will read it, and see that it loses nothing and wins."""
    mistakes: list[RequestError] = []
    try:
        drafted = replace(read(draft, wanted, mistakes), path=path)
    except RequestError as error:
        mistakes.append(error)
    if wanted in listed and (mistakes or _said(drafted) != _said(listed[wanted])):
        raise RequestError(
            "nothing was written: its `match:` cannot be told from the rest",
            where=display(path),
            mend="give `match:` and `description:` lines of their own",
        )
    if mistakes:
        raise Mistakes(mistakes)
    try:
        winner = recognise(machine, {**listed, wanted: drafted})
    except RequestError as error:
        raise RequestError(f"nothing was written: {error.what}", mend=error.mend) from None
    if winner is not drafted:
        other = f"{len(winner.conditions)} conditions of {display(winner.path)}" if winner else "nothing"
        raise RequestError(f"nothing was written: this machine would be recognised by {other}, not as {wanted}")


def _said(system: System) -> dict[str, str]:
    return {name: asserted.text for name, asserted in system.description.items()}


def _changed(lines: list[str], match: list[str], description: list[str]) -> list[str]:
    """Return a file's lines with other conditions, the old ones as comments. All else stays, comments too."""
    begin = next((n for n, line in enumerate(lines) if re.match(r"match\s*:", line)), len(lines))
    end = next((n for n, line in enumerate(lines) if n > begin and re.match(r"[^\s#]", line)), len(lines))
    while end > begin and re.match(r"\s*$|#", lines[end - 1]):  # what stands there belongs to the next section
        end -= 1
    old = lines[begin:end]
    before = ["# Before:", *(f"# {line}" for line in old)] if old and old != match else []
    more = [] if any(re.match(r"description\s*:", line) for line in lines) else ["", *description]
    return [*lines[:begin], *before, *match, *lines[end:], *more]


def _head(system_id: str) -> Iterator[str]:
    yield "# yaml-language-server: $schema=schema.json"
    yield "# How this machine is recognised. Made by `make add_system`; systems/README.md explains the conditions."
    yield f"# Its settings go to configs/{system_id}/."


def _description(blanks: Iterable[str]) -> Iterator[str]:
    yield "# What only a person knows: fill in and take the # away. `make describe_system` shows the whole description."
    yield "description:"
    for name in blanks:
        yield f"  # {name}:  # {typed.meaning(typed.types(Description)[name])}"


def _conditions(machine: Machine) -> Iterator[str]:
    """Yield a line for each condition."""
    names = {gpu.name for gpu in machine.gpus}
    if len(names) == 1:
        yield f"  gpu: {_pattern(names.pop())}"
    yield f"  gpu_count: {len(machine.gpus)}"
    slices = [piece for gpu in machine.gpus for piece in gpu.slices]
    if machine.gpus and len({bool(gpu.mig) for gpu in machine.gpus}) == 1:
        yield f"  mig: {'true' if machine.gpus[0].mig else 'false'}"
    if slices:
        yield f"  mig_count: {len(slices)}"
    if len(profiles := {piece.profile for piece in slices}) == 1:
        yield f"  mig_profile: {_pattern(profiles.pop())}"
    if machine.cpu.model:
        yield f"  cpu_model: {_pattern(machine.cpu.model)}"
    yield f"  sockets: {machine.cpu.sockets}"
    yield f"  cores: {machine.cpu.cores}"
    if memory := machine.memory_total_bytes or machine.memory_bytes:
        yield f"  memory: {_about(memory)}"


def _about(size_bytes: int) -> str:
    """Return a range around a size."""
    unit, name = (GIBIBYTE, "GiB") if size_bytes >= 8 * GIBIBYTE else (MEBIBYTE, "MiB")
    low, high = size_bytes * (1 - MARGIN) / unit, size_bytes * (1 + MARGIN) / unit
    return f"{math.floor(low)} {name}..{math.ceil(high)} {name}"


def _pattern(name: str) -> str:
    """Return a shell pattern of a name in YAML's quotes; what is not plain ASCII may be any sign."""
    signs = [glob.escape(sign) if " " <= sign <= "~" else "?" for sign in name[:NAME_MAX]]
    return json.dumps("".join(signs) + ("*" if len(name) > NAME_MAX else ""))
