// Sizes and rates as people write them: "512M", "4G", "200M" (a second), "1048576".
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

namespace sluice {

// Bytes of a decimal number with an optional binary suffix (B, K, M, G or T, as QEMU's -m reads
// them; "MiB" is the same as "M"). Nothing if the text is anything else or does not fit 64 bits.
[[nodiscard]] inline std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc{}) return std::nullopt;
  std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  unsigned shift = 0;
  if (!suffix.empty() && suffix != "B") {
    constexpr std::string_view kSuffixes = "KMGT";
    const std::size_t index = kSuffixes.find(suffix.front());
    if (index == std::string_view::npos) return std::nullopt;
    suffix.remove_prefix(1);
    if (!suffix.empty() && suffix != "iB") return std::nullopt;
    shift = static_cast<unsigned>(10 * (index + 1));
  }
  if (number > (std::numeric_limits<std::uint64_t>::max() >> shift)) return std::nullopt;
  return number << shift;
}

}  // namespace sluice
