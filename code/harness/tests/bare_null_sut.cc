// The yardstick: LoadGen with a system under test that does nothing else than answer.
//
//   bare_null_sut SCENARIO USER_CONF OUTPUT_DIR [BATCH_SIZE THREADS]
//
// SingleStream, MultiStream and Server are answered at once on the issuing thread. Offline is answered from THREADS
// threads in batches of BATCH_SIZE, as a harness must: one call for the whole query would only game the clock.
#include <loadgen.h>
#include <query_sample_library.h>
#include <system_under_test.h>
#include <test_settings.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

class Samples : public mlperf::QuerySampleLibrary {
 public:
  const std::string& Name() override { return name_; }
  std::size_t TotalSampleCount() override { return 1024; }
  std::size_t PerformanceSampleCount() override { return 1024; }
  void LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex>&) override {}
  void UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex>&) override {}

 private:
  const std::string name_ = "nothing";
};

std::uint64_t g_answer = 0;

void complete(const mlperf::QuerySample* samples, std::size_t count, std::vector<mlperf::QuerySampleResponse>& room) {
  room.clear();
  for (std::size_t i = 0; i < count; ++i) {
    room.emplace_back(samples[i].id, reinterpret_cast<std::uintptr_t>(&g_answer), sizeof g_answer);
  }
  mlperf::QuerySamplesComplete(room.data(), count);
}

class BareSut : public mlperf::SystemUnderTest {
 public:
  const std::string& Name() override { return name_; }
  void FlushQueries() override {}
  void IssueQuery(const std::vector<mlperf::QuerySample>& samples) override {
    complete(samples.data(), samples.size(), room_);
  }

 private:
  const std::string name_ = "bare null";
  std::vector<mlperf::QuerySampleResponse> room_;
};

class BareOfflineSut : public BareSut {
 public:
  // The threads begin here, before LoadGen's clock, and end after the test: LoadGen may crash when a thread that has
  // logged ends while the test runs.
  BareOfflineSut(std::size_t batch_size, std::size_t threads) : batch_size_(batch_size) {
    for (std::size_t i = 0; i < threads; ++i) running_.emplace_back([this] { work(); });
  }
  ~BareOfflineSut() override {
    announce(issued_);  // so that none waits for a query that never came
    announce(test_over_);
    for (std::thread& thread : running_) thread.join();
  }

  void IssueQuery(const std::vector<mlperf::QuerySample>& samples) override {
    // Not `samples` itself: LoadGen may take it back before the last thread has seen that nothing is left of it.
    first_ = samples.data();
    total_ = samples.size();
    announce(issued_);
  }

 private:
  static void announce(std::atomic_flag& flag) {
    flag.test_and_set();
    flag.notify_all();
  }

  void work() {
    issued_.wait(false);
    std::vector<mlperf::QuerySampleResponse> room;
    for (std::size_t at = next_.fetch_add(batch_size_); at < total_; at = next_.fetch_add(batch_size_)) {
      complete(first_ + at, std::min(batch_size_, total_ - at), room);
    }
    test_over_.wait(false);
  }

  const std::size_t batch_size_;
  const mlperf::QuerySample* first_ = nullptr;  // of the one query, as is the count; set before `issued_`
  std::size_t total_ = 0;
  std::atomic<std::size_t> next_{0};
  std::atomic_flag issued_, test_over_;
  std::vector<std::thread> running_;
};

}  // namespace

int main(int argc, char** argv) {
  using enum mlperf::TestScenario;
  const std::map<std::string, mlperf::TestScenario> scenarios{
      {"SingleStream", SingleStream}, {"MultiStream", MultiStream}, {"Server", Server}, {"Offline", Offline}};
  if (argc < 4 || scenarios.count(argv[1]) == 0) {
    std::fprintf(stderr, "usage: bare_null_sut SCENARIO USER_CONF OUTPUT_DIR [BATCH_SIZE THREADS]\n");
    return 2;
  }
  mlperf::TestSettings settings;
  settings.scenario = scenarios.at(argv[1]);
  settings.mode = mlperf::TestMode::PerformanceOnly;
  if (settings.FromConfig(argv[2], "null", argv[1]) != 0) return 2;
  mlperf::LogSettings logs;
  logs.log_output.outdir = argv[3];
  logs.enable_trace = false;

  Samples samples;
  if (settings.scenario == Offline) {
    const auto number = [&](int at, std::size_t otherwise) {
      return argc > at ? std::strtoul(argv[at], nullptr, 10) : otherwise;
    };
    BareOfflineSut sut(number(4, 64), number(5, 1));
    mlperf::StartTest(&sut, &samples, settings, logs, "");
  } else {
    BareSut sut;
    mlperf::StartTest(&sut, &samples, settings, logs, "");
  }
  return 0;
}
