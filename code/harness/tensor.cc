// Sizes and names of tensors.
#include "tensor.h"

#include <array>
#include <utility>

#include "failure.h"

namespace engineroom {

std::size_t dtype_bytes(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, std::size_t>, 14> kKnown{{
      {"float32", 4}, {"float16", 2}, {"bfloat16", 2}, {"float64", 8}, {"int8", 1}, {"uint8", 1}, {"int16", 2},
      {"uint16", 2}, {"int32", 4}, {"uint32", 4}, {"int64", 8}, {"uint64", 8}, {"bool", 1}, {"float8_e4m3fn", 1},
  }};
  for (const auto& [name, bytes] : kKnown) {
    if (name == dtype) return bytes;
  }
  throw Error("samples", "unknown dtype " + std::string(dtype), "use one of NumPy's names, such as float32 or int8");
}

std::size_t TensorSpec::sample_bytes() const {
  std::size_t bytes = dtype_bytes(dtype);
  for (std::size_t extent : shape) bytes *= extent;
  return bytes;
}

std::string TensorSpec::text() const {
  std::string extents;
  for (std::size_t extent : shape) extents += (extents.empty() ? "" : ",") + std::to_string(extent);
  return name + " " + dtype + "[" + extents + "]";
}

}  // namespace engineroom
