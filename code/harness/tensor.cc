// Sizes and names of tensors.
#include "tensor.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "failure.h"

namespace engineroom {
namespace {

// Where a floating-point type has its NaNs: without the sign, their bits are above those of the largest other value,
// which is infinity but in float8_e4m3fn, which has none (IEEE 754-2019, 3.4; ONNX, "Float stored in 8 bits").
template <typename Bits>
std::size_t count_nan(const std::byte* samples, std::size_t count, std::size_t sample_bytes, Bits largest) {
  constexpr Bits kWithoutSign = static_cast<Bits>(static_cast<Bits>(~Bits{0}) >> 1);
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i, samples += sample_bytes) {
    bool nan = false;
    for (std::size_t at = 0; at < sample_bytes && !nan; at += sizeof(Bits)) {
      Bits bits;
      std::memcpy(&bits, samples + at, sizeof bits);
      nan = (bits & kWithoutSign) > largest;
    }
    found += nan;
  }
  return found;
}

}  // namespace

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

std::size_t samples_with_nan(const TensorSpec& spec, const std::byte* samples, std::size_t count) {
  const std::size_t bytes = spec.sample_bytes();
  if (spec.dtype == "float32") return count_nan<std::uint32_t>(samples, count, bytes, 0x7f800000);
  if (spec.dtype == "float16") return count_nan<std::uint16_t>(samples, count, bytes, 0x7c00);
  if (spec.dtype == "bfloat16") return count_nan<std::uint16_t>(samples, count, bytes, 0x7f80);
  if (spec.dtype == "float64") return count_nan<std::uint64_t>(samples, count, bytes, 0x7ff0000000000000);
  if (spec.dtype == "float8_e4m3fn") return count_nan<std::uint8_t>(samples, count, bytes, 0x7e);
  return 0;
}

}  // namespace engineroom
