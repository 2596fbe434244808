// The systems under test that LoadGen drives: answered on the issuing thread, or by a pool of workers.
#pragma once

#include <system_under_test.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "batch_source.h"
#include "counters.h"
#include "engine.h"
#include "failure.h"
#include "fingerprint.h"
#include "lane.h"
#include "sample_library.h"

namespace engineroom {

// What every system under test works with; all of it outlives the system.
struct SutParts {
  std::string name;
  Engine& engine;
  const SampleLibrary& library;
  Counters& counters;
  Failure& failure;
  // The thread that works for instance i takes the CPUs at i modulo the length: where an engine has several batches in
  // flight per instance, it has several workers per instance. Empty: anywhere.
  std::vector<std::vector<int>> cpu_affinity;
};

// When made, it is warm. An error in the engine ends the process: LoadGen knows no failed query.
class Sut : public mlperf::SystemUnderTest {
 public:
  explicit Sut(SutParts parts) : parts_(std::move(parts)) {}

  const std::string& Name() override { return parts_.name; }
  void FlushQueries() override { parts_.counters.issue.queries_at_flush.set(parts_.counters.issue.queries.get()); }

 protected:
  void count(const std::vector<mlperf::QuerySample>& samples) {
    IssueCounters& issue = parts_.counters.issue;
    if (issue.queries.get() == 0) [[unlikely]] note_start();
    issue.queries.add(1);
    issue.samples.add(samples.size());
  }
  void count_fingerprints(const std::vector<mlperf::QuerySample>& samples) {
    parts_.counters.issue.fingerprints.add(fingerprint(samples));
  }
  // Puts the calling thread, which works for this instance, on its CPUs.
  void pin(std::size_t instance) const;

  const SutParts parts_;

 private:
  void note_start();
};

// SingleStream and MultiStream: instance 0 answers on LoadGen's issuing thread before IssueQuery returns. LoadGen
// waits for each answer anyway, and handing a query to another thread costs several times LoadGen's own work.
class InlineSut : public Sut {
 public:
  explicit InlineSut(SutParts parts);
  void IssueQuery(const std::vector<mlperf::QuerySample>& samples) override;

 private:
  std::optional<Lane> lane_;  // made when the thread is on its CPUs
  std::uint64_t timed_one_in_ = 1, batches_ = 0;
};

// Server and Offline: one thread per engine instance takes batches from the source and reports its own answers. The
// threads live until the test is over: LoadGen's logger may crash when a thread that has logged ends before.
class PooledSut : public Sut {
 public:
  PooledSut(SutParts parts, std::unique_ptr<BatchSource> source);
  ~PooledSut() override;

  void IssueQuery(const std::vector<mlperf::QuerySample>& samples) override;
  void FlushQueries() override;

 private:
  void work(std::size_t worker);
  void answer(Lane& lane, WorkerCounters& counters);

  const std::unique_ptr<BatchSource> source_;
  std::atomic<std::size_t> warm_{0};
  std::vector<std::thread> workers_;
};

}  // namespace engineroom
