// What the harness counts while it runs: plain relaxed stores by one writer each, so that counting costs nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

namespace engineroom {

// A number with one writer and any number of readers. Adding is a load and a store, no locked instruction.
class Count {
 public:
  void add(std::uint64_t n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void set(std::uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Written by the thread that uses the engine instance. On its own cache lines, as is IssueCounters.
struct alignas(64) WorkerCounters {
  // The unused counts at the end keep two workers' arrays off the same cache line.
  explicit WorkerCounters(std::size_t batch_size) : batches_by_size(batch_size + 1 + 64 / sizeof(Count)) {}

  Count steps;  // one step into the engine, one out of it: odd while the engine works
  std::vector<Count> batches_by_size;  // answered batches; samples and batches are sums over these
  Count queue_time_ns, compute_time_ns;  // of pooled workers: samples until taken; batches, to their answers
};

// Written by the thread on which LoadGen issues queries.
struct alignas(64) IssueCounters {
  Count queries, samples;
  Count queries_at_flush;  // `queries` when LoadGen last said that a series of queries is over
  Count start_ns;          // CLOCK_MONOTONIC at the first query
};

// Written by the thread on which LoadGen has samples loaded and unloaded.
struct alignas(64) LibraryCounters {
  Count steps;  // one step into loading or unloading, one out of it: odd while it lasts
  Count moved;  // samples that were asked for, read or given back
};

struct Counters {
  Counters(std::size_t worker_count, std::size_t batch_size) {
    for (std::size_t i = 0; i < worker_count; ++i) workers.emplace_back(batch_size);
  }

  IssueCounters issue;
  LibraryCounters library;
  std::deque<WorkerCounters> workers;
};

}  // namespace engineroom
