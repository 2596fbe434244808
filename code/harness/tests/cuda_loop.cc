// What CUDA itself can do, with nothing around it: the yardstick of the GPU engines.
//
//   cuda_loop copy BYTES SECONDS                   GB/s of copies from page-locked memory to GPU 0
//   cuda_loop batch COUNT IN_BYTES OUT_BYTES SECONDS   microseconds of a batch: copy, cuda_null's kernel, copy, wait
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "../engines/cuda_error.h"
#include "../engines/cuda_null.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Memory {
  explicit Memory(std::size_t bytes) {
    ENGINEROOM_CUDA(cudaHostAlloc(&host, bytes, cudaHostAllocPortable));
    std::memset(host, 1, bytes);
    ENGINEROOM_CUDA(cudaMalloc(&device, bytes));
  }
  void* host = nullptr;
  void* device = nullptr;
};

cudaStream_t stream() {
  ENGINEROOM_CUDA(cudaSetDeviceFlags(cudaDeviceScheduleSpin));
  cudaStream_t made = nullptr;
  ENGINEROOM_CUDA(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  return made;
}

// Seconds per call of `step`, which is called for `seconds` after some calls that do not count.
template <typename Step>
double time_of(double seconds, const Step& step) {
  for (int i = 0; i < 20; ++i) step();
  const auto begin = Clock::now();
  std::size_t count = 0;
  double passed = 0;
  for (; passed < seconds; passed = std::chrono::duration<double>(Clock::now() - begin).count(), ++count) step();
  return passed / static_cast<double>(count);
}

double copy_gbps(std::size_t bytes, double seconds) {
  cudaStream_t on = stream();
  const Memory memory(bytes);
  const double took = time_of(seconds, [&] {
    for (int i = 0; i < 2; ++i) {  // two at a time, so that the bus need not wait for this thread
      ENGINEROOM_CUDA(cudaMemcpyAsync(memory.device, memory.host, bytes, cudaMemcpyHostToDevice, on));
    }
    ENGINEROOM_CUDA(cudaStreamSynchronize(on));
  });
  return 2 * static_cast<double>(bytes) / took / 1e9;
}

double batch_us(std::size_t count, std::size_t in_bytes, std::size_t out_bytes, double seconds) {
  cudaStream_t on = stream();
  const Memory in(count * in_bytes), out(count * out_bytes);
  engineroom::CudaNullBatch batch{};
  batch.count = count;
  batch.inputs = batch.outputs = 1;
  batch.input[0] = static_cast<const std::uint8_t*>(in.device);
  batch.output[0] = static_cast<std::uint8_t*>(out.device);
  batch.input_bytes[0] = in_bytes;
  batch.output_bytes[0] = out_bytes;
  return 1e6 * time_of(seconds, [&] {
    ENGINEROOM_CUDA(cudaMemcpyAsync(in.device, in.host, count * in_bytes, cudaMemcpyHostToDevice, on));
    ENGINEROOM_CUDA(engineroom::launch_cuda_null(batch, on));
    ENGINEROOM_CUDA(cudaMemcpyAsync(out.host, out.device, count * out_bytes, cudaMemcpyDeviceToHost, on));
    ENGINEROOM_CUDA(cudaStreamSynchronize(on));
  });
}

std::size_t number(const char* text) { return std::strtoull(text, nullptr, 10); }

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 4 && std::strcmp(argv[1], "copy") == 0) {
    std::printf("%f\n", copy_gbps(number(argv[2]), std::atof(argv[3])));
  } else if (argc == 6 && std::strcmp(argv[1], "batch") == 0) {
    std::printf("%f\n", batch_us(number(argv[2]), number(argv[3]), number(argv[4]), std::atof(argv[5])));
  } else {
    return 2;
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 3;
}
