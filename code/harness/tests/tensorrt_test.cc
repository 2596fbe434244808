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
    cases[name] = answers(name, tensorrt(plan("1 8 2 1000"), batch, 2));
    cases[name + " graphs"] = answers(name, tensorrt(plan("1 8 1 1000"), batch, 2, {{"graph_batch_sizes", "1"}}));
  }
  const std::string fixed = "in in 3 8 3\nout number 3 8\nout negated 2 8 1\n";
  cases["fixed batch size"] = answers("Server", tensorrt(plan("8 8 1 0", fixed), 8, 1));
  cases["two GPUs"] = answers("Offline", tensorrt(plan("1 8 2 1000"), 8, 4, {{"gpus", "0,1"}}));
  Case& refused = cases["refused at work"] = answers("Offline", tensorrt(plan("1 8 1 0"), 8, 1));
  refused.status = 3;
  refused.error = "TensorRT cannot run a batch of 8: Error Code 1: Cuda Runtime";
  refused.check = {};
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
  const EngineSpec spec = with_plan_file(test.engine, dir);
  run_test(config(test, dir), [spec] { return make_tensorrt(spec); });
}

void test_plans(const fs::path& dir) {
  const auto load = [&](const std::string& plan, std::size_t batch_size = 8, std::size_t instances = 1) {
    const EngineSpec spec = with_plan_file(tensorrt(plan, batch_size, instances), dir);
    return error_of([&] { make_tensorrt(spec)->load(); });
  };
  const auto says = [](const std::string& words, const std::string& part) {
    if (words.find(part) == std::string::npos) throw std::runtime_error("'" + words + "' has no '" + part + "'");
  };
  CHECK(load(plan("1 8 1 0")) == "no error");
  CHECK(load(plan("1 8 3 0"), 8, 5) == "no error");  // more instances than profiles: they share the first one
  says(load(plan("1 8 1 0", kTensors, 7)), "model.plan on GPU 0 (NVIDIA Double): the plan is of another version");
  says(load(plan("1 8 1 0").substr(0, 6)), "magic tag does not match");
  says(load(""), "magic tag does not match");
  says(load(plan("1 8 1 0"), 9), "batches are of 1 to 9 samples, the plan takes 1 to 8 (input in, profile 0)");
  says(load(plan("2 8 1 0")), "the plan takes 2 to 8");
  says(load(plan("8 8 1 0", "in in 3 8 3\nout number 3 8\nout negated 2 8 1\n"), 4), "the plan takes 8 only");
  says(load(plan("1 8 1 0", "in x 3 -1 3\n" + kTensors.substr(11))),
       "the recipe wants input in int32[3] of each sample, the plan has no tensor of that name");
  says(load(plan("1 8 1 0", "in in 0 -1 3\n" + kTensors.substr(13))), "the plan has float32 [?,3] (batch first)");
  says(load(plan("1 8 1 0", "in in 3 -1 4\n" + kTensors.substr(13))), "the plan has int32 [?,4] (batch first)");
  says(load(plan("1 8 1 0", kTensors + "out more 3 -1\n")), "the plan also has the tensor more");
  says(load(plan("1 8 1 2000000000")), "1 x the plan's memory to work in (activations) 1907.3 MiB");
  const auto none = [&] { make_tensorrt(tensorrt(dir / "none.plan", 8, 1))->load(); };
  CHECK(error_of(none) == "cannot read the engine " + (dir / "none.plan").string());
  CHECK(cuda_double::alive() == 0);
}

const Parts kParts{{"part: plans", test_plans}};

}  // namespace
}  // namespace engineroom

int main(int argc, char** argv) {
  using namespace engineroom;
  return test_main(argc, argv, kParts, all_cases(), run_case);
}
