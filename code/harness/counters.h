// What the harness counts while it runs: plain stores by one writer each, so that counting costs next to nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "count.h"
#include "histogram.h"

namespace engineroom {

// Written by the thread that uses the engine instance. On its own cache lines, as is IssueCounters.
struct alignas(64) WorkerCounters {
  // The unused counts at the end keep two workers' arrays off the same cache line.
  explicit WorkerCounters(std::size_t batch_size) : batches_by_size(batch_size + 1 + 64 / sizeof(Count)) {}

  // Samples answered.
  std::uint64_t samples() const {
    std::uint64_t sum = 0;
    for (std::size_t size = 1; size < batches_by_size.size(); ++size) sum += size * batches_by_size[size].get();
    return sum;
  }

  Count steps;  // one step into the engine, one out of it: odd while the engine works
  std::vector<Count> batches_by_size;  // answered batches; samples and batches are sums over these
  Count fingerprints;                  // sum over the samples answered; added before they are counted
  DurationHistogram queue_time;        // samples: from their arrival until a worker took them; not if answered inline
  DurationHistogram compute_time;      // batches: from when they were taken to their answers
};

// Written by the thread on which LoadGen issues queries.
struct alignas(64) IssueCounters {
  Count queries, samples;
  Count fingerprints;      // sum over the samples issued; complete at each flush
  Count queries_at_flush;  // `queries` when LoadGen last said that a series of queries is over
  Count start_ns;          // CLOCK_MONOTONIC at the first query
};

struct Counters {
  Counters(std::size_t worker_count, std::size_t batch_size) {
    for (std::size_t i = 0; i < worker_count; ++i) workers.emplace_back(batch_size);
  }

  std::uint64_t answered_samples() const {
    std::uint64_t sum = 0;
    for (const WorkerCounters& worker : workers) sum += worker.samples();
    return sum;
  }

  std::uint64_t answered_fingerprint() const {
    std::uint64_t sum = 0;
    for (const WorkerCounters& worker : workers) sum += worker.fingerprints.get();
    return sum;
  }

  // In what the samples answered differ from those issued, in words; empty if they are the same. At rest only.
  std::string difference() const;

  IssueCounters issue;
  std::deque<WorkerCounters> workers;
};

}  // namespace engineroom
