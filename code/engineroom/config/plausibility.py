"""Warns of values that are allowed but hardly meant: unusual, far from their siblings, or more than the machine has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from engineroom.config import fields
from engineroom.config.fields import RunConfig
from engineroom.config.rules import Context, accelerator_of
from engineroom.terms import Scenario

FAR = 4.0  # times the same machine's other figure: more than a new library or another precision brings
# In published results of GPUs (A100 slices in v2.1, H100 and L4 in v3.0, H200 in v4.1) a Server rate is 0.6 to 0.95 of
# the Offline rate; CPUs with tight latency limits come out lower.
SERVER_MOST, SERVER_LEAST = 1.2, 1 / 6


@dataclass(frozen=True)
class Told:
    """One line of a settings file: what it says for a system."""

    system: str
    field: str
    value: Any
    where: str


# The fields that say how fast a scenario is expected to be, with the rate in samples/s that a value stands for.
RATES: dict[str, tuple[Scenario, Callable[[float], float]]] = {
    "offline_expected_qps": (Scenario.OFFLINE, lambda rate: rate),
    "server_target_qps": (Scenario.SERVER, lambda rate: rate),
    "single_stream_expected_latency_ns": (Scenario.SINGLE_STREAM, lambda latency: 1e9 / latency),
    "multi_stream_expected_latency_ns": (Scenario.MULTI_STREAM, lambda latency: 8e9 / latency),
}


def remarks(
    config: RunConfig, origins: Mapping[str, str], context: Context, told: Callable[[], list[Told]]
) -> Iterator[str]:
    """Yield a warning for each doubtful value, naming what it stands beside and where both were said.

    `told` reads what all files say of this benchmark; it is called only where an expected speed was set.
    """
    yield from _unusual(config, origins)
    yield from _beyond_the_machine(config, origins, context)
    for name, (scenario, _) in RATES.items():
        if config.scenario is scenario and (value := getattr(config, name)) is not None:
            ours = Told(config.system, name, value, origins[name])
            others = [other for other in told() if other.where != ours.where]
            yield from _beside_the_same(ours, others)
            yield from _beside_other_scenarios(ours, others)


def _unusual(config: RunConfig, origins: Mapping[str, str]) -> Iterator[str]:
    for name in fields.names():
        value, about = getattr(config, name), fields.about(name)
        if about.usual and value is not None and not about.usual[0] <= value <= about.usual[1]:
            low, high = about.usual
            yield (
                f"{origins[name]}: {name} is {_number(value)}; usual is {_number(low)} to {_number(high)} {about.unit}"
            ).rstrip()


def _beyond_the_machine(config: RunConfig, origins: Mapping[str, str], context: Context) -> Iterator[str]:
    cores = context.cores(config.cpus)
    threads = config.instances * config.threads_per_instance
    values = msgspec.structs.asdict(config)
    if accelerator_of(values) is None and threads > cores:
        yield (
            f"{origins['instances']}, {origins['threads_per_instance']}: {config.instances} instances of "
            f"{config.threads_per_instance} threads are more than the {cores} usable cores"
        )
    memory, where = context.memory_bytes(values)
    needed = config.instances * config.batch_size * context.sample_bytes
    if needed > memory:
        yield (
            f"{origins['batch_size']}: {config.instances} batches of {config.batch_size:,} samples alone take "
            f"{_gib(needed)}, more than the {_gib(memory)} of {where}"
        )


def _beside_the_same(ours: Told, others: list[Told]) -> Iterator[str]:
    """Compare with the same figure in other files: of this system, and of others with as many or fewer such GPUs."""
    stem, count = family(ours.system)
    for other in others:
        other_stem, other_count = family(other.system)
        if other.field != ours.field or other_stem != stem or other.value is None:
            continue
        scale = count / other_count if "latency" not in ours.field else 1.0
        factor = ours.value / (other.value * scale)
        if not 1 / FAR <= factor <= FAR:
            per = f" for {other.system}" if other.system != ours.system else ""
            yield (
                f"{ours.where}: {ours.field} is {_number(ours.value)}, {_times(factor)} the "
                f"{_number(other.value)}{per} in {other.where}"
            )


def _beside_other_scenarios(ours: Told, others: list[Told]) -> Iterator[str]:
    """Compare with the same system's other scenarios: none is faster than Offline, and Server not much slower.

    The words do not depend on which of the two runs, so that a request for both is warned once.
    """
    for other in others:
        if other.system != ours.system or other.field not in RATES or other.value is None:
            continue
        slow, fast = (other, ours) if ours.field == "offline_expected_qps" else (ours, other)
        if fast.field != "offline_expected_qps" or slow.field == fast.field:
            continue
        slower, faster = (RATES[told.field][1](told.value) for told in (slow, fast))
        if slower > SERVER_MOST * faster or (slow.field == "server_target_qps" and slower < SERVER_LEAST * faster):
            yield (
                f"{slow.where}: {slow.field} is {_number(slow.value)}, which does not go with {fast.field} "
                f"{_number(fast.value)} in {fast.where}: {_number(slower)} beside {_number(faster)} samples/s"
            )


def beside_measured(config: RunConfig, origins: Mapping[str, str], rate: float, where: str) -> str | None:
    """Return a warning if what is expected of Offline or a stream is far from `rate`, measured in the run `where`.

    `rate` is in samples/s Offline and in queries/s of a stream. A Server's target is no expectation: it is passed over.
    """
    for name, (scenario, _) in RATES.items():
        value = getattr(config, name)
        if scenario is config.scenario and scenario is not Scenario.SERVER and value is not None:
            expected = value if scenario is Scenario.OFFLINE else 1e9 / value
            if not 1 / FAR <= expected / rate <= FAR:
                unit = "samples/s" if scenario is Scenario.OFFLINE else "queries/s"
                return (
                    f"{origins[name]}: {name} is {_number(value)}, which is {_times(expected / rate)} the "
                    f"{_number(rate)} {unit} that this machine reached in {where}"
                )
    return None


def family(system: str) -> tuple[str, int]:
    """Return a system's id without its number of accelerators, and that number: "H200x8" -> ("H200", 8)."""
    match = re.fullmatch(r"(.+?)x([0-9]{1,4})", system)
    return (match[1], max(1, int(match[2]))) if match else (system, 1)


def _times(factor: float) -> str:
    return f"{factor:.1f} times" if factor >= 1 else f"1/{1 / factor:.1f} of"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:g}"


def _gib(size: float) -> str:
    return f"{size / (1 << 30):,.1f} GiB"
