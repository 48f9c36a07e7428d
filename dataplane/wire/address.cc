#include "dataplane/wire/address.h"

#include <arpa/inet.h>
#include <charconv>

namespace sluice::wire {

bool is_unicast(const MacAddress& mac) { return (mac[0] & 1U) == 0 && mac != MacAddress{}; }

bool IpAddress::is_multicast() const {
  return is_v6_ ? bytes_[0] == 0xFF : (bytes_[0] & 0xF0U) == 0xE0;
}

bool IpPrefix::contains(const IpAddress& other) const {
  if (other.is_v6() != address.is_v6()) {
    return false;
  }
  const auto ours = address.bytes();
  const auto theirs = other.bytes();
  const std::size_t whole = length / 8;
  if (!std::equal(ours.begin(), ours.begin() + static_cast<std::ptrdiff_t>(whole),
                  theirs.begin())) {
    return false;
  }
  const unsigned rest = length % 8;
  return rest == 0 || (ours[whole] ^ theirs[whole]) >> (8 - rest) == 0;
}

std::optional<MacAddress> parse_mac(std::string_view text) {
  MacAddress mac{};
  if (text.size() != mac.size() * 3 - 1) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* first = text.data() + i * 3;
    const auto [end, error] = std::from_chars(first, first + 2, mac[i], 16);
    if (error != std::errc{} || end != first + 2) {
      return std::nullopt;
    }
    if (i + 1 < mac.size() && *end != ':') {
      return std::nullopt;
    }
  }
  return mac;
}

std::optional<std::uint32_t> parse_ipv4(std::string_view text) {
  std::uint32_t address = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int octet = 0; octet < 4; ++octet) {
    if (octet > 0 && (at == end || *at++ != '.')) {
      return std::nullopt;
    }
    std::uint8_t value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    // A leading zero means octal to some parsers and decimal to others: refused.
    if (error != std::errc{} || (*at == '0' && next - at > 1)) {
      return std::nullopt;
    }
    address = address << 8U | value;
    at = next;
  }
  return at == end ? std::optional(address) : std::nullopt;
}

std::optional<IpAddress> parse_ip(std::string_view text) {
  if (const auto ipv4 = parse_ipv4(text)) {
    return IpAddress(*ipv4);
  }
  in6_addr bytes{};
  if (inet_pton(AF_INET6, std::string(text).c_str(), &bytes) != 1 || IN6_IS_ADDR_V4MAPPED(&bytes)) {
    return std::nullopt;
  }
  IpAddress::V6Bytes ipv6{};
  std::copy_n(static_cast<const std::uint8_t*>(bytes.s6_addr), ipv6.size(), ipv6.begin());
  return IpAddress(ipv6);
}

std::optional<IpPrefix> parse_prefix(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    return std::nullopt;
  }
  const auto address = parse_ip(text.substr(0, slash));
  const std::string_view bits = text.substr(slash + 1);
  std::uint8_t length = 0;
  const auto [end, error] = std::from_chars(bits.data(), bits.data() + bits.size(), length);
  if (error != std::errc{} || end != bits.data() + bits.size() || !address ||
      length > address->bytes().size() * 8 || !address->is_specified() || address->is_multicast()) {
    return std::nullopt;
  }
  return IpPrefix{*address, length};
}

std::string to_string(const MacAddress& mac) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : mac) {
    if (!text.empty()) {
      text += ':';
    }
    text += kHex[byte >> 4U];
    text += kHex[byte & 0xFU];
  }
  return text;
}

std::string to_string(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(address.is_v6() ? AF_INET6 : AF_INET, address.bytes().data(), text.data(), text.size());
  return text.data();
}

}  // namespace sluice::wire
