// Server: a ring of samples that arrive one by one.
#include <algorithm>
#include <thread>

#include "batch_source.h"
#include "clock.h"
#include "futex.h"

namespace engineroom {
namespace {

constexpr std::uint64_t kSlots = 1 << 16;  // a power of two: 65,536 samples of 32 bytes

}  // namespace

ServerSource::ServerSource(std::int64_t queue_delay_ns)
    : queue_delay_ns_(queue_delay_ns), slots_(std::make_unique<Slot[]>(kSlots)) {
  for (std::uint64_t i = 0; i < kSlots; ++i) slots_[i].free_for = i;
}

void ServerSource::push(std::span<const mlperf::QuerySample> samples) {
  const std::int64_t now = now_ns();
  if (flushed_.load(std::memory_order_relaxed)) flushed_ = false;
  for (const mlperf::QuerySample& sample : samples) push_one(sample, now);
  announce(samples.size());
}

void ServerSource::push_one(const mlperf::QuerySample& sample, std::int64_t now) {
  const std::uint64_t position = tail_.load(std::memory_order_relaxed);
  Slot& slot = slots_[position % kSlots];
  while (slot.free_for.load(std::memory_order_acquire) != position) {
    announce(1);
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  slot.sample = sample;
  slot.pushed_ns = now;
  tail_.store(position + 1);
}

// After tail_ was raised. All of tail_, filling_ and sleepers_ are sequentially consistent: either this thread sees
// that a worker is about to sleep, or that worker sees the new tail.
void ServerSource::announce(std::size_t pushed) {
  if (filling_) {
    if (tail_.load(std::memory_order_relaxed) >= full_at_) futex_wake(fill_wakes_, 1);
  } else if (sleepers_ != 0) {
    futex_wake(pushes_, static_cast<int>(std::min<std::size_t>(pushed, 1024)));
  }
}

// Returns when as many samples wait as a batch holds, the oldest has waited long enough, or no more will come. They
// stay in the ring meanwhile, from which nobody else takes.
void ServerSource::wait_until_full(std::size_t batch_size) {
  const std::uint64_t head = head_;
  if (tail_ == head) return;
  const std::int64_t until_ns = slots_[head % kSlots].pushed_ns + queue_delay_ns_;
  full_at_ = head + std::min<std::uint64_t>(batch_size, kSlots);
  for (std::uint32_t seen = fill_wakes_; tail_ < full_at_ && !flushed_ && !closed_; seen = fill_wakes_) {
    const std::int64_t left_ns = until_ns - now_ns();
    if (left_ns <= 0) return;
    futex_wait(fill_wakes_, seen, left_ns);
  }
}

Taken ServerSource::claim(std::span<mlperf::QuerySample> room, DurationHistogram& queue_time) {
  std::uint64_t head = head_;
  std::size_t count = 0;
  do {
    count = static_cast<std::size_t>(std::min<std::uint64_t>(tail_ - head, room.size()));
    if (count == 0) return {};
  } while (!head_.compare_exchange_weak(head, head + count));
  const std::int64_t now = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    Slot& slot = slots_[(head + i) % kSlots];
    room[i] = slot.sample;
    queue_time.note(now - slot.pushed_ns);
    slot.free_for.store(head + i + kSlots, std::memory_order_release);
  }
  return {room.first(count), now};
}

Taken ServerSource::take(std::span<mlperf::QuerySample> room, std::int64_t, DurationHistogram& queue_time) {
  const bool fills = queue_delay_ns_ > 0 && room.size() > 1;
  for (;;) {
    if (!fills || !filling_.exchange(true)) {
      if (fills) wait_until_full(room.size());
      const Taken taken = claim(room, queue_time);
      if (fills) release_filling();
      if (!taken.samples.empty()) return taken;
    }
    if (closed_) return {};
    sleep_until_pushed();
  }
}

void ServerSource::release_filling() {
  filling_ = false;
  if (tail_ != head_ && sleepers_ != 0) futex_wake(pushes_, 1);  // what came meanwhile was left to this worker
}

void ServerSource::sleep_until_pushed() {
  const std::uint32_t seen = pushes_;
  ++sleepers_;
  if ((tail_ == head_ || filling_) && !closed_) futex_wait(pushes_, seen);
  --sleepers_;
}

void ServerSource::flush() {
  flushed_ = true;
  futex_wake(fill_wakes_);
  futex_wake(pushes_);
}

void ServerSource::close() {
  closed_ = true;
  futex_wake(fill_wakes_);
  futex_wake(pushes_);
}

}  // namespace engineroom
