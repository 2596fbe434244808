// The query sample library: preprocessed samples, memory-mapped from .npy files and never copied as a whole.
#pragma once

#include <query_sample_library.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "counters.h"
#include "engine.h"
#include "failure.h"

namespace engineroom {

// Where one input's samples lie in a file: sample i at `offset_bytes + i * sample_bytes`.
struct SampleFile {
  std::string path;
  std::size_t offset_bytes = 0;
  std::size_t sample_bytes = 0;
};

// The loaded samples once more, in an engine's own memory: per input, where place 0 is.
struct SampleCopies {
  std::vector<std::byte*> inputs;
};

// One file per input of the model. Reading is safe from any thread; the memory lives as long as the library.
class SampleLibrary : public mlperf::QuerySampleLibrary {
 public:
  // Maps the files. Throws Error, with expected and actual bytes, if one cannot hold `total_sample_count` samples.
  SampleLibrary(std::string name, const std::vector<SampleFile>& files, std::size_t total_sample_count,
                std::size_t performance_sample_count, LibraryCounters& counters, Failure& failure);

  // Samples `index`, `index` + 1, ... of input `input` lie one behind the other from here on.
  const std::byte* sample(std::size_t input, std::size_t index) const {
    return inputs_[input].samples + index * inputs_[input].sample_bytes;
  }

  std::size_t total_sample_count() const { return total_sample_count_; }

  // From now on keeps copies of the loaded samples there: one behind the other in LoadGen's order, not in the files'.
  // Until LoadGen has some loaded, they are the first ones.
  void copy_to(SampleMemory& memory);
  // The copies that `instance` reads; none without a SampleMemory.
  const SampleCopies* copies_for(std::size_t instance) const {
    return memory_ == nullptr ? nullptr : &copies_[memory_->home_of(instance)];
  }
  // Where a sample lies in the copies. Of one that is not loaded, where another one does.
  std::size_t place(std::size_t index) const { return places_[index]; }

  const std::string& Name() override { return name_; }
  std::size_t TotalSampleCount() override { return total_sample_count_; }
  std::size_t PerformanceSampleCount() override { return performance_sample_count_; }

  // Brings the samples into memory, so that no page of theirs is read from disk while the clock runs.
  void LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex>& samples) override;
  // Gives the pages back; the files stay mapped.
  void UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex>& samples) override;

 private:
  struct Input {
    std::shared_ptr<const void> mapping;
    const std::byte* samples = nullptr;
    std::size_t sample_bytes = 0;
  };

  void advise(const std::vector<mlperf::QuerySampleIndex>& samples, int advice);
  void touch(const std::vector<mlperf::QuerySampleIndex>& samples);
  void copy(const std::vector<mlperf::QuerySampleIndex>& samples);

  const std::string name_;
  const std::size_t total_sample_count_, performance_sample_count_;
  LibraryCounters& counters_;
  Failure& failure_;
  std::vector<Input> inputs_;
  SampleMemory* memory_ = nullptr;
  std::vector<SampleCopies> copies_;  // per home
  std::vector<std::uint32_t> places_;
};

}  // namespace engineroom
