// Units and constants that every layer shares.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

// Monotonic time in nanoseconds from an arbitrary origin. Pure code receives it as a parameter and
// never reads a clock. 0 means "not set".
using TimeNs = std::uint64_t;

inline constexpr TimeNs kMicrosecondNs = 1'000;
inline constexpr TimeNs kMillisecondNs = 1'000'000;
inline constexpr TimeNs kSecondNs = 1'000'000'000;

// The unit of tracking, hashing and sending: x86-64's base page.
inline constexpr std::size_t kPageBytes = 4096;

// The unit of ownership: 2 MiB, one x86-64 huge page. A page belongs to one extent.
inline constexpr std::size_t kExtentPages = 512;
inline constexpr std::size_t kExtentBytes = kExtentPages * kPageBytes;

// A page's number in a session's page space: all regions (guest RAM, device state) one after the
// other, each starting on an extent boundary (see page/layout.h). Both hosts agree on it.
using PageNumber = std::uint64_t;

// A frame's number within its flow: starts at 1, never reused within a session. 0 is never valid.
using Sequence = std::uint64_t;

}  // namespace sluice
