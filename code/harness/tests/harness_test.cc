// Native tests of the harness: real LoadGen, no Python, so that sanitizers see all of it.
#include <loadgen.h>
#include <sched.h>
#include <sys/wait.h>
#include <test_settings.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../batch_source.h"
#include "../clock.h"
#include "../engine.h"
#include "../failure.h"
#include "../harness.h"
#include "../histogram.h"
#include "../monitor.h"
#include "../sample_library.h"
#include "../sut.h"
#include "../tensor.h"
#include "native_test.h"

namespace engineroom {
namespace {

// Each sample repeats its index; the answer gives it back as a number and, negated, as a byte.
class EchoEngine : public Engine {
 public:
  using Engine::Engine;

 protected:
  void do_infer(std::size_t, const Batch& batch) override {
    const auto* samples = reinterpret_cast<const std::uint32_t*>(batch.inputs[0]);
    auto* number = reinterpret_cast<std::uint32_t*>(batch.outputs[0]);
    auto* negated = reinterpret_cast<std::uint8_t*>(batch.outputs[1]);
    for (std::size_t i = 0; i < batch.count; ++i) {
      const std::uint32_t* sample = samples + i * spec().inputs[0].shape[0];
      number[i] = sample[spec().inputs[0].shape[0] - 1];
      negated[i] = static_cast<std::uint8_t>(~sample[0]);
    }
  }
};

// Throws on load, throws at its n-th batch, does not return from it, or answers NaN. Warm-up takes 5 batches per
// instance.
class BrokenEngine : public Engine {
 public:
  using Engine::Engine;

 protected:
  void do_load() override {
    if (spec().options.contains("load")) throw std::runtime_error("broken on load");
  }
  void do_infer(std::size_t, const Batch& batch) override {
    if (spec().options.contains("nan")) {
      std::memset(batch.outputs[0], 0xff, spec().outputs[0].sample_bytes());  // for the first sample of the batch
      return;
    }
    if (++batches_ < number_option("after", 0)) return;
    while (spec().options.contains("hang")) std::this_thread::sleep_for(std::chrono::seconds(1));
    throw std::runtime_error("broken at work");
  }

 private:
  std::atomic<int> batches_{0};
};

bool is_on_cpu_0_alone(pid_t thread) {
  cpu_set_t cpus;
  if (::sched_getaffinity(thread, sizeof cpus, &cpus) != 0) return false;  // it has ended
  return CPU_COUNT(&cpus) == 1 && CPU_ISSET(0, &cpus);
}

// Echoes, if instance 0 works on CPU 0 alone, and no other thread does: neither a worker nor one of LoadGen's.
class PlacedEngine : public EchoEngine {
 public:
  using EchoEngine::EchoEngine;

 protected:
  void do_infer(std::size_t instance, const Batch& batch) override {
    if (is_on_cpu_0_alone(0) != (instance == 0)) throw std::runtime_error("an instance is on others' CPUs");
    int there = 0;
    for (const auto& task : fs::directory_iterator("/proc/self/task")) {
      there += is_on_cpu_0_alone(std::stoi(task.path().filename()));
    }
    if (there > 1) throw std::runtime_error("others share the CPU of instance 0");
    EchoEngine::do_infer(instance, batch);
  }
};

EngineFactory factory(const EngineSpec& spec) {
  return [spec]() -> std::unique_ptr<Engine> {
    if (spec.name == "echo") return std::make_unique<EchoEngine>(spec);
    if (spec.name == "broken") return std::make_unique<BrokenEngine>(spec);
    if (spec.name == "placed") return std::make_unique<PlacedEngine>(spec);
    return make_native_engine(spec);
  };
}

// Every index once, each with the answer that belongs to it.
void check_accuracy_log(const fs::path& dir) {
  for (const auto& [index, answer] : read_answers(dir)) {
    unsigned number = 0, negated = 0;
    CHECK(std::sscanf(answer.c_str(), "%2x%*6x%2x", &number, &negated) == 2);
    CHECK(number == index && negated == (~index & 0xff));
  }
}

Case bad(const std::string& scenario, std::map<std::string, std::string> options, const std::string& error) {
  const EngineSpec spec = engine("broken", scenario == "SingleStream" ? 1 : 8, 2, std::move(options));
  return {scenario, "PerformanceOnly", spec, kFast.at(scenario), 0, 3, error, {}};
}

Case answers_nan(const std::string& scenario, std::size_t batch_size) {
  const std::string error = "output number holds NaN for 1 of the " + std::to_string(batch_size) + " samples";
  Case test = bad(scenario, {{"nan", "1"}}, error);
  test.engine.outputs[0].dtype = "float32";
  return test;
}

std::map<std::string, Case> all_cases() {
  const std::string hangs = "has been inside the engine for";
  std::map<std::string, Case> cases;
  for (const auto& [name, conf] : kFast) {
    const std::size_t batch = name == "SingleStream" ? 1 : 8;
    const EngineSpec delay = engine("fixed_delay", batch, 2, {{"delay_us", "200"}});
    cases[name + " fixed_delay"] = good(name, "PerformanceOnly", delay, check_valid);
    cases[name + " accuracy"] = good(name, "AccuracyOnly", engine("echo", batch, 3), check_accuracy_log);
    // By native_test.h instance 0 has CPU 0, and instance 1 any. With a single CPU there is nothing to tell apart.
    if (std::thread::hardware_concurrency() > 1) {
      cases[name + " placed"] = good(name, "AccuracyOnly", engine("placed", batch, 2), check_accuracy_log);
    }
    cases[name + " both modes"] = good(name, "SubmissionRun", engine("echo", batch, 2), check_accuracy_log);
    cases[name + " throws on load"] = bad(name, {{"load", "1"}}, "broken on load");
    cases[name + " throws at once"] = bad(name, {}, "broken at work");
    cases[name + " throws later"] = bad(name, {{"after", "20"}}, "broken at work");
    cases[name + " hangs"] = bad(name, {{"after", "20"}, {"hang", "1"}}, hangs);
    cases[name + " answers NaN"] = answers_nan(name, batch);
    cases[name + " null"] = good(name, "PerformanceOnly", engine("null", batch, 3));
    // So few samples that no thread logs more than 1,024 entries between two polls of LoadGen's log thread: from there
    // on that thread writes to the other's buffer, which may hang LoadGen (here, under a sanitizer, one run in ten).
    // MultiStream has eight samples in a query, each with an entry of its own.
    const std::string count = name == "MultiStream" ? "40" : "100";
    const std::string few = name == "Offline" ? ".target_qps = 9000\n" : ".max_query_count = " + count + "\n";
    for (const char* fast : {" null", " both modes"}) cases[name + fast].user_conf += "*." + name + few;
  }
  cases["warm-up hangs"] = bad("Offline", {{"hang", "1"}}, hangs);
  const EngineSpec large = engine("echo", 1, 1, {}, 10000);  // large enough to be handed over where it lies
  cases["SingleStream in place"] = good("SingleStream", "AccuracyOnly", large, check_accuracy_log);
  cases["MultiStream in parts"] = good("MultiStream", "AccuracyOnly", engine("echo", 3, 1), check_accuracy_log);
  cases["Server queue delay"] = good("Server", "AccuracyOnly", engine("echo", 8, 3), check_accuracy_log);
  cases["Server queue delay"].queue_delay_us = 2000;
  Case& coalesced = cases["Server coalesced"] = good("Server", "PerformanceOnly", engine("null", 8, 2), check_valid);
  coalesced.user_conf += "*.Server.coalesce_queries = 1\n";
  coalesced.queue_delay_us = 500;
  Case& twice = cases["Offline answered twice"] = good("Offline", "PerformanceOnly", engine("null", 8, 2));
  twice.damage = [](mlperf::QuerySample* samples) { samples[1] = samples[0]; };
  Case& swapped = cases["Offline another's data"] = good("Offline", "PerformanceOnly", engine("null", 8, 2));
  swapped.damage = [](mlperf::QuerySample* samples) { std::swap(samples[0].index, samples[1].index); };
  for (Case* damaged : {&twice, &swapped}) {
    damaged->user_conf += "*.Offline.target_qps = 9000\n";
    damaged->status = 3;
    damaged->error = "samples answered are not those that LoadGen issued";
  }
  return cases;
}

// Hands over two samples of the query that are not as LoadGen issued them.
class DamagedSource : public OfflineSource {
 public:
  DamagedSource(std::size_t workers, std::function<void(mlperf::QuerySample*)> damage)
      : OfflineSource(workers), damage_(std::move(damage)) {}

  Taken take(std::span<mlperf::QuerySample> room, std::int64_t free_ns, DurationHistogram& queue_time) override {
    const Taken taken = OfflineSource::take(room, free_ns, queue_time);
    if (taken.samples.size() < 2 || done_.test_and_set()) return taken;
    std::copy(taken.samples.begin(), taken.samples.end(), room.begin());
    damage_(room.data());
    return {room.first(taken.samples.size()), taken.at_ns};
  }

 private:
  const std::function<void(mlperf::QuerySample*)> damage_;
  std::atomic_flag done_;
};

// As run_test, with a DamagedSource.
void run_damaged(const Case& test, const HarnessConfig& config) {
  Failure failure(config.run_dir + "/error.json");
  const auto engine = make_native_engine(test.engine);
  Counters counters(test.engine.instances, test.engine.batch_size);
  Monitor monitor(counters, test.engine.batch_size, "", config.watchdog_s, failure);
  SampleLibrary library("damaged", config.samples, kSamples, kPerformanceSamples, counters.library, failure);
  PooledSut sut({"damaged", *engine, library, counters, failure, {}},
                std::make_unique<DamagedSource>(test.engine.instances, test.damage));
  mlperf::TestSettings settings;
  settings.scenario = mlperf::TestScenario::Offline;
  CHECK(settings.FromConfig(config.user_conf, "damaged", "Offline") == 0);
  mlperf::LogSettings logs;
  logs.log_output.outdir = config.run_dir;
  logs.enable_trace = false;
  monitor.enter(Phase::kTest);
  mlperf::StartTest(&sut, &library, settings, logs, "");
  failure.end_process("loadgen", counters.difference());
}

void run_case(const Case& test, const fs::path& dir) {
  if (test.damage) {
    run_damaged(test, config(test, dir));
  } else {
    run_test(config(test, dir), factory(test.engine));
  }
}

// --- parts that need no LoadGen test -------------------------------------------------------------------------------

// Pushes numbered samples while workers take them; returns how many batches there were. Each must be taken once.
std::size_t drain(BatchSource& source, std::size_t workers, std::size_t room, const std::vector<std::size_t>& queries,
                  std::chrono::microseconds pause) {
  std::size_t total = 0;
  for (std::size_t query : queries) total += query;
  std::vector<std::atomic<int>> taken(total);
  std::atomic<std::size_t> batches{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < workers; ++i) {
    threads.emplace_back([&] {
      std::vector<mlperf::QuerySample> mine(room);
      DurationHistogram waits;
      for (Taken got = source.take(mine, now_ns(), waits); !got.samples.empty();
           got = source.take(mine, now_ns(), waits)) {
        ++batches;
        for (const auto& sample : got.samples) ++taken[sample.index];
      }
    });
  }
  std::vector<std::vector<mlperf::QuerySample>> issued;  // kept: an offline source does not copy
  std::size_t next = 0;
  for (std::size_t query : queries) {
    auto& samples = issued.emplace_back();
    for (std::size_t i = 0; i < query; ++i, ++next) samples.push_back({next + 1, next});
    source.push(samples);
    std::this_thread::sleep_for(pause);
  }
  source.flush();
  const auto once = [](const auto& count) { return count == 1; };
  const auto all_taken = [&] { return std::all_of(taken.begin(), taken.end(), once); };
  for (int i = 0; i < 1000 && !all_taken(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  source.close();
  for (std::thread& thread : threads) thread.join();
  CHECK(all_taken());
  return batches;
}

void test_sources(const fs::path&) {
  using std::chrono::microseconds;
  OfflineSource offline(3);
  CHECK(drain(offline, 3, 64, {1000, 1, 63, 64, 65}, microseconds(0)) == 16 + 1 + 1 + 1 + 2);
  ServerSource crowd(0);
  drain(crowd, 3, 8, std::vector<std::size_t>(60, 3000), microseconds(0));  // more than the ring holds
  ServerSource trickle(0);
  CHECK(drain(trickle, 2, 8, std::vector<std::size_t>(200, 1), microseconds(300)) > 100);
  ServerSource patient(1'000'000'000);  // the delay is long: batches fill up, flush() ends the last one
  const std::int64_t begin = now_ns();
  CHECK(drain(patient, 3, 8, std::vector<std::size_t>(204, 1), microseconds(100)) == 26);
  CHECK(now_ns() - begin < 900'000'000);
}

void test_library(const fs::path& dir) {
  std::ofstream(dir / "short") << "0123456789";
  Failure failure("");
  LibraryCounters counters;
  const auto open = [&](std::size_t total) {
    SampleLibrary("x", {{dir / "short", 2, 4}}, total, 1, counters, failure);
  };
  CHECK(error_of([&] { open(2); }) == "no error");
  CHECK(error_of([&] { open(3); }).find("expected 14 bytes, it has 10") != std::string::npos);
  const auto missing = [&] { SampleLibrary("x", {{dir / "none", 0, 4}}, 1, 1, counters, failure); };
  CHECK(error_of(missing).find("none") != std::string::npos);
}

constexpr double kWatchdogS = 0.4;

// Lets `act` change the counters of a test whose queries are all issued and answered; returns what the watchdog says.
std::string ended_by_watchdog(const fs::path& dir, const std::function<void(Counters&)>& act) {
  const pid_t child = ::fork();
  if (child == 0) {
    Failure failure(dir / "stalled.json");
    Counters counters(1, 1);
    Monitor monitor(counters, 1, dir / "counters.bin", kWatchdogS, failure);
    counters.issue.queries.set(1);
    counters.issue.queries_at_flush.set(1);
    monitor.enter(Phase::kTest);
    act(counters);
    std::this_thread::sleep_for(std::chrono::seconds(30));
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
  return read(dir / "stalled.json");
}

// Whether the record says this, and how long it has been so: no less than the limit, on a busy machine somewhat more.
bool says(const std::string& record, const std::string& what) {
  const std::size_t at = record.find(what + " for ");
  if (at == std::string::npos) return false;
  const double seconds = std::stod(record.substr(at + what.size() + 5));
  return seconds >= kWatchdogS && seconds < 10;
}

void test_watchdog(const fs::path& dir) {
  const auto idle = [](Counters&) {};
  CHECK(says(ended_by_watchdog(dir, idle), "LoadGen has not finished its logs"));
  const auto logging = [&](Counters&) {  // to a slow disk: a log grows, for five times the watchdog's limit
    std::ofstream log(dir / "mlperf_log_detail.txt");
    for (int line = 0; line < 20; ++line) {
      log << "line\n" << std::flush;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    std::ofstream(dir / "logged").put('!');
  };
  CHECK(says(ended_by_watchdog(dir, logging), "LoadGen has not finished its logs"));
  CHECK(fs::exists(dir / "logged"));
  const auto unanswered = [](Counters& counters) { counters.issue.samples.set(7); };
  CHECK(says(ended_by_watchdog(dir, unanswered), "7 samples wait and none was answered"));
  // Between two sets of samples LoadGen looks idle, too. Slow reading is none; that it stops is.
  const auto reading = [&](Counters& counters) {
    counters.library.steps.add(1);
    for (int sample = 0; sample < 40; ++sample) {  // for five times the watchdog's limit
      counters.library.moved.add(1);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    std::ofstream(dir / "read").put('!');
  };
  CHECK(says(ended_by_watchdog(dir, reading), "none has been read"));
  CHECK(fs::exists(dir / "read"));
}

void test_nan(const fs::path&) {
  const auto of = [](const std::string& dtype, const std::vector<unsigned char>& bytes) {
    const TensorSpec spec{"x", dtype, {2}};
    return samples_with_nan(spec, reinterpret_cast<const std::byte*>(bytes.data()), bytes.size() / spec.sample_bytes());
  };
  CHECK(of("float32", {0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0, 0, 0x80, 0x7f, 0, 0, 0x80, 0xff}) == 1);  // NaN; two infinities
  CHECK(of("float32", {1, 0, 0x80, 0x7f, 0, 0, 0xc0, 0xff}) == 1);
  CHECK(of("float16", {0, 0, 1, 0x7c, 0, 0x7c, 0, 0xfc}) == 1);
  CHECK(of("bfloat16", {0, 0, 0x81, 0x7f, 0x80, 0x7f, 0x80, 0xff}) == 1);
  CHECK(of("float8_e4m3fn", {0x7f, 0, 0x7e, 0xfe, 0, 0xff}) == 2);
  CHECK(of("int8", {0xff, 0xff}) == 0);
}

void test_engines(const fs::path&) {
  const auto made = make_native_engine(engine("null", 4, 1));
  made->load();
  const auto infer = [&](std::size_t instance, std::size_t count) { made->infer(instance, {count, {}, {}}); };
  CHECK(error_of([&] { infer(0, 4); }) == "no error");
  CHECK(error_of([&] { infer(0, 0); }).find("batch of 0") == 0);
  CHECK(error_of([&] { infer(0, 5); }).find("batch of 5") == 0);
  CHECK(error_of([&] { infer(1, 1); }).find("batch of 1 samples on instance 1") == 0);
  CHECK(error_of([] { make_native_engine(engine("nul", 4, 1)); }) == "no native engine nul");
  const auto load = [](std::map<std::string, std::string> options) {
    return error_of([&] { make_native_engine(engine("fixed_delay", 1, 1, options))->load(); });
  };
  CHECK(load({{"delay_us", "1.5"}}) == "no error");
  CHECK(load({{"delay_us", "soon"}}).find("not a number") != std::string::npos);
  CHECK(load({{"delay", "1"}}).find("unknown engine option delay") == 0);
}

void test_histogram(const fs::path&) {
  const auto bound = DurationHistogram::lower_bound_ns;
  const std::size_t last = DurationHistogram::kRanges - 1;
  for (std::size_t range = 0; range < last; ++range) {
    DurationHistogram histogram;
    const auto first = static_cast<std::int64_t>(bound(range)), next = static_cast<std::int64_t>(bound(range + 1));
    CHECK(first < next && 4 * (next - first) <= std::max<std::int64_t>(first, 4));
    histogram.note(first);
    histogram.note(next - 1, 2);
    histogram.note(next);
    CHECK(histogram.count(range) == 3 && histogram.count(range + 1) == 1);
  }
  DurationHistogram histogram;
  histogram.note(-1);
  histogram.note(std::numeric_limits<std::int64_t>::max());
  CHECK(histogram.count(0) == 1 && histogram.count(last) == 1);
}

const Parts kParts{
    {"part: histogram", test_histogram},
    {"part: sources", test_sources}, {"part: library", test_library}, {"part: engines", test_engines},
    {"part: watchdog", test_watchdog}, {"part: NaN", test_nan}};

}  // namespace
}  // namespace engineroom


int main(int argc, char** argv) {
  using namespace engineroom;
  return test_main(argc, argv, kParts, all_cases(), run_case);
}
