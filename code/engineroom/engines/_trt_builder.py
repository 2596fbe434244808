"""Builds plans by TensorRT's Python API, the same way with TensorRT 10 and 11: only what both have is used.

Removed in 11, and so used nowhere: BuilderFlag.FP16, BF16, INT8 and FP8, calibrators, algorithm selectors,
EXPLICIT_BATCH (the bindings of 10.16 and 11.4, compared).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.engines import Tell
from engineroom.engines._plans import COMPATIBILITY, BuildSettings, Phases, Shapes, words_of
from engineroom.engines._timing_cache import TimingCache
from engineroom.errors import EngineError
from engineroom.paths import display, write_beside
from engineroom.qdq import opset_of
from engineroom.terms import HardwareCompatibility

if TYPE_CHECKING:
    import onnx
    import tensorrt as trt

PLAN = "model.plan"
LAYERS = "layers.json"


def imported() -> Any:
    """Return the module tensorrt. Raises EngineError if it, or the library behind it, cannot be loaded."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: a shared library of TensorRT or CUDA is missing
        raise EngineError(
            f"TensorRT cannot be loaded: {str(error).splitlines()[0]}",
            mend='make install RUN_ARGS="--engine=tensorrt" installs it; make doctor says what its libraries need',
        ) from error
    return tensorrt


def build(
    model: Path,
    typed: onnx.ModelProto,
    shapes: Sequence[Shapes],
    settings: BuildSettings,
    cache: TimingCache,
    tell: Tell,
) -> dict[str, str]:
    """Build the plan of the ONNX file `model`, whose content `typed` is, beside it as PLAN; return facts of it.

    Raises EngineError with TensorRT's words: for nodes that it does not take, with the name and operator of each. So it
    does when `tell` says that there is no time to go on.
    """
    api = imported()
    logger = logger_of(settings.detailed_profiling)
    builder: trt.Builder = started(lambda: api.Builder(logger), logger, "builder")
    network: trt.INetworkDefinition = _network(builder)
    parser: trt.OnnxParser = api.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise _not_parsed(model, typed, [*_errors(parser), *_unsupported(builder, logger, model, typed)], logger)
    config: trt.IBuilderConfig = _config(builder, shapes, settings)
    monitor: trt.IProgressMonitor = _monitor(tell)
    config.progress_monitor = monitor
    timings: trt.ITimingCache = _attach(config, cache.read())
    serialized: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    cache.add(lambda known: _merged(config, timings, known))  # also of a build that failed or was stopped
    if serialized is None:
        raise EngineError(f"TensorRT cannot build this model: {words_of(logger.errors)}", where=display(model))
    with write_beside(model.with_name(PLAN)) as beside:
        beside.write_bytes(serialized)
    return _facts(serialized, settings, logger, model.with_name(LAYERS))


def _network(builder: trt.Builder) -> trt.INetworkDefinition:
    """Return an empty network that takes the types of its tensors as they are said. TensorRT 11 ignores the flag."""
    api = imported()
    return builder.create_network(flags=1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def started(make: Callable[[], Any], logger: Any, what: str) -> Any:
    """Return what `make` does; pybind11's constructors raise TypeError where TensorRT returns nothing."""
    try:
        return make()
    except (TypeError, RuntimeError) as error:
        said = words_of(logger.errors or [str(error).splitlines()[0]])
        raise EngineError(
            f"TensorRT cannot start a {what}: {said}", mend="make doctor says whether GPU, driver and CUDA fit together"
        ) from error


def logger_of(detailed: bool) -> Any:
    """Return a logger that writes to stderr, which is the build's log, and keeps the errors in `errors`."""
    api = imported()
    grave = (api.ILogger.Severity.INTERNAL_ERROR, api.ILogger.Severity.ERROR)
    worth = (*grave, api.ILogger.Severity.WARNING, *([api.ILogger.Severity.INFO] if detailed else []))

    class Logger(api.ILogger):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in grave:
                self.errors.append(msg)
            if severity in worth:
                print(f"{severity.name}: {msg}", file=sys.stderr, flush=True)

    return Logger()


def _errors(parser: trt.OnnxParser) -> Iterator[str]:
    """Yield each of the parser's errors, with the node that it is about."""
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        node = " ".join(filter(None, (error.node_operator(), error.node_name())))
        yield f"{node}: {error.desc().strip()}" if node else error.desc().strip()


def _unsupported(builder: trt.Builder, logger: Any, model: Path, typed: onnx.ModelProto) -> Iterator[str]:
    """Yield every node that TensorRT does not take: parsing itself may stop at the first."""
    api = imported()
    network: trt.INetworkDefinition = _network(builder)
    parser: trt.OnnxParser = api.OnnxParser(network, logger)
    parser.supports_model_v2(model.read_bytes(), str(model))
    for index in range(parser.num_subgraphs):
        if not parser.is_subgraph_supported(index):
            for place in parser.get_subgraph_nodes(index):
                node = typed.graph.node[place]
                yield f"{node.op_type} {node.name or node.output[0]}: not supported"
    yield from _errors(parser)


def _not_parsed(model: Path, typed: onnx.ModelProto, said: Sequence[str], logger: Any) -> EngineError:
    lines = list(dict.fromkeys(" ".join(line.split()) for line in said)) or [words_of(logger.errors)]
    listed = "".join(f"\n  {line}" for line in lines)
    return EngineError(f"TensorRT does not take this model (opset {opset_of(typed)}):{listed}", where=display(model))


def _config(builder: trt.Builder, shapes: Sequence[Shapes], settings: BuildSettings) -> trt.IBuilderConfig:
    api = imported()
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.builder_optimization_level = settings.builder_optimization_level
    config.clear_flag(api.BuilderFlag.TF32)  # fp32 means fp32
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if settings.version_compatible:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatibility is not HardwareCompatibility.NONE:
        config.hardware_compatibility_level = _compatibility(settings.hardware_compatibility)
    if settings.detailed_profiling:
        config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    if shapes:
        profile: trt.IOptimizationProfile = builder.create_optimization_profile()
        for each in shapes:
            profile.set_shape(each.name, min=each.min, opt=each.opt, max=each.max)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the shapes {', '.join(map(str, shapes))}")
    return config


def _compatibility(wanted: HardwareCompatibility) -> Any:
    """Return TensorRT's word. Raises EngineError if this version does not have it: SAME_COMPUTE_CAPABILITY is new."""
    api = imported()
    found = getattr(api.HardwareCompatibilityLevel, COMPATIBILITY[wanted][0], None)
    if found is None:
        raise EngineError(f"TensorRT {api.__version__} has no hardware compatibility {wanted}")
    return found


def _monitor(tell: Tell) -> Any:
    api = imported()
    phases = Phases()

    class Monitor(api.IProgressMonitor):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)
            tell(*phases.told())

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return tell(*phases.told())  # False ends the build early, and build_serialized_network returns

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()


def _attach(config: trt.IBuilderConfig, known: bytes) -> trt.ITimingCache:
    """Give the builder the timings that are known; what another GPU or version measured, or is damaged, it refuses."""
    cache: trt.ITimingCache | None = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        if cache is None:
            raise EngineError("TensorRT makes no timing cache", mend="the build's log says why: is memory short?")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _merged(config: trt.IBuilderConfig, ours: trt.ITimingCache, known: bytes) -> bytes:
    """Return our timings with those that other builds have stored meanwhile."""
    theirs: trt.ITimingCache | None = config.create_timing_cache(known) if known else None
    if theirs is not None:
        ours.combine(theirs, ignore_mismatch=False)  # of another version it takes nothing
    memory: trt.IHostMemory = ours.serialize()
    return bytes(memory)


def _facts(serialized: trt.IHostMemory, settings: BuildSettings, logger: Any, layers: Path) -> dict[str, str]:
    """Load the plan once, which proves that it loads here; return what it says of itself."""
    api = imported()
    runtime: trt.Runtime = started(lambda: api.Runtime(logger), logger, "runtime")
    engine: trt.ICudaEngine = loaded(runtime, serialized, logger, PLAN)
    if settings.detailed_profiling:
        inspector: trt.EngineInspector = engine.create_engine_inspector()
        layers.write_text(inspector.get_engine_information(api.LayerInformationFormat.JSON), encoding="utf-8")
    return {
        "TensorRT": api.__version__,
        "layers": str(engine.num_layers),
        "context_bytes": str(engine.device_memory_size_v2),  # of device memory for each execution context
        "plan_bytes": str(serialized.nbytes),
    }


def loaded(runtime: trt.Runtime, plan: Any, logger: Any, where: str, built_with: str = "") -> trt.ICudaEngine:
    """Return the engine that a plan holds. Raises EngineError if TensorRT does not take it.

    `built_with` is the version that built the plan: where it is another one, to build it anew would not help.
    """
    runtime.engine_host_code_allowed = True  # a version-compatible plan brings its own runtime; we built it ourselves
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        version = imported().__version__
        other = built_with not in ("", version)
        raise EngineError(
            f"TensorRT {version} does not take this plan{f' of TensorRT {built_with}' if other else ''}: "
            f"{words_of(logger.errors)}",
            where=where,
            mend=f"install tensorrt {built_with}" if other else "add --force: it is built anew",
        )
    return engine
