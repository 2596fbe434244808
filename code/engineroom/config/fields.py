"""Every setting of a run: its type, range, unit and meaning. Each field is also a flag of RUN_ARGS."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from engineroom import registry
from engineroom.errors import did_you_mean, shown
from engineroom.terms import Precision, Scenario, TestMode

NANOSECONDS_PER_HOUR = 3_600_000_000_000
PLUGINS = {"engine": "engines", "calibrator": "calibrators"}  # fields that name a plug-in, with its kind

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000, extra={"unit": "ms"})]
Latency = Annotated[int, Meta(ge=1, le=NANOSECONDS_PER_HOUR, extra={"unit": "ns"})]
Rate = Annotated[float, Meta(gt=0, le=1e9, extra={"unit": "samples/s"})]


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one LoadGen test, complete: nobody below reads flags or the environment.

    None in a field of LoadGen's means "measured by a short probe before the run" where the description says so,
    and otherwise "LoadGen's own value".
    """

    benchmark: Annotated[str, Meta(description="name of the benchmark")]
    system: Annotated[str, Meta(description="id of the system, from systems/ or derived from the machine")]
    scenario: Annotated[Scenario, Meta(description="how LoadGen issues queries")]
    test_mode: Annotated[TestMode, Meta(description="LoadGen's test mode")]
    engine: Annotated[str, Meta(description="engine that infers; auto: by the machine")] = "auto"
    precision: Annotated[Precision, Meta(description="number format; auto: the best that holds its target")] = (
        Precision.AUTO
    )
    calibrator: Annotated[str, Meta(description="plug-in that quantizes")] = "onnxruntime"

    batch_size: Annotated[
        int, Meta(ge=1, le=1_048_576, description="samples per inference at most", extra={"unit": "samples"})
    ]
    instances: Annotated[
        int, Meta(ge=1, le=4096, description="engine instances that infer side by side, each with a worker thread")
    ]
    threads_per_instance: Annotated[
        int, Meta(ge=0, le=4096, description="CPU threads of one instance; 0: the library decides")
    ]
    queue_delay_us: Annotated[
        int,
        Meta(ge=0, le=60_000_000, description="how long a batch may wait to fill (Server)", extra={"unit": "us"}),
    ] = 0
    pin_workers: Annotated[bool, Meta(description="pin each worker thread to its own CPUs")] = False
    fixed_delay_us: Annotated[
        int,
        Meta(ge=0, le=60_000_000, description="time per batch of the engine fixed_delay", extra={"unit": "us"}),
    ] = 1000

    min_duration: Annotated[Milliseconds | None, Meta(description="least duration of a performance test")] = None
    max_duration: Annotated[Milliseconds | None, Meta(description="most duration; ignored by Offline")] = None
    min_query_count: Annotated[Count | None, Meta(description="least number of queries")] = None
    max_query_count: Annotated[Count | None, Meta(description="most number of queries")] = None
    performance_sample_count: Annotated[
        Count | None,
        Meta(description="samples in memory during a performance test; none: all", extra={"unit": "samples"}),
    ] = None
    offline_expected_qps: Annotated[Rate | None, Meta(description="expected Offline rate; none: measured")] = None
    server_target_qps: Annotated[
        Rate | None, Meta(description="rate at which LoadGen issues Server queries; none: measured")
    ] = None
    server_target_latency_ns: Annotated[Latency | None, Meta(description="Server's p99 limit")] = None
    single_stream_expected_latency_ns: Annotated[
        Latency | None, Meta(description="expected SingleStream latency; none: measured")
    ] = None
    multi_stream_expected_latency_ns: Annotated[
        Latency | None, Meta(description="expected MultiStream latency; none: measured")
    ] = None

    watchdog_s: Annotated[
        float,
        Meta(gt=0, le=86_400, description="a test without progress for this long is ended", extra={"unit": "s"}),
    ] = 30.0
    probe_s: Annotated[
        float, Meta(gt=0, le=600, description="length of the probe that sizes a test", extra={"unit": "s"})
    ] = 0.5


@cache
def types() -> dict[str, Any]:
    """Return each field's type, with its constraints."""
    return get_type_hints(RunConfig, include_extras=True)


def names() -> tuple[str, ...]:
    """Return the names of all fields."""
    return RunConfig.__struct_fields__


def defaults() -> dict[str, Any]:
    """Return the fields that have a default, with it."""
    fields = msgspec.structs.fields(RunConfig)
    return {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}


def describe(name: str) -> tuple[str, str]:
    """Return a field's meaning and its unit ("" if it has none)."""
    meaning, unit = "", ""
    pending = [types()[name]]
    while pending:
        hint = pending.pop()
        for meta in getattr(hint, "__metadata__", ()):
            meaning = meta.description or meaning
            unit = (meta.extra or {}).get("unit", unit)
        pending.extend(get_args(hint))
    return meaning, unit


def convert(name: str, value: Any, *, from_text: bool) -> Any:
    """Convert `value` to the field's type. Raises ValueError in words for a reader.

    `from_text`: the value is a flag's text, so "64" and "true" count as what they spell, and "none" as None where the
    field may be None. Names of plug-ins and of choices may be spelt in any case.
    """
    hint = types()[name]
    if from_text and isinstance(value, str) and value.lower() == "none" and type(None) in _parts(hint):
        value = None
    if isinstance(value, str) and (choices := _choices(name, hint)):
        value = {choice.lower(): choice for choice in choices}.get(value.lower(), value)
        if value not in choices:
            raise ValueError(f"is {shown(value)}; {did_you_mean(value, choices)}")
    if isinstance(value, float) and value != value:
        raise ValueError("is not a number")
    try:
        return msgspec.convert(value, hint, strict=not from_text)
    except msgspec.ValidationError as error:
        raise ValueError(_plain(name, value, str(error))) from None
    except UnicodeEncodeError:
        raise ValueError(f"is {shown(value)}, which is not UTF-8 text") from None


def _choices(name: str, hint: Any) -> list[str]:
    """Return the words that a field can hold if they are a closed set, else none."""
    if name in PLUGINS:
        auto = ["auto"] if defaults().get(name) == "auto" else []
        return [*auto, *registry.find(PLUGINS[name])]
    parts = _parts(hint)
    return [member.value for kind in (Scenario, TestMode, Precision) if kind in parts for member in kind]


def _parts(hint: Any) -> list[Any]:
    return [hint, *(part for inner in get_args(hint) for part in _parts(inner))]


def _plain(name: str, value: Any, message: str) -> str:
    """Turn msgspec's words into a reader's: "is 0, must be a whole number >= 1 (samples)"."""
    unit = describe(name)[1]
    wanted = message.split(", got")[0]
    if not wanted.startswith("Expected "):  # "Number out of range": beyond what 64 bits hold
        return f"is {shown(value)}: {wanted[0].lower()}{wanted[1:]}"
    wanted = wanted.removeprefix("Expected ").replace("`", "")
    for word, words in _WORDS.items():
        wanted = re.sub(rf"\b{word}\b", words, wanted)
    return f"is {shown(value)}, must be {wanted.replace(' | ', ' or ')}{f' ({unit})' if unit else ''}"


_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "null": "none"}
