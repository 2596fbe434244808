// Tests of the tensorrt engine on doubles of CUDA's and TensorRT's runtimes, behind TensorRT's real headers.
#include <NvInferVersion.h>

#include "../engines/gpu_library.h"
#include "../failure.h"
#include "cuda_double.h"
#include "native_test.h"

namespace engineroom {
namespace {

using Options = std::map<std::string, std::string>;

const std::string kTensors = "in in 3 -1 3\nout number 3 -1\nout negated 2 -1 1\n";  // int32, int32, int8

std::string plan(const std::string& sizes, const std::string& tensors = kTensors, int major = NV_TENSORRT_MAJOR) {
  return "PLAN " + std::to_string(major) + " " + sizes + "\n" + tensors;
}

EngineSpec tensorrt(const std::string& plan, std::size_t batch_size, std::size_t instances, Options options = {}) {
  options["plan"] = plan;
  EngineSpec spec = engine("tensorrt", batch_size, instances, std::move(options));
  spec.inputs[0].dtype = spec.outputs[0].dtype = "int32";
  spec.outputs[1].dtype = "int8";
  return spec;
}

// The answers are cuda_null's, which its own test checks: here, that each sample has its own.
void each_its_own(const fs::path& dir) {
  std::map<std::string, unsigned> indices;
  for (const auto& [index, answer] : read_answers(dir)) CHECK(indices.emplace(answer, index).second);
  CHECK(indices.size() == kSamples);
}

Case answers(const std::string& scenario, const EngineSpec& spec) {
  return good(scenario, "AccuracyOnly", spec, each_its_own);
}

Cases all_cases() {
  Cases cases;
  for (const auto& [name, conf] : kFast) {
    const std::size_t batch = name == "SingleStream" ? 1 : 8;
    cases[name] = answers(name, tensorrt(plan("1 8 1000"), batch, 2));
    // Smaller and larger batches than those of the graphs come between them, and must not change what they use.
    const std::string sizes = batch == 1 ? "1" : "1,4";
    cases[name + " graphs"] = answers(name, tensorrt(plan("1 8 1000"), batch, 2, {{"graph_batch_sizes", sizes}}));
  }
  const std::string fixed = "in in 3 8 3\nout number 3 8\nout negated 2 8 1\n";
  cases["fixed batch size"] = answers("Server", tensorrt(plan("8 8 0", fixed), 8, 1));
  cases["two GPUs"] = answers("Offline", tensorrt(plan("1 8 1000"), 8, 4, {{"gpus", "0,1"}}));
  Case& refused = cases["refused at work"] = answers("Offline", tensorrt(plan("1 8 0"), 8, 1));
  refused.status = 3;
  refused.error = "TensorRT cannot run a batch of 8: Error Code 1: Cuda Runtime";
  refused.check = {};
  Case& shape = cases["refused shape"] = answers("Server", tensorrt(plan("1 8 0"), 8, 1));
  shape.status = 3;
  shape.error = "for in: no such shape";
  shape.check = {};
  return cases;
}

EngineSpec with_plan_file(EngineSpec spec, const fs::path& dir) {
  std::ofstream(dir / "model.plan") << spec.options["plan"];
  spec.options["plan"] = dir / "model.plan";
  return spec;
}

void run_case(const Case& test, const fs::path& dir) {
  cuda_double::check_at_exit();
  cuda_double::set_devices({{}, {}});
  if (test.status != 0) cuda_double::fail("launch_cuda_null", 20, cudaErrorLaunchOutOfResources);
  if (test.error == "for in: no such shape") cuda_double::fail("setInputShape", 1, cudaErrorUnknown);
  const EngineSpec spec = with_plan_file(test.engine, dir);
  run_test(config(test, dir), [spec] { return make_tensorrt(spec); });
}

// --- parts ----------------------------------------------------------------------------------------------------------

void says(const std::string& words, const std::string& part) {
  if (words.find(part) == std::string::npos) throw std::runtime_error("'" + words + "' has no '" + part + "'");
}

void test_plans(const fs::path& dir) {
  const auto load = [&](const std::string& plan, std::size_t batch_size = 8, std::size_t instances = 1) {
    const EngineSpec spec = with_plan_file(tensorrt(plan, batch_size, instances), dir);
    return error_of([&] { make_tensorrt(spec)->load(); });
  };
  CHECK(load(plan("1 8 0")) == "no error");
  says(load(plan("1 8 0", kTensors, 7)), "model.plan on GPU 0 (NVIDIA Double): the plan is of another version");
  says(load(plan("1 8 0").substr(0, 6)), "magic tag does not match");
  says(load(""), "magic tag does not match");
  says(load(plan("1 8 0"), 9), "batches are of 1 to 9 samples, the plan takes 1 to 8 (input in)");
  says(load(plan("2 8 0")), "the plan takes 2 to 8");
  says(load(plan("8 8 0", "in in 3 8 3\nout number 3 8\nout negated 2 8 1\n"), 4), "the plan takes 8 only");
  says(load(plan("1 8 0", "in x 3 -1 3\n" + kTensors.substr(11))),
       "the recipe wants input in int32[3] of each sample, the plan has no tensor of that name");
  says(load(plan("1 8 0", "in in 0 -1 3\n" + kTensors.substr(13))), "the plan has float32 [?,3] (batch first)");
  says(load(plan("1 8 0", "in in 3 -1 4\n" + kTensors.substr(13))), "the plan has int32 [?,4] (batch first)");
  says(load(plan("1 8 0", kTensors + "out more 3 -1\n")), "the plan also has the tensor more");
  const auto none = [&] { make_tensorrt(tensorrt(dir / "none.plan", 8, 1))->load(); };
  CHECK(error_of(none) == "cannot read the engine " + (dir / "none.plan").string());
  CHECK(cuda_double::alive() == 0);
}

// What is needed is said before the plan is loaded, too.
void test_memory(const fs::path& dir) {
  const auto load = [&](const std::string& context_bytes, const std::string& more = "") {
    const Options options{{"context_bytes", context_bytes}};
    const EngineSpec spec = with_plan_file(tensorrt(plan("1 8 0") + more, 8, 1, options), dir);
    return error_of([&] { make_tensorrt(spec)->load(); });
  };
  CHECK(load("1000") == "no error");
  const int allocated = cuda_double::calls("cudaMalloc");
  const char* const needs = "the plan's weights 0.0 MiB, 1 x the plan's memory to work in (activations) 1907.3 MiB, "
                            "2 x the inputs and outputs of a batch of 8";
  CHECK(load("2000000000").find(needs) != std::string::npos);
  CHECK(load("0", std::string(3 << 20, ' ')) == "no error");
  cuda_double::set_devices({{.memory_bytes = std::size_t{66} << 20}});
  CHECK(load("0", std::string(3 << 20, ' ')).find("the plan's weights 3.0 MiB") != std::string::npos);
  CHECK(cuda_double::calls("cudaMalloc") == allocated + 7);  // by the one that was loaded
  CHECK(cuda_double::alive() == 0);
}

// What TensorRT refuses says when, why and, where memory may be the reason, how much there is and how to need less.
void test_refusals(const fs::path& dir) {
  const EngineSpec spec = with_plan_file(tensorrt(plan("1 8 1000"), 8, 2, {{"graph_batch_sizes", "1,4"}}), dir);
  const auto load = [&](const char* function, int nth) {
    cuda_double::fail(function, nth, cudaErrorMemoryAllocation);
    try {
      make_tensorrt(spec)->load();
    } catch (const Error& error) {
      return error.where + ": " + error.what() + "\n" + error.mend;
    }
    return std::string("no error");
  };
  const std::string usual = load("createExecutionContext", 2);
  says(usual, "engine load: TensorRT cannot make a context for instance 1 on GPU 0 (NVIDIA Double)");
  says(usual, "(NVIDIA Double): Error Code 2: OutOfMemory");
  says(usual, "(1 of 2 instances are made, 1024.0 MiB of memory are free)");
  says(usual, "--instances");
  const std::string captured = load("createExecutionContext", 5);
  says(captured, "Error Code 2: OutOfMemory (2 of 8 CUDA graphs are made, 1024.0 MiB of memory are free)");
  says(captured, "--use_graphs=false");
  says(captured, "--cuda_graph_sizes");
  says(captured, "--gpu_copy_streams");
  says(load("setInputShape", 1), "engine load: TensorRT refuses [1,3] for in: no such shape");
  CHECK(cuda_double::alive() == 0);
}

// Puts TensorRT's double into a folder, as one of another version if that is named.
std::string library_in(const fs::path& folder, const std::string& version = "") {
  const std::string name = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
  fs::create_directories(folder);
  // Not loaded here: who loads it first is what is tested.
  fs::copy_file(fs::read_symlink("/proc/self/exe").parent_path() / "tensorrt_double" / name, folder / name);
  if (!version.empty()) std::ofstream(folder / "version") << version;
  return folder;
}

// The plan is loaded by the library that built it: the one in the folder `libraries`, unless only the system's has the
// version. Where none loads it, both versions are told.
void test_libraries(const fs::path& dir) {
  const std::string major = std::to_string(NV_TENSORRT_MAJOR);
  const std::string ours = library_in(dir / "ours", major + "7701"), same = library_in(dir / "same");
  const auto load = [&](const std::string& libraries, const std::string& built_with) {
    const Options options{{"libraries", libraries}, {"built_with", built_with}};
    const EngineSpec spec = with_plan_file(tensorrt("damaged", 8, 1, options), dir);
    try {
      make_tensorrt(spec)->load();
    } catch (const Error& error) {
      return std::string(error.what()) + "\n" + error.mend;
    }
    return std::string("no error");
  };
  const std::string current = std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR) + "." +
                              std::to_string(NV_TENSORRT_PATCH);
  says(load(ours, major + ".77.1.9"), "TensorRT " + major + ".77.1 (" + ours);
  says(load(same, current + ".9"), "TensorRT " + current + " (" + same);
  says(load(ours, current + ".9"), "TensorRT " + current + " (");  // the system's is the one
  CHECK(load(ours, current + ".9").find(ours) == std::string::npos);
  const std::string other = load(ours, major + ".50.0.1");
  says(other, "TensorRT " + major + ".77.1 (" + ours);
  says(other, "model.plan, which TensorRT " + major + ".50.0.1 built, on GPU 0");
  says(other, "LD_LIBRARY_PATH");
  CHECK(other.find("--force") == std::string::npos);
  says(load(dir / "none", current + ".9"), "--force");
}

const Parts kParts{{"part: plans", test_plans},
                   {"part: memory", test_memory},
                   {"part: refusals", test_refusals},
                   {"part: libraries", test_libraries}};

}  // namespace
}  // namespace engineroom

int main(int argc, char** argv) {
  using namespace engineroom;
  return test_main(argc, argv, kParts, all_cases(), run_case);
}
