#include "dataplane/wire/packet.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>

#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

// Offsets from the first byte of the Ethernet header; IPv4 and UDP as RFC 791 and RFC 768 draw
// them.
constexpr std::size_t kEtherTypeAt = 12;
constexpr std::size_t kIpAt = kEthernetBytes;
constexpr std::size_t kIpTrafficClassAt = kIpAt + 1;
constexpr std::size_t kIpTotalLengthAt = kIpAt + 2;
constexpr std::size_t kIpFragmentAt = kIpAt + 6;
constexpr std::size_t kIpTtlAt = kIpAt + 8;
constexpr std::size_t kIpProtocolAt = kIpAt + 9;
constexpr std::size_t kIpChecksumAt = kIpAt + 10;
constexpr std::size_t kIpSourceAt = kIpAt + 12;
constexpr std::size_t kIpDestinationAt = kIpAt + 16;
constexpr std::size_t kUdpAt = kIpAt + kIpv4Bytes;
constexpr std::size_t kUdpLengthAt = kUdpAt + 4;
static_assert(kUdpAt + kUdpBytes == kPacketPrefixBytes);

constexpr std::uint16_t kEtherTypeIpv4 = 0x0800;
constexpr std::uint8_t kVersion4HeaderWords5 = 0x45;
constexpr std::uint16_t kDontFragment = 0x4000;
constexpr std::uint16_t kMoreFragmentsOrOffset = 0x3FFF;
constexpr std::uint8_t kTtl = 64;
constexpr std::uint8_t kProtocolUdp = 17;
constexpr std::size_t kUdpPayloadBytesMax = UINT16_MAX - kIpv4Bytes - kUdpBytes;

// What an IPv4 packet needs besides the frame's own bytes.
constexpr std::size_t kIpAndUdpBytes = kIpv4Bytes + kUdpBytes;

// RFC 1071: the one's complement of the one's complement sum.
std::uint16_t fold_checksum(std::uint32_t sum) {
  sum = (sum & 0xFFFFU) + (sum >> 16U);
  sum = (sum & 0xFFFFU) + (sum >> 16U);
  return static_cast<std::uint16_t>(~sum);
}

}  // namespace

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

std::string ipv4_to_string(std::uint32_t address) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    text += std::to_string(address >> shift & 0xFFU);
    if (shift > 0) {
      text += '.';
    }
  }
  return text;
}

PacketTemplate::PacketTemplate(const Endpoint& local, const Endpoint& remote, std::uint8_t dscp) {
  assert(dscp < 64);
  std::byte* to = bytes_.data();
  std::memcpy(to, remote.mac.data(), remote.mac.size());
  std::memcpy(to + remote.mac.size(), local.mac.data(), local.mac.size());
  store_be(to + kEtherTypeAt, kEtherTypeIpv4);

  to[kIpAt] = std::byte{kVersion4HeaderWords5};
  to[kIpTrafficClassAt] = static_cast<std::byte>(dscp << 2U);
  // The identification stays 0: it means nothing in a packet that is never fragmented (RFC 6864).
  store_be(to + kIpFragmentAt, kDontFragment);
  to[kIpTtlAt] = std::byte{kTtl};
  to[kIpProtocolAt] = std::byte{kProtocolUdp};
  store_be(to + kIpSourceAt, local.ipv4);
  store_be(to + kIpDestinationAt, remote.ipv4);

  store_be(to + kUdpAt, local.port);
  store_be(to + kUdpAt + sizeof(std::uint16_t), remote.port);

  for (std::size_t at = kIpAt; at < kUdpAt; at += sizeof(std::uint16_t)) {
    partial_sum_ += load_be<std::uint16_t>(to + at);
  }
}

void PacketTemplate::fill(std::span<std::byte, kPacketPrefixBytes> out,
                          std::size_t udp_payload_bytes) const {
  assert(udp_payload_bytes <= kUdpPayloadBytesMax);
  const auto udp_bytes = static_cast<std::uint16_t>(udp_payload_bytes + kUdpBytes);
  const auto ip_bytes = static_cast<std::uint16_t>(udp_bytes + kIpv4Bytes);
  std::copy(bytes_.begin(), bytes_.end(), out.begin());
  store_be(out.data() + kIpTotalLengthAt, ip_bytes);
  store_be(out.data() + kIpChecksumAt, fold_checksum(partial_sum_ + ip_bytes));
  store_be(out.data() + kUdpLengthAt, udp_bytes);
}

std::optional<std::span<const std::byte>> udp_payload(std::span<const std::byte> packet,
                                                      const Endpoint& local,
                                                      std::uint16_t port_count) {
  if (packet.size() < kPacketPrefixBytes) {
    return std::nullopt;
  }
  const std::byte* from = packet.data();
  if (load_be<std::uint16_t>(from + kEtherTypeAt) != kEtherTypeIpv4 ||
      (from[kIpAt] >> 4U) != std::byte{4} || from[kIpProtocolAt] != std::byte{kProtocolUdp} ||
      (load_be<std::uint16_t>(from + kIpFragmentAt) & kMoreFragmentsOrOffset) != 0 ||
      load_be<std::uint32_t>(from + kIpDestinationAt) != local.ipv4) {
    return std::nullopt;
  }
  const std::size_t ip_header_bytes =
      std::to_integer<std::size_t>(from[kIpAt] & std::byte{0xF}) * 4;
  const std::size_t ip_bytes = load_be<std::uint16_t>(from + kIpTotalLengthAt);
  if (ip_header_bytes < kIpv4Bytes || ip_bytes < ip_header_bytes + kUdpBytes ||
      ip_bytes > packet.size() - kEthernetBytes) {
    return std::nullopt;
  }
  const std::byte* udp = from + kIpAt + ip_header_bytes;
  const auto port = load_be<std::uint16_t>(udp + 2);
  const std::size_t udp_bytes = load_be<std::uint16_t>(udp + 4);
  if (port < local.port || port - local.port >= port_count || udp_bytes < kUdpBytes ||
      udp_bytes > ip_bytes - ip_header_bytes) {
    return std::nullopt;
  }
  return std::span(udp + kUdpBytes, udp_bytes - kUdpBytes);
}

std::size_t raw_pages_per_frame(std::size_t mtu, Protection protection) {
  const std::size_t overhead_bytes = kIpAndUdpBytes + kDataPrefixBytesMax + tag_bytes(protection);
  if (mtu < overhead_bytes) {
    return 0;
  }
  return std::min((mtu - overhead_bytes) / kPageBytes, kRawPagesMax);
}

std::size_t fragment_bytes(std::size_t mtu, Protection protection) {
  const std::size_t overhead_bytes = kIpAndUdpBytes + data_prefix_bytes(1) + tag_bytes(protection);
  constexpr std::size_t kGranuleBytes = 8;
  // From two on: a single fragment would be a whole page, which is RAW.
  for (std::size_t fragments = 2; fragments <= kFragmentsMax; ++fragments) {
    const std::size_t even_bytes = (kPageBytes + fragments - 1) / fragments;
    const std::size_t bytes = (even_bytes + kGranuleBytes - 1) / kGranuleBytes * kGranuleBytes;
    if (bytes + overhead_bytes <= mtu) {
      return bytes;
    }
  }
  return 0;
}

std::uint16_t probe_body_bytes(std::size_t mtu, Protection protection) {
  assert(mtu >= kMtuMin && mtu <= UINT16_MAX);
  return static_cast<std::uint16_t>(mtu - kIpAndUdpBytes - kFrameHeaderBytes -
                                    tag_bytes(protection));
}

}  // namespace sluice::wire
