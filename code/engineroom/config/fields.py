"""Every setting of a run: its type, range, unit and meaning. Each field is also a flag of RUN_ARGS."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from engineroom import registry
from engineroom.paths import DATA_MAPS, layers
from engineroom.terms import (
    ExecutionProvider,
    HardwareCompatibility,
    Observer,
    Precision,
    Scenario,
    TestMode,
    Wait,
    Weights,
)

NANOSECONDS_PER_HOUR = 3_600_000_000_000
NANOSECONDS_PER_MILLISECOND = 1_000_000
PLUGINS = {"engine": "engines", "calibrator": "calibrators"}  # fields that name a plug-in, with its kind
ON_CUDA = ("tensorrt", "cuda_null")  # the engines that the harness drives by CUDA itself

# Whose members a field can hold.
ENUMS = (Scenario, TestMode, Precision, Observer, Weights, ExecutionProvider, Wait, HardwareCompatibility)

# The settings that hold the expectation of each scenario.
EXPECTED = {
    Scenario.SINGLE_STREAM: "single_stream_expected_latency_ns",
    Scenario.MULTI_STREAM: "multi_stream_expected_latency_ns",
    Scenario.SERVER: "server_target_qps",
    Scenario.OFFLINE: "offline_expected_qps",
}

ZERO_IS_NONE = ("max_duration", "max_query_count")  # LoadGen's 0 is no limit

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Cpu = Annotated[int, Meta(ge=0, le=65_535)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000, extra={"unit": "ms"})]
Latency = Annotated[int, Meta(ge=1, le=NANOSECONDS_PER_HOUR, extra={"unit": "ns"})]
# LoadGen 6.0 reads Server's limit as a whole number of milliseconds and drops the rest (test_settings_internal.cc).
ServerLatency = Annotated[
    int,
    Meta(
        ge=NANOSECONDS_PER_MILLISECOND,
        le=NANOSECONDS_PER_HOUR,
        multiple_of=NANOSECONDS_PER_MILLISECOND,
        extra={"unit": "ns"},
    ),
]
# LoadGen 6.0 itself issues 19 million samples a second Offline, and no published system comes near.
Rate = Annotated[float, Meta(gt=0, le=1e9, extra={"unit": "samples/s", "usual": (0.001, 20_000_000)})]


def _about(
    meaning: str,
    unit: str = "",
    *,
    usual: tuple[float, float] | None = None,
    loadgen: str = "",
    scenarios: tuple[Scenario, ...] = (),
    engines: tuple[str, ...] = (),
    null: str = "",
) -> Meta:
    """Describe a field; `About` says what the words mean."""
    about = {"usual": usual, "loadgen": loadgen, "scenarios": scenarios, "engines": engines, "null": null, "unit": unit}
    return Meta(description=meaning, extra={name: value for name, value in about.items() if value})


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one LoadGen test, complete: nobody below reads flags or the environment."""

    benchmark: Annotated[str, _about("name of the benchmark")]
    system: Annotated[str, _about("id of the system, from systems/ or derived from the machine")]
    scenario: Annotated[Scenario, _about("how LoadGen issues queries")]
    test_mode: Annotated[TestMode, _about("LoadGen's test mode", loadgen="mode")]
    engine: Annotated[str, _about("engine that infers; auto: by the machine")] = "auto"
    precision: Annotated[Precision, _about("number format; auto: the best that holds the accuracy target")] = (
        Precision.AUTO
    )
    calibrator: Annotated[str, _about("plug-in that quantizes")] = "onnxruntime"
    observer: Annotated[Observer, _about("what decides the ranges that int8 covers")] = Observer.MINMAX
    observer_percentile: Annotated[
        float,
        Meta(gt=0, le=100),
        _about("share of the magnitudes that the observer percentile does not clip", "%", usual=(99, 100)),
    ] = 99.999
    calibration_list: Annotated[
        int,
        Meta(ge=1, le=2),
        _about("which of the lists of calibration samples, where a data set has two", usual=(1, 2)),
    ] = 1
    float_layers: Annotated[
        tuple[str, ...],
        _about("names of layers, or patterns of them (stage1.*), that stay in float; empty: none"),
        Meta(max_length=4096),
    ] = ()
    dataset: Annotated[
        str, _about("data set to run on; auto: the benchmark's own, or the drawn one for synthetic weights")
    ] = "auto"
    weights: Annotated[Weights, _about("weights of the model; synthetic ones know nothing")] = Weights.REFERENCE
    model_path: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        _about("model of your own to run instead: .onnx, .tflite, .pt2 or .pt", null="the benchmark's own"),
    ] = None

    round: Annotated[str, _about("round of MLPerf Inference whose rules a result is held against")] = "v6.1"

    batch_size: Annotated[
        int, Meta(ge=1, le=16_777_216), _about("samples per inference at most", "samples", usual=(1, 16_384))
    ]
    instances: Annotated[
        int,
        Meta(ge=1, le=4096),
        _about("engine instances that infer side by side, each with a worker thread", usual=(1, 1024)),
    ]
    threads_per_instance: Annotated[
        int, Meta(ge=0, le=4096), _about("CPU threads of one instance; 0: the library decides", usual=(0, 512))
    ]
    cpus: Annotated[
        tuple[Cpu, ...],
        _about("numbers of the CPUs to run on (0-3,8); empty: all that this process may use"),
        Meta(max_length=65_536),
    ] = ()
    pin_workers: Annotated[bool, _about("pin each worker thread to its own CPUs")] = False
    queue_delay_us: Annotated[
        int,
        Meta(ge=0, le=60_000_000),
        _about("how long a batch may wait to fill", "us", usual=(0, 100_000), scenarios=(Scenario.SERVER,)),
    ] = 0
    fixed_delay_us: Annotated[
        int,
        Meta(ge=0, le=60_000_000),
        _about("time per batch of the engine fixed_delay", "us", usual=(0, 10_000_000), engines=("fixed_delay",)),
    ] = 1000
    execution_provider: Annotated[
        ExecutionProvider,
        _about("what ONNX Runtime computes with; cuda and tensorrt need its GPU build", engines=("onnxruntime",)),
    ] = ExecutionProvider.CPU
    torch_compile: Annotated[
        bool, _about("compile the model with torch.compile, which takes minutes at the start", engines=("torch",))
    ] = False

    engine_build_limit_s: Annotated[
        int,
        Meta(ge=1, le=604_800),
        _about("an engine build that takes longer is ended; TensorRT's timings are kept", "s", usual=(60, 86_400)),
    ] = 7200
    gpu_copy_streams: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        _about(
            "batches of one instance in flight: one is copied while another one is computed",
            "streams",
            usual=(1, 16),
            engines=ON_CUDA,
            null="by the scenario",
        ),
    ] = None
    use_graphs: Annotated[
        bool | None, _about("launch a batch as one CUDA graph", engines=ON_CUDA, null="by the scenario")
    ] = None
    cuda_graph_sizes: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=65_535)], ...],
        _about(
            "batch sizes that graphs are captured for; a batch runs in the smallest that holds it; "
            "empty: powers of two and batch_size",
            engines=ON_CUDA,
        ),
        Meta(max_length=1024),
    ] = ()
    gpu_wait: Annotated[
        Wait | None, _about("how a worker waits for its GPU", engines=ON_CUDA, null="by the scenario and the cores")
    ] = None
    # LoadGen's trace must lie in memory that is no HBM: mlcommons/inference_policies, inference_rules.adoc, "LoadGen
    # Operation"; samples that begin in the GPU's memory need a path from the network into it.
    start_from_device: Annotated[
        bool,
        _about("samples lie in GPU memory before the clock runs; MLPerf's rules allow it few systems", engines=ON_CUDA),
    ] = False
    workspace_bytes: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 50)] | None,
        _about(
            "most memory that one layer may take while it computes",
            "B",
            usual=(1 << 26, 1 << 40),
            engines=("tensorrt",),
            null="by the GPU's memory",
        ),
    ] = None
    builder_optimization_level: Annotated[
        int,
        Meta(ge=0, le=5),
        _about("how long TensorRT looks for fast kernels", usual=(1, 5), engines=("tensorrt",)),
    ] = 3
    version_compatible: Annotated[
        bool, _about("build plans that later TensorRTs of this major version run, too", engines=("tensorrt",))
    ] = False
    hardware_compatibility: Annotated[
        HardwareCompatibility, _about("other kinds of GPUs that a plan runs on", engines=("tensorrt",))
    ] = HardwareCompatibility.NONE
    detailed_profiling: Annotated[
        bool, _about("keep each layer's kernel and formats in the plan, and list them beside it", engines=("tensorrt",))
    ] = False

    min_duration: Annotated[
        Milliseconds | None,
        _about(
            "least duration of a performance test",
            loadgen="min_duration",
            usual=(1000, 7_200_000),
            null="LoadGen's own",
        ),
    ] = None
    max_duration: Annotated[
        Milliseconds | None,
        _about(
            "most duration; LoadGen ignores it Offline",
            loadgen="max_duration",
            usual=(1000, 86_400_000),
            null="no limit",
        ),
    ] = None
    min_query_count: Annotated[
        Count | None,
        _about(
            "least number of queries; Offline, of samples",
            "queries",
            usual=(1, 10_000_000),
            loadgen="min_query_count",
            null="LoadGen's own",
        ),
    ] = None
    max_query_count: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000_000)] | None,
        _about(
            "most number of queries",
            "queries",
            usual=(1, 10_000_000),
            loadgen="max_query_count",
            null="no limit",
        ),
    ] = None
    performance_sample_count: Annotated[
        Count | None,
        _about(
            "samples in memory during a performance test",
            "samples",
            usual=(1, 1_000_000),
            loadgen="performance_sample_count_override",
            null="all",
        ),
    ] = None
    offline_expected_qps: Annotated[
        Rate | None,
        _about("expected rate", loadgen="target_qps", scenarios=(Scenario.OFFLINE,), null="measured by a short probe"),
    ] = None
    server_target_qps: Annotated[
        Rate | None,
        _about(
            "rate at which LoadGen issues queries",
            loadgen="target_qps",
            scenarios=(Scenario.SERVER,),
            null="measured by a short probe",
        ),
    ] = None
    server_target_latency_ns: Annotated[
        ServerLatency | None,
        _about(
            "limit of the p99 latency, in whole milliseconds",
            loadgen="target_latency",
            scenarios=(Scenario.SERVER,),
            usual=(1_000_000, 60_000_000_000),
            null="LoadGen's own",
        ),
    ] = None
    server_coalesce_queries: Annotated[
        bool,
        _about(
            "whether LoadGen issues what is due already in one call; each query keeps its own arrival and latency",
            loadgen="coalesce_queries",
            scenarios=(Scenario.SERVER,),
        ),
    ] = True
    single_stream_expected_latency_ns: Annotated[
        Latency | None,
        _about(
            "expected latency of a query",
            loadgen="target_latency",
            scenarios=(Scenario.SINGLE_STREAM,),
            usual=(500, 60_000_000_000),
            null="measured by a short probe",
        ),
    ] = None
    multi_stream_expected_latency_ns: Annotated[
        Latency | None,
        _about(
            "expected latency of a query of 8 samples",
            loadgen="target_latency",
            scenarios=(Scenario.MULTI_STREAM,),
            usual=(500, 60_000_000_000),
            null="measured by a short probe",
        ),
    ] = None

    watchdog_s: Annotated[
        float, Meta(gt=0, le=86_400), _about("a test without progress for this long is ended", "s", usual=(5, 3600))
    ] = 30.0
    probe_s: Annotated[
        float, Meta(gt=0, le=600), _about("length of the probe that sizes a test", "s", usual=(0.1, 60))
    ] = 0.5


# Which data and model a benchmark is: the same in all its scenarios.
OF_BENCHMARK = ("dataset", "calibration_list", "weights", "model_path")
IDENTITY = ("benchmark", "system", "scenario", "test_mode")  # which run this is: said by the request, by no file


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a field. Empty tuples mean every scenario, every engine.

    `usual`: the range outside of which a value is allowed, but warned of. `loadgen`: LoadGen's key in user.conf or its
    TestSettings; a latency is in ms there. `null`: what "none" stands for.
    """

    meaning: str
    unit: str = ""
    usual: tuple[float, float] | None = None
    loadgen: str = ""
    scenarios: tuple[Scenario, ...] = ()
    engines: tuple[str, ...] = ()
    null: str = ""


@cache
def types() -> dict[str, Any]:
    """Return each field's type, with its constraints."""
    return get_type_hints(RunConfig, include_extras=True)


def names() -> tuple[str, ...]:
    """Return the names of all fields."""
    return RunConfig.__struct_fields__


def settable() -> list[str]:
    """Return the names of the fields that files, flags and the environment can set."""
    return [name for name in names() if name not in IDENTITY]


def defaults() -> dict[str, Any]:
    """Return the fields that have a default, with it."""
    fields = msgspec.structs.fields(RunConfig)
    return {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}


@cache
def about(name: str) -> About:
    """Return what is known of a field."""
    found: dict[str, Any] = {}
    for hint in reversed(parts(types()[name])):  # what the field itself says counts more than its type's alias
        for meta in getattr(hint, "__metadata__", ()):
            found |= meta.extra or {}
            found |= {"meaning": meta.description} if meta.description else {}
    return About(**found)


def by_loadgen(name: str) -> list[str]:
    """Return the fields that LoadGen has under `name`; some of its names mean another one in each scenario."""
    return [each for each in names() if about(each).loadgen == name]


def in_short(name: str) -> str:
    """Return a field's meaning with what it is only for."""
    found = about(name)
    only = [*found.scenarios, *(f"engine {engine}" for engine in found.engines)]
    return f"{found.meaning} ({', '.join(only)})" if only else found.meaning


def bounds(name: str) -> dict[str, float]:
    """Return the limits of a number: "ge" or "gt", and "le"; empty for what is none."""
    if is_list(name):
        return {}
    metas = [meta for hint in parts(types()[name]) for meta in getattr(hint, "__metadata__", ())]
    return {key: limit for meta in metas for key in ("ge", "gt", "le") if (limit := getattr(meta, key)) is not None}


def is_list(name: str) -> bool:
    """Tell whether a field holds several values."""
    return any(getattr(hint, "__origin__", None) is tuple for hint in parts(types()[name]))


def is_words(name: str) -> bool:
    """Tell whether a field holds several words."""
    return is_list(name) and str in parts(types()[name])


def is_whole(name: str) -> bool:
    """Tell whether a field holds a whole number."""
    return int in parts(types()[name]) and not is_list(name)


def is_open(name: str) -> bool:
    """Tell whether an overlay can bring more words that a field can hold."""
    return name in PLUGINS or name == "dataset"


def is_switch(name: str) -> bool:
    """Tell whether a field is true or false."""
    return bool in parts(types()[name])


def kind_of(name: str) -> str:
    """Return a field's type and range in words."""
    if is_list(name):
        return f"a list of {'words' if is_words(name) else 'numbers'}"
    limits = bounds(name)
    if not limits:
        choices = choices_of(name)
        return "true or false" if is_switch(name) else f"one of {', '.join(choices)}" if choices else "a word"
    low = f"{limits['ge']:,} to" if "ge" in limits else f"more than {limits['gt']:,}, up to"
    kind = "a whole number" if is_whole(name) else "a number"
    return f"{kind}, {low} {limits['le']:,.0f}{', or none' if type(None) in parts(types()[name]) else ''}"


def choices_of(name: str) -> list[str]:
    """Return the words that a field can hold if they are a closed set, else none."""
    if name == "dataset":
        return [
            "auto",
            *sorted({path.parent.name for tree in layers(DATA_MAPS) for path in tree.glob("*/dataset.yaml")}),
        ]
    if name == "round":
        from engineroom import rounds  # not before it is needed: every task imports this module

        return list(rounds.names())
    if name in PLUGINS:
        auto = ["auto"] if defaults().get(name) == "auto" else []
        return [*auto, *registry.find(PLUGINS[name])]
    kinds = parts(types()[name])
    return [member.value for kind in ENUMS if kind in kinds for member in kind]


def parts(hint: Any) -> list[Any]:
    """Return a type with all that it is made of: of `int | None`, `int` and `None`, too."""
    return [hint, *(part for inner in get_args(hint) for part in parts(inner))]
