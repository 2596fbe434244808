// How often durations came up, in ranges that are a quarter of an octave wide: a few nanoseconds to note one.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "count.h"

namespace engineroom {

// One writer, any number of readers. Ranges are at most a quarter as wide as their lower bound, so that a mean or a
// percentile that is read from them is off by an eighth at most.
class DurationHistogram {
 public:
  // Up to 2^46 ns, some 19 hours; the last range has no end.
  static constexpr std::size_t kRanges = 180;

  // The shortest duration of a range, in nanoseconds. Below 8 ns each nanosecond has a range of its own.
  static constexpr std::uint64_t lower_bound_ns(std::size_t range) {
    if (range < 8) return range;
    return (4 + range % 4) << (range / 4 - 1);
  }

  // `times` durations of `ns` each; a negative one, of clocks that two processors read at once, counts as 0.
  void note(std::int64_t ns, std::uint64_t times = 1) { counts_[range_of(ns)].add(times); }

  std::uint64_t count(std::size_t range) const { return counts_[range].get(); }

 private:
  static constexpr std::size_t range_of(std::int64_t ns) {
    if (ns < 8) return static_cast<std::size_t>(std::max<std::int64_t>(ns, 0));
    const auto value = static_cast<std::uint64_t>(ns);
    const auto octave = static_cast<std::size_t>(std::bit_width(value));  // 4 for 8 to 15
    return std::min(4 * (octave - 2) + ((value >> (octave - 3)) & 3), kRanges - 1);
  }

  std::array<Count, kRanges> counts_;
};

}  // namespace engineroom
