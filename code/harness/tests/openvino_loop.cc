// The yardstick of the engine openvino: the same compiled model in a bare loop, without LoadGen and without the harness.
//
//   openvino_loop sync|async --blob=FILE --seconds=S [--requests=N] [--property=NAME=VALUE]...
//                 --input=NAME=OFFSET=FILE... [--answers=FILE]
//
// The blob is imported as the engine does it: as often as it takes for each request to have a stream (NUM_STREAMS).
// async keeps N requests in flight and starts each again from its own callback; sync calls infer() in N threads. Both
// print samples per second, sync also the median and the 90th percentile of an inference's time.
// FILE of an input holds samples from byte OFFSET on; each request is filled once, before the clock starts, with the
// next batch. --answers writes the outputs of every request's batch, one output behind the other.
#include <openvino/runtime/core.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <future>
#include <latch>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kWarmUpSeconds = 0.5;

struct Input {
  std::string name, path;
  std::size_t offset_bytes = 0;
};

struct Options {
  std::string mode, blob, answers;
  double seconds = 0;
  std::size_t requests = 1;
  ov::AnyMap properties;
  std::vector<Input> inputs;
};

[[noreturn]] void refuse(const std::string& why) { throw std::runtime_error(why); }

// "NAME=REST" in two; the first = separates.
std::pair<std::string, std::string> split(const std::string& text) {
  const std::size_t at = text.find('=');
  if (at == std::string::npos) refuse(text + ": wants NAME=VALUE");
  return {text.substr(0, at), text.substr(at + 1)};
}

Options parse(int argc, char** argv) {
  Options options;
  if (argc > 1) options.mode = argv[1];
  if (options.mode != "sync" && options.mode != "async") refuse("the first argument is sync or async");
  for (int i = 2; i < argc; ++i) {
    const auto [flag, value] = split(argv[i]);
    if (flag == "--blob") {
      options.blob = value;
    } else if (flag == "--answers") {
      options.answers = value;
    } else if (flag == "--seconds") {
      options.seconds = std::stod(value);
    } else if (flag == "--requests") {
      options.requests = std::stoul(value);
    } else if (flag == "--property") {
      options.properties.insert(split(value));
    } else if (flag == "--input") {
      const auto [name, rest] = split(value);
      const auto [offset, path] = split(rest);
      options.inputs.push_back({name, path, std::stoul(offset)});
    } else {
      refuse("unknown flag " + flag);
    }
  }
  if (options.blob.empty() || options.requests == 0) refuse("--blob and at least one request are needed");
  return options;
}

ov::CompiledModel import_blob(ov::Core& core, const Options& options) {
  std::ifstream blob(options.blob, std::ios::binary);
  if (!blob) refuse("cannot read " + options.blob);
  return core.import_model(blob, "CPU", options.properties);
}

// Fills a request with its batch of samples; behind the last batch of the file comes the first again.
void fill(ov::InferRequest& request, const Input& input, std::size_t number) {
  ov::Tensor tensor = request.get_tensor(input.name);
  std::ifstream file(input.path, std::ios::binary | std::ios::ate);
  const std::size_t bytes = tensor.get_byte_size();
  const auto end = static_cast<std::size_t>(std::max<std::streamoff>(file.tellg(), 0));
  if (!file || end < input.offset_bytes + bytes) refuse(input.path + " holds no whole batch");
  const std::size_t batches = (end - input.offset_bytes) / bytes;
  file.seekg(static_cast<std::streamoff>(input.offset_bytes + number % batches * bytes));
  file.read(static_cast<char*>(tensor.data()), static_cast<std::streamsize>(bytes));
  if (!file) refuse("cannot read " + input.path);
}

std::vector<ov::InferRequest> make_requests(ov::Core& core, const Options& options) {
  const auto named = options.properties.find("NUM_STREAMS");
  const std::size_t streams =
      named == options.properties.end() ? options.requests : std::stoul(named->second.as<std::string>());
  ov::CompiledModel model;
  std::vector<ov::InferRequest> requests;
  for (std::size_t i = 0; i < options.requests; ++i) {
    if (i % streams == 0) model = import_blob(core, options);
    requests.push_back(model.create_infer_request());
    for (const Input& input : options.inputs) fill(requests.back(), input, i);
  }
  return requests;
}

void write_answers(std::vector<ov::InferRequest>& requests, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  for (ov::InferRequest& request : requests) {
    for (const auto& output : request.get_compiled_model().outputs()) {
      const ov::Tensor tensor = request.get_tensor(output);
      file.write(static_cast<const char*>(tensor.data()), static_cast<std::streamsize>(tensor.get_byte_size()));
    }
  }
  if (!file.flush()) refuse("cannot write " + path);
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// What a loop has done: inferences, in how many seconds, and how long each took (sync only).
struct Done {
  std::size_t inferences = 0;
  double seconds = 0;
  std::vector<double> times;
};

Done run_async(std::vector<ov::InferRequest>& requests, double seconds) {
  std::atomic<std::size_t> inferences{0};
  std::latch ended(static_cast<std::ptrdiff_t>(requests.size()));
  std::mutex mutex;
  std::exception_ptr failed;
  const Clock::time_point begin = Clock::now();
  for (ov::InferRequest& request : requests) {
    request.set_callback([&, self = &request](std::exception_ptr error) {
      inferences.fetch_add(1, std::memory_order_relaxed);
      if (!error && seconds_since(begin) < seconds) return self->start_async();
      if (error) {
        const std::lock_guard lock(mutex);
        failed = error;
      }
      ended.count_down();
    });
    request.start_async();
  }
  ended.wait();
  const double took = seconds_since(begin);
  for (ov::InferRequest& request : requests) request.wait();  // the last callbacks have returned, too
  if (failed) std::rethrow_exception(failed);
  return {inferences, took, {}};
}

std::vector<double> infer_until(ov::InferRequest& request, Clock::time_point begin, double seconds) {
  std::vector<double> times;
  times.reserve(1 << 20);
  for (double last = seconds_since(begin), now = 0; last < seconds; last = now) {
    request.infer();
    now = seconds_since(begin);
    times.push_back(now - last);
  }
  return times;
}

Done run_sync(std::vector<ov::InferRequest>& requests, double seconds) {
  Done done;
  const Clock::time_point begin = Clock::now();
  std::vector<std::future<std::vector<double>>> others;
  for (std::size_t i = 1; i < requests.size(); ++i) {
    others.push_back(std::async(std::launch::async, infer_until, std::ref(requests[i]), begin, seconds));
  }
  done.times = infer_until(requests[0], begin, seconds);
  for (auto& other : others) {
    const std::vector<double> times = other.get();
    done.times.insert(done.times.end(), times.begin(), times.end());
  }
  done.inferences = done.times.size();
  done.seconds = seconds_since(begin);
  return done;
}

double percentile(std::vector<double>& values, double fraction) {
  const auto at = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

void run(const Options& options) {
  ov::Core core;
  std::vector<ov::InferRequest> requests = make_requests(core, options);
  const auto loop = options.mode == "async" ? run_async : run_sync;
  loop(requests, kWarmUpSeconds);
  Done done = loop(requests, options.seconds);
  const auto samples = static_cast<double>(done.inferences * requests[0].get_input_tensor(0).get_shape()[0]);
  std::printf("samples_per_second %.3f\n", samples / done.seconds);
  if (!done.times.empty()) {
    std::printf("p50_us %.3f\n", percentile(done.times, 0.5) * 1e6);
    std::printf("p90_us %.3f\n", percentile(done.times, 0.9) * 1e6);
  }
  if (!options.answers.empty()) write_answers(requests, options.answers);
}

}  // namespace

int main(int argc, char** argv) try {
  run(parse(argc, argv));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "openvino_loop: %s\n", error.what());
  return 2;
}
