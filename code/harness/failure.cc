// Writes error.json: beside its place, synced, then renamed, so that a reader never sees half of it.
#include "failure.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <new>
#include <string_view>

namespace engineroom {
namespace {

constexpr int kExitEngine = 3;  // Engineroom's exit code for "an engine or the harness failed"

std::string json_text(std::string_view text) {
  if (text.empty()) return "null";
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (byte < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + '"';
}

bool write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

void write_synced(const std::string& path, std::string_view text) {
  const std::string beside = path + ".partial";
  const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return;  // nowhere to write: the line on stderr and the exit code remain
  const bool whole = write_all(file, text);
  ::fsync(file);
  ::close(file);
  if (whole) ::rename(beside.c_str(), path.c_str());
}

thread_local Failure* ends_without_memory = nullptr;

void without_memory() {
  if (ends_without_memory == nullptr) throw std::bad_alloc();
  std::set_new_handler(nullptr);  // the words need memory, too
  ends_without_memory->end_process("loadgen", "out of memory", std::nullopt,
                                   "LoadGen generates all queries ahead: expect a lower rate or a shorter test");
}

}  // namespace

void Failure::end_process(const std::string& where, const std::string& what, std::optional<std::size_t> worker,
                          const std::string& mend) noexcept {
  if (taken_.test_and_set()) {
    for (;;) ::pause();
  }
  try {
    const std::string number = worker ? std::to_string(*worker) : "null";
    if (!record_path_.empty()) {
      write_synced(record_path_, "{\"what\": " + json_text(what) + ", \"where\": " + json_text(where) +
                                     ", \"worker\": " + number + ", \"mend\": " + json_text(mend) + "}\n");
    }
    write_all(STDERR_FILENO, where + ": " + what + (mend.empty() ? "\n" : "\n  " + mend + "\n"));
  } catch (...) {  // no memory for the words
    write_all(STDERR_FILENO, "out of memory\n");
  }
  ::_exit(kExitEngine);
}

void Failure::end_process_on_exception(const std::string& where, std::optional<std::size_t> worker) noexcept {
  try {
    throw;
  } catch (const Error& error) {
    end_process(error.where, error.what(), worker, error.mend);
  } catch (const std::bad_alloc&) {
    end_process(where, "out of memory", worker, "use a smaller batch_size or fewer instances");
  } catch (const std::exception& error) {
    end_process(where, error.what(), worker);
  } catch (...) {
    end_process(where, "an exception that is not a std::exception", worker);
  }
}

EndsWithoutMemory::EndsWithoutMemory(Failure& failure) {
  ends_without_memory = &failure;
  std::set_new_handler(without_memory);
}

EndsWithoutMemory::~EndsWithoutMemory() {
  std::set_new_handler(nullptr);
  ends_without_memory = nullptr;
}

}  // namespace engineroom
