#include "dataplane/wire/checksum.h"

#include <cstring>

#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

// The sum does not depend on the order of bytes within words, but for a swap of the result, nor on
// the size of words: 32 bits at a time in the machine's own order. 2^32 words do not overflow it.
// The compiler makes vectors of it, as wide as the machine has them.
__attribute__((target_clones("avx512f", "avx2", "default"))) std::uint64_t sum_of_words(
    const std::byte* from, std::size_t words) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, from + i * sizeof(word), sizeof(word));
    sum += word;
  }
  return sum;
}

std::uint16_t fold(std::uint64_t sum) {
  sum = (sum & 0xFFFFFFFFU) + (sum >> 32U);
  sum = (sum & 0xFFFFFFFFU) + (sum >> 32U);
  sum = (sum & 0xFFFFU) + (sum >> 16U);
  sum = (sum & 0xFFFFU) + (sum >> 16U);
  return static_cast<std::uint16_t>(sum);
}

}  // namespace

void ChecksumSum::add(std::span<const std::byte> bytes) {
  constexpr std::size_t kWord = sizeof(std::uint32_t);
  const std::size_t words = bytes.size() / kWord;
  std::uint64_t sum = sum_of_words(bytes.data(), words);
  std::uint32_t rest = 0;
  if (bytes.size() % kWord != 0) {
    std::memcpy(&rest, bytes.data() + words * kWord, bytes.size() % kWord);
  }
  sum += rest;
  // The machine is little-endian: its sum is the swapped one, and swapped again behind an odd byte.
  const std::uint16_t piece = fold(sum);
  sum_ += odd_ ? piece : __builtin_bswap16(piece);
  odd_ ^= bytes.size() % 2 != 0;
}

std::uint16_t ChecksumSum::folded() const { return fold(sum_); }

}  // namespace sluice::wire
