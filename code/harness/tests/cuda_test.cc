// Tests of CudaEngine by way of cuda_null, on a double of the CUDA runtime: whole LoadGen tests, and what goes wrong.
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <regex>
#include <set>
#include <thread>

#include "../engines/gpu_library.h"
#include "../failure.h"
#include "cuda_double.h"
#include "native_test.h"

namespace engineroom {
namespace {

using Options = std::map<std::string, std::string>;

constexpr std::size_t kLarge = 5000;  // numbers: 20 kB per sample, too large to be gathered

// The answer to a sample, from the words in which cuda_null describes it, in hexadecimal digits.
std::string expected_answer(std::uint32_t index, std::size_t numbers) {
  std::vector<unsigned char> bytes(4 * numbers);
  for (std::size_t i = 0; i < numbers; ++i) std::memcpy(&bytes[4 * i], &index, 4);
  if (bytes.size() > 128) bytes.erase(bytes.begin() + 64, bytes.end() - 64);
  std::uint64_t sum = 0xcbf29ce484222325;
  for (unsigned char byte : bytes) sum = (sum ^ byte) * 0x100000001b3;
  char text[11];
  const auto bits = [sum](int place) { return static_cast<unsigned>(sum >> (6 * place) & 63); };
  std::snprintf(text, sizeof text, "%02X%02X%02X%02X%02X", bits(0), bits(1), bits(2), bits(3), bits(0));
  return text;
}

Check right_answers(std::size_t numbers) {
  return [numbers](const fs::path& dir) {
    for (const auto& [index, answer] : read_answers(dir)) CHECK(answer == expected_answer(index, numbers));
  };
}

EngineSpec cuda_null(std::size_t batch_size, std::size_t instances, Options options = {}, std::size_t numbers = 3) {
  return engine("cuda_null", batch_size, instances, std::move(options), numbers);
}

Case answers(const std::string& scenario, std::size_t batch_size, std::size_t instances, Options options = {},
             std::size_t numbers = 3) {
  return good(scenario, "AccuracyOnly", cuda_null(batch_size, instances, std::move(options), numbers),
              right_answers(numbers));
}

struct Broken {
  const char* function;
  int nth;
  cudaError_t error;
  cuda_double::After after;
  const char* words;
};

using enum cuda_double::After;

// What happens on the way: the n-th call of a function fails, and the test has to end with these words.
const std::map<std::string, Broken> kBroken{
    {"no GPU", {"cudaGetDeviceCount", 1, cudaErrorNoDevice, kWorks, "CUDA_VISIBLE_DEVICES='7' names no GPU"}},
    {"old driver", {"cudaGetDeviceCount", 1, cudaErrorInsufficientDriver, kWorks,
                    "the NVIDIA driver is made for CUDA 12.2, the harness for CUDA 13.0"}},
    {"no memory after all", {"cudaMalloc", 3, cudaErrorMemoryAllocation, kWorks, "cudaErrorMemoryAllocation (2)"}},
    {"no pinned memory", {"cudaHostAlloc", 1, cudaErrorMemoryAllocation, kWorks, "of page-locked host memory for"}},
    {"no capture", {"launch_cuda_null", 2, cudaErrorStreamCaptureUnsupported, kWorks,
                    "cannot run as a CUDA graph: --use_graphs=false"}},
    {"lost at a copy", {"cudaMemcpyAsync", 60, cudaErrorUnknown, kLost, "sudo dmesg | grep Xid"}},
    // Not lasting: another worker may otherwise be the first to tell it, of another call.
    {"lost at work", {"cudaEventSynchronize", 40, cudaErrorIllegalAddress, kWorks,
                      "cudaEventSynchronize(flight.done.get()): cudaErrorIllegalAddress (700): CUDA's text"}},
    {"MIG slice gone", {"cudaMemcpyAsync", 70, cudaErrorDevicesUnavailable, kLost,
                        "the GPU or its MIG slice may be gone"}},
    {"never returns", {"cudaEventSynchronize", 45, cudaSuccess, kHangs, "has been inside the engine for"}},
    {"never loads", {"cudaMalloc", 2, cudaSuccess, kHangs, "loading the engine has not returned for"}},
    {"ECC error", {"cudaEventSynchronize", 50, cudaErrorECCUncorrectable, kLost, "nvidia-smi -q -d ECC"}},
};

Cases all_cases() {
  Cases cases;
  for (const auto& [name, conf] : kFast) {
    const std::size_t batch = name == "SingleStream" ? 1 : 8;
    cases[name + " small"] = answers(name, batch, 2);
    cases[name + " large"] = answers(name, batch, 2, {{"wait", "block"}}, kLarge);
    cases[name + " graphs"] = answers(name, batch, 2, {{"graph_batch_sizes", batch == 1 ? "1" : "1,2,4"}});
    cases[name + " one copy stream"] = answers(name, batch, 1, {{"copy_streams", "1"}}, kLarge);
    // So few samples as in the other native tests, for the same reason.
    cases[name + " performance"] = good(name, "PerformanceOnly", cuda_null(batch, 1));
    cases[name + " performance"].user_conf +=
        "*." + name + (name == "Offline" ? ".target_qps = 9000\n" : ".max_query_count = 100\n");
  }
  cases["two GPUs"] = answers("Server", 8, 4, {{"gpus", "0,1"}, {"graph_batch_sizes", "8"}}, kLarge);
  cases["GPU 1 alone"] = answers("Offline", 8, 1, {{"gpus", "1"}});
  cases["start from device"] = answers("Server", 8, 2, {{"gpus", "0,1"}, {"start_from_device", "true"}});
  for (const auto& [name, broken] : kBroken) {
    Case& test = cases[name] = answers("Offline", 8, 2, {{"graph_batch_sizes", "4"}});
    test.test_mode = "PerformanceOnly";
    test.status = 3;
    test.error = broken.words;
    test.check = {};
  }
  return cases;
}

EngineFactory factory(const EngineSpec& spec) {
  return [spec] { return make_cuda_null(spec); };
}

void run_case(const Case& test, const fs::path& dir) {
  cuda_double::check_at_exit();
  ::setenv("CUDA_VISIBLE_DEVICES", "7", 1);
  cuda_double::set_devices({{}, {.numa_node = 1}});
  HarnessConfig run = config(test, dir);
  for (const auto& [name, broken] : kBroken) {
    if (test.error != broken.words) continue;
    cuda_double::fail(broken.function, broken.nth, broken.error, broken.after);
    if (broken.after == kHangs) run.watchdog_s = 0.3;
  }
  run_test(run, factory(test.engine));
}

// --- parts -----------------------------------------------------------------------------------------------------------

// One engine with samples in its memory: sample i repeats i.
class Bench {
 public:
  explicit Bench(EngineSpec spec, std::size_t samples = 64)
      : engine(make_cuda_null(spec)), numbers_(spec.inputs[0].shape[0]) {
    engine->load();
    SampleMemory& memory = *engine->sample_memory();
    for (std::size_t home = 0; home < memory.homes(); ++home) {
      std::byte* place = begin_.emplace_back(memory.allocate(home, samples * 4 * numbers_));
      for (std::uint32_t i = 0; i < samples; ++i) {
        const std::vector<std::uint32_t> sample(numbers_, i);
        memory.write(home, place + i * 4 * numbers_, reinterpret_cast<const std::byte*>(sample.data()), 4 * numbers_);
      }
    }
    for (std::size_t i = 0; i < engine->spec().instances; ++i) {
      outputs_.push_back(engine->host_memory(i, 4 * spec.batch_size));
      outputs_.push_back(engine->host_memory(i, spec.batch_size));
    }
  }

  void infer(std::size_t instance, const std::vector<Run>& runs) {
    const std::byte* inputs[] = {begin_[engine->sample_memory()->home_of(instance)]};
    std::byte* outputs[] = {outputs_[2 * instance].get(), outputs_[2 * instance + 1].get()};
    std::size_t count = 0;
    for (const Run& run : runs) count += run.count;
    engine->infer(instance, {count, inputs, outputs, runs});
    std::size_t at = 0;
    for (const Run& run : runs) {
      for (std::size_t i = 0; i < run.count; ++i, ++at) {
        char text[11];
        const auto* number = reinterpret_cast<const unsigned char*>(outputs[0] + 4 * at);
        std::snprintf(text, sizeof text, "%02X%02X%02X%02X%02X", number[0], number[1], number[2], number[3],
                      std::to_integer<unsigned>(outputs[1][at]));
        CHECK(text == expected_answer(static_cast<std::uint32_t>(run.first + i), numbers_));
      }
    }
  }

  const std::unique_ptr<Engine> engine;

 private:
  const std::size_t numbers_;
  std::vector<std::byte*> begin_;
  std::vector<HostMemory> outputs_;
};

void test_copies(const fs::path&) {
  const auto copied = [](std::size_t numbers, const std::vector<Run>& runs) {
    Bench bench(cuda_null(8, 1, {}, numbers));
    const std::size_t before = cuda_double::uploads().size();
    bench.infer(0, runs);
    auto sizes = cuda_double::uploads();
    sizes.erase(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(before));
    return sizes;
  };
  using Sizes = std::vector<std::size_t>;
  CHECK(copied(kLarge, {{5, 8}}) == Sizes{8 * 4 * kLarge});                                    // together: one copy
  CHECK(copied(kLarge, {{5, 3}, {20, 1}}) == (Sizes{3 * 4 * kLarge, 4 * kLarge}));             // one per run
  CHECK(copied(3, {{5, 3}, {20, 1}, {2, 2}}) == Sizes{6 * 12});                                // small: gathered
  CHECK(copied(3, {{5, 3}}) == Sizes{3 * 12});
  CHECK(cuda_double::breaches() == "");
}

void test_graphs(const fs::path&) {
  Bench bench(cuda_null(16, 1, {{"graph_batch_sizes", "8,1,4"}}));
  const auto computed = [] {  // samples of the last computation
    const auto done = cuda_double::done();
    return std::find_if(done.rbegin(), done.rend(), [](const auto& each) { return each.kernel; })->size;
  };
  const auto launched = [&](std::size_t count) {
    const int graphs = cuda_double::calls("cudaGraphLaunch"), kernels = cuda_double::calls("launch_cuda_null");
    bench.infer(0, {{0, count}});
    bench.infer(1, {{3, count}});
    return std::pair(cuda_double::calls("cudaGraphLaunch") - graphs, cuda_double::calls("launch_cuda_null") - kernels);
  };
  for (std::size_t count = 1; count <= 8; ++count) {
    CHECK(launched(count) == std::pair(2, 0));
    CHECK(computed() == (count == 1 ? 1u : count <= 4 ? 4u : 8u));  // the nearest larger size
  }
  for (std::size_t count : {std::size_t{9}, std::size_t{16}}) {  // larger than all
    CHECK(launched(count) == std::pair(0, 2));
    CHECK(computed() == count);
  }
}

// Each execution computes on one stream of its own, and nothing else is on it; each batch in flight is copied on
// another. A worker waits only for its whole batch: nothing keeps the next one from being copied meanwhile.
void test_streams(const fs::path&) {
  using Streams = std::set<cudaStream_t>;
  Bench bench(cuda_null(8, 2, {{"copy_streams", "3"}, {"graph_batch_sizes", "4"}}));
  const int waits = cuda_double::calls("cudaStreamSynchronize") + cuda_double::calls("cudaDeviceSynchronize");
  std::vector<Streams> computes(2), copies(6);
  for (std::size_t instance : {0, 1, 2, 3, 4, 5, 0, 5}) {
    const std::size_t before = cuda_double::done().size();
    bench.infer(instance, {{0, 3}});  // a graph
    bench.infer(instance, {{5, 8}});  // none
    const auto done = cuda_double::done();
    for (std::size_t i = before; i < done.size(); ++i) {
      (done[i].kernel ? computes[instance % 2] : copies[instance]).insert(done[i].stream);
    }
  }
  Streams all;
  for (const auto& each : computes) CHECK(each.size() == 1);
  for (const auto& each : copies) CHECK(each.size() == 1);
  for (const auto& each : computes) all.insert(each.begin(), each.end());
  for (const auto& each : copies) all.insert(each.begin(), each.end());
  CHECK(all.size() == 8);
  CHECK(cuda_double::calls("cudaStreamSynchronize") + cuda_double::calls("cudaDeviceSynchronize") == waits);
  for (unsigned flags : cuda_double::flags("cudaStreamCreateWithFlags")) CHECK(flags == cudaStreamNonBlocking);
}

// "block" leaves the core to others, in the engine's own waiting and in CUDA's; "spin" does not.
void test_waiting(const fs::path&) {
  const auto waited_with = [](const std::string& wait) {
    Bench bench(cuda_null(8, 1, {{"wait", wait}}));
    bench.infer(1, {{0, 3}});
    return std::pair(cuda_double::flags("cudaSetDeviceFlags").back(),
                     cuda_double::flags("cudaEventSynchronize").back());
  };
  using Flags = std::pair<unsigned, unsigned>;
  CHECK(waited_with("block") == Flags(cudaDeviceScheduleBlockingSync, cudaEventBlockingSync | cudaEventDisableTiming));
  CHECK(waited_with("spin") == Flags(cudaDeviceScheduleSpin, cudaEventDisableTiming));
}

// What a graph takes is known when some are made: where the rest does not fit, no more are.
void test_memory_of_graphs(const fs::path&) {
  const auto load = [](std::size_t graph_mebibytes) {
    cuda_double::set_devices({{.memory_bytes = std::size_t{100} << 20, .graph_bytes = graph_mebibytes << 20}});
    try {
      make_cuda_null(cuda_null(8, 1, {{"graph_batch_sizes", "1,2,4,8"}}))->load();
    } catch (const Error& error) {
      return std::string(error.what()) + "\n" + error.mend;
    }
    return std::string("no error");
  };
  const auto has = [](const std::string& words, const char* part) { return words.find(part) != std::string::npos; };
  CHECK(load(12) == "no error");
  const std::string words = load(16);  // 8 of them are 128 MiB
  CHECK(has(words, "GPU 0 (NVIDIA Double) has 68.0 MiB of memory free, 96.0 MiB are needed: 6 more CUDA graphs of 8, "
                   "16.0 MiB each"));
  CHECK(has(words, "--use_graphs=false") && has(words, "--cuda_graph_sizes") && has(words, "--gpu_copy_streams"));
  const std::string second = load(60);  // the second already has no room
  CHECK(has(second, "cudaErrorMemoryAllocation"));
  CHECK(has(second, "(1 of 8 CUDA graphs are made, 40.0 MiB of memory are free)"));
  CHECK(has(second, "--use_graphs=false"));
  CHECK(cuda_double::alive() == 0);
}

// Several threads on one execution and on several GPUs, every batch another.
void test_threads(const fs::path&) {
  cuda_double::set_devices({{}, {.numa_node = 1}, {.numa_node = 1}});
  Bench bench(cuda_null(8, 3, {{"gpus", "0,1,2"}, {"copy_streams", "3"}, {"graph_batch_sizes", "4"}}));
  CHECK(bench.engine->spec().instances == 9);
  CHECK(bench.engine->sample_memory()->homes() == 2);  // two NUMA nodes
  std::vector<std::thread> threads;
  std::string failed;
  for (std::size_t instance = 0; instance < 9; ++instance) {
    threads.emplace_back([&, instance] {
      try {
        for (std::size_t i = 0; i < 200; ++i) bench.infer(instance, {{(i + instance) % 50, i % 7 + 1}, {i % 60, 1}});
      } catch (const std::exception& error) {
        failed = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == "");
  CHECK(cuda_double::breaches() == "");
}

// Page-locked memory is asked for near the GPU, and the thread has its own policy again afterwards, such as numactl's,
// whether there was room or not.
void test_numa(const fs::path&) {
  using cuda_double::MemoryPolicy;
  const MemoryPolicy own{MPOL_INTERLEAVE, 1};
  // Many containers let nobody set where memory lies: nothing can be told there.
  if (::syscall(SYS_set_mempolicy, own.mode, &own.nodes, 8 * sizeof own.nodes) != 0) return;
  const auto load = [] {
    const Bench bench(cuda_null(8, 1));  // with samples and answers
    CHECK(bench.engine->spec().instances == 2);
  };
  const auto all_with = [](const MemoryPolicy& policy) {
    const auto asked = cuda_double::host_policies();
    return !asked.empty() && std::all_of(asked.begin(), asked.end(), [&](const auto& each) { return each == policy; });
  };
  CHECK(cuda_double::memory_policy() == own);
  cuda_double::set_devices({{.numa_node = 0}});
  load();
  CHECK(all_with({MPOL_PREFERRED, 1}));
  CHECK(cuda_double::memory_policy() == own);
  cuda_double::fail("cudaHostAlloc", 1, cudaErrorMemoryAllocation);
  CHECK(error_of(load).find("of page-locked host memory for") != std::string::npos);
  CHECK(cuda_double::memory_policy() == own);
}

// Where the machine does not tell which node is near, memory lies as the thread's own policy has it.
void test_no_numa(const fs::path&) {
  cuda_double::set_devices({{.numa_node = -1}});
  const auto own = cuda_double::memory_policy();
  const Bench bench(cuda_null(8, 1));
  for (const auto& each : cuda_double::host_policies()) CHECK(each == own);
  CHECK(!cuda_double::host_policies().empty());
}

// An error says where in our source, of which expression, and CUDA's name, number and text.
void test_errors(const fs::path&) {
  cuda_double::fail("cudaGetDeviceCount", 1, cudaErrorNoDevice);
  const std::string words = error_of([] { make_cuda_null(cuda_null(8, 1))->load(); });
  const std::regex wanted(R"(cuda_engine\.cc:\d+: cudaGetDeviceCount\(&count\): cudaErrorNoDevice \(100\): .+)");
  CHECK(std::regex_match(words, wanted));
}

void test_options(const fs::path&) {
  cuda_double::set_devices({{}, {}});
  const auto load = [](Options options, std::size_t batch_size = 8, std::size_t numbers = 3) {
    return error_of([&] { make_cuda_null(cuda_null(batch_size, 2, std::move(options), numbers))->load(); });
  };
  CHECK(load({}) == "no error");
  const Options all{{"gpus", "0,1"}, {"copy_streams", "4"}, {"wait", "block"}, {"start_from_device", "false"}};
  CHECK(load(all) == "no error");
  CHECK(load({{"gpus", "0,2"}}) == "gpus names 2, this process sees 2 GPUs, counted from 0");
  CHECK(load({{"gpus", "1,0,1"}}) == "gpus names 1 twice");
  CHECK(load({{"gpus", ""}}) == "gpus names no GPU");
  CHECK(load({{"gpus", "0,,1"}}).find("not whole numbers between commas") != std::string::npos);
  CHECK(load({{"gpus", "all"}}).find("not whole numbers between commas") != std::string::npos);
  CHECK(load({{"copy_streams", "0"}}).find("not a whole number from 1 to 99") != std::string::npos);
  CHECK(load({{"wait", "poll"}}) == "engine option wait is 'poll', neither spin nor block");
  CHECK(load({{"start_from_device", "1"}}).find("neither false nor true") != std::string::npos);
  CHECK(load({{"graph_batch_sizes", "1,9"}}) == "graph_batch_sizes names 9, batches are of 1 to 8 samples");
  CHECK(load({{"plan", "x"}}) == "unknown engine option plan");
  CHECK(cuda_double::alive() == 0);
}

// What is needed is said before anything is allocated, and the batch that is named as the largest does fit.
void test_memory(const fs::path&) {
  cuda_double::set_devices({{.memory_bytes = std::size_t{100} << 20}});
  const auto load = [](std::size_t batch_size) {
    try {
      make_cuda_null(cuda_null(batch_size, 2, {}, std::size_t{1} << 18))->load();  // a sample of 1 MiB
    } catch (const Error& error) {
      return std::string(error.what()) + "\n" + error.mend;
    }
    return std::string("no error");
  };
  const std::string words = load(10);
  CHECK(words.find("GPU 0 (NVIDIA Double) has 100.0 MiB of memory free, 104.0 MiB are needed: "
                   "4 x the inputs and outputs of a batch of 10 40.0 MiB, reserve 64.0 MiB") == 0);
  CHECK(words.find("--batch_size=8") != std::string::npos);  // 4 * 9 MiB fit, their outputs do not
  CHECK(cuda_double::calls("cudaMalloc") == 0);
  CHECK(load(8) == "no error");
  CHECK(load(9) != "no error");
  const auto from_device = [](std::size_t samples) {
    EngineSpec spec = cuda_null(8, 2, {{"start_from_device", "true"}}, std::size_t{1} << 18);
    spec.loaded_samples = samples;
    return error_of([&] { make_cuda_null(spec)->load(); });
  };
  CHECK(from_device(3) == "no error");
  CHECK(from_device(4).find("4 loaded samples (start_from_device) 4.0 MiB, reserve") != std::string::npos);
  cuda_double::set_devices({{.memory_bytes = std::size_t{60} << 20}});
  CHECK(load(1).find("not even a batch of 1 fits") != std::string::npos);
  CHECK(cuda_double::alive() == 0);
}

const Parts kParts{{"part: copies", test_copies},
                   {"part: graphs", test_graphs},
                   {"part: streams", test_streams},
                   {"part: waiting", test_waiting},
                   {"part: memory of graphs", test_memory_of_graphs},
                   {"part: threads", test_threads},
                   {"part: numa", test_numa},
                   {"part: no numa", test_no_numa},
                   {"part: errors", test_errors},
                   {"part: options", test_options},
                   {"part: memory", test_memory}};

}  // namespace
}  // namespace engineroom

int main(int argc, char** argv) {
  using namespace engineroom;
  return test_main(argc, argv, kParts, all_cases(), run_case);
}
