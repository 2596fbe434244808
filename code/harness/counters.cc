// Compares what was answered with what was issued.
#include "counters.h"

#include <cstdio>

namespace engineroom {
namespace {

std::string hexadecimal(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

std::string Counters::difference() const {
  const std::uint64_t issued = issue.samples.get(), answered = answered_samples();
  if (issued != answered) {
    return "LoadGen issued " + std::to_string(issued) + " samples, " + std::to_string(answered) + " were answered";
  }
  const std::uint64_t expected = issue.fingerprints.get(), found = answered_fingerprint();
  if (expected == found) return "";
  return "the " + std::to_string(answered) + " samples answered are not those that LoadGen issued (fingerprints " +
         hexadecimal(found) + " and " + hexadecimal(expected) +
         "): one was answered twice and another never, or with another's data";
}

}  // namespace engineroom
