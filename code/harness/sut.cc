// Issuing threads, workers and what they do with a query.
#include "sut.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstring>

#include "clock.h"

namespace engineroom {
namespace {

// Two looks at the clock take some 50 ns, a thirtieth of LoadGen's own work per query: with an engine as quick as that
// only one batch in sixteen is timed.
constexpr std::int64_t kQuickNs = 5000;
constexpr std::uint64_t kTimedOfQuick = 16;

// Gives the thread that makes it the CPUs back that it had.
class RestoresCpus {
 public:
  RestoresCpus() : known_(::pthread_getaffinity_np(::pthread_self(), sizeof before_, &before_) == 0) {}
  ~RestoresCpus() {
    if (known_) ::pthread_setaffinity_np(::pthread_self(), sizeof before_, &before_);
  }
  RestoresCpus(const RestoresCpus&) = delete;
  RestoresCpus& operator=(const RestoresCpus&) = delete;

 private:
  cpu_set_t before_;
  const bool known_;
};

}  // namespace

void Sut::note_start() {
  parts_.counters.issue.start_ns.set(static_cast<std::uint64_t>(now_ns()));
}

void Sut::pin(std::size_t instance) const {
  if (parts_.cpu_affinity.empty()) return;
  const std::vector<int>& wanted = parts_.cpu_affinity[instance % parts_.cpu_affinity.size()];
  if (wanted.empty()) return;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (int cpu : wanted) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(cpu), &cpus);
  }
  if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof cpus, &cpus); error != 0) {
    throw Error("engine load",
                "cannot pin worker " + std::to_string(instance) + " to its CPUs: " + std::strerror(error),
                "cpu_affinity names CPUs that this process may not use");
  }
}

InlineSut::InlineSut(SutParts parts) : Sut(std::move(parts)) {
  const RestoresCpus restores;  // LoadGen's log thread, made by this one before the first query, is not to share them
  pin(0);
  lane_.emplace(parts_.engine, 0, parts_.library, parts_.counters.workers[0]);
  timed_one_in_ = lane_->warm_up() < kQuickNs ? kTimedOfQuick : 1;
}

void InlineSut::IssueQuery(const std::vector<mlperf::QuerySample>& samples) try {
  if (batches_ == 0) [[unlikely]] pin(0);
  count(samples);
  const std::size_t batch_size = parts_.engine.spec().batch_size;
  const std::span<const mlperf::QuerySample> query(samples);
  for (std::size_t first = 0; first < query.size(); first += batch_size) {
    const auto batch = query.subspan(first, std::min(batch_size, query.size() - first));
    const bool timed = batches_++ % timed_one_in_ == 0;
    const std::int64_t begin_ns = timed ? now_ns() : 0;
    lane_->infer(batch);
    if (timed) parts_.counters.workers[0].compute_time.note(now_ns() - begin_ns);
    lane_->complete(batch);
  }
  count_fingerprints(samples);
} catch (...) {
  parts_.failure.end_process_on_exception("engine infer", 0);
}

PooledSut::PooledSut(SutParts parts, std::unique_ptr<BatchSource> source)
    : Sut(std::move(parts)), source_(std::move(source)) {
  // Sleeps end when they should, not 50 microseconds later: of this thread, on which LoadGen waits for the time of the
  // next query, and of the workers, who inherit it and wait for queue delays.
  ::prctl(PR_SET_TIMERSLACK, 1);
  const std::size_t workers = parts_.engine.spec().instances;
  try {
    for (std::size_t i = 0; i < workers; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (...) {  // not unwound: threads that already run could not be joined
    parts_.failure.end_process_on_exception("engine load", workers_.size());
  }
  for (std::size_t warm = warm_; warm != workers; warm = warm_) warm_.wait(warm);
}

PooledSut::~PooledSut() {
  source_->close();
  for (std::thread& worker : workers_) worker.join();
}

void PooledSut::IssueQuery(const std::vector<mlperf::QuerySample>& samples) {
  count(samples);
  source_->push(samples);
  count_fingerprints(samples);  // while the workers are at work already
}

void PooledSut::FlushQueries() {
  Sut::FlushQueries();
  source_->flush();
}

void PooledSut::work(std::size_t worker) try {
  pin(worker);
  WorkerCounters& counters = parts_.counters.workers[worker];
  Lane lane(parts_.engine, worker, parts_.library, counters);
  lane.warm_up();
  ++warm_;
  warm_.notify_one();
  answer(lane, counters);
} catch (...) {
  parts_.failure.end_process_on_exception("engine infer", worker);
}

void PooledSut::answer(Lane& lane, WorkerCounters& counters) {
  std::vector<mlperf::QuerySample> room(parts_.engine.spec().batch_size);
  for (std::int64_t free_ns = now_ns();;) {
    const Taken taken = source_->take(room, free_ns, counters.queue_time);
    if (taken.samples.empty()) return;
    lane.infer(taken.samples);
    free_ns = now_ns();
    counters.compute_time.note(free_ns - taken.at_ns);
    lane.complete(taken.samples);
  }
}

}  // namespace engineroom
