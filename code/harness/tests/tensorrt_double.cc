// A double of TensorRT's runtime for tests, behind the real headers' interfaces: computes what cuda_null does.
//
// A plan of it is text: `PLAN major least most workspace_bytes`, then a line per tensor, `in` or `out`, name,
// TensorRT's number of the type, and the shape, in which -1 leaves the batch size open. It refuses what TensorRT
// refuses, and what has no defined result there: to change a context that a graph was captured from, or to work on two
// streams in one memory. A file `version` beside the library names another version than that of the headers.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "../engines/cuda_null.h"
#include "cuda_double.h"
#include "tensorrt_stubs.h"

using namespace nvinfer1;

namespace {

struct Tensor {
  std::string name;
  TensorIOMode mode = TensorIOMode::kNONE;
  DataType type = DataType::kFLOAT;
  Dims dims{};

  std::size_t sample_bytes() const {
    std::size_t bytes = type == DataType::kINT8 ? 1 : 4;
    for (int i = 1; i < dims.nbDims; ++i) bytes *= static_cast<std::size_t>(dims.d[i]);
    return bytes;
  }
};

struct Plan {
  int major = 0, least = 0, most = 0;
  std::size_t workspace_bytes = 0;
  std::vector<Tensor> tensors;

  const Tensor* find(const char* name) const {
    for (const Tensor& each : tensors) {
      if (each.name == name) return &each;
    }
    return nullptr;
  }
};

bool read(std::istringstream text, Plan& plan) {
  std::string word;
  if (!(text >> word >> plan.major >> plan.least >> plan.most >> plan.workspace_bytes)) return false;
  if (word != "PLAN") return false;
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    Tensor tensor;
    int type = 0;
    if (!(words >> word >> tensor.name >> type)) continue;
    tensor.mode = word == "in" ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    tensor.type = static_cast<DataType>(type);
    for (std::int64_t extent = 0; words >> extent;) tensor.dims.d[tensor.dims.nbDims++] = extent;
    plan.tensors.push_back(tensor);
  }
  return true;
}

class ContextImpl : public stub::VExecutionContext {
 public:
  ContextImpl(const Plan& plan, ILogger& logger, std::map<void*, cudaStream_t>& streams)
      : plan_(plan), logger_(logger), streams_(streams) {}

  void setDeviceMemoryV2(void* memory, int64_t size) noexcept override {
    has_memory_ = (memory != nullptr || size == 0) && static_cast<std::size_t>(size) >= plan_.workspace_bytes;
    memory_ = memory;
  }
  bool setInputShape(char const* name, Dims const& dims) noexcept override {
    if (captured_) return refuse("a graph was captured from this context: its shapes stay");
    if (cuda_double::enter("setInputShape") != cudaSuccess) return refuse("no such shape");
    if (plan_.find(name) == nullptr || dims.d[0] < plan_.least || dims.d[0] > plan_.most) return false;
    batch_size_ = static_cast<std::size_t>(dims.d[0]);
    return true;
  }
  bool setTensorAddress(char const* name, void* memory) noexcept override {
    std::uint8_t*& address = addresses_[name];
    if (captured_ && address != memory) return refuse("a graph was captured from this context: its addresses stay");
    address = static_cast<std::uint8_t*>(memory);
    return plan_.find(name) != nullptr;
  }
  bool enqueueV3(cudaStream_t stream) noexcept override {
    if (!has_memory_) return refuse("no memory to work in");
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    if (memory_ != nullptr && streams_.try_emplace(memory_, stream).first->second != stream) {
      return refuse("contexts that share their memory work on two streams");
    }
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    static_cast<void>(cudaStreamIsCapturing(stream, &status));
    captured_ = captured_ || status == cudaStreamCaptureStatusActive;
    engineroom::CudaNullBatch batch{};
    batch.count = batch_size_;
    for (const Tensor& tensor : plan_.tensors) {
      std::uint8_t* memory = addresses_[tensor.name];
      if (memory == nullptr) return refuse("no address for " + tensor.name);
      if (batch.count == 0) batch.count = static_cast<std::size_t>(tensor.dims.d[0]);
      const bool in = tensor.mode == TensorIOMode::kINPUT;
      (in ? batch.input_bytes[batch.inputs] : batch.output_bytes[batch.outputs]) = tensor.sample_bytes();
      if (in) {
        batch.input[batch.inputs++] = memory;
      } else {
        batch.output[batch.outputs++] = memory;
      }
    }
    if (batch.count > 1000000) return refuse("the input shapes are not set");
    return engineroom::launch_cuda_null(batch, stream) == cudaSuccess || refuse("Error Code 1: Cuda Runtime");
  }

 private:
  bool refuse(const std::string& why) {
    logger_.log(ILogger::Severity::kERROR, why.c_str());
    return false;
  }

  const Plan& plan_;
  ILogger& logger_;
  std::map<void*, cudaStream_t>& streams_;  // by the memory that contexts share
  void* memory_ = nullptr;
  bool has_memory_ = false, captured_ = false;
  std::size_t batch_size_ = 0;
  std::map<std::string, std::uint8_t*> addresses_;
};

// What TensorRT's users hold: their classes hand every call to mImpl.
template <typename Interface, typename Impl>
class Handle : public Interface {
 public:
  template <typename... Arguments>
  explicit Handle(Arguments&&... arguments) : impl_(std::forward<Arguments>(arguments)...) {
    this->mImpl = &impl_;
  }

 private:
  Impl impl_;
};

class PlanImpl : public stub::VCudaEngine {
 public:
  PlanImpl(Plan plan, ILogger& logger) : plan_(std::move(plan)), logger_(logger) {
    static_cast<void>(cudaMalloc(&weights_, 1024));
  }
  ~PlanImpl() override { static_cast<void>(cudaFree(weights_)); }

  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(plan_.tensors.size()); }
  char const* getIOTensorName(int32_t i) const noexcept override {
    return plan_.tensors[static_cast<std::size_t>(i)].name.c_str();
  }
  TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return plan_.find(name) == nullptr ? TensorIOMode::kNONE : plan_.find(name)->mode;
  }
  DataType getTensorDataType(char const* name) const noexcept override { return plan_.find(name)->type; }
  Dims getTensorShape(char const* name) const noexcept override {
    return plan_.find(name) == nullptr ? Dims{-1, {}} : plan_.find(name)->dims;
  }
  TensorFormat getTensorFormat(char const*) const noexcept override { return TensorFormat::kLINEAR; }
  TensorLocation getTensorLocation(char const*) const noexcept override { return TensorLocation::kDEVICE; }
  Dims getProfileShape(char const* name, int32_t, OptProfileSelector which) const noexcept override {
    Dims dims = plan_.find(name)->dims;
    dims.d[0] = which == OptProfileSelector::kMIN ? plan_.least : plan_.most;
    return dims;
  }
  int64_t getDeviceMemorySizeV2() const noexcept override { return static_cast<int64_t>(plan_.workspace_bytes); }
  IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept override {
    if (strategy != ExecutionContextAllocationStrategy::kUSER_MANAGED) return nullptr;  // the double allocates nothing
    if (cuda_double::enter("createExecutionContext") != cudaSuccess) {
      logger_.log(ILogger::Severity::kERROR, "Error Code 2: OutOfMemory");
      return nullptr;
    }
    logger_.log(ILogger::Severity::kERROR, "an error that hinders nothing");
    return new Handle<IExecutionContext, ContextImpl>(plan_, logger_, streams_);
  }

 private:
  const Plan plan_;
  ILogger& logger_;
  std::map<void*, cudaStream_t> streams_;
  void* weights_ = nullptr;
};

class RuntimeImpl : public stub::VRuntime {
 public:
  explicit RuntimeImpl(ILogger& logger) : logger_(logger) {}

  void setEngineHostCodeAllowed(bool allowed) noexcept override { host_code_allowed_ = allowed; }

  ICudaEngine* deserializeCudaEngine(void const* bytes, std::size_t size) noexcept override {
    Plan plan;
    // Every plan of it counts as one that carries code for the CPU.
    const std::string text(static_cast<const char*>(bytes), size);
    const bool good = host_code_allowed_ && read(std::istringstream(text), plan);
    if (good && plan.major == NV_TENSORRT_MAJOR) return new Handle<ICudaEngine, PlanImpl>(std::move(plan), logger_);
    logger_.log(ILogger::Severity::kERROR, good ? "the plan is of another version" : "magic tag does not match");
    logger_.log(ILogger::Severity::kERROR, "deserialization failed");
    return nullptr;
  }

 private:
  ILogger& logger_;
  bool host_code_allowed_ = false;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) void* createInferRuntime_INTERNAL(void* logger, int32_t) noexcept {
  return new Handle<IRuntime, RuntimeImpl>(*static_cast<ILogger*>(logger));
}

extern "C" __attribute__((visibility("default"))) int32_t getInferLibVersion() noexcept {
  Dl_info place{};
  ::dladdr(reinterpret_cast<const void*>(&getInferLibVersion), &place);
  const std::string path = place.dli_fname;
  int32_t version = NV_TENSORRT_VERSION;
  std::ifstream(path.substr(0, path.rfind('/')) + "/version") >> version;
  return version;
}
