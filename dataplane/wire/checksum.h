// The checksum of the Internet protocols (RFC 1071).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::wire {

// The one's complement sum of all bytes added so far, as 16-bit words in network byte order. Pieces
// may have any length.
class ChecksumSum {
 public:
  void add(std::span<const std::byte> bytes);
  void add_word(std::uint16_t word) { sum_ += word; }
  // The sum itself, folded to 16 bits: what a port that computes checksums expects in the field.
  [[nodiscard]] std::uint16_t folded() const;
  // Its complement: the checksum; 0 over data that holds a right checksum.
  [[nodiscard]] std::uint16_t checksum() const { return static_cast<std::uint16_t>(~folded()); }

 private:
  std::uint64_t sum_ = 0;
  bool odd_ = false;  // an odd number of bytes so far
};

}  // namespace sluice::wire
