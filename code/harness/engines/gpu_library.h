// The library of the engines for GPUs, which is loaded when one of them is made. CUDA's runtime, which is linked into
// it, keeps 8 kB per thread: in the Python module that would have to be among what threads have from the start, because
// LoadGen's buffers are (-ftls-model=initial-exec), and there is no such room when Python loads it.
#pragma once

#include "../engine.h"

namespace engineroom {

inline constexpr const char* kGpuLibrary = "libengineroom_gpu.so";
inline constexpr const char* kMakeGpuEngine = "engineroom_make_gpu_engine";
using MakeGpuEngine = Engine*(const EngineSpec& spec);

std::unique_ptr<Engine> make_cuda_null(EngineSpec spec);
std::unique_ptr<Engine> make_tensorrt(EngineSpec spec);

}  // namespace engineroom
