// Engine: answers batches of samples. Subclasses live in engines/, one file each.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor.h"

namespace engineroom {

// One batch: where its samples are and where the answers go. The memory belongs to the caller and is valid until the
// call returns. Behind each pointer there is room for EngineSpec::batch_size samples, so that an engine with a fixed
// batch may read and write past `count`; what lies there is of no meaning.
struct Batch {
  std::size_t count = 0;                      // samples that count, 1 to batch_size
  std::span<const std::byte* const> inputs;   // per input: [batch_size, ...] in C order, not to be written
  std::span<std::byte* const> outputs;        // per output: [batch_size, ...] in C order
};

struct EngineSpec {
  std::string name;
  std::map<std::string, std::string> options;  // the engine's own settings
  std::vector<TensorSpec> inputs, outputs;
  std::size_t instances = 1;                   // batches that may be in infer() at the same time
  std::size_t batch_size = 1;                  // samples per batch at most
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

  const EngineSpec& spec() const { return spec_; }

 protected:
  virtual void do_load() {}
  virtual void do_infer(std::size_t instance, const Batch& batch) = 0;

  // The option `name` as a number of at least 0; `fallback` where it is not given. Throws Error for anything else.
  double number_option(const std::string& name, double fallback) const;
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
