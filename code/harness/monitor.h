// A thread beside the test: publishes the counters in a mapped file and ends a test that no longer moves.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "counters.h"
#include "failure.h"

namespace engineroom {

enum class Phase : std::uint64_t { kLoad = 0, kWarmUp = 1, kTest = 2, kLogs = 3, kDone = 4 };

// The file starts with one line of JSON, padded to 4096 bytes, that says where each field lies; every field is an
// array of uint64. Histograms count durations from duration_bounds_ns[i] on and below the next; the last has no
// end. The file is rewritten ten times a second and once at the end; a reader needs no lock.
//
// The watchdog asks each time: has any worker been inside the engine, have samples waited to be read or for an answer,
// or has LoadGen been at its logs, for `watchdog_s` with nothing happening? Loading an engine may take ten times as
// long. The thread takes no lock of Python's or LoadGen's, so that neither can keep it from ending the process.
class Monitor {
 public:
  // `path` is the counters file, beside which LoadGen writes its logs; an empty path keeps the fields in memory only.
  Monitor(const Counters& counters, std::size_t batch_size, const std::string& path, double watchdog_s,
          Failure& failure);
  ~Monitor();  // publishes a last time
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  void enter(Phase phase);

 private:
  struct Progress {
    std::uint64_t value = 0;
    std::int64_t since_ns = 0;
    // Notes `now` when `current` differs from what was seen last; returns for how long it has stood still.
    std::int64_t stood_still_ns(std::uint64_t current, std::int64_t now);
  };

  void map_file(const std::string& path, const std::string& header, std::size_t field_count);
  std::atomic_ref<std::uint64_t> field(const std::string& name, std::size_t index = 0);
  void set(const std::string& name, std::uint64_t value);
  void run();
  Phase visible_phase() const;
  void publish(std::int64_t now);
  void publish(const std::string& name, DurationHistogram WorkerCounters::* histogram);
  void watch(std::int64_t now);
  void watch_worker(std::size_t worker, std::int64_t now);
  void watch_library(std::int64_t now);
  void watch_accounts();
  void watch_logs(std::int64_t now);
  std::uint64_t logged_bytes() const;

  const Counters& counters_;
  const std::size_t batch_size_;
  const std::filesystem::path folder_;
  const std::int64_t limit_ns_;
  Failure& failure_;
  std::map<std::string, std::size_t> first_;  // field name -> index of its first value
  std::vector<std::uint64_t> in_memory_;      // the fields, where there is no file
  std::uint64_t* fields_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::atomic<Phase> phase_{Phase::kLoad};
  std::vector<Progress> workers_;
  Progress load_, library_, completion_, logs_;
  std::atomic<std::uint32_t> stop_{0};
  std::thread thread_;
};

}  // namespace engineroom
