// A number that one thread counts and others read while it does.
#pragma once

#include <atomic>
#include <cstdint>

namespace engineroom {

// Adding is a load and a store, no locked instruction. Whoever reads a count also sees what its writer counted before.
class Count {
 public:
  void add(std::uint64_t n) { set(value_.load(std::memory_order_relaxed) + n); }
  void set(std::uint64_t n) { value_.store(n, std::memory_order_release); }
  std::uint64_t get() const { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace engineroom
