"""Stands for the module tensorrt: only what our builder uses is here, with the names and arguments of NVIDIA's.

A plan is the text "plan of FILE". `Behaviour` is what a test wants to happen.
"""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace
from typing import Any

__version__ = "11.4.0.106"


class Behaviour:
    """What the next build does, and what it was asked for."""

    errors: tuple[tuple[str, str, str], ...] = ()  # of the parser: operator, node, text
    unsupported: tuple[tuple[int, ...], ...] = ()  # subgraphs of nodes
    logged: tuple[str, ...] = ()
    fails = False
    asked: dict[str, Any] = {}


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 0
    VERSION_COMPATIBLE = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class HardwareCompatibilityLevel(enum.Enum):
    NONE = 0
    AMPERE_PLUS = 1


class ProfilingVerbosity(enum.Enum):
    DETAILED = 0


class LayerInformationFormat(enum.Enum):
    JSON = 0


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3


class IProgressMonitor:
    pass


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.entries = set(filter(None, data.split(b"\n")))

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self.entries |= input_cache.entries
        return True

    def serialize(self) -> bytes:
        return b"\n".join(sorted(self.entries))


class IBuilderConfig:
    def __init__(self) -> None:
        self.asked = Behaviour.asked = {"flags": [], "cleared": [], "profiles": []}

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.asked["cleared"].append(flag.name)

    def set_flag(self, flag: BuilderFlag) -> None:
        self.asked["flags"].append(flag.name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.asked[pool.name] = pool_size

    def add_optimization_profile(self, profile: Any) -> int:
        self.asked["profiles"].append(profile.shapes)
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        if serialized_timing_cache == b"damaged":
            return None
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if b"of another GPU" in cache.entries:
            return False
        self.cache = cache
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (min, opt, max)


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int = 0) -> Any:
        assert flags == 2
        return SimpleNamespace(builder=self, file="")

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: IBuilderConfig) -> bytes | None:
        for text in Behaviour.logged:
            self.logger.log(ILogger.Severity.ERROR, text)
        monitor = config.progress_monitor  # type: ignore[attr-defined]
        monitor.phase_start("Building", None, 4)
        stopped = False
        for step in range(4):
            if stopped := not monitor.step_complete("Building", step):
                break
        monitor.phase_finish("Building")
        config.cache.entries |= {f"kernel of {network.file}".encode()}
        Behaviour.asked |= {name: value for name, value in vars(config).items() if name not in ("asked", "cache")}
        return None if Behaviour.fails or stopped else memory(f"plan of {network.file}".encode())


def memory(data: bytes) -> Any:
    """Return bytes that know their number, as IHostMemory does."""

    class IHostMemory(bytes):
        nbytes = len(data)

    return IHostMemory(data)


class OnnxParser:
    def __init__(self, network: Any, logger: Any) -> None:
        self.network, self.num_errors = network, 0
        self.num_subgraphs = len(Behaviour.unsupported)

    def parse_from_file(self, model: str) -> bool:
        self.network.file = model.rpartition("/")[2]
        self.num_errors = min(1, len(Behaviour.errors))  # it stops at the first
        return not Behaviour.errors

    def supports_model_v2(self, model: bytes, path: str | None = None) -> bool:
        self.num_errors = len(Behaviour.errors)
        return not Behaviour.unsupported

    def is_subgraph_supported(self, index: int) -> bool:
        return False

    def get_subgraph_nodes(self, index: int) -> list[int]:
        return list(Behaviour.unsupported[index])

    def get_error(self, index: int) -> Any:
        operator, node, text = Behaviour.errors[index]
        return SimpleNamespace(node_operator=lambda: operator, node_name=lambda: node, desc=lambda: text)


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        if not bytes(serialized_engine).startswith(b"plan of "):
            self.logger.log(ILogger.Severity.ERROR, "the plan's magic tag does not match")
            return None
        words = json.dumps({"Layers": ["conv"]})
        inspector = SimpleNamespace(get_engine_information=lambda kind: words)
        return SimpleNamespace(num_layers=3, device_memory_size_v2=4096, create_engine_inspector=lambda: inspector)
