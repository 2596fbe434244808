// Sleeping on a 32-bit word until another thread changes it, with a time limit (std::atomic::wait has none).
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <limits>

namespace engineroom {

constexpr std::int64_t kNoLimit = -1;

// Sleeps while `word` equals `seen`, for `limit_ns` at most. May return early: the caller looks again.
inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::int64_t limit_ns = kNoLimit) {
  if (limit_ns == 0 || limit_ns < kNoLimit) return;
  const auto seconds = static_cast<std::time_t>(limit_ns / 1'000'000'000);
  const std::timespec limit{seconds, static_cast<long>(limit_ns % 1'000'000'000)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, limit_ns == kNoLimit ? nullptr : &limit, nullptr, 0);
}

// Changes `word` and wakes up to `threads` of those who sleep on it.
inline void futex_wake(std::atomic<std::uint32_t>& word, int threads = std::numeric_limits<int>::max()) {
  word.fetch_add(1);
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

}  // namespace engineroom
