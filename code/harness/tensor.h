// What one input or output of a model looks like for one sample.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace engineroom {

// Bytes of one element of `dtype` ("float32", "int8", ...: NumPy's names). Throws Error for a name it does not know.
std::size_t dtype_bytes(std::string_view dtype);

// One input or output: C order, no batch axis. A batch of n samples is n of these, one behind the other.
struct TensorSpec {
  std::string name;
  std::string dtype;
  std::vector<std::size_t> shape;

  std::size_t sample_bytes() const;
  std::string text() const;  // "logits float32[10]", for messages
};

// How many of the `count` samples that lie one behind the other from `samples` on hold a value that is NaN. Types
// without NaN have none.
std::size_t samples_with_nan(const TensorSpec& spec, const std::byte* samples, std::size_t count);

}  // namespace engineroom
