// Engine: answers batches of samples. Subclasses live in engines/, one file each.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor.h"

namespace engineroom {

// Samples that lie one behind the other in a SampleMemory: `count` of them, from the place `first` on.
struct Run {
  std::size_t first = 0, count = 0;
};

// One batch: where its samples are and where the answers go. The memory belongs to the caller and is valid until the
// call returns. Behind each pointer there is room for EngineSpec::batch_size samples, so that an engine with a fixed
// batch may read and write past `count`; what lies there is of no meaning.
struct Batch {
  std::size_t count = 0;                      // samples that count, 1 to batch_size
  std::span<const std::byte* const> inputs;   // per input: [batch_size, ...] in C order, not to be written
  std::span<std::byte* const> outputs;        // per output: [batch_size, ...] in C order
  // For an engine with a SampleMemory: `inputs` are where that begins, and the batch is these runs of its samples.
  std::span<const Run> runs = {};
};

// Memory in which the harness keeps copies of the loaded samples for an engine that wants to read them from there and
// to gather batches by itself. Each home holds every loaded sample once: all that is shared by the instances of a home.
class SampleMemory {
 public:
  virtual ~SampleMemory() = default;
  virtual std::size_t homes() const = 0;
  virtual std::size_t home_of(std::size_t instance) const = 0;
  // Lives as long as the engine. Throws Error if there is no room.
  virtual std::byte* allocate(std::size_t home, std::size_t bytes) = 0;
  virtual void write(std::size_t home, std::byte* to, const std::byte* from, std::size_t bytes) = 0;
};

// Zeroed memory that knows how it is given back.
using HostMemory = std::unique_ptr<std::byte[], std::function<void(std::byte*)>>;

struct EngineSpec {
  std::string name;
  std::map<std::string, std::string> options;  // the engine's own settings
  std::vector<TensorSpec> inputs, outputs;
  std::size_t instances = 1;                   // batches that may be in infer() at the same time
  std::size_t batch_size = 1;                  // samples per batch at most
  std::size_t loaded_samples = 0;              // that a SampleMemory will hold
  std::int64_t answer_offset = 0;              // is added to each number of the first output before it is reported
};

// Public methods check, do_* methods do. Threads: load() once, by one thread, before all else; infer() by any thread,
// at the same time for different instances, never at the same time for the same one. Errors are thrown.
class Engine {
 public:
  explicit Engine(EngineSpec spec);
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Makes every instance ready. May take long; untimed.
  void load() { do_load(); }

  // Answers one batch before it returns. Timed: no allocation that can be avoided, no logging.
  void infer(std::size_t instance, const Batch& batch) {
    if (batch.count - 1 >= spec_.batch_size || instance >= spec_.instances) [[unlikely]] refuse(instance, batch);
    do_infer(instance, batch);
  }

  // The memory that this engine wants its samples in; none if it takes them from anywhere. After load().
  virtual SampleMemory* sample_memory() { return nullptr; }

  // Memory for what `instance` reads and writes, near the calling thread. After load(), by any thread.
  virtual HostMemory host_memory(std::size_t instance, std::size_t bytes);

  const EngineSpec& spec() const { return spec_; }

 protected:
  virtual void do_load() {}
  virtual void do_infer(std::size_t instance, const Batch& batch) = 0;

  // The option `name` as a number of at least 0; `fallback` where it is not given. Throws Error for anything else.
  double number_option(const std::string& name, double fallback) const;
  // The option `name`, `fallback` where it is not given.
  std::string text_option(const std::string& name, const std::string& fallback) const;
  // The option `name` as whole numbers between commas. Throws Error for anything else.
  std::vector<std::size_t> list_option(const std::string& name, const std::string& fallback) const;
  // Throws Error if an option is given that is not in `known`.
  void refuse_options_except(std::span<const std::string_view> known) const;

 private:
  [[noreturn]] void refuse(std::size_t instance, const Batch& batch) const;

  const EngineSpec spec_;
};

// Native engines by name, and why one was left out of this build (empty: it was not).
std::map<std::string, std::string> native_engines();
// Makes the native engine `spec.name`. Throws Error if there is none; one that was left out says why.
std::unique_ptr<Engine> make_native_engine(EngineSpec spec);

}  // namespace engineroom
