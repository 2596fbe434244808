// CudaEngine: what every engine on NVIDIA GPUs shares, which is all but the computation itself.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "../engine.h"

namespace engineroom {

class Error;

// Streams, events, graphs and memory of CUDA, given back when they go out of scope.
template <typename Handle, auto kDestroy>
struct CudaDestroy {
  using pointer = Handle;
  void operator()(Handle handle) const { static_cast<void>(kDestroy(handle)); }
};
template <typename Handle, auto kDestroy>
using CudaHandle = std::unique_ptr<std::remove_pointer_t<Handle>, CudaDestroy<Handle, kDestroy>>;
using CudaStream = CudaHandle<cudaStream_t, cudaStreamDestroy>;
using CudaEvent = CudaHandle<cudaEvent_t, cudaEventDestroy>;
using CudaGraph = CudaHandle<cudaGraph_t, cudaGraphDestroy>;
using CudaGraphExec = CudaHandle<cudaGraphExec_t, cudaGraphExecDestroy>;
using CudaMemory = CudaHandle<std::byte*, cudaFree>;
using CudaHostMemory = CudaHandle<std::byte*, cudaFreeHost>;

// A batch in the GPU's memory, with room for batch_size samples behind each pointer. `captured`: its computation
// becomes a graph, which is launched as long as the engine lives.
struct DeviceBatch {
  std::size_t count = 0;
  std::span<std::byte* const> inputs, outputs;
  bool captured = false;
};

// Something that needs memory of a GPU; `grows`: in proportion to batch_size.
struct MemoryNeed {
  std::string what;
  std::size_t bytes = 0;
  bool grows = false;
};

// The spec's instances are executions: each has a stream on which it computes, one batch at a time, and runs on the
// GPU gpus[i % n]. Each has `copy_streams` batches in flight, so that one is copied while another is computed; each of
// those is an instance of this Engine with its worker, its buffers and its stream for copies. Nothing is shared between
// two batches in flight but the execution, which a lock guards while work is handed to it.
//
// Options (all may be missing): `gpus`, CUDA's numbers of devices, each once, default 0. `copy_streams`, default 2.
// `graph_batch_sizes`: the computation of batches of these sizes is captured once and launched as a graph; other sizes
// take the graph of the nearest larger one, those larger than all of them none. `wait`: a worker waits for its batch by
// "spin", which answers soonest, or by "block", which leaves the core to others. `start_from_device`: "true" keeps the
// loaded samples in the GPU's memory. MLPerf wants them in the memory into which they would arrive, and evidence that
// the network or I/O device can write there as fast as the benchmark reads (inference_rules.adoc, "LoadGen Operation").
class CudaEngine : public Engine, private SampleMemory {
 public:
  explicit CudaEngine(EngineSpec spec);
  ~CudaEngine() override;

  SampleMemory* sample_memory() final { return this; }
  HostMemory host_memory(std::size_t instance, std::size_t bytes) final;

 protected:
  // The rest of the options, beside those above.
  virtual std::vector<std::string_view> own_options() const { return {}; }
  // What do_load_gpu() will take of each GPU, and do_load_execution() for each execution: asked for before either.
  virtual std::vector<MemoryNeed> gpu_needs() const { return {}; }
  virtual std::vector<MemoryNeed> execution_needs() const { return {}; }
  // Loads the model onto a GPU, which is the current one; `gpu` counts the entries of `gpus`.
  virtual void do_load_gpu(std::size_t gpu) = 0;
  // Makes an execution ready on its GPU, which is the current one.
  virtual void do_load_execution(std::size_t execution, std::size_t gpu) = 0;
  // Hands the computation of `batch` to the stream and returns. Never called at the same time for one execution. One
  // that is `captured` is called twice, the second time while the stream is captured: it may then only do what a
  // capture allows. What such a batch uses must never change afterwards.
  virtual void do_enqueue(std::size_t execution, const DeviceBatch& batch, cudaStream_t stream) = 0;

  std::size_t gpu_count() const { return gpus_.size(); }
  std::size_t execution_count() const { return spec().instances / copy_streams_; }
  std::string gpu_text(std::size_t gpu) const;
  // Zeroed memory of the current GPU.
  CudaMemory device_memory(std::size_t bytes) const;

 private:
  struct Gpu {
    int device = 0;
    int numa_node = -1;
    std::size_t home = 0;  // of its samples
    std::string name;
    std::size_t graphs = 0, graph_bytes = 0;  // that are made, and what all but the first took
  };
  struct Execution {
    std::size_t number = 0, gpu = 0;
    CudaStream stream;
    std::mutex mutex;
  };
  // One batch in flight.
  struct alignas(64) Flight {
    Execution* execution = nullptr;
    CudaStream own_stream;
    cudaStream_t copies = nullptr;  // its own stream, or the execution's where that has no other batch in flight
    CudaEvent uploaded, computed, done;
    std::vector<CudaHostMemory> staging;  // per input: where small samples are gathered; empty for large ones
    std::vector<CudaMemory> memory;
    std::vector<std::byte*> inputs, outputs;
    std::map<std::size_t, CudaGraphExec> graphs;  // by batch size
  };
  struct HomeMemory {
    std::vector<CudaMemory> device;
    std::vector<CudaHostMemory> host;
  };

  void do_load() final;
  void do_infer(std::size_t instance, const Batch& batch) final;
  std::size_t homes() const override { return home_memory_.size(); }
  std::size_t home_of(std::size_t instance) const override { return gpus_[flights_[instance].execution->gpu].home; }
  std::byte* allocate(std::size_t home, std::size_t bytes) override;
  void write(std::size_t home, std::byte* to, const std::byte* from, std::size_t bytes) override;

  void read_options();
  void open_gpus();
  void find_homes();
  void use(std::size_t gpu) const;
  std::size_t executions_on(std::size_t gpu) const;
  std::size_t graphs_on(std::size_t gpu) const;
  std::vector<MemoryNeed> needs(std::size_t gpu) const;
  void check_memory(std::size_t gpu) const;
  [[noreturn]] void refuse_memory(std::size_t gpu, std::size_t free, const std::vector<MemoryNeed>& needs) const;
  // Throws the error again, with what was `made` until then and the free memory of the current GPU.
  [[noreturn]] void fail_with_room(const Error& error, const std::string& made) const;
  void load_execution(std::size_t number);
  void load_flight(Flight& flight, Execution& execution);
  void capture_graphs(Flight& flight);
  void capture_graph(Flight& flight, std::size_t size);
  void check_graphs(std::size_t gpu) const;
  bool is_staged(std::size_t input) const;
  void upload(Flight& flight, const Batch& batch);
  void compute(Flight& flight, std::size_t count);
  void download(Flight& flight, const Batch& batch);
  void copy_runs(Flight& flight, std::size_t input, const Batch& batch);

  const std::size_t copy_streams_;
  std::vector<std::size_t> graph_batch_sizes_;
  bool blocks_ = false, start_from_device_ = false;
  std::vector<std::size_t> input_bytes_, output_bytes_;  // of a sample
  std::vector<Gpu> gpus_;
  std::vector<HomeMemory> home_memory_;
  std::vector<std::unique_ptr<Execution>> executions_;
  std::vector<Flight> flights_;  // by instance: those of an execution are execution_count() apart
};

}  // namespace engineroom
