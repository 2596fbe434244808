// Puts the parts together and hands them to LoadGen.
#include "harness.h"

#include <loadgen.h>
#include <sys/stat.h>
#include <test_settings.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "clock.h"
#include "counters.h"
#include "failure.h"
#include "monitor.h"
#include "sut.h"

namespace engineroom {
namespace {

template <typename Value>
Value by_name(const std::string& what, const std::string& name,
              const std::vector<std::pair<const char*, Value>>& known) {
  std::string names;
  for (const auto& [each, value] : known) {
    if (name == each) return value;
    names += (names.empty() ? "" : ", ") + std::string(each);
  }
  throw Error("loadgen", "unknown " + what + " '" + name + "'", "known: " + names);
}

mlperf::TestScenario scenario(const HarnessConfig& config) {
  using enum mlperf::TestScenario;
  return by_name<mlperf::TestScenario>(
      "scenario", config.scenario,
      {{"SingleStream", SingleStream}, {"MultiStream", MultiStream}, {"Server", Server}, {"Offline", Offline}});
}

mlperf::TestMode test_mode(const HarnessConfig& config) {
  using enum mlperf::TestMode;
  return by_name<mlperf::TestMode>("test_mode", config.test_mode,
                                   {{"PerformanceOnly", PerformanceOnly},
                                    {"AccuracyOnly", AccuracyOnly},
                                    {"SubmissionRun", SubmissionRun},
                                    {"FindPeakPerformance", FindPeakPerformance}});
}

bool is_inline(const HarnessConfig& config) {
  const auto value = scenario(config);
  return value == mlperf::TestScenario::SingleStream || value == mlperf::TestScenario::MultiStream;
}

bool has_bytes(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && status.st_size > 0;
}

mlperf::TestSettings read_settings(const HarnessConfig& config) {
  mlperf::TestSettings settings;
  settings.scenario = scenario(config);
  settings.mode = test_mode(config);
  if (settings.FromConfig(config.user_conf, config.benchmark, config.scenario) != 0) {
    throw Error("loadgen", "LoadGen cannot read " + config.user_conf,
                "it wants lines of `model.scenario.key = number`");
  }
  return settings;
}

mlperf::LogSettings log_settings(const HarnessConfig& config) {
  mlperf::LogSettings settings;
  settings.log_output.outdir = config.run_dir;
  settings.log_output.copy_summary_to_stdout = false;
  settings.enable_trace = false;  // a trace event per sample costs time and grows without bound
  return settings;
}

// Keeps the engine until the process ends, which the child does by _exit: one that hangs or crashes when it is torn down
// must not cost a test that was finished.
Engine& kept(std::unique_ptr<Engine> engine) {
  static std::unique_ptr<Engine> keeper;
  keeper = std::move(engine);
  return *keeper;
}

// What a test and a probe share: counters, watchdog, samples.
struct Stage {
  Stage(const HarnessConfig& config, Engine& engine, Failure& failure)
      : counters(is_inline(config) ? 1 : engine.spec().instances, engine.spec().batch_size),
        monitor(counters, engine.spec().batch_size, config.run_dir + "/counters.bin", config.watchdog_s, failure),
        library(config.benchmark, config.samples, config.total_sample_count, config.performance_sample_count,
                counters.library, failure) {
    engine.load();
    if (SampleMemory* memory = engine.sample_memory()) library.copy_to(*memory);
    monitor.enter(Phase::kWarmUp);
  }

  Counters counters;
  Monitor monitor;
  SampleLibrary library;
};

std::unique_ptr<Sut> make_sut(const HarnessConfig& config, SutParts parts) {
  if (is_inline(config)) return std::make_unique<InlineSut>(std::move(parts));
  std::unique_ptr<BatchSource> source;
  if (scenario(config) == mlperf::TestScenario::Server) {
    source = std::make_unique<ServerSource>(config.queue_delay_us * 1000);
  } else {
    source = std::make_unique<OfflineSource>(parts.engine.spec().instances);
  }
  return std::make_unique<PooledSut>(std::move(parts), std::move(source));
}

// LoadGen reports neither logs that it could not write nor answers that belong to other samples.
void check_outcome(const HarnessConfig& config, const Stage& stage) {
  const std::string difference = stage.counters.difference();
  if (!difference.empty()) throw Error("loadgen", difference);
  for (const char* log : {"summary.txt", "detail.txt"}) {
    if (config.test_mode == "AccuracyOnly" && std::string(log) == "summary.txt") continue;
    const std::string path = config.run_dir + "/mlperf_log_" + log;
    if (has_bytes(path)) continue;
    throw Error("loadgen", "LoadGen did not write " + path, "is the disk full, or the folder gone?");
  }
  if (stage.counters.issue.samples.get() == 0) {
    throw Error("loadgen", "LoadGen issued no query", "see " + config.run_dir + "/mlperf_log_detail.txt");
  }
}

std::int64_t median(std::vector<std::int64_t>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Runs batches of `count` samples, going through the library, until `until_ns`; returns each batch's time.
std::vector<std::int64_t> time_batches(Lane& lane, const SampleLibrary& library, std::size_t count, std::size_t first,
                                       std::int64_t until_ns) {
  std::vector<mlperf::QuerySample> samples(count);
  std::vector<std::int64_t> times;
  std::size_t next = first;
  for (std::int64_t begin = now_ns(), end = 0; times.empty() || begin < until_ns; begin = end) {
    for (mlperf::QuerySample& sample : samples) sample = {0, next++ % library.total_sample_count()};
    lane.infer(samples);
    end = now_ns();
    times.push_back(end - begin);
  }
  return times;
}

ProbeResult measure(const HarnessConfig& config, Engine& engine, Stage& stage, double seconds, Failure& failure) {
  const std::size_t full = engine.spec().batch_size, workers = stage.counters.workers.size();
  std::vector<std::unique_ptr<Lane>> lanes;
  for (std::size_t i = 0; i < workers; ++i) {
    lanes.push_back(std::make_unique<Lane>(engine, i, stage.library, stage.counters.workers[i]));
    lanes.back()->warm_up();
  }
  const std::int64_t begin = now_ns(), until = begin + static_cast<std::int64_t>(seconds * 1e9);
  std::atomic<std::uint64_t> samples{0};
  std::vector<std::thread> threads;
  try {
    for (std::size_t i = 0; i < workers; ++i) {
      threads.emplace_back([&, i]() noexcept {
        try {
          samples += full * time_batches(*lanes[i], stage.library, full, i * full, until).size();
        } catch (...) {
          failure.end_process_on_exception("engine infer", i);
        }
      });
    }
  } catch (...) {  // not unwound: threads that already run have not been joined
    failure.end_process_on_exception("engine load", threads.size());
  }
  for (std::thread& thread : threads) thread.join();
  ProbeResult result;
  result.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  result.samples_per_second = static_cast<double>(samples) / result.seconds;
  result.batch_size = std::min<std::size_t>(full, config.scenario == "MultiStream" ? 8 : 1);
  auto times = time_batches(*lanes[0], stage.library, result.batch_size, 0,
                            now_ns() + static_cast<std::int64_t>(seconds * 0.25e9));
  result.latency_p50_ns = median(times);
  return result;
}

}  // namespace

void run_test(const HarnessConfig& config, const EngineFactory& make_engine) {
  Failure failure(config.run_dir + "/error.json");
  try {
    const mlperf::TestSettings settings = read_settings(config);
    Engine& engine = kept(make_engine());
    Stage stage(config, engine, failure);
    const auto sut = make_sut(config, {config.sut_name, engine, stage.library, stage.counters, failure,
                                       config.cpu_affinity});
    stage.monitor.enter(Phase::kTest);
    try {
      const EndsWithoutMemory ends(failure);
      // The name is always given: LoadGen's default would pick up an audit.config that lies in the working directory.
      mlperf::StartTest(sut.get(), &stage.library, settings, log_settings(config), config.audit_conf);
      check_outcome(config, stage);
    } catch (...) {  // here, before workers and samples are torn down: that may hang, and the record must come first
      failure.end_process_on_exception("loadgen", std::nullopt);
    }
    stage.monitor.enter(Phase::kDone);
  } catch (...) {
    failure.end_process_on_exception("engine load", std::nullopt);
  }
}

ProbeResult probe(const HarnessConfig& config, const EngineFactory& make_engine, double seconds) {
  Failure failure(config.run_dir + "/error.json");
  try {
    Engine& engine = kept(make_engine());
    Stage stage(config, engine, failure);
    const ProbeResult result = measure(config, engine, stage, seconds, failure);
    stage.monitor.enter(Phase::kDone);
    return result;
  } catch (...) {
    failure.end_process_on_exception("engine infer", std::nullopt);
  }
}

}  // namespace engineroom
