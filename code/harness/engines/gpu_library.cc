// The way into the library of the engines for GPUs.
#include "gpu_library.h"

using namespace engineroom;

extern "C" __attribute__((visibility("default"))) Engine* engineroom_make_gpu_engine(const EngineSpec& spec) {
#ifdef ENGINEROOM_WITH_TENSORRT
  if (spec.name == "tensorrt") return make_tensorrt(spec).release();
#endif
  return make_cuda_null(spec).release();
}
