// The double: streams are queues of functions, which run when they are waited for.
#include "cuda_double.h"

#include <cuda_runtime_api.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "../engines/cuda_null.h"

using Work = std::function<void(cudaStream_t)>;  // told the stream that does it

struct CUgraph_st {
  std::vector<Work> work;
};

struct CUgraphExec_st {
  int device = 0;
  std::vector<Work> work;
};

struct CUstream_st {
  int device = 0;
  std::deque<Work> waiting;
  std::uint64_t issued = 0, done = 0;
  std::unique_ptr<CUgraph_st> capture;
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  cudaStream_t stream = nullptr;
  std::uint64_t position = 0;
};

namespace cuda_double {
namespace {

struct Allocation {
  std::size_t bytes = 0;
  int device = -1;  // -1: page-locked host memory
};

struct Failing {
  std::string function;
  int nth = 0;
  cudaError_t error = cudaSuccess;
  After after = After::kWorks;
};

std::recursive_mutex mutex;
std::vector<Device> devices{Device{}};
std::vector<Failing> failing;
cudaError_t lost = cudaSuccess;
std::map<std::string, int> called;
std::map<std::uintptr_t, Allocation> allocations;
std::size_t handles = 0;
std::vector<std::size_t> uploaded;
std::vector<std::optional<MemoryPolicy>> policies;
std::string breached;
std::map<std::string, std::vector<unsigned>> flags_of;
std::vector<Done> all_done;
std::vector<cudaStream_t> streams;
std::vector<cudaGraphExec_t> graphs;
thread_local int current = 0;

void breach(const std::string& what) { breached += what + "\n"; }

// The allocation that all of these bytes lie in; none: ordinary host memory.
const Allocation* allocation_of(const void* memory, std::size_t bytes, const char* what) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return nullptr;
  const auto& [begin, found] = *--after;
  if (address >= begin + found.bytes) return nullptr;
  if (address + bytes > begin + found.bytes) breach(std::string(what) + ": beyond the end of an allocation");
  return &found;
}

void run_until(cudaStream_t stream, std::uint64_t position) {
  while (stream->done < position) {
    const Work work = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    work(stream);
    ++stream->done;
  }
}

void hand_over(cudaStream_t stream, Work work, const char* what) {
  if (stream->capture) {
    stream->capture->work.push_back(std::move(work));
    return;
  }
  if (stream->device != current) breach(std::string(what) + ": the stream is of another device than the current one");
  stream->waiting.push_back(std::move(work));
  ++stream->issued;
}

cudaError_t allocate(void** memory, std::size_t bytes, int device) {
  *memory = std::malloc(bytes);
  std::memset(*memory, 0xcd, bytes);
  allocations[reinterpret_cast<std::uintptr_t>(*memory)] = {bytes, device};
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  for (cudaStream_t stream : streams) run_until(stream, stream->issued);  // as CUDA does before it gives memory back
  allocations.erase(reinterpret_cast<std::uintptr_t>(memory));
  std::free(memory);
  return cudaSuccess;
}

std::size_t used(int device) {
  std::size_t sum = 0;
  for (const auto& [address, each] : allocations) sum += each.device == device ? each.bytes : 0;
  for (cudaGraphExec_t each : graphs) {
    sum += each->device == device ? devices[static_cast<std::size_t>(device)].graph_bytes : 0;
  }
  return sum;
}

}  // namespace

void set_devices(std::vector<Device> machine) { devices = std::move(machine); }
void fail(const std::string& function, int nth, cudaError_t error, After after) {
  const std::lock_guard lock(mutex);
  failing.push_back({function, called[function] + nth, error, after});
}
cudaError_t enter(const char* function) {
  const std::lock_guard lock(mutex);
  if (lost != cudaSuccess) return lost;
  const int count = ++called[function];
  for (const Failing& each : failing) {
    if (each.function != function || each.nth != count) continue;
    if (each.after == After::kLost) lost = each.error;
    while (each.after == After::kHangs) ::pause();
    return each.error;
  }
  return cudaSuccess;
}
std::vector<unsigned> flags(const std::string& function) {
  const std::lock_guard lock(mutex);
  return flags_of[function];
}
std::vector<Done> done() {
  const std::lock_guard lock(mutex);
  return all_done;
}
int calls(const std::string& function) {
  const std::lock_guard lock(mutex);
  return called[function];
}
std::vector<std::size_t> uploads() {
  const std::lock_guard lock(mutex);
  return uploaded;
}
std::optional<MemoryPolicy> memory_policy() {
  unsigned long nodes[16]{};  // 1024 of them, the most that Linux has
  MemoryPolicy policy;
  if (::syscall(SYS_get_mempolicy, &policy.mode, nodes, 8 * sizeof nodes, nullptr, 0) != 0) return std::nullopt;
  policy.nodes = nodes[0];
  return policy;
}
std::vector<std::optional<MemoryPolicy>> host_policies() {
  const std::lock_guard lock(mutex);
  return policies;
}
std::size_t alive() {
  const std::lock_guard lock(mutex);
  return allocations.size() + handles;
}
std::string breaches() {
  const std::lock_guard lock(mutex);
  return breached;
}
void check_at_exit() {
  std::atexit([] {
    if (alive() == 0 && breached.empty()) return;
    std::fprintf(stderr, "%zu things of CUDA were not given back\n%s", alive(), breached.c_str());
    ::_exit(1);
  });
}

}  // namespace cuda_double

using namespace cuda_double;

#define ENTER(function)                                                 \
  const std::lock_guard lock(mutex);                                    \
  if (const cudaError_t error = enter(#function); error != cudaSuccess) return error

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorECCUncorrectable: return "cudaErrorECCUncorrectable";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorUnknown: return "cudaErrorUnknown";
    case cudaErrorDevicesUnavailable: return "cudaErrorDevicesUnavailable";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    default: return "an error that the double has no name for";
  }
}
const char* cudaGetErrorString(cudaError_t) { return "CUDA's text"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 12020;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  ENTER(cudaGetDeviceCount);
  *count = static_cast<int>(devices.size());
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  ENTER(cudaSetDevice);
  current = device;
  return cudaSuccess;
}
cudaError_t cudaSetDeviceFlags(unsigned flags) {
  ENTER(cudaSetDeviceFlags);
  flags_of["cudaSetDeviceFlags"].push_back(flags);
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  ENTER(cudaGetDeviceProperties);
  std::strcpy(properties->name, "NVIDIA Double");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device) {
  ENTER(cudaDeviceGetAttribute);
  *value = devices.at(static_cast<std::size_t>(device)).numa_node;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  ENTER(cudaMemGetInfo);
  *total = devices.at(static_cast<std::size_t>(current)).memory_bytes;
  *free = *total - used(current);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  ENTER(cudaDeviceSynchronize);
  for (cudaStream_t stream : streams) {
    if (stream->device == current) run_until(stream, stream->issued);
  }
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  ENTER(cudaMalloc);
  if (used(current) + bytes > devices[static_cast<std::size_t>(current)].memory_bytes) return cudaErrorMemoryAllocation;
  return allocate(memory, bytes, current);
}
cudaError_t cudaFree(void* memory) {
  ENTER(cudaFree);
  return release(memory);
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  ENTER(cudaHostAlloc);
  policies.push_back(memory_policy());
  return allocate(memory, bytes, -1);
}
cudaError_t cudaFreeHost(void* memory) {
  ENTER(cudaFreeHost);
  return release(memory);
}
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  ENTER(cudaMemset);
  allocation_of(memory, bytes, "cudaMemset");
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  ENTER(cudaMemcpy);
  allocation_of(to, bytes, "cudaMemcpy");
  allocation_of(from, bytes, "cudaMemcpy");
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  ENTER(cudaMemcpyAsync);
  const Allocation* target = allocation_of(to, bytes, "cudaMemcpyAsync");
  const Allocation* source = allocation_of(from, bytes, "cudaMemcpyAsync");
  if (target == nullptr || source == nullptr) {
    breach("cudaMemcpyAsync: host memory that is not page-locked");
  } else if (target->device >= 0 && source->device < 0) {
    uploaded.push_back(bytes);
  }
  const auto copy = [=](cudaStream_t by) {
    std::memcpy(to, from, bytes);
    all_done.push_back({by, false, bytes});
  };
  hand_over(stream, copy, "cudaMemcpyAsync");
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  ENTER(cudaStreamCreateWithFlags);
  flags_of["cudaStreamCreateWithFlags"].push_back(flags);
  *stream = streams.emplace_back(new CUstream_st{.device = current, .waiting = {}, .capture = {}});
  ++handles;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  ENTER(cudaStreamDestroy);
  std::erase(streams, stream);
  delete stream;
  --handles;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ENTER(cudaStreamSynchronize);
  run_until(stream, stream->issued);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  ENTER(cudaStreamWaitEvent);
  if (event->stream == nullptr) return cudaSuccess;
  const auto wait = [on = event->stream, position = event->position](cudaStream_t) { run_until(on, position); };
  hand_over(stream, wait, "cudaStreamWaitEvent");
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  ENTER(cudaLaunchHostFunc);
  hand_over(stream, [=](cudaStream_t) { function(data); }, "cudaLaunchHostFunc");
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  ENTER(cudaEventCreateWithFlags);
  *event = new CUevent_st{.device = current, .flags = flags};
  ++handles;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  ENTER(cudaEventDestroy);
  delete event;
  --handles;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ENTER(cudaEventRecord);
  if (event->device != stream->device) breach("cudaEventRecord: event and stream are of different devices");
  event->stream = stream;
  event->position = stream->issued;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ENTER(cudaEventSynchronize);
  flags_of["cudaEventSynchronize"].push_back(event->flags);
  if (event->stream != nullptr) run_until(event->stream, event->position);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  ENTER(cudaStreamBeginCapture);
  stream->capture = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  ENTER(cudaStreamIsCapturing);
  *status = stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  ENTER(cudaStreamEndCapture);
  *graph = stream->capture.release();
  ++handles;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  ENTER(cudaGraphInstantiateWithFlags);
  if (used(current) + devices[static_cast<std::size_t>(current)].graph_bytes >
      devices[static_cast<std::size_t>(current)].memory_bytes) {
    return cudaErrorMemoryAllocation;
  }
  *made = graphs.emplace_back(new CUgraphExec_st{current, graph->work});
  ++handles;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  ENTER(cudaGraphUpload);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  ENTER(cudaGraphLaunch);
  for (const Work& work : graph->work) hand_over(stream, work, "cudaGraphLaunch");
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  ENTER(cudaGraphDestroy);
  delete graph;
  --handles;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  ENTER(cudaGraphExecDestroy);
  std::erase(graphs, graph);
  delete graph;
  --handles;
  return cudaSuccess;
}

}  // extern "C"

// The kernel's place is taken by the same function on the host.
cudaError_t engineroom::launch_cuda_null(const CudaNullBatch& batch, cudaStream_t stream) {
  ENTER(launch_cuda_null);
  const auto answer = [batch](cudaStream_t by) {
    for (std::size_t i = 0; i < batch.count; ++i) engineroom::answer_with_checksum(batch, i);
    all_done.push_back({by, true, batch.count});
  };
  hand_over(stream, answer, "launch_cuda_null");
  return cudaSuccess;
}
