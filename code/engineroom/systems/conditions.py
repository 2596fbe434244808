"""What can stand under `match:` in a system's file, and whether a machine fulfils it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engineroom.config import units
from engineroom.detection import Machine
from engineroom.errors import shown
from engineroom.systems import typed


def _bytes(text: str) -> float:
    return units.in_unit(text, "B") or 0


_COUNT = r"[0-9]{1,7}"
_SIZE = r"[0-9]{1,9}(\.[0-9]{1,9})?\s?[A-Za-z]{1,3}"

Pattern = Annotated[
    str, Meta(min_length=1, max_length=200, extra={"wanted": 'a text; "*" in it stands for anything, "?" for one sign'})
]
Counts = Annotated[
    Annotated[int, Meta(ge=0, le=9_999_999)]
    | Annotated[str, Meta(pattern=rf"^({_COUNT}\.\.({_COUNT})?|\.\.{_COUNT})$")],
    Meta(extra={"wanted": "a whole number, or a range of them whose ends count: 2..8, 2.. or ..8", "end": int}),
]
Sizes = Annotated[
    str,
    Meta(
        pattern=rf"^({_SIZE}\.\.({_SIZE})?|\.\.{_SIZE})$",
        extra={"wanted": "a range whose ends count, with units: 1 TiB..2.2 TiB, 130 GiB.. or ..64 GiB", "end": _bytes},
    ),
]


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The conditions by which a machine is recognised: all that are given must hold.

    A condition on GPUs or MIG slices must hold for every one of them, and there must be one.
    """

    gpu: Annotated[Pattern | UnsetType, Meta(description="shell pattern of the GPUs' name, as the driver says it")] = (
        UNSET
    )
    gpu_count: Annotated[Counts | UnsetType, Meta(description="number of GPUs; 0: a machine without")] = UNSET
    gpu_memory: Annotated[Sizes | UnsetType, Meta(description="memory of each GPU")] = UNSET
    mig: Annotated[bool | UnsetType, Meta(description="whether the GPUs are in MIG mode")] = UNSET
    mig_profile: Annotated[Pattern | UnsetType, Meta(description="shell pattern of the MIG slices' profile")] = UNSET
    mig_count: Annotated[Counts | UnsetType, Meta(description="number of MIG slices, of all GPUs together")] = UNSET
    memory: Annotated[Sizes | UnsetType, Meta(description="memory of the whole machine")] = UNSET
    cpu_model: Annotated[Pattern | UnsetType, Meta(description="shell pattern of the processors' name")] = UNSET
    sockets: Annotated[Counts | UnsetType, Meta(description="number of processors")] = UNSET
    cores: Annotated[Counts | UnsetType, Meta(description="number of physical cores, of all processors together")] = (
        UNSET
    )
    architecture: Annotated[Pattern | UnsetType, Meta(description="shell pattern of x86_64 or aarch64")] = UNSET
    product: Annotated[
        Pattern | UnsetType, Meta(description="shell pattern of maker and model, as the machine's firmware says them")
    ] = UNSET


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both of them included."""

    low: float = 0
    high: float = float("inf")


Condition = str | bool | Range  # a shell pattern, a yes or no, a range of counts or bytes


def condition(name: str, value: Any) -> Condition:
    """Return what `value`, as it stands in the file, demands of `name`. Raises ValueError in words for a reader."""
    hint = typed.types(Match)[name]
    checked = typed.converted(value, hint)
    if isinstance(checked, bool):
        return checked
    if isinstance(checked, int):
        return Range(checked, checked)
    end: Callable[[str], float] | None = typed.extra(hint).get("end")
    return _range(checked, end) if end else str(checked)


def _range(text: str, end: Callable[[str], float]) -> Range:
    low, _, high = text.partition("..")
    found = Range(end(low) if low else 0, end(high) if high else float("inf"))
    if found.low > found.high:
        raise ValueError(f"is {shown(text)}, whose low end is above its high end")
    return found


def hold(conditions: Mapping[str, Condition], machine: Machine) -> bool:
    """Tell whether there are conditions and the machine fulfils them all."""
    found = _facts(machine)
    return bool(conditions) and all(
        bool(found[name]) and all(_holds(wanted, fact) for fact in found[name]) for name, wanted in conditions.items()
    )


def _facts(machine: Machine) -> dict[str, tuple[object, ...]]:
    """Return what each condition looks at."""
    slices = [piece for gpu in machine.gpus for piece in gpu.slices]
    return {
        "gpu": tuple(gpu.name for gpu in machine.gpus),
        "gpu_count": (len(machine.gpus),),
        "gpu_memory": tuple(gpu.memory_bytes for gpu in machine.gpus),
        "mig": tuple(bool(gpu.mig) for gpu in machine.gpus),
        "mig_profile": tuple(piece.profile for piece in slices),
        "mig_count": (len(slices),),
        "memory": (machine.memory_total_bytes or machine.memory_bytes,),
        "cpu_model": (machine.cpu.model,),
        "sockets": (machine.cpu.sockets,),
        "cores": (machine.cpu.cores,),
        "architecture": (machine.cpu.architecture,),
        "product": (machine.product,),
    }


def _holds(wanted: Condition, fact: object) -> bool:
    if isinstance(wanted, Range):
        return isinstance(fact, int) and wanted.low <= fact <= wanted.high
    if isinstance(wanted, str):
        return isinstance(fact, str) and fnmatch.fnmatchcase(fact, wanted)
    return fact is wanted
