// The proof that what LoadGen issued is what was answered: both sides sum the fingerprints of their samples.
#pragma once

#include <query_sample.h>

#include <cstdint>
#include <span>

namespace engineroom {

// 64 bits that look random for each pair of LoadGen's id of an issued sample and its index in the library.
// Sums of them, modulo 2^64, do not depend on the order, and are kept by each thread for itself. If the samples
// answered are not exactly those issued (one twice and another never, or a sample's id with another's index), then two
// sums over different samples are compared, which agree by chance once in 2^64.
//
// The mixing is the output function of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
// generators", OOPSLA 2014, with the constants of Stafford's variant 13): a bijection, so that pairs clash only if
// their sums below do, which the odd factor, 2^64 over the golden ratio, keeps from near ids and indices.
inline std::uint64_t fingerprint(const mlperf::QuerySample& sample) {
  std::uint64_t mixed = sample.id + sample.index * 0x9e3779b97f4a7c15;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

inline std::uint64_t fingerprint(std::span<const mlperf::QuerySample> samples) {
  std::uint64_t sum = 0;
  for (const mlperf::QuerySample& sample : samples) sum += fingerprint(sample);
  return sum;
}

}  // namespace engineroom
