// BatchSource: between LoadGen, which issues queries, and the workers, which take batches.
#pragma once

#include <query_sample.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "histogram.h"

namespace engineroom {

// What a worker has taken. `samples` lie in LoadGen's memory or in the room the worker gave.
struct Taken {
  std::span<const mlperf::QuerySample> samples;  // empty: the source is closed, the worker ends
  std::int64_t at_ns = 0;                        // when they were taken
};

// push() and flush() by LoadGen's issuing thread, take() by any number of workers, close() by the owner.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Hands over samples that LoadGen issued together.
  virtual void push(std::span<const mlperf::QuerySample> samples) = 0;
  // No more samples come for now: none is held back to fill a batch.
  virtual void flush() = 0;
  // Blocks until there is work, then takes up to `room.size()` samples in LoadGen's order and notes how long each had
  // waited. `free_ns`: when the worker last looked at the clock, just now, which spares another look.
  virtual Taken take(std::span<mlperf::QuerySample> room, std::int64_t free_ns, DurationHistogram& queue_time) = 0;
  // Wakes every worker; take() then returns nothing.
  virtual void close() = 0;
};

// Offline: one query with all samples. Workers claim the next batch by one atomic addition; nothing is copied and no
// thread stands between LoadGen and the workers.
class OfflineSource : public BatchSource {
 public:
  explicit OfflineSource(std::size_t workers) : workers_(workers) {}

  // Waits until the query before has been answered: accuracy mode may issue several.
  void push(std::span<const mlperf::QuerySample> samples) override;
  void flush() override {}
  Taken take(std::span<mlperf::QuerySample> room, std::int64_t free_ns, DurationHistogram& queue_time) override;
  void close() override;

 private:
  std::span<const mlperf::QuerySample> claim(std::size_t most);

  const std::size_t workers_;
  std::span<const mlperf::QuerySample> query_;  // changes only while every worker is parked, as does
  std::int64_t posted_ns_ = 0;                  // when it came
  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::mutex mutex_;
  std::condition_variable all_parked_, posted_;
  std::size_t parked_ = 0;
  std::uint64_t queries_ = 0;
  bool closed_ = false;
};

// Server: a bounded ring. One thread pushes, workers claim by compare-and-swap; locks are not used, and the kernel is
// entered only to sleep or to wake a sleeper. When the ring is full push() waits: LoadGen counts latency from the
// scheduled arrival, so that a system which is too slow still looks too slow.
class ServerSource : public BatchSource {
 public:
  // A batch that is not full waits for more samples until its oldest has waited `queue_delay_ns`.
  explicit ServerSource(std::int64_t queue_delay_ns);

  void push(std::span<const mlperf::QuerySample> samples) override;
  void flush() override;
  Taken take(std::span<mlperf::QuerySample> room, std::int64_t free_ns, DurationHistogram& queue_time) override;
  void close() override;

 private:
  struct alignas(32) Slot {
    std::atomic<std::uint64_t> free_for;  // the position that may be written here next
    mlperf::QuerySample sample;
    std::int64_t pushed_ns;
  };

  void push_one(const mlperf::QuerySample& sample, std::int64_t now);
  void announce(std::size_t pushed);
  void wait_until_full(std::size_t batch_size);
  Taken claim(std::span<mlperf::QuerySample> room, DurationHistogram& queue_time);
  void release_filling();
  void sleep_until_pushed();

  const std::int64_t queue_delay_ns_;
  const std::unique_ptr<Slot[]> slots_;
  alignas(64) std::atomic<std::uint64_t> tail_{0};  // positions below are written
  std::atomic<bool> flushed_{false}, closed_{false};
  alignas(64) std::atomic<std::uint64_t> head_{0};  // positions below are claimed
  // Workers with nothing to do sleep on `pushes_`.
  alignas(64) std::atomic<std::uint32_t> pushes_{0};
  std::atomic<std::uint32_t> sleepers_{0};
  // With a queue delay one worker at a time waits for its batch to fill; the others leave the samples to it.
  std::atomic<bool> filling_{false};
  std::atomic<std::uint32_t> fill_wakes_{0};
  std::atomic<std::uint64_t> full_at_{0};  // tail position at which the filling worker's batch is full
};

}  // namespace engineroom
