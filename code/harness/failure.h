// How a run ends when something goes wrong: one error record on disk, then the process is gone.
#pragma once

#include <atomic>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>

namespace engineroom {

// An error found before LoadGen runs; the caller still may unwind. `where` is "engine load", "engine infer",
// "samples" or "loadgen"; `mend` may be empty.
class Error : public std::runtime_error {
 public:
  Error(std::string where, const std::string& what, std::string mend = {})
      : std::runtime_error(what), where(std::move(where)), mend(std::move(mend)) {}

  const std::string where;
  const std::string mend;
};

// Ends the process while LoadGen runs. LoadGen offers no way out: AbortTest does not make StartTest return, and a
// query that is never completed hangs it for ever. So the record is written and synced, then the process leaves by
// _exit(3). Takes no lock, neither Python's nor LoadGen's; any thread may call it at any time.
class Failure {
 public:
  // `record_path` is the error.json to write; an empty path only prints.
  explicit Failure(std::string record_path) : record_path_(std::move(record_path)) {}

  // The first caller wins; every later one waits for the end of the process.
  [[noreturn]] void end_process(const std::string& where, const std::string& what,
                                std::optional<std::size_t> worker = std::nullopt,
                                const std::string& mend = {}) noexcept;

  // The same for whatever exception is being handled right now; `where` is used if the exception names none.
  [[noreturn]] void end_process_on_exception(const std::string& where, std::optional<std::size_t> worker) noexcept;

 private:
  const std::string record_path_;
  std::atomic_flag taken_;
};

// While it lives, memory that this thread asks for in vain ends the process, as if LoadGen had said so. An exception
// that leaves StartTest closes the log files that LoadGen's log thread still writes to: it must not be thrown at all.
class EndsWithoutMemory {
 public:
  explicit EndsWithoutMemory(Failure& failure);
  ~EndsWithoutMemory();
  EndsWithoutMemory(const EndsWithoutMemory&) = delete;
  EndsWithoutMemory& operator=(const EndsWithoutMemory&) = delete;
};

}  // namespace engineroom
