// Integers in byte buffers, without alignment or aliasing traps. Callers have checked the length.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>

namespace sluice::wire {

// Byte orders are written for x86-64 and the like; a big-endian port has to swap in the _le
// functions instead.
static_assert(std::endian::native == std::endian::little);

template <std::unsigned_integral T>
[[nodiscard]] inline T load_le(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <std::unsigned_integral T>
inline void store_le(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(T));
}

// Network byte order, for the headers below Sluice's own.
template <std::unsigned_integral T>
[[nodiscard]] inline T load_be(const std::byte* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value << 8U) | static_cast<T>(from[i]);
  }
  return value;
}

template <std::unsigned_integral T>
inline void store_be(std::byte* to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    to[i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
  }
}

}  // namespace sluice::wire
