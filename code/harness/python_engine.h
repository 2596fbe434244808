// The bridge to engines written in Python.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "engine.h"

namespace engineroom {

// An engine around a Python callable that takes a tuple of arrays [count, ...], one per input, and returns a sequence
// of arrays [count, ...], one per output. The inputs are read-only views of the harness's memory and are valid only
// during the call; the outputs are copied. All instances share the callable. Python's lock is held for the call only.
std::unique_ptr<Engine> make_python_engine(EngineSpec spec, nanobind::object session);

}  // namespace engineroom
