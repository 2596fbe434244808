// Maps sample files and moves their pages in and out of memory.
#include "sample_library.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace engineroom {
namespace {

std::shared_ptr<const void> map_file(const std::string& path, std::size_t expected_bytes) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    throw Error("samples", "cannot open " + path + ": " + std::strerror(errno), "run `make preprocess_data`");
  }
  struct stat status {};
  ::fstat(file, &status);
  const auto actual_bytes = static_cast<std::size_t>(status.st_size);
  if (actual_bytes < expected_bytes) {
    ::close(file);
    throw Error("samples", path + " is truncated: expected " + std::to_string(expected_bytes) + " bytes, it has " +
                               std::to_string(actual_bytes), "delete it and run `make preprocess_data`");
  }
  void* memory = ::mmap(nullptr, actual_bytes, PROT_READ, MAP_SHARED, file, 0);
  const int error = errno;
  ::close(file);
  if (memory == MAP_FAILED) throw Error("samples", "cannot map " + path + ": " + std::strerror(error));
  return {memory, [actual_bytes](const void* mapped) { ::munmap(const_cast<void*>(mapped), actual_bytes); }};
}

}  // namespace

SampleLibrary::SampleLibrary(std::string name, const std::vector<SampleFile>& files, std::size_t total_sample_count,
                             std::size_t performance_sample_count, LibraryCounters& counters,
                             Failure& failure)
    : name_(std::move(name)),
      total_sample_count_(total_sample_count),
      performance_sample_count_(performance_sample_count),
      counters_(counters),
      failure_(failure) {
  if (total_sample_count == 0 || performance_sample_count == 0 || performance_sample_count > total_sample_count) {
    throw Error("samples", "performance_sample_count is " + std::to_string(performance_sample_count) +
                               " of total_sample_count " + std::to_string(total_sample_count) +
                               "; it must be at least 1 and not above the total");
  }
  for (const SampleFile& file : files) {
    auto mapping = map_file(file.path, file.offset_bytes + total_sample_count * file.sample_bytes);
    const auto* samples = static_cast<const std::byte*>(mapping.get()) + file.offset_bytes;
    inputs_.push_back({std::move(mapping), samples, file.sample_bytes});
  }
}

void SampleLibrary::advise(const std::vector<mlperf::QuerySampleIndex>& samples, int advice) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t input = 0; input < inputs_.size(); ++input) {
    for (mlperf::QuerySampleIndex index : samples) {
      const auto begin = reinterpret_cast<std::uintptr_t>(sample(input, index));
      const auto first_page = begin & ~(page - 1);
      ::madvise(reinterpret_cast<void*>(first_page), begin + inputs_[input].sample_bytes - first_page, advice);
      counters_.moved.add(1);
    }
  }
}

void SampleLibrary::touch(const std::vector<mlperf::QuerySampleIndex>& samples) {
  constexpr std::size_t kPageBytes = 4096;
  for (std::size_t input = 0; input < inputs_.size(); ++input) {
    for (mlperf::QuerySampleIndex index : samples) {
      const volatile std::byte* bytes = sample(input, index);
      for (std::size_t at = 0; at < inputs_[input].sample_bytes; at += kPageBytes) static_cast<void>(bytes[at]);
      static_cast<void>(bytes[inputs_[input].sample_bytes - 1]);
      counters_.moved.add(1);
    }
  }
}

void SampleLibrary::copy_to(SampleMemory& memory) {
  places_.resize(total_sample_count_);
  for (std::size_t i = 0; i < places_.size(); ++i) {
    places_[i] = static_cast<std::uint32_t>(i % performance_sample_count_);
  }
  for (std::size_t home = 0; home < memory.homes(); ++home) {
    SampleCopies& copies = copies_.emplace_back();
    for (const Input& input : inputs_) {
      copies.inputs.push_back(memory.allocate(home, performance_sample_count_ * input.sample_bytes));
      memory.write(home, copies.inputs.back(), input.samples, performance_sample_count_ * input.sample_bytes);
    }
  }
  memory_ = &memory;
}

void SampleLibrary::copy(const std::vector<mlperf::QuerySampleIndex>& samples) try {
  std::vector<bool> placed(total_sample_count_);
  std::size_t place = 0;
  for (mlperf::QuerySampleIndex index : samples) {
    if (placed[index]) continue;  // MultiStream: LoadGen fills the last query with samples from the front
    if (place == performance_sample_count_) {
      throw Error("samples", "LoadGen has more samples loaded at once than performance_sample_count, " +
                                 std::to_string(performance_sample_count_));
    }
    placed[index] = true;
    places_[index] = static_cast<std::uint32_t>(place);
    for (std::size_t home = 0; home < copies_.size(); ++home) {
      for (std::size_t input = 0; input < inputs_.size(); ++input) {
        const std::size_t bytes = inputs_[input].sample_bytes;
        memory_->write(home, copies_[home].inputs[input] + place * bytes, sample(input, index), bytes);
      }
    }
    ++place;
    counters_.moved.add(1);
  }
} catch (...) {
  failure_.end_process_on_exception("samples", std::nullopt);
}

void SampleLibrary::LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex>& samples) {
  for (mlperf::QuerySampleIndex index : samples) {
    if (index < total_sample_count_) continue;
    failure_.end_process("samples", "LoadGen asks for sample " + std::to_string(index) + ", the library has " +
                                        std::to_string(total_sample_count_));
  }
  counters_.steps.add(1);
  advise(samples, MADV_WILLNEED);  // starts the reads, all of them at once
  touch(samples);
  if (memory_ != nullptr) copy(samples);
  counters_.steps.add(1);
}

void SampleLibrary::UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex>& samples) {
  counters_.steps.add(1);
  advise(samples, MADV_DONTNEED);
  counters_.steps.add(1);
}

}  // namespace engineroom
