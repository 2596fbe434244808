// One LoadGen test, or one probe, from a recipe's values to the logs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "sample_library.h"

namespace engineroom {

// The values of a recipe; paths are absolute.
struct HarnessConfig {
  std::string benchmark;               // LoadGen's model name
  std::string scenario;                // SingleStream, MultiStream, Server, Offline
  std::string test_mode;               // PerformanceOnly, AccuracyOnly, SubmissionRun, FindPeakPerformance
  std::string user_conf;
  std::string audit_conf;              // empty: no audit
  std::string run_dir;                 // receives LoadGen's logs, counters.bin, error.json
  std::string sut_name;
  std::vector<SampleFile> samples;     // one file per input
  std::size_t total_sample_count = 0, performance_sample_count = 0;
  std::int64_t queue_delay_us = 0;     // Server: how long a batch may wait to fill
  std::vector<std::vector<int>> cpu_affinity;  // per instance
  double watchdog_s = 30;
};

struct ProbeResult {
  double samples_per_second = 0;  // all instances together, full batches
  std::int64_t latency_p50_ns = 0;  // instance 0 alone, one query of the scenario
  std::size_t batch_size = 0;     // samples of that query: 8 in MultiStream, else 1
  double seconds = 0;             // the throughput part took this long
};

using EngineFactory = std::function<std::unique_ptr<Engine>()>;

// Runs one test; returns when LoadGen's logs are complete. Once per process: LoadGen skips its built-in mlperf.conf
// (seeds, minimum durations) the second time it reads a user.conf. Any error ends the process (see Failure).
void run_test(const HarnessConfig& config, const EngineFactory& make_engine);

// Loads and warms the engine and measures it for about `seconds` on the library's samples, without LoadGen.
// For sizing the number of queries LoadGen generates; no result of a benchmark. Errors as above.
ProbeResult probe(const HarnessConfig& config, const EngineFactory& make_engine, double seconds);

}  // namespace engineroom
