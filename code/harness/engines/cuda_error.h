// What CUDA says when a call fails, in words that a person can act on.
#pragma once

#include <cuda_runtime_api.h>

namespace engineroom {

// Throws Error: file and line, the expression, CUDA's name and text of the error, and what to do about it.
[[noreturn]] void throw_cuda_error(cudaError_t error, const char* expression, const char* file, int line);

}  // namespace engineroom

#define ENGINEROOM_CUDA(expression)                                                                           \
  do {                                                                                                        \
    if (const cudaError_t error_ = (expression); error_ != cudaSuccess) [[unlikely]]                          \
      ::engineroom::throw_cuda_error(error_, #expression, __FILE__, __LINE__);                                \
  } while (false)
