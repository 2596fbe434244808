// What every engine shares: checks of batches and options.
#include "engine.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "failure.h"

namespace engineroom {
namespace {

constexpr std::size_t kAlignment = 4096;

}  // namespace

Engine::Engine(EngineSpec spec) : spec_(std::move(spec)) {
  if (spec_.instances == 0 || spec_.batch_size == 0) {
    throw Error("engine load", "an engine needs at least one instance and a batch_size of at least 1");
  }
}

void Engine::refuse(std::size_t instance, const Batch& batch) const {
  throw Error("engine infer", "batch of " + std::to_string(batch.count) + " samples on instance " +
                                  std::to_string(instance) + ": this engine has " + std::to_string(spec_.instances) +
                                  " instances and batches of 1 to " + std::to_string(spec_.batch_size));
}

HostMemory Engine::host_memory(std::size_t, std::size_t bytes) {
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, rounded);  // also makes the pages real, on this thread's NUMA node
  return HostMemory(memory, [](std::byte* given) { std::free(given); });
}

std::string Engine::text_option(const std::string& name, const std::string& fallback) const {
  const auto found = spec_.options.find(name);
  return found == spec_.options.end() ? fallback : found->second;
}

std::vector<std::size_t> Engine::list_option(const std::string& name, const std::string& fallback) const {
  const std::string text = text_option(name, fallback);
  std::vector<std::size_t> numbers;
  const char* at = text.data();
  for (const char* const end = at + text.size(); at != end;) {
    const auto [after, error] = std::from_chars(at, end, numbers.emplace_back());
    if (error != std::errc() || (after != end && (*after != ',' || after + 1 == end))) {
      throw Error("engine load", "engine option " + name + " is '" + text + "', not whole numbers between commas");
    }
    at = after == end ? end : after + 1;
  }
  return numbers;
}

double Engine::number_option(const std::string& name, double fallback) const {
  const auto found = spec_.options.find(name);
  if (found == spec_.options.end()) return fallback;
  std::size_t used = 0;
  double value = -1;
  try {
    value = std::stod(found->second, &used);
  } catch (const std::logic_error&) {
  }
  if (used != found->second.size() || !std::isfinite(value) || value < 0) {
    throw Error("engine load", "engine option " + name + " is '" + found->second + "', not a number of at least 0");
  }
  return value;
}

void Engine::refuse_options_except(std::span<const std::string_view> known) const {
  for (const auto& [name, value] : spec_.options) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string names;
    for (std::string_view each : known) names += (names.empty() ? "" : ", ") + std::string(each);
    throw Error("engine load", "unknown engine option " + name, "known: " + (names.empty() ? "none" : names));
  }
}

}  // namespace engineroom
