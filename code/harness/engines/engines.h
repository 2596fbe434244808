// The list of native engines. A new one is a file beside this, one declaration and one row here.
#pragma once

#include <memory>

#include "../engine.h"

namespace engineroom {

std::unique_ptr<Engine> make_null_engine(EngineSpec spec);
std::unique_ptr<Engine> make_fixed_delay_engine(EngineSpec spec);
#ifdef ENGINEROOM_WITH_OPENVINO
std::unique_ptr<Engine> make_openvino_engine(EngineSpec spec);
#else
constexpr std::unique_ptr<Engine> (*make_openvino_engine)(EngineSpec) = nullptr;
#endif

// Those for GPUs lie in a library of their own, beside this code: see gpu_library.h.
std::unique_ptr<Engine> make_gpu_engine(EngineSpec spec);
#ifdef ENGINEROOM_WITH_CUDA_NULL
constexpr auto make_cuda_null_engine = make_gpu_engine;
#else
constexpr std::unique_ptr<Engine> (*make_cuda_null_engine)(EngineSpec) = nullptr;
#endif
#ifdef ENGINEROOM_WITH_TENSORRT
constexpr auto make_tensorrt_engine = make_gpu_engine;
#else
constexpr std::unique_ptr<Engine> (*make_tensorrt_engine)(EngineSpec) = nullptr;
#endif

struct NativeEngine {
  const char* name;
  std::unique_ptr<Engine> (*make)(EngineSpec spec);
  const char* left_out;  // why there is no `make`
};

#ifndef ENGINEROOM_OPENVINO_LEFT_OUT
#define ENGINEROOM_OPENVINO_LEFT_OUT ""
#endif
#ifndef ENGINEROOM_CUDA_NULL_LEFT_OUT
#define ENGINEROOM_CUDA_NULL_LEFT_OUT ""
#endif
#ifndef ENGINEROOM_TENSORRT_LEFT_OUT
#define ENGINEROOM_TENSORRT_LEFT_OUT ""
#endif

inline constexpr NativeEngine kNativeEngines[] = {
    {"cuda_null", make_cuda_null_engine, ENGINEROOM_CUDA_NULL_LEFT_OUT},
    {"fixed_delay", make_fixed_delay_engine, ""},
    {"null", make_null_engine, ""},
    {"openvino", make_openvino_engine, ENGINEROOM_OPENVINO_LEFT_OUT},
    {"tensorrt", make_tensorrt_engine, ENGINEROOM_TENSORRT_LEFT_OUT},
};

}  // namespace engineroom
