// Publishes counters and watches for a standstill.
#include "monitor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "clock.h"
#include "futex.h"

namespace engineroom {
namespace {

constexpr std::size_t kHeaderBytes = 4096;
constexpr std::int64_t kPeriodNs = 100'000'000;
constexpr std::int64_t kLoadFactor = 10;  // loading reads and compiles, an inference does not
constexpr std::size_t kRanges = DurationHistogram::kRanges;

std::string duration_bounds_ns() {
  std::string bounds = "0";
  for (std::size_t range = 1; range < kRanges; ++range) {
    bounds += "," + std::to_string(DurationHistogram::lower_bound_ns(range));
  }
  return bounds;
}

std::string ago(std::int64_t since_ns) {
  const std::time_t moment = std::time(nullptr) - since_ns / 1'000'000'000;
  std::tm utc{};
  ::gmtime_r(&moment, &utc);
  char text[64];
  std::snprintf(text, sizeof text, "%.1f s, since %02d:%02d:%02d UTC", static_cast<double>(since_ns) / 1e9, utc.tm_hour,
                utc.tm_min, utc.tm_sec);
  return text;
}

}  // namespace

Monitor::Monitor(const Counters& counters, std::size_t batch_size, const std::string& path, double watchdog_s,
                 Failure& failure)
    : counters_(counters),
      batch_size_(batch_size),
      folder_(std::filesystem::path(path).parent_path()),
      limit_ns_(static_cast<std::int64_t>(watchdog_s * 1e9)),
      failure_(failure),
      workers_(counters.workers.size()) {
  const std::size_t workers = counters.workers.size();
  const std::pair<const char*, std::size_t> layout[] = {
      {"phase", 1},           {"published_ns", 1},          {"test_start_ns", 1},     {"queries_issued", 1},
      {"issued_samples", 1},  {"completed_samples", 1},     {"issued_fingerprint", 1}, {"answered_fingerprint", 1},
      {"batches", 1},         {"heartbeat_ns", workers},    {"worker_samples", workers},
      {"batch_size_histogram", batch_size + 1}, {"queue_time_histogram", kRanges}, {"compute_time_histogram", kRanges}};
  std::string header;
  std::size_t count = 0;
  for (const auto& [name, extent] : layout) {
    first_[name] = count;
    header += (header.empty() ? "" : ", ") + ('"' + std::string(name)) + "\": [" +
              std::to_string(kHeaderBytes + count * sizeof(std::uint64_t)) + ", " + std::to_string(extent) + "]";
    count += extent;
  }
  map_file(path, R"({"duration_bounds_ns": [)" + duration_bounds_ns() + R"(], "fields": {)" + header + "}}", count);
  const std::int64_t now = now_ns();
  for (Progress& progress : workers_) progress.since_ns = now;
  load_.since_ns = library_.since_ns = completion_.since_ns = logs_.since_ns = now;
  publish(now);
  thread_ = std::thread([this] { run(); });
}

Monitor::~Monitor() {
  stop_ = 1;
  futex_wake(stop_);
  thread_.join();
  publish(now_ns());
  if (mapped_bytes_ != 0) ::munmap(reinterpret_cast<std::byte*>(fields_) - kHeaderBytes, mapped_bytes_);
}

void Monitor::map_file(const std::string& path, const std::string& header, std::size_t field_count) {
  if (path.empty()) {
    in_memory_.resize(field_count);
    fields_ = in_memory_.data();
    return;
  }
  const std::size_t bytes = kHeaderBytes + field_count * sizeof(std::uint64_t);
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  // Reserved now, and before a reader can map it: a page that the disk has no room for later, also one that is only
  // read, would kill the process by SIGBUS. It is this that gives the file its length.
  int error = file < 0 ? errno : ::posix_fallocate(file, 0, static_cast<off_t>(bytes));
  void* memory = MAP_FAILED;
  if (error == 0) {
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) error = errno;
  }
  if (file >= 0) ::close(file);
  if (error != 0) throw Error("loadgen", "cannot write " + path + ": " + std::strerror(error));
  auto* text = static_cast<char*>(memory);
  std::memset(text, ' ', kHeaderBytes);
  text[kHeaderBytes - 1] = '\n';
  std::memcpy(text, header.data(), header.size());
  fields_ = reinterpret_cast<std::uint64_t*>(text + kHeaderBytes);
  mapped_bytes_ = bytes;
}

std::atomic_ref<std::uint64_t> Monitor::field(const std::string& name, std::size_t index) {
  return std::atomic_ref<std::uint64_t>(fields_[first_.at(name) + index]);
}

void Monitor::set(const std::string& name, std::uint64_t value) {
  field(name).store(value, std::memory_order_relaxed);
}

void Monitor::enter(Phase phase) { phase_ = phase; }

void Monitor::run() {
  const std::int64_t period = std::clamp<std::int64_t>(limit_ns_ / 4, 1'000'000, kPeriodNs);
  while (stop_ == 0) {
    futex_wait(stop_, 0, period);
    const std::int64_t now = now_ns();
    publish(now);
    watch(now);
  }
}

void Monitor::publish(std::int64_t now) {
  // Completed before issued: read the other way round, more could seem answered than asked.
  set("completed_samples", counters_.answered_samples());
  set("queries_issued", counters_.issue.queries.get());
  set("issued_samples", counters_.issue.samples.get());
  set("test_start_ns", counters_.issue.start_ns.get());
  set("issued_fingerprint", counters_.issue.fingerprints.get());
  set("answered_fingerprint", counters_.answered_fingerprint());
  std::uint64_t batches = 0;
  for (std::size_t size = 0; size <= batch_size_; ++size) {
    std::uint64_t of_size = 0;
    for (const WorkerCounters& worker : counters_.workers) of_size += worker.batches_by_size[size].get();
    field("batch_size_histogram", size).store(of_size, std::memory_order_relaxed);
    batches += of_size;
  }
  for (std::size_t i = 0; i < counters_.workers.size(); ++i) {
    field("worker_samples", i).store(counters_.workers[i].samples(), std::memory_order_relaxed);
    field("heartbeat_ns", i).store(static_cast<std::uint64_t>(workers_[i].since_ns), std::memory_order_relaxed);
  }
  set("batches", batches);
  publish("queue_time_histogram", &WorkerCounters::queue_time);
  publish("compute_time_histogram", &WorkerCounters::compute_time);
  set("phase", static_cast<std::uint64_t>(visible_phase()));
  set("published_ns", static_cast<std::uint64_t>(now));
}

void Monitor::publish(const std::string& name, DurationHistogram WorkerCounters::* histogram) {
  for (std::size_t range = 0; range < kRanges; ++range) {
    std::uint64_t sum = 0;
    for (const WorkerCounters& worker : counters_.workers) sum += (worker.*histogram).count(range);
    field(name, range).store(sum, std::memory_order_relaxed);
  }
}

// LoadGen does not say when it turns to its logs: that is when all queries of a series are issued and answered. In an
// accuracy test another series follows, whose samples it has loaded first: that is work of ours, not logging.
Phase Monitor::visible_phase() const {
  const IssueCounters& issue = counters_.issue;
  const bool flushed = issue.queries.get() != 0 && issue.queries_at_flush.get() == issue.queries.get();
  const bool answered = flushed && counters_.answered_samples() == issue.samples.get();
  const bool moves_samples = counters_.library.steps.get() % 2 != 0;
  return phase_ == Phase::kTest && answered && !moves_samples ? Phase::kLogs : phase_.load();
}

std::int64_t Monitor::Progress::stood_still_ns(std::uint64_t current, std::int64_t now) {
  if (current != value) {
    value = current;
    since_ns = now;
  }
  return now - since_ns;
}

void Monitor::watch(std::int64_t now) {
  watch_accounts();
  watch_logs(now);
  watch_library(now);
  if (phase_ == Phase::kLoad && load_.stood_still_ns(0, now) > kLoadFactor * limit_ns_) {
    failure_.end_process("watchdog", "loading the engine has not returned for " + ago(now - load_.since_ns),
                         std::nullopt, "raise watchdog_s if this engine needs so long");
  }
  for (std::size_t worker = 0; worker < workers_.size(); ++worker) watch_worker(worker, now);
  const std::uint64_t completed = counters_.answered_samples();
  const bool pending = counters_.issue.samples.get() > completed;
  // Counted from the moment work was there: a quiet server is not a stalled one.
  if (!pending) completion_.since_ns = now;
  if (completion_.stood_still_ns(completed, now) > limit_ns_) {
    failure_.end_process("watchdog", std::to_string(counters_.issue.samples.get() - completed) +
                                         " samples wait and none was answered for " + ago(now - completion_.since_ns));
  }
}

void Monitor::watch_worker(std::size_t worker, std::int64_t now) {
  const std::uint64_t steps = counters_.workers[worker].steps.get();
  const std::int64_t still_ns = workers_[worker].stood_still_ns(steps, now);
  if (steps % 2 == 0 || still_ns <= limit_ns_) return;
  failure_.end_process("watchdog",
                       "worker " + std::to_string(worker) + " has been inside the engine for " + ago(still_ns), worker,
                       "it hangs, or a batch takes longer than watchdog_s: use smaller batches or raise it");
}

void Monitor::watch_library(std::int64_t now) {
  if (counters_.library.steps.get() % 2 == 0) library_.since_ns = now;
  const std::int64_t still_ns = library_.stood_still_ns(counters_.library.moved.get(), now);
  if (still_ns <= limit_ns_) return;
  failure_.end_process("watchdog", "LoadGen waits for samples, and none has been read for " + ago(still_ns),
                       std::nullopt, "does the disk that they lie on still answer? for a slow one raise watchdog_s");
}

// When one sample is answered twice and another never, LoadGen waits for that one for ever.
void Monitor::watch_accounts() {
  const std::uint64_t queries = counters_.issue.queries.get();
  if (visible_phase() != Phase::kLogs) return;
  const std::string difference = counters_.difference();
  const bool still = counters_.issue.queries.get() == queries;  // else the next series has begun meanwhile
  if (still && !difference.empty()) failure_.end_process("loadgen", difference);
}

// LoadGen's logger can lose its last entries when a thread logs more than 1,024 of them between two of its polls (its
// log thread then writes to that thread's buffer, too), and StartTest then waits for ever. While it really works it
// uses a processor, or it waits for a slow disk and its logs grow: less than a tenth of a processor and not a byte for
// the whole limit is a standstill. An engine whose threads spin while they wait hides one: their time counts, too.
void Monitor::watch_logs(std::int64_t now) {
  if (visible_phase() != Phase::kLogs) {
    logs_.since_ns = now;
    return;
  }
  std::timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  const std::int64_t used_ns = used.tv_sec * 1'000'000'000 + used.tv_nsec;
  const auto tenths = static_cast<std::uint64_t>(used_ns / (limit_ns_ / 10 + 1));
  const std::int64_t still_ns = logs_.stood_still_ns(tenths + logged_bytes(), now);
  if (still_ns <= limit_ns_) return;
  failure_.end_process("watchdog",
                       "every sample was answered, but LoadGen has not finished its logs for " + ago(still_ns),
                       std::nullopt, "run it again: LoadGen's logger seldom loses its last entries");
}

// If the file system itself does not answer, this thread waits with it: then the parent ends the process.
std::uint64_t Monitor::logged_bytes() const {
  std::uint64_t bytes = 0;
  for (const char* log : {"summary.txt", "detail.txt", "accuracy.json"}) {
    std::error_code missing;
    const std::uintmax_t size = std::filesystem::file_size(folder_ / (std::string("mlperf_log_") + log), missing);
    if (!missing) bytes += size;
  }
  return bytes;
}

}  // namespace engineroom
