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

struct NativeEngine {
  const char* name;
  std::unique_ptr<Engine> (*make)(EngineSpec spec);
  const char* left_out;  // why there is no `make`
};

#ifndef ENGINEROOM_OPENVINO_LEFT_OUT
#define ENGINEROOM_OPENVINO_LEFT_OUT ""
#endif

inline constexpr NativeEngine kNativeEngines[] = {
    {"fixed_delay", make_fixed_delay_engine, ""},
    {"null", make_null_engine, ""},
    {"openvino", make_openvino_engine, ENGINEROOM_OPENVINO_LEFT_OUT},
};

}  // namespace engineroom
