// The one clock of the harness.
#pragma once

#include <chrono>
#include <cstdint>

namespace engineroom {

// Nanoseconds of CLOCK_MONOTONIC, which is LoadGen's clock too.
inline std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace engineroom
