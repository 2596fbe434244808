// Offline: claims of one big query.
#include <algorithm>

#include "batch_source.h"
#include "clock.h"

namespace engineroom {

void OfflineSource::push(std::span<const mlperf::QuerySample> samples) {
  std::unique_lock lock(mutex_);
  all_parked_.wait(lock, [this] { return parked_ == workers_; });
  query_ = samples;
  posted_ns_ = now_ns();
  next_ = 0;
  parked_ = 0;
  ++queries_;
  lock.unlock();
  posted_.notify_all();
}

std::span<const mlperf::QuerySample> OfflineSource::claim(std::size_t most) {
  const std::size_t first = next_.fetch_add(most, std::memory_order_relaxed);
  if (first >= query_.size()) return {};
  return query_.subspan(first, std::min(most, query_.size() - first));
}

Taken OfflineSource::take(std::span<mlperf::QuerySample> room, std::int64_t free_ns, DurationHistogram& queue_time) {
  for (std::int64_t now = free_ns;; now = now_ns()) {
    if (const auto samples = claim(room.size()); !samples.empty()) {
      queue_time.note(now - posted_ns_, samples.size());
      return {samples, now};
    }
    std::unique_lock lock(mutex_);
    if (++parked_ == workers_) all_parked_.notify_one();
    posted_.wait(lock, [this, seen = queries_] { return queries_ != seen || closed_; });
    if (closed_) return {};
  }
}

void OfflineSource::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  posted_.notify_all();
}

}  // namespace engineroom
