// Addresses of links and networks, and their texts. Pure: no I/O.
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::wire {

using MacAddress = std::array<std::uint8_t, 6>;

// Neither a group's address nor all zeros: one that a frame can be sent to, or come from.
[[nodiscard]] bool is_unicast(const MacAddress& mac);

// As one number, for messages that carry one.
[[nodiscard]] constexpr std::uint64_t to_number(const MacAddress& mac) {
  std::uint64_t number = 0;
  for (const std::uint8_t byte : mac) {
    number = number << 8U | byte;
  }
  return number;
}
[[nodiscard]] constexpr MacAddress mac_of_number(std::uint64_t number) {
  MacAddress mac{};
  for (std::size_t i = mac.size(); i-- > 0; number >>= 8U) {
    mac[i] = static_cast<std::uint8_t>(number);
  }
  return mac;
}

// An IPv4 or IPv6 address.
class IpAddress {
 public:
  using V6Bytes = std::array<std::uint8_t, 16>;

  constexpr IpAddress() = default;                  // 0.0.0.0
  constexpr explicit IpAddress(std::uint32_t ipv4)  // in host byte order: 0x0A000001 is 10.0.0.1
      : bytes_{static_cast<std::uint8_t>(ipv4 >> 24U), static_cast<std::uint8_t>(ipv4 >> 16U),
               static_cast<std::uint8_t>(ipv4 >> 8U), static_cast<std::uint8_t>(ipv4)} {}
  constexpr explicit IpAddress(const V6Bytes& ipv6) : is_v6_(true), bytes_(ipv6) {}

  [[nodiscard]] constexpr bool is_v6() const { return is_v6_; }
  // Neither 0.0.0.0 nor ::.
  [[nodiscard]] constexpr bool is_specified() const { return bytes_ != V6Bytes{}; }
  [[nodiscard]] bool is_multicast() const;
  // Only of an IPv4 address; in host byte order.
  [[nodiscard]] constexpr std::uint32_t ipv4() const {
    return static_cast<std::uint32_t>(bytes_[0]) << 24U |
           static_cast<std::uint32_t>(bytes_[1]) << 16U |
           static_cast<std::uint32_t>(bytes_[2]) << 8U | static_cast<std::uint32_t>(bytes_[3]);
  }
  // As they are on the wire: 4 or 16.
  [[nodiscard]] std::span<const std::uint8_t> bytes() const {
    return {bytes_.data(), is_v6_ ? bytes_.size() : 4};
  }
  // Whether these bytes of a packet, as many as bytes(), are this address.
  [[nodiscard]] bool equals(const std::byte* wire) const {
    const auto own = std::as_bytes(bytes());
    return std::equal(own.begin(), own.end(), wire);
  }

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
  // clang-tidy 14 sees a literal 0 in what the compiler makes of this.
  // NOLINTNEXTLINE(modernize-use-nullptr)
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  bool is_v6_ = false;
  V6Bytes bytes_{};
};

// A host's address and its network: 198.51.100.1/24.
struct IpPrefix {
  IpAddress address;
  std::uint8_t length = 0;  // bits that all addresses of the network share

  [[nodiscard]] bool contains(const IpAddress& other) const;

  friend bool operator==(const IpPrefix&, const IpPrefix&) = default;
};

[[nodiscard]] std::optional<MacAddress> parse_mac(std::string_view text);  // "02:00:5e:00:00:01"
[[nodiscard]] std::optional<std::uint32_t> parse_ipv4(std::string_view text);  // "10.77.1.1"
// "10.77.1.1" or "fd00::1"; no zone, no IPv4 address inside of an IPv6 one that means the former.
[[nodiscard]] std::optional<IpAddress> parse_ip(std::string_view text);
// "10.77.1.1/24"; the address is one that a host can have.
[[nodiscard]] std::optional<IpPrefix> parse_prefix(std::string_view text);
[[nodiscard]] std::string to_string(const MacAddress& mac);
[[nodiscard]] std::string to_string(const IpAddress& address);  // IPv6 as RFC 5952 has it

}  // namespace sluice::wire
