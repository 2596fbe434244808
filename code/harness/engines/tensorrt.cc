// tensorrt: runs a plan that TensorRT has built.
//
// Options, beside those of CudaEngine: `plan` (path); and what the builder says of it, all of which may be missing:
// `built_with` (TensorRT's version), `context_bytes` (what an execution needs to work in), `libraries` (the folder of
// the library that built it). TensorRT 10 and 11 alike: only what both have is called. Its library is looked for when
// the engine is made, so that the harness loads on machines without it; it must be of the headers' major version.
//
// A graph is bound to the state of the context that it was captured from, and NVIDIA advises a context for each graph
// and memory that they share ("Best Practices", CUDA Graphs; NVIDIA/TensorRT, issue 3798). So the shapes and addresses
// of a captured context never change, and one more context takes the batches without a graph. All of an execution take
// turns on its stream. A plan has one optimization profile, which they share (see engines/_plans.py).
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>

#include "../failure.h"
#include "cuda_engine.h"
#include "cuda_error.h"
#include "gpu_library.h"

namespace engineroom {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::OptProfileSelector;
using nvinfer1::TensorIOMode;

// Stages that an error names.
constexpr const char *kLoad = "engine load", *kInfer = "engine infer";
constexpr const char* kRebuild = "build it again: make generate_engines RUN_ARGS=--force";

std::string version_text(std::int64_t version) {  // NV_TENSORRT_VERSION: major, 2 digits each of minor and patch
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

// TensorRT returns no error, it logs one. The first after clear() is the reason, later ones are what follows from it.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    const std::lock_guard lock(mutex_);
    if (reason_.empty()) reason_ = message;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    reason_.clear();
  }
  std::string reason() const {
    const std::lock_guard lock(mutex_);
    return reason_.empty() ? "TensorRT gives no reason" : reason_;
  }

 private:
  mutable std::mutex mutex_;
  std::string reason_;
};

std::string dtype_text(DataType type) {
  switch (type) {
    case DataType::kFLOAT: return "float32";
    case DataType::kHALF: return "float16";
    case DataType::kBF16: return "bfloat16";
    case DataType::kFP8: return "float8_e4m3fn";
    case DataType::kINT8: return "int8";
    case DataType::kUINT8: return "uint8";
    case DataType::kINT32: return "int32";
    case DataType::kINT64: return "int64";
    case DataType::kBOOL: return "bool";
    default: return "TensorRT's type " + std::to_string(static_cast<int>(type));
  }
}

// "[?,3,224,224]": the batch size is open, or fixed.
std::string shape_text(const Dims& dims) {
  std::string text;
  for (int i = 0; i < dims.nbDims; ++i) {
    text += (text.empty() ? "" : ",") + (dims.d[i] < 0 ? "?" : std::to_string(dims.d[i]));
  }
  return "[" + text + "]";
}

bool fits(const Dims& dims, const TensorSpec& spec) {
  if (dims.nbDims != static_cast<int>(spec.shape.size()) + 1) return false;
  for (std::size_t i = 0; i < spec.shape.size(); ++i) {
    if (dims.d[i + 1] != static_cast<std::int64_t>(spec.shape[i])) return false;
  }
  return true;
}

// TensorRT's library: its entry point, where it lies, and its version.
struct Library {
  void* (*create_runtime)(void* logger, std::int32_t version);
  std::string path, version;
};

// None: `why` says so.
std::optional<Library> open_library(const std::string& name, std::string& why) {
  void* const library = ::dlopen(name.c_str(), RTLD_NOW);
  if (library == nullptr) {
    why += (why.empty() ? "" : "; ") + std::string(::dlerror());
    return std::nullopt;
  }
  void* const create = ::dlsym(library, "createInferRuntime_INTERNAL");
  void* const version = ::dlsym(library, "getInferLibVersion");
  Dl_info place{};
  if (create == nullptr || version == nullptr || ::dladdr(create, &place) == 0) {
    why += (why.empty() ? "" : "; ") + name + " is not TensorRT's";
    return std::nullopt;
  }
  return Library{reinterpret_cast<decltype(Library::create_runtime)>(create), place.dli_fname,
                 version_text(reinterpret_cast<std::int32_t (*)()>(version)())};
}

// The one that built the plan, which is that of the Python package in `folder`; else the system's. Where neither has
// the plan's version, the first of them: a version-compatible plan runs on later ones.
Library find_tensorrt(const std::string& folder, const std::string& built_with) {
  const std::string name = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
  std::string why;
  // The system's is opened first: once the folder's is loaded, the bare name means that one, which has it inside
  // (SONAME).
  std::vector<std::optional<Library>> found{open_library(name, why)};
  if (!folder.empty()) found.insert(found.begin(), open_library(folder + "/" + name, why));
  for (const std::optional<Library>& each : found) {
    if (each && built_with.starts_with(each->version + ".")) return *each;
  }
  for (const std::optional<Library>& each : found) {
    if (each) return *each;
  }
  const std::string major = std::to_string(NV_TENSORRT_MAJOR);
  throw Error(kLoad, "the harness is compiled for TensorRT " + major + ", whose library is not here: " + why,
              "install TensorRT " + major +
                  ", or name its folder in LD_LIBRARY_PATH; for another major version: make build_harness");
}

std::string read_file(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  std::string content(error ? 0 : bytes, '\0');
  std::ifstream file(path, std::ios::binary);
  if (error || !file.read(content.data(), static_cast<std::streamsize>(content.size()))) {
    throw Error(kLoad, "cannot read the engine " + path, "run `make generate_engines`");
  }
  return content;
}

class TensorRtEngine : public CudaEngine {
 public:
  using CudaEngine::CudaEngine;

 protected:
  std::vector<std::string_view> own_options() const override {
    return {"plan", "built_with", "context_bytes", "libraries"};
  }
  std::vector<MemoryNeed> gpu_needs() const override;
  std::vector<MemoryNeed> execution_needs() const override;
  void do_load_gpu(std::size_t gpu) override;
  void do_load_execution(std::size_t execution, std::size_t gpu) override;
  void do_enqueue(std::size_t execution, const DeviceBatch& batch, cudaStream_t stream) override;

 private:
  struct Context {
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    std::size_t batch_size = 0;  // that its shapes are set for
  };
  struct Execution {
    std::string name;
    nvinfer1::ICudaEngine* plan = nullptr;
    CudaMemory memory;  // that all of its contexts work in
    Context usual;
    std::map<std::pair<const void*, std::size_t>, Context> captured;  // by the batch's first input and its size
  };

  void check_tensors(const nvinfer1::ICudaEngine& plan);
  void check_tensor(const nvinfer1::ICudaEngine& plan, const TensorSpec& spec, TensorIOMode mode);
  void check_batch_size(const nvinfer1::ICudaEngine& plan) const;
  std::string plan_path() const;
  [[noreturn]] void refuse_plan(std::size_t gpu) const;
  Context make_context(const Execution& execution);
  void set_batch_size(Context& context, std::size_t batch_size, const char* stage) const;
  [[noreturn]] void fail(const char* stage, const std::string& what) const;

  Log log_;  // outlives all that writes to it
  Library library_{};
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::vector<std::unique_ptr<nvinfer1::ICudaEngine>> plans_;  // per GPU
  std::vector<Execution> executions_;
  std::vector<Dims> input_dims_;                               // the batch size is -1 where it is open
};

void TensorRtEngine::fail(const char* stage, const std::string& what) const {
  throw Error(stage, what + ": " + log_.reason());
}

std::string TensorRtEngine::plan_path() const {
  std::string path = text_option("plan", "");
  if (path.empty()) throw Error(kLoad, "engine tensorrt needs the option plan");
  return path;
}

// A plan is little else than its weights.
std::vector<MemoryNeed> TensorRtEngine::gpu_needs() const {
  std::error_code missing;
  const auto bytes = std::filesystem::file_size(plan_path(), missing);
  return {{"the plan's weights", missing ? 0 : static_cast<std::size_t>(bytes), false}};
}

std::vector<MemoryNeed> TensorRtEngine::execution_needs() const {
  const auto bytes = static_cast<std::size_t>(number_option("context_bytes", 0));
  return {{"the plan's memory to work in (activations)", bytes, true}};
}

void TensorRtEngine::do_load_gpu(std::size_t gpu) {
  const std::string plan = read_file(plan_path());
  if (!runtime_) {
    library_ = find_tensorrt(text_option("libraries", ""), text_option("built_with", ""));
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(library_.create_runtime(&log_, NV_TENSORRT_VERSION)));
    if (!runtime_) {
      fail(kLoad, "TensorRT " + library_.version + " (" + library_.path + ") does not start for the headers of " +
           version_text(NV_TENSORRT_VERSION));
    }
    // A version-compatible plan carries code for the CPU. Plans are built here and held to their checksums.
    runtime_->setEngineHostCodeAllowed(true);
  }
  log_.clear();
  plans_.emplace_back(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
  if (!plans_.back()) refuse_plan(gpu);
  check_tensors(*plans_.back());
}

void TensorRtEngine::refuse_plan(std::size_t gpu) const {
  const std::string built_with = text_option("built_with", "");
  const bool other = !built_with.empty() && !built_with.starts_with(library_.version + ".");
  throw Error(kLoad,
              "TensorRT " + library_.version + " (" + library_.path + ") cannot load " + plan_path() +
                  (other ? ", which TensorRT " + built_with + " built," : "") + " on " + gpu_text(gpu) + ": " +
                  log_.reason(),
              other ? "the harness has to find the TensorRT that builds the plans: name its folder in LD_LIBRARY_PATH, "
                      "or take the other one off the machine"
                    : kRebuild);
}

// Recipe and plan must agree in names, types and shapes, or bytes would be misread without a word.
void TensorRtEngine::check_tensors(const nvinfer1::ICudaEngine& plan) {
  input_dims_.clear();
  for (const TensorSpec& input : spec().inputs) check_tensor(plan, input, TensorIOMode::kINPUT);
  for (const TensorSpec& output : spec().outputs) check_tensor(plan, output, TensorIOMode::kOUTPUT);
  for (int i = 0; i < plan.getNbIOTensors(); ++i) {
    const std::string name = plan.getIOTensorName(i);
    const auto same = [&](const TensorSpec& tensor) { return tensor.name == name; };
    if (std::any_of(spec().inputs.begin(), spec().inputs.end(), same)) continue;
    if (std::any_of(spec().outputs.begin(), spec().outputs.end(), same)) continue;
    throw Error(kLoad, "the plan also has the tensor " + name + ", the recipe does not", kRebuild);
  }
  check_batch_size(plan);
}

void TensorRtEngine::check_tensor(const nvinfer1::ICudaEngine& plan, const TensorSpec& wanted, TensorIOMode mode) {
  const char* name = wanted.name.c_str();
  const Dims dims = plan.getTensorShape(name);
  const std::string kind = mode == TensorIOMode::kINPUT ? "input " : "output ";
  const std::string is = kind + wanted.text() + " of each sample, the plan has ";
  const TensorIOMode found = plan.getTensorIOMode(name);
  if (found == TensorIOMode::kNONE) throw Error(kLoad, "the recipe wants " + is + "no tensor of that name", kRebuild);
  const std::string dtype = dtype_text(plan.getTensorDataType(name));
  if (found != mode || dtype != wanted.dtype || !fits(dims, wanted)) {
    throw Error(kLoad,
                "the recipe wants " + is + (found == mode ? "" : "the other way round ") + dtype + " " +
                    shape_text(dims) + " (batch first)",
                kRebuild);
  }
  if (plan.getTensorFormat(name) != nvinfer1::TensorFormat::kLINEAR) {
    throw Error(kLoad, "the recipe wants " + is + "it in another memory layout: " + plan.getTensorFormatDesc(name),
                kRebuild);
  }
  if (plan.getTensorLocation(name) != nvinfer1::TensorLocation::kDEVICE) {
    throw Error(kLoad, "the recipe wants " + is + "it in host memory: it decides shapes, which is not supported");
  }
  if (mode == TensorIOMode::kINPUT) input_dims_.push_back(dims);
}

void TensorRtEngine::check_batch_size(const nvinfer1::ICudaEngine& plan) const {
  for (std::size_t i = 0; i < input_dims_.size(); ++i) {
    const char* name = spec().inputs[i].name.c_str();
    const auto wanted = static_cast<std::int64_t>(spec().batch_size);
    std::int64_t least = input_dims_[i].d[0], most = least;
    if (most < 0) {
      least = plan.getProfileShape(name, 0, OptProfileSelector::kMIN).d[0];
      most = plan.getProfileShape(name, 0, OptProfileSelector::kMAX).d[0];
    } else if (most == wanted) {
      continue;
    }
    if (least <= 1 && most >= wanted) continue;
    throw Error(kLoad,
                "batches are of 1 to " + std::to_string(wanted) + " samples, the plan takes " +
                    (least == most ? std::to_string(most) + " only"
                                   : std::to_string(least) + " to " + std::to_string(most)) +
                    " (input " + name + ")",
                kRebuild);
  }
}

void TensorRtEngine::do_load_execution(std::size_t number, std::size_t gpu) {
  Execution& execution = executions_.emplace_back();
  execution.name = "instance " + std::to_string(number) + " on " + gpu_text(gpu);
  execution.plan = plans_[gpu].get();
  execution.memory = device_memory(static_cast<std::size_t>(execution.plan->getDeviceMemorySizeV2()));
  execution.usual = make_context(execution);
}

TensorRtEngine::Context TensorRtEngine::make_context(const Execution& execution) {
  log_.clear();
  Context made;
  constexpr auto kOurMemory = nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED;
  made.context.reset(execution.plan->createExecutionContext(kOurMemory));
  if (!made.context) fail(kLoad, "TensorRT cannot make a context for " + execution.name);
  made.context->setDeviceMemoryV2(execution.memory.get(), execution.plan->getDeviceMemorySizeV2());
  log_.clear();  // what did not hinder it is no reason for what fails later
  return made;
}

void TensorRtEngine::set_batch_size(Context& context, std::size_t batch_size, const char* stage) const {
  if (context.batch_size == batch_size) return;
  for (std::size_t i = 0; i < input_dims_.size(); ++i) {
    Dims dims = input_dims_[i];
    if (dims.d[0] >= 0) continue;  // fixed: always computes the whole batch
    dims.d[0] = static_cast<std::int64_t>(batch_size);
    const char* name = spec().inputs[i].name.c_str();
    if (context.context->setInputShape(name, dims)) continue;
    fail(stage, "TensorRT refuses " + shape_text(dims) + " for " + name);
  }
  context.batch_size = batch_size;
}

void TensorRtEngine::do_enqueue(std::size_t number, const DeviceBatch& batch, cudaStream_t stream) {
  Execution& execution = executions_[number];
  Context& context = batch.captured ? execution.captured[{batch.inputs.front(), batch.count}] : execution.usual;
  if (!context.context) context = make_context(execution);
  const char* const stage = batch.captured ? kLoad : kInfer;
  set_batch_size(context, batch.count, stage);
  const auto bind = [&](const TensorSpec& tensor, std::byte* memory) {
    if (context.context->setTensorAddress(tensor.name.c_str(), memory)) return;
    fail(stage, "TensorRT refuses memory for " + tensor.name);
  };
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) bind(spec().inputs[i], batch.inputs[i]);
  for (std::size_t i = 0; i < batch.outputs.size(); ++i) bind(spec().outputs[i], batch.outputs[i]);
  if (!context.context->enqueueV3(stream)) [[unlikely]] {
    ENGINEROOM_CUDA(cudaGetLastError());  // where the GPU is the reason, CUDA says it in better words
    fail(stage, "TensorRT cannot run a batch of " + std::to_string(batch.count));
  }
  if (batch.captured) log_.clear();
}

}  // namespace

std::unique_ptr<Engine> make_tensorrt(EngineSpec spec) {
  return std::make_unique<TensorRtEngine>(std::move(spec));
}

}  // namespace engineroom
