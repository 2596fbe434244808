// Lane: one engine instance with the memory it works in. Answers samples: gather, infer, report to LoadGen.
#pragma once

#include <query_sample.h>

#include <memory>
#include <span>
#include <vector>

#include "counters.h"
#include "engine.h"
#include "sample_library.h"

namespace engineroom {

// Used by one thread, which should also be the one that makes it: memory then lies near that thread's cores.
// All memory is taken when it is made, none while a test runs.
class Lane {
 public:
  Lane(Engine& engine, std::size_t instance, const SampleLibrary& library, WorkerCounters& counters);

  // Runs 1 to batch_size samples through the engine and keeps the answers. Large samples that lie together in the
  // library are handed over where they lie, others are gathered into the lane's own memory first.
  void infer(std::span<const mlperf::QuerySample> samples);

  // Hands the answers of the last infer(), which must have been for the same samples, to LoadGen in one call.
  // From then on LoadGen may take back the memory that `samples` lie in.
  void complete(std::span<const mlperf::QuerySample> samples);

  // Runs a few full batches of the library's first samples, which do not count; returns how long the last one took.
  // Throws Error if an answer to them holds NaN: to look for it in every batch would cost time, and an engine that
  // overflows does so at once.
  std::int64_t warm_up();

 private:
  void gather(std::span<const mlperf::QuerySample> samples);
  void find_runs(std::span<const mlperf::QuerySample> samples);
  void pack(std::size_t count);
  void shift(std::size_t count);
  void refuse_nan() const;

  Engine& engine_;
  const std::size_t instance_;
  const SampleLibrary& library_;
  WorkerCounters& counters_;
  const SampleCopies* const copies_;  // where the engine gathers batches by itself; else none
  std::vector<Run> runs_;
  std::vector<HostMemory> input_buffers_, output_buffers_;
  HostMemory packed_;  // responses of models with several outputs, one behind the other, or with an answer_offset
  std::vector<const std::byte*> inputs_;
  std::vector<std::byte*> outputs_;
  std::vector<std::size_t> input_bytes_, output_bytes_;
  std::vector<mlperf::QuerySampleResponse> responses_;
};

}  // namespace engineroom
