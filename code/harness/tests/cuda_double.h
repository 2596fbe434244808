// A double of the CUDA runtime for tests: the functions that CudaEngine calls, on host memory.
//
// It is as lazy as CUDA may be: work handed to a stream is done only when somebody waits for it, and then only that
// which it has to be done after. So an answer that is read, or memory that is used again, one event too early is wrong
// every time. It refuses what a GPU refuses or would do slowly: copies beyond an allocation, asynchronous copies from
// or to host memory that is not page-locked, work on a stream of another device than the current one.
#pragma once

#include <driver_types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace cuda_double {

struct Device {
  std::size_t memory_bytes = std::size_t{1} << 30;
  int numa_node = 0;
  std::size_t graph_bytes = 0;  // that each graph takes of the memory
};

// What the machine has, one GPU where it is not said; before any other call.
void set_devices(std::vector<Device> devices);
// What becomes of CUDA after a call that fails: later ones work, or fail, too; or the call never returns, and all
// others wait for it.
enum class After { kWorks, kLost, kHangs };
// The `nth` call of `function` from now on, counted from 1, fails with `error`.
void fail(const std::string& function, int nth, cudaError_t error, After after = After::kWorks);

// Counts a call of `function` by another double; returns what it has to fail with.
cudaError_t enter(const char* function);

// How often `function` was called.
int calls(const std::string& function);
// The flags of its calls so far, in their order: of cudaSetDeviceFlags, cudaStreamCreateWithFlags, and
// cudaEventSynchronize, which are those that the event was made with.
std::vector<unsigned> flags(const std::string& function);
// What streams have done so far, in its order: a copy of `size` bytes or the kernel for `size` samples.
struct Done {
  cudaStream_t stream = nullptr;
  bool kernel = false;
  std::size_t size = 0;
};
std::vector<Done> done();
// By what policy the calling thread gets its memory, as get_mempolicy tells: the mode, and the nodes 0 to 63 as bits.
// None where the system does not tell, as many containers do not.
struct MemoryPolicy {
  int mode = 0;
  unsigned long nodes = 0;
  bool operator==(const MemoryPolicy&) const = default;
};
std::optional<MemoryPolicy> memory_policy();
// What it was in each call of cudaHostAlloc so far.
std::vector<std::optional<MemoryPolicy>> host_policies();
// Sizes of all copies so far from the host to a device, in bytes.
std::vector<std::size_t> uploads();
// Allocations, streams, events and graphs that nobody has given back.
std::size_t alive();
// Breaches of CUDA's rules, in words; empty if there were none.
std::string breaches();
// When this process ends, and with it whatever lives until then, lets it fail if something is alive or CUDA's rules
// were breached.
void check_at_exit();

}  // namespace cuda_double
