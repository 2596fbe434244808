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

void SampleLibrary::LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex>& samples) {
  for (mlperf::QuerySampleIndex index : samples) {
    if (index < total_sample_count_) continue;
    failure_.end_process("samples", "LoadGen asks for sample " + std::to_string(index) + ", the library has " +
                                        std::to_string(total_sample_count_));
  }
  counters_.steps.add(1);
  advise(samples, MADV_WILLNEED);  // starts the reads, all of them at once
  touch(samples);
  counters_.steps.add(1);
}

void SampleLibrary::UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex>& samples) {
  counters_.steps.add(1);
  advise(samples, MADV_DONTNEED);
  counters_.steps.add(1);
}

}  // namespace engineroom
