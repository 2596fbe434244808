// What the programs of native tests share: cases that are LoadGen tests, each run in a process of its own, because
// LoadGen runs one test per process.
//
//   PROGRAM            runs every case
//   PROGRAM NAME DIR   runs one case in DIR
//
// A case that must fail is expected to leave with status 3 and an error.json that says the right words.
#pragma once

#include <query_sample.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../engine.h"
#include "../failure.h"
#include "../harness.h"

#define CHECK(condition)                                                                                     \
  do {                                                                                                       \
    if (!(condition)) throw std::runtime_error(__FILE__ ":" + std::to_string(__LINE__) + ": " + #condition); \
  } while (false)

namespace engineroom {

namespace fs = std::filesystem;

inline constexpr std::size_t kSamples = 100;
inline constexpr std::size_t kPerformanceSamples = 40;  // fewer than all: accuracy mode then loads several sets

inline std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct Case {
  std::string scenario, test_mode;
  EngineSpec engine;
  std::string user_conf;
  std::int64_t queue_delay_us = 0;
  int status = 0;
  std::string error;                        // part of error.json
  std::function<void(const fs::path&)> check;
  std::function<void(mlperf::QuerySample*)> damage = {};  // Offline: done once to two samples that a worker has taken
};

inline HarnessConfig config(const Case& test, const fs::path& dir) {
  const std::size_t repeats = test.engine.inputs[0].shape[0], bytes = repeats * sizeof(std::uint32_t);
  std::vector<std::uint32_t> numbers(repeats * kSamples);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::uint32_t>(i / repeats);
  std::ofstream(dir / "samples")
      .write(reinterpret_cast<const char*>(numbers.data()), static_cast<std::streamsize>(bytes * kSamples));
  std::ofstream(dir / "user.conf") << "*." << test.scenario << ".min_duration = 200\n" << test.user_conf;
  HarnessConfig result;
  result.benchmark = "native_test";
  result.scenario = test.scenario;
  result.test_mode = test.test_mode;
  result.user_conf = dir / "user.conf";
  result.run_dir = dir;
  result.sut_name = "native test";
  result.samples = {{dir / "samples", 0, bytes}};
  result.total_sample_count = kSamples;
  result.performance_sample_count = kPerformanceSamples;
  result.queue_delay_us = test.queue_delay_us;
  result.cpu_affinity = {{0}, {}};
  result.watchdog_s = 2;
  return result;
}

inline EngineSpec engine(const std::string& name, std::size_t batch_size, std::size_t instances,
                  std::map<std::string, std::string> options = {}, std::size_t numbers = 3) {
  const std::vector<TensorSpec> inputs{{"in", "uint32", {numbers}}};
  const std::vector<TensorSpec> outputs{{"number", "uint32", {}}, {"negated", "uint8", {1}}};
  return {name, std::move(options), inputs, outputs, instances, batch_size, kPerformanceSamples};
}

// What was answered to each sample, as hexadecimal digits, by index. Each that was answered twice was answered alike.
inline std::map<unsigned, std::string> read_answers(const fs::path& dir) {
  const std::string log = read(dir / "mlperf_log_accuracy.json");
  std::map<unsigned, std::string> answers;
  for (std::size_t at = log.find("\"qsl_idx\""); at != std::string::npos; at = log.find("\"qsl_idx\"", at + 1)) {
    unsigned index = 0;
    CHECK(std::sscanf(log.c_str() + at, "\"qsl_idx\" : %u", &index) == 1);
    const std::size_t begin = log.find('"', log.find(':', log.find("\"data\"", at))) + 1;
    const std::string answer = log.substr(begin, log.find('"', begin) - begin);
    CHECK(answers.try_emplace(index, answer).first->second == answer);
  }
  CHECK(answers.size() == kSamples);
  return answers;
}

inline void check_valid(const fs::path& dir) {
  CHECK(read(dir / "mlperf_log_summary.txt").find(": VALID\n") != std::string::npos);
}

using Check = std::function<void(const fs::path&)>;

// LoadGen's settings under which 0.2 s are a whole test.
inline const std::map<std::string, std::string> kFast{
    {"SingleStream", "*.SingleStream.target_latency = 0.05\n"},
    {"MultiStream", "*.MultiStream.target_latency = 0.1\n"},
    {"Server", "*.Server.target_qps = 5000\n*.Server.target_latency = 1000\n"},
    {"Offline", "*.Offline.target_qps = 100000\n"}};

inline Case good(const std::string& scenario, const std::string& test_mode, const EngineSpec& spec, Check check = {}) {
  return {scenario, test_mode, spec, kFast.at(scenario), 0, 0, "", std::move(check)};
}

template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// --- running them ---------------------------------------------------------------------------------------------------

inline int spawn(const std::string& program, const std::string& name, const fs::path& dir) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    std::freopen((dir / "stderr").c_str(), "w", stderr);
    ::execl(program.c_str(), program.c_str(), name.c_str(), dir.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

inline bool run_one(const std::string& program, const std::string& name, const Case* test) {
  std::string pattern = (fs::temp_directory_path() / "native_test.XXXXXX").string();
  const fs::path dir = ::mkdtemp(pattern.data());
  std::string failed;
  try {
    const int status = spawn(program, name, dir);
    const int expected = test != nullptr ? test->status : 0;
    if (status != expected) throw std::runtime_error("status " + std::to_string(status));
    const std::string error = read(dir / "error.json");
    CHECK(test == nullptr || error.find(test->error) != std::string::npos);
    CHECK(expected != 0 || error.empty());
    if (test != nullptr && test->check) test->check(dir);
  } catch (const std::exception& error) {
    failed = ": " + std::string(error.what()) + "\n" + read(dir / "stderr");
  }
  std::printf("%s %s%s\n", failed.empty() ? "ok    " : "FAILED", name.c_str(), failed.c_str());
  std::fflush(stdout);
  fs::remove_all(dir);
  return failed.empty();
}

using Parts = std::map<std::string, std::function<void(const fs::path&)>>;
using Cases = std::map<std::string, Case>;

inline int run_all(const std::string& program, const Parts& parts, const Cases& cases) {
  bool good = true;
  for (const auto& [name, part] : parts) good = run_one(program, name, nullptr) && good;
  for (const auto& [name, test] : cases) good = run_one(program, name, &test) && good;
  return good ? 0 : 1;
}

// What main() does: all of `parts` and `cases`, or the one that is named.
inline int test_main(int argc, char** argv, const Parts& parts, const Cases& cases,
                     const std::function<void(const Case&, const fs::path&)>& run_case) {
  if (argc == 1) return run_all(fs::read_symlink("/proc/self/exe"), parts, cases);
  if (argc != 3) return 2;
  try {
    if (const auto part = parts.find(argv[1]); part != parts.end()) {
      part->second(argv[2]);
    } else {
      run_case(cases.at(argv[1]), argv[2]);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace engineroom
