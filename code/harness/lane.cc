// Gathers samples, runs the engine, reports answers.
#include "lane.h"

#include <loadgen.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "clock.h"
#include "failure.h"
#include "fingerprint.h"

namespace engineroom {
namespace {

// What is settled at first use is settled by the second batch (memory, threads, PyTorch's profile of a script); three more
// steady the clock where they cost nothing, but a batch of a large model can take seconds.
constexpr int kLeastWarmUpBatches = 2;
constexpr int kWarmUpBatches = 5;
constexpr std::int64_t kWarmUpNs = 2'000'000'000;
// Memory that an engine has not seen yet must be bound anew: 4.5 microseconds in OpenVINO. Copying less is faster.
constexpr std::size_t kCopiedBytes = 32 * 1024;

template <typename Number>
void add_to_each(std::byte* values, std::size_t bytes, std::int64_t offset) {
  for (std::size_t at = 0; at < bytes; at += sizeof(Number)) {
    Number value;
    std::memcpy(&value, values + at, sizeof value);
    value = static_cast<Number>(value + static_cast<Number>(offset));
    std::memcpy(values + at, &value, sizeof value);
  }
}

// Adds `offset` to each number; returns false if they are of a type in which nobody names a class.
bool add_to_each(const std::string& dtype, std::byte* values, std::size_t bytes, std::int64_t offset) {
  if (dtype == "int64") {
    add_to_each<std::int64_t>(values, bytes, offset);
  } else if (dtype == "int32") {
    add_to_each<std::int32_t>(values, bytes, offset);
  } else if (dtype == "float32") {
    add_to_each<float>(values, bytes, offset);
  } else {
    return false;
  }
  return true;
}

bool lie_together(std::span<const mlperf::QuerySample> samples) {
  for (std::size_t i = 1; i < samples.size(); ++i) {
    if (samples[i].index != samples[0].index + i) return false;
  }
  return true;
}

}  // namespace

Lane::Lane(Engine& engine, std::size_t instance, const SampleLibrary& library, WorkerCounters& counters)
    : engine_(engine),
      instance_(instance),
      library_(library),
      counters_(counters),
      copies_(library.copies_for(instance)) {
  const EngineSpec& spec = engine.spec();
  const auto allocate = [&](std::size_t bytes) { return engine.host_memory(instance, bytes); };
  for (std::size_t input = 0; input < spec.inputs.size(); ++input) {
    input_bytes_.push_back(spec.inputs[input].sample_bytes());
    if (copies_ == nullptr) input_buffers_.push_back(allocate(spec.batch_size * input_bytes_.back()));
    inputs_.push_back(copies_ != nullptr ? copies_->inputs[input] : input_buffers_.back().get());
  }
  runs_.reserve(spec.batch_size);
  std::size_t response_bytes = 0;
  for (const TensorSpec& output : spec.outputs) {
    output_bytes_.push_back(output.sample_bytes());
    output_buffers_.push_back(allocate(spec.batch_size * output_bytes_.back()));
    outputs_.push_back(output_buffers_.back().get());
    response_bytes += output_bytes_.back();
  }
  if (spec.answer_offset != 0 && (spec.outputs.empty() || !add_to_each(spec.outputs.front().dtype, nullptr, 0, 0))) {
    throw Error("engine load", "answer_offset is for a first output of int64, int32 or float32",
                "a score per class takes none: set it to 0 in the recipe");
  }
  if (outputs_.size() > 1 || spec.answer_offset != 0) packed_ = allocate(spec.batch_size * response_bytes);
  const std::byte* answers = packed_ ? packed_.get() : outputs_.empty() ? nullptr : outputs_.front();
  for (std::size_t i = 0; i < spec.batch_size; ++i) {
    responses_.emplace_back(0, reinterpret_cast<std::uintptr_t>(answers + i * response_bytes), response_bytes);
  }
}

void Lane::gather(std::span<const mlperf::QuerySample> samples) {
  // Engines may read a whole batch, so samples are handed over in place only if the library goes on for as long.
  const bool together = samples[0].index + responses_.size() <= library_.total_sample_count() && lie_together(samples);
  for (std::size_t input = 0; input < inputs_.size(); ++input) {
    if (together && samples.size() * input_bytes_[input] > kCopiedBytes) {
      inputs_[input] = library_.sample(input, samples[0].index);
      continue;
    }
    std::byte* to = input_buffers_[input].get();
    inputs_[input] = to;
    for (const mlperf::QuerySample& sample : samples) {
      std::memcpy(to, library_.sample(input, sample.index), input_bytes_[input]);
      to += input_bytes_[input];
    }
  }
}

// What lies together is one run: of samples in the order in which LoadGen had them loaded, as it issues them in Offline
// and MultiStream, all.
void Lane::find_runs(std::span<const mlperf::QuerySample> samples) {
  runs_.clear();
  for (const mlperf::QuerySample& sample : samples) {
    const std::size_t place = library_.place(sample.index);
    if (!runs_.empty() && runs_.back().first + runs_.back().count == place) {
      ++runs_.back().count;
    } else {
      runs_.push_back({place, 1});
    }
  }
}

void Lane::pack(std::size_t count) {
  std::byte* to = packed_.get();
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t output = 0; output < outputs_.size(); ++output) {
      std::memcpy(to, outputs_[output] + i * output_bytes_[output], output_bytes_[output]);
      to += output_bytes_[output];
    }
  }
  if (engine_.spec().answer_offset != 0) shift(count);
}

// Where the answers were packed: an engine need not write each of its outputs anew.
void Lane::shift(std::size_t count) {
  const EngineSpec& spec = engine_.spec();
  const std::size_t response_bytes = responses_.front().size;
  for (std::size_t i = 0; i < count; ++i) {
    std::byte* answer = packed_.get() + i * response_bytes;
    add_to_each(spec.outputs.front().dtype, answer, output_bytes_.front(), spec.answer_offset);
  }
}

void Lane::infer(std::span<const mlperf::QuerySample> samples) {
  copies_ == nullptr ? gather(samples) : find_runs(samples);
  counters_.steps.add(1);
  engine_.infer(instance_, {samples.size(), inputs_, outputs_, runs_});
  counters_.steps.add(1);
  if (packed_) pack(samples.size());
}

void Lane::complete(std::span<const mlperf::QuerySample> samples) {
  const std::size_t count = samples.size();
  for (std::size_t i = 0; i < count; ++i) responses_[i].id = samples[i].id;
  // Counted first: once LoadGen knows, it may end the test and the totals are compared.
  counters_.fingerprints.add(fingerprint(samples));
  counters_.batches_by_size[count].add(1);
  mlperf::QuerySamplesComplete(responses_.data(), count);
}

std::int64_t Lane::warm_up() {
  std::vector<mlperf::QuerySample> samples(responses_.size());
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = {0, i % library_.total_sample_count()};
  std::int64_t begin_ns = now_ns(), took_ns = 0;
  const std::int64_t until_ns = begin_ns + kWarmUpNs;
  for (int batch = 0; batch < kWarmUpBatches && (batch < kLeastWarmUpBatches || begin_ns < until_ns); ++batch) {
    infer(samples);
    const std::int64_t end_ns = now_ns();
    took_ns = end_ns - begin_ns;
    begin_ns = end_ns;
  }
  refuse_nan();
  return took_ns;
}

void Lane::refuse_nan() const {
  for (std::size_t output = 0; output < outputs_.size(); ++output) {
    const TensorSpec& spec = engine_.spec().outputs[output];
    const std::size_t bad = samples_with_nan(spec, outputs_[output], responses_.size());
    if (bad == 0) continue;
    throw Error("engine infer", "output " + spec.name + " holds NaN for " + std::to_string(bad) + " of the " +
                                    std::to_string(responses_.size()) + " samples of the warm-up",
                "a precision with a smaller range overflows: try another, such as --precision=fp32");
  }
}

}  // namespace engineroom
