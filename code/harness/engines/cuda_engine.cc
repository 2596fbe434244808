// Copies samples to a GPU, has them computed there, and copies the answers back.
#include "cuda_engine.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <set>
#include <thread>

#include "../failure.h"
#include "cuda_error.h"

namespace engineroom {
namespace {

constexpr std::string_view kOptions[] = {"gpus", "copy_streams", "graph_batch_sizes", "wait", "start_from_device"};
// To hand a copy to a stream takes a core 1 to 2 microseconds. In that time it copies some 16 KiB itself, and what it
// has gathered needs only one.
constexpr std::size_t kStagedBytes = 16 * 1024;
// What a GPU keeps for kernels, graphs and the fragments of its memory.
constexpr std::size_t kReservedBytes = std::size_t{64} << 20;
// What an execution or a graph keeps for itself beside that is known only when one is made.
constexpr const char* kLessRoom = "--use_graphs=false needs the least memory; else fewer --cuda_graph_sizes, "
                                  "--gpu_copy_streams or --instances (nvidia-smi shows who else has memory)";

std::size_t copy_streams_of(const EngineSpec& spec) {
  const auto found = spec.options.find("copy_streams");
  if (found == spec.options.end()) return 2;
  const std::string& text = found->second;
  if (text.empty() || text.size() > 2 || text.find_first_not_of("0123456789") != std::string::npos || text[0] == '0') {
    throw Error("engine load", "engine option copy_streams is '" + text + "', not a whole number from 1 to 99");
  }
  return std::stoul(text);
}

EngineSpec with_flights(EngineSpec spec) {
  spec.instances *= copy_streams_of(spec);
  return spec;
}

// Of the current GPU.
std::size_t free_bytes() {
  std::size_t free = 0, total = 0;
  ENGINEROOM_CUDA(cudaMemGetInfo(&free, &total));
  return free;
}

std::string mebibytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

// Memory that this thread makes meanwhile lies on `node`, if the system lets it: to be refused, or without NUMA, is no
// error, it is only slower. Afterwards the thread has again the policy that it had, such as numactl's.
class OnNode {
 public:
  explicit OnNode(int node) {
    if (node < 0 || static_cast<std::size_t>(node) >= kNodes) return;
    if (::syscall(SYS_get_mempolicy, &mode_, before_.data(), kNodes, nullptr, 0) != 0) return;
    Nodes wanted{};
    wanted[static_cast<std::size_t>(node) / kBits] |= 1UL << static_cast<std::size_t>(node) % kBits;
    changed_ = ::syscall(SYS_set_mempolicy, MPOL_PREFERRED, wanted.data(), kNodes) == 0;
  }
  ~OnNode() {
    if (changed_) ::syscall(SYS_set_mempolicy, mode_, before_.data(), kNodes);
  }
  OnNode(const OnNode&) = delete;
  OnNode& operator=(const OnNode&) = delete;

 private:
  static constexpr std::size_t kNodes = 1024, kBits = 8 * sizeof(unsigned long);  // the kernel has no more nodes
  using Nodes = std::array<unsigned long, kNodes / kBits>;
  int mode_ = MPOL_DEFAULT;
  Nodes before_{};
  bool changed_ = false;
};

CudaHostMemory pinned_memory(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    throw Error("GPU", "no " + mebibytes(bytes) + " of page-locked host memory for " + what,
                "is the machine's or the container's memory full, or `ulimit -l` set? use a smaller --batch_size");
  }
  ENGINEROOM_CUDA(error);
  std::memset(memory, 0, bytes);
  return CudaHostMemory(static_cast<std::byte*>(memory));
}

}  // namespace

CudaEngine::CudaEngine(EngineSpec spec)
    : Engine(with_flights(std::move(spec))), copy_streams_(copy_streams_of(this->spec())) {
  for (const TensorSpec& input : this->spec().inputs) input_bytes_.push_back(input.sample_bytes());
  for (const TensorSpec& output : this->spec().outputs) output_bytes_.push_back(output.sample_bytes());
}

CudaEngine::~CudaEngine() = default;

HostMemory CudaEngine::host_memory(std::size_t instance, std::size_t bytes) {
  const std::size_t gpu = flights_[instance].execution->gpu;
  use(gpu);
  const OnNode near(gpus_[gpu].numa_node);
  return HostMemory(pinned_memory(bytes, "the answers of a batch").release(),
                    [](std::byte* memory) { static_cast<void>(cudaFreeHost(memory)); });
}

std::string CudaEngine::gpu_text(std::size_t gpu) const {
  return "GPU " + std::to_string(gpus_[gpu].device) + " (" + gpus_[gpu].name + ")";
}

// --- loading ---------------------------------------------------------------------------------------------------------

void CudaEngine::do_load() {
  read_options();
  open_gpus();
  for (std::size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    use(gpu);
    check_memory(gpu);
    do_load_gpu(gpu);
  }
  for (std::size_t number = 0; number < execution_count(); ++number) load_execution(number);
  flights_ = std::vector<Flight>(spec().instances);
  for (std::size_t i = 0; i < flights_.size(); ++i) load_flight(flights_[i], *executions_[i % execution_count()]);
}

void CudaEngine::read_options() {
  std::vector<std::string_view> known(std::begin(kOptions), std::end(kOptions));
  for (std::string_view own : own_options()) known.push_back(own);
  refuse_options_except(known);
  const auto one_of = [this](const std::string& name, const char* usual, const char* other) {
    const std::string value = text_option(name, usual);
    if (value != usual && value != other) {
      throw Error("engine load",
                  "engine option " + name + " is '" + value + "', neither " + usual + " nor " + other);
    }
    return value == other;
  };
  blocks_ = one_of("wait", "spin", "block");
  start_from_device_ = one_of("start_from_device", "false", "true");
  graph_batch_sizes_ = list_option("graph_batch_sizes", "");
  for (std::size_t size : graph_batch_sizes_) {
    if (size >= 1 && size <= spec().batch_size) continue;
    throw Error("engine load", "graph_batch_sizes names " + std::to_string(size) + ", batches are of 1 to " +
                                   std::to_string(spec().batch_size) + " samples");
  }
}

void CudaEngine::open_gpus() {
  int count = 0;
  ENGINEROOM_CUDA(cudaGetDeviceCount(&count));
  for (std::size_t wanted : list_option("gpus", "0")) {
    if (wanted >= static_cast<std::size_t>(count)) {
      throw Error("GPU", "gpus names " + std::to_string(wanted) + ", this process sees " + std::to_string(count) +
                             " GPUs, counted from 0",
                  "see nvidia-smi -L and CUDA_VISIBLE_DEVICES");
    }
    const auto same = [&](const Gpu& gpu) { return gpu.device == static_cast<int>(wanted); };
    if (std::any_of(gpus_.begin(), gpus_.end(), same)) {
      throw Error("engine load", "gpus names " + std::to_string(wanted) + " twice", "more instances share its GPUs");
    }
    Gpu& gpu = gpus_.emplace_back();
    gpu.device = static_cast<int>(wanted);
    ENGINEROOM_CUDA(cudaSetDevice(gpu.device));
    ENGINEROOM_CUDA(cudaSetDeviceFlags(blocks_ ? cudaDeviceScheduleBlockingSync : cudaDeviceScheduleSpin));
    cudaDeviceProp properties{};
    ENGINEROOM_CUDA(cudaGetDeviceProperties(&properties, gpu.device));
    gpu.name = properties.name;
    // Known since CUDA 12.2; an older driver refuses, and one node is as good as another then.
    if (cudaDeviceGetAttribute(&gpu.numa_node, cudaDevAttrHostNumaId, gpu.device) != cudaSuccess) gpu.numa_node = -1;
    static_cast<void>(cudaGetLastError());
  }
  if (gpus_.empty()) throw Error("engine load", "gpus names no GPU", "give at least one, such as 0");
  find_homes();
}

// The samples lie once per NUMA node, near the GPUs that read them; where they start on a device, once on each.
void CudaEngine::find_homes() {
  std::map<int, std::size_t> homes;
  for (Gpu& gpu : gpus_) {
    gpu.home = homes.try_emplace(start_from_device_ ? gpu.device : gpu.numa_node, homes.size()).first->second;
  }
  home_memory_.resize(homes.size());
}

void CudaEngine::use(std::size_t gpu) const { ENGINEROOM_CUDA(cudaSetDevice(gpus_[gpu].device)); }

std::size_t CudaEngine::executions_on(std::size_t gpu) const {
  return (execution_count() + gpus_.size() - 1 - gpu) / gpus_.size();
}

// Everything that will lie in a GPU's memory, but for what executions and graphs keep for themselves.
std::vector<MemoryNeed> CudaEngine::needs(std::size_t gpu) const {
  const std::size_t executions = executions_on(gpu);
  std::vector<MemoryNeed> all = gpu_needs();
  for (MemoryNeed need : execution_needs()) {
    all.push_back({std::to_string(executions) + " x " + need.what, need.bytes * executions, need.grows});
  }
  const auto sum = [](const auto& sizes) { return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}); };
  const std::size_t flights = executions * copy_streams_, size = spec().batch_size;
  all.push_back({std::to_string(flights) + " x the inputs and outputs of a batch of " + std::to_string(size),
                 flights * size * (sum(input_bytes_) + sum(output_bytes_)), true});
  if (start_from_device_) {
    const std::size_t samples = spec().loaded_samples;
    const std::size_t bytes = samples * sum(input_bytes_);
    all.push_back({std::to_string(samples) + " loaded samples (start_from_device)", bytes, false});
  }
  all.push_back({"reserve", kReservedBytes, false});
  return all;
}

std::size_t CudaEngine::graphs_on(std::size_t gpu) const {
  return executions_on(gpu) * copy_streams_ * graph_batch_sizes_.size();
}

// Before anything is allocated, so that what is said is the whole of it.
void CudaEngine::check_memory(std::size_t gpu) const {
  const std::vector<MemoryNeed> all = needs(gpu);
  std::size_t needed = 0;
  const std::size_t free = free_bytes();
  for (const MemoryNeed& need : all) needed += need.bytes;
  if (needed > free) refuse_memory(gpu, free, all);
}

void CudaEngine::refuse_memory(std::size_t gpu, std::size_t free, const std::vector<MemoryNeed>& needs) const {
  std::size_t needed = 0, fixed = 0;
  std::string parts;
  for (const MemoryNeed& need : needs) {
    needed += need.bytes;
    if (!need.grows) fixed += need.bytes;
    parts += (parts.empty() ? "" : ", ") + need.what + " " + mebibytes(need.bytes);
  }
  const double grows = static_cast<double>(needed - fixed) / static_cast<double>(spec().batch_size);
  const auto fits = free > fixed ? static_cast<std::size_t>(static_cast<double>(free - fixed) / grows) : 0;
  throw Error("GPU",
              gpu_text(gpu) + " has " + mebibytes(free) + " of memory free, " + mebibytes(needed) +
                  " are needed: " + parts,
              fits > 0 ? "the largest batch that fits is " + std::to_string(fits) + ": --batch_size=" +
                             std::to_string(fits)
                       : "not even a batch of 1 fits: use fewer --instances or --gpu_copy_streams, or free the GPU's "
                         "memory (nvidia-smi shows who has it)");
}

void CudaEngine::fail_with_room(const Error& error, const std::string& made) const {
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) throw error;  // the GPU is lost: its memory does not matter
  throw Error(error.where, std::string(error.what()) + " (" + made + ", " + mebibytes(free) + " of memory are free)",
              error.mend.empty() ? kLessRoom : error.mend);
}

void CudaEngine::load_execution(std::size_t number) {
  Execution& execution = *executions_.emplace_back(std::make_unique<Execution>());
  execution.number = number;
  execution.gpu = number % gpus_.size();
  use(execution.gpu);
  cudaStream_t stream = nullptr;
  ENGINEROOM_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  execution.stream.reset(stream);
  try {
    do_load_execution(number, execution.gpu);
  } catch (const Error& error) {
    fail_with_room(error, std::to_string(number) + " of " + std::to_string(execution_count()) + " instances are made");
  }
}

void CudaEngine::load_flight(Flight& flight, Execution& execution) {
  use(execution.gpu);
  const OnNode near(gpus_[execution.gpu].numa_node);
  flight.execution = &execution;
  flight.copies = execution.stream.get();
  if (copy_streams_ > 1) {
    ENGINEROOM_CUDA(cudaStreamCreateWithFlags(&flight.copies, cudaStreamNonBlocking));
    flight.own_stream.reset(flight.copies);
  }
  for (CudaEvent* event : {&flight.uploaded, &flight.computed, &flight.done}) {
    cudaEvent_t made = nullptr;
    const unsigned blocking = blocks_ && event == &flight.done ? cudaEventBlockingSync : cudaEventDefault;
    ENGINEROOM_CUDA(cudaEventCreateWithFlags(&made, cudaEventDisableTiming | blocking));
    event->reset(made);
  }
  for (std::size_t input = 0; input < input_bytes_.size(); ++input) {
    const std::size_t bytes = spec().batch_size * input_bytes_[input];
    flight.inputs.push_back(flight.memory.emplace_back(device_memory(bytes)).get());
    flight.staging.push_back(is_staged(input) ? pinned_memory(bytes, "the samples of a batch") : CudaHostMemory());
  }
  for (std::size_t bytes : output_bytes_) {
    flight.outputs.push_back(flight.memory.emplace_back(device_memory(spec().batch_size * bytes)).get());
  }
  ENGINEROOM_CUDA(cudaDeviceSynchronize());  // the memory is zero before another stream uses it
  capture_graphs(flight);
}

CudaMemory CudaEngine::device_memory(std::size_t bytes) const {
  if (bytes == 0) return {};
  void* memory = nullptr;
  ENGINEROOM_CUDA(cudaMalloc(&memory, bytes));
  CudaMemory owned(static_cast<std::byte*>(memory));
  // A graph of a larger size, and an engine of a fixed one, read past the batch's samples.
  ENGINEROOM_CUDA(cudaMemset(memory, 0, bytes));
  return owned;
}

void CudaEngine::capture_graphs(Flight& flight) {
  Gpu& gpu = gpus_[flight.execution->gpu];
  for (std::size_t size : graph_batch_sizes_) {
    try {
      capture_graph(flight, size);
    } catch (const Error& error) {
      fail_with_room(error, std::to_string(gpu.graphs) + " of " + std::to_string(graphs_on(flight.execution->gpu)) +
                                " CUDA graphs are made");
    }
    ++gpu.graphs;
    check_graphs(flight.execution->gpu);
  }
}

// Only the computation: where the samples come from and the answers go to differs from batch to batch.
void CudaEngine::capture_graph(Flight& flight, std::size_t size) {
  const Execution& execution = *flight.execution;
  cudaStream_t stream = execution.stream.get();
  const DeviceBatch batch{size, flight.inputs, flight.outputs, true};
  const std::size_t free = free_bytes();
  do_enqueue(execution.number, batch, stream);  // what is settled at first use cannot be captured
  ENGINEROOM_CUDA(cudaStreamSynchronize(stream));
  cudaGraph_t captured = nullptr;
  cudaGraphExec_t made = nullptr;
  ENGINEROOM_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  do_enqueue(execution.number, batch, stream);
  ENGINEROOM_CUDA(cudaStreamEndCapture(stream, &captured));
  const CudaGraph graph(captured);
  ENGINEROOM_CUDA(cudaGraphInstantiateWithFlags(&made, captured, 0));
  flight.graphs[size].reset(made);
  ENGINEROOM_CUDA(cudaGraphUpload(made, stream));
  ENGINEROOM_CUDA(cudaStreamSynchronize(stream));
  // With the first one, CUDA also loads kernels, once: what a graph takes is told by those after it.
  Gpu& gpu = gpus_[execution.gpu];
  if (gpu.graphs > 0) gpu.graph_bytes += free - std::min(free, free_bytes());
}

// Refuses as soon as those that are made show that the rest will not fit.
void CudaEngine::check_graphs(std::size_t number) const {
  const Gpu& gpu = gpus_[number];
  if (gpu.graphs < 2) return;
  const std::size_t each = gpu.graph_bytes / (gpu.graphs - 1), rest = graphs_on(number) - gpu.graphs;
  const std::size_t free = free_bytes();
  if (each * rest <= free) return;
  throw Error("GPU",
              gpu_text(number) + " has " + mebibytes(free) + " of memory free, " + mebibytes(each * rest) +
                  " are needed: " + std::to_string(rest) + " more CUDA graphs of " + std::to_string(graphs_on(number)) +
                  ", " + mebibytes(each) + " each",
              kLessRoom);
}

// --- samples ---------------------------------------------------------------------------------------------------------

std::byte* CudaEngine::allocate(std::size_t home, std::size_t bytes) {
  const auto at_home = [home](const Gpu& gpu) { return gpu.home == home; };
  const auto gpu = std::find_if(gpus_.begin(), gpus_.end(), at_home);
  const auto number = static_cast<std::size_t>(gpu - gpus_.begin());
  use(number);
  if (!start_from_device_) {
    const OnNode near(gpu->numa_node);
    return home_memory_[home].host.emplace_back(pinned_memory(bytes, "the loaded samples")).get();
  }
  return home_memory_[home].device.emplace_back(device_memory(bytes)).get();
}

void CudaEngine::write(std::size_t, std::byte* to, const std::byte* from, std::size_t bytes) {
  if (start_from_device_) {
    ENGINEROOM_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
  } else {
    std::memcpy(to, from, bytes);
  }
}

// --- work ------------------------------------------------------------------------------------------------------------

void CudaEngine::do_infer(std::size_t instance, const Batch& batch) {
  Flight& flight = flights_[instance];
  use(flight.execution->gpu);
  upload(flight, batch);
  compute(flight, batch.count);
  download(flight, batch);
  ENGINEROOM_CUDA(cudaEventSynchronize(flight.done.get()));
}

bool CudaEngine::is_staged(std::size_t input) const {
  return input_bytes_[input] < kStagedBytes && !start_from_device_;
}

void CudaEngine::upload(Flight& flight, const Batch& batch) {
  for (std::size_t input = 0; input < input_bytes_.size(); ++input) copy_runs(flight, input, batch);
  if (flight.own_stream) ENGINEROOM_CUDA(cudaEventRecord(flight.uploaded.get(), flight.copies));
}

// One copy per run; what is small and scattered is gathered first.
void CudaEngine::copy_runs(Flight& flight, std::size_t input, const Batch& batch) {
  const std::size_t bytes = input_bytes_[input];
  const bool gathers = is_staged(input) && batch.runs.size() > 1;
  std::byte* const begin = gathers ? flight.staging[input].get() : flight.inputs[input];
  std::byte* to = begin;
  for (const Run& run : batch.runs) {
    const std::byte* from = batch.inputs[input] + run.first * bytes;
    if (gathers) {
      std::memcpy(to, from, run.count * bytes);
    } else {
      ENGINEROOM_CUDA(cudaMemcpyAsync(to, from, run.count * bytes, cudaMemcpyDefault, flight.copies));
    }
    to += run.count * bytes;
  }
  if (!gathers) return;
  ENGINEROOM_CUDA(cudaMemcpyAsync(flight.inputs[input], begin, batch.count * bytes, cudaMemcpyHostToDevice,
                                  flight.copies));
}

void CudaEngine::compute(Flight& flight, std::size_t count) {
  Execution& execution = *flight.execution;
  cudaStream_t stream = execution.stream.get();
  const auto graph = flight.graphs.lower_bound(count);
  const std::lock_guard lock(execution.mutex);
  if (flight.own_stream) ENGINEROOM_CUDA(cudaStreamWaitEvent(stream, flight.uploaded.get(), 0));
  if (graph != flight.graphs.end()) {
    ENGINEROOM_CUDA(cudaGraphLaunch(graph->second.get(), stream));
  } else {
    do_enqueue(execution.number, {count, flight.inputs, flight.outputs}, stream);
  }
  if (flight.own_stream) ENGINEROOM_CUDA(cudaEventRecord(flight.computed.get(), stream));
}

void CudaEngine::download(Flight& flight, const Batch& batch) {
  if (flight.own_stream) ENGINEROOM_CUDA(cudaStreamWaitEvent(flight.copies, flight.computed.get(), 0));
  for (std::size_t output = 0; output < output_bytes_.size(); ++output) {
    ENGINEROOM_CUDA(cudaMemcpyAsync(batch.outputs[output], flight.outputs[output], batch.count * output_bytes_[output],
                                    cudaMemcpyDeviceToHost, flight.copies));
  }
  ENGINEROOM_CUDA(cudaEventRecord(flight.done.get(), flight.copies));
}

}  // namespace engineroom
