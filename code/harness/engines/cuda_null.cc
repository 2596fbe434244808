// cuda_null: answers with checksums of the samples, computed on the GPU. Measures all of a GPU engine but the model's
// computation, and shows that every sample reached the GPU and its answer came back to it.
#include "cuda_null.h"

#include "../failure.h"
#include "cuda_engine.h"
#include "cuda_error.h"
#include "gpu_library.h"

namespace engineroom {
namespace {

class CudaNullEngine : public CudaEngine {
 public:
  using CudaEngine::CudaEngine;

 protected:
  void do_load_gpu(std::size_t) override {
    if (spec().inputs.size() > kCudaNullTensors || spec().outputs.size() > kCudaNullTensors) {
      throw Error("engine load", "cuda_null takes " + std::to_string(kCudaNullTensors) + " inputs and outputs at most");
    }
  }
  void do_load_execution(std::size_t, std::size_t) override {}

  void do_enqueue(std::size_t, const DeviceBatch& batch, cudaStream_t stream) override {
    CudaNullBatch given{};
    given.count = batch.count;
    given.inputs = batch.inputs.size();
    given.outputs = batch.outputs.size();
    for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
      given.input[i] = reinterpret_cast<const std::uint8_t*>(batch.inputs[i]);
      given.input_bytes[i] = spec().inputs[i].sample_bytes();
    }
    for (std::size_t i = 0; i < batch.outputs.size(); ++i) {
      given.output[i] = reinterpret_cast<std::uint8_t*>(batch.outputs[i]);
      given.output_bytes[i] = spec().outputs[i].sample_bytes();
    }
    ENGINEROOM_CUDA(launch_cuda_null(given, stream));
  }
};

}  // namespace

std::unique_ptr<Engine> make_cuda_null(EngineSpec spec) {
  return std::make_unique<CudaNullEngine>(std::move(spec));
}

}  // namespace engineroom
