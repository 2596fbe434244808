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

std::size_t ServerSource::claim(std::span<mlperf::QuerySample> room, Taken& taken, std::int64_t& oldest_ns) {
  std::uint64_t head = head_;
  std::size_t count = 0;
  do {
    count = static_cast<std::size_t>(std::min<std::uint64_t>(tail_ - head, room.size()));
    if (count == 0) return 0;
  } while (!head_.compare_exchange_weak(head, head + count));
  taken.at_ns = now_ns();
  oldest_ns = slots_[head % kSlots].pushed_ns;
  for (std::size_t i = 0; i < count; ++i) {
    Slot& slot = slots_[(head + i) % kSlots];
    room[i] = slot.sample;
    taken.queued_ns += taken.at_ns - slot.pushed_ns;
    slot.free_for.store(head + i + kSlots, std::memory_order_release);
  }
  return count;
}

// Waits for the rest of a batch; returns how many more were taken.
std::size_t ServerSource::fill(std::span<mlperf::QuerySample> room, Taken& taken, std::int64_t oldest_ns) {
  std::size_t count = 0;
  while (count < room.size() && !flushed_ && !closed_) {
    const std::int64_t left_ns = oldest_ns + queue_delay_ns_ - now_ns();
    if (left_ns <= 0) break;
    const std::uint32_t seen = fill_wakes_;
    full_at_ = head_ + std::min<std::uint64_t>(room.size() - count, kSlots);  // the ring holds no more at a time
    if (tail_ < full_at_ && !flushed_) futex_wait(fill_wakes_, seen, left_ns);
    std::int64_t unused = 0;
    count += claim(room.subspan(count), taken, unused);
  }
  return count;
}

Taken ServerSource::take(std::span<mlperf::QuerySample> room) {
  const bool fills = queue_delay_ns_ > 0 && room.size() > 1;
  for (;;) {
    if (!fills || !filling_.exchange(true)) {
      Taken taken;
      std::int64_t oldest_ns = 0;
      std::size_t count = claim(room, taken, oldest_ns);
      if (fills && count != 0) count += fill(room.subspan(count), taken, oldest_ns);
      if (fills) release_filling();
      if (count != 0) {
        taken.samples = room.first(count);
        return taken;
      }
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
