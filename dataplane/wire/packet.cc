#include "dataplane/wire/packet.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

// Offsets from the first byte of the Ethernet header; IPv4, IPv6 and UDP as RFC 791, RFC 8200 and
// RFC 768 draw them.
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
constexpr std::size_t kUdpOverIpv4At = kIpAt + kIpv4Bytes;
static_assert(kUdpOverIpv4At + kUdpBytes == kPacketPrefixBytes);

constexpr std::size_t kIp6PayloadLengthAt = kIpAt + 4;
constexpr std::size_t kIp6NextHeaderAt = kIpAt + 6;
constexpr std::size_t kIp6HopLimitAt = kIpAt + 7;
constexpr std::size_t kIp6SourceAt = kIpAt + 8;
constexpr std::size_t kIp6DestinationAt = kIpAt + 24;
constexpr std::size_t kUdpOverIpv6At = kIpAt + kIpv6Bytes;
static_assert(kUdpOverIpv6At + kUdpBytes == kPacketPrefixBytesMax);

// From the first byte of the UDP header.
constexpr std::size_t kUdpDestinationAt = 2;
constexpr std::size_t kUdpLengthAt = 4;
constexpr std::size_t kUdpChecksumAt = 6;

constexpr std::uint16_t kEtherTypeIpv4 = 0x0800;
constexpr std::uint16_t kEtherTypeIpv6 = 0x86DD;
constexpr std::uint8_t kVersion4HeaderWords5 = 0x45;
constexpr std::uint32_t kVersion6 = 6U << 28U;
constexpr std::uint16_t kDontFragment = 0x4000;
constexpr std::uint16_t kMoreFragmentsOrOffset = 0x3FFF;
constexpr std::uint8_t kTtl = 64;
constexpr std::uint8_t kProtocolUdp = 17;
constexpr std::size_t kUdpPayloadBytesMax = UINT16_MAX - kIpv4Bytes - kUdpBytes;

// What an IPv4 packet needs besides the frame's own bytes.
constexpr std::size_t kIpAndUdpBytes = kIpv4Bytes + kUdpBytes;

// RFC 1071: the one's complement sum.
std::uint16_t fold(std::uint32_t sum) {
  sum = (sum & 0xFFFFU) + (sum >> 16U);
  sum = (sum & 0xFFFFU) + (sum >> 16U);
  return static_cast<std::uint16_t>(sum);
}

std::uint32_t sum_of(const std::byte* from, std::size_t bytes) {
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < bytes; at += sizeof(std::uint16_t)) {
    sum += load_be<std::uint16_t>(from + at);
  }
  return sum;
}

void write_address(std::byte* to, const IpAddress& address) {
  std::memcpy(to, address.bytes().data(), address.bytes().size());
}

// Everything of an IPv4 header but length and checksum. The identification stays 0: it means
// nothing in a packet that is never fragmented (RFC 6864).
void write_ipv4(std::byte* to, const IpAddress& local, const IpAddress& remote, std::uint8_t dscp) {
  store_be(to + kEtherTypeAt, kEtherTypeIpv4);
  to[kIpAt] = std::byte{kVersion4HeaderWords5};
  to[kIpTrafficClassAt] = static_cast<std::byte>(dscp << 2U);
  store_be(to + kIpFragmentAt, kDontFragment);
  to[kIpTtlAt] = std::byte{kTtl};
  to[kIpProtocolAt] = std::byte{kProtocolUdp};
  write_address(to + kIpSourceAt, local);
  write_address(to + kIpDestinationAt, remote);
}

void write_ipv6(std::byte* to, const IpAddress& local, const IpAddress& remote, std::uint8_t dscp) {
  store_be(to + kEtherTypeAt, kEtherTypeIpv6);
  store_be(to + kIpAt, kVersion6 | static_cast<std::uint32_t>(dscp) << 22U);
  to[kIp6NextHeaderAt] = std::byte{kProtocolUdp};
  to[kIp6HopLimitAt] = std::byte{kTtl};
  write_address(to + kIp6SourceAt, local);
  write_address(to + kIp6DestinationAt, remote);
}

// A UDP datagram that its IP header says to be at `udp_at` of the packet, with `room` bytes for it.
std::optional<std::span<const std::byte>> datagram(const std::byte* udp, std::size_t room,
                                                   const Endpoint& local,
                                                   std::uint16_t port_count) {
  const auto port = load_be<std::uint16_t>(udp + kUdpDestinationAt);
  const std::size_t udp_bytes = load_be<std::uint16_t>(udp + kUdpLengthAt);
  if (port < local.port || port - local.port >= port_count || udp_bytes < kUdpBytes ||
      udp_bytes > room) {
    return std::nullopt;
  }
  return std::span(udp + kUdpBytes, udp_bytes - kUdpBytes);
}

std::optional<std::span<const std::byte>> payload_over_ipv4(std::span<const std::byte> packet,
                                                            const Endpoint& local,
                                                            std::uint16_t port_count) {
  const std::byte* from = packet.data();
  if (load_be<std::uint16_t>(from + kEtherTypeAt) != kEtherTypeIpv4 ||
      (from[kIpAt] >> 4U) != std::byte{4} || from[kIpProtocolAt] != std::byte{kProtocolUdp} ||
      (load_be<std::uint16_t>(from + kIpFragmentAt) & kMoreFragmentsOrOffset) != 0 ||
      load_be<std::uint32_t>(from + kIpDestinationAt) != local.address.ipv4()) {
    return std::nullopt;
  }
  const std::size_t ip_header_bytes =
      std::to_integer<std::size_t>(from[kIpAt] & std::byte{0xF}) * 4;
  const std::size_t ip_bytes = load_be<std::uint16_t>(from + kIpTotalLengthAt);
  if (ip_header_bytes < kIpv4Bytes || ip_bytes < ip_header_bytes + kUdpBytes ||
      ip_bytes > packet.size() - kEthernetBytes) {
    return std::nullopt;
  }
  return datagram(from + kIpAt + ip_header_bytes, ip_bytes - ip_header_bytes, local, port_count);
}

std::optional<std::span<const std::byte>> payload_over_ipv6(std::span<const std::byte> packet,
                                                            const Endpoint& local,
                                                            std::uint16_t port_count) {
  const std::byte* from = packet.data();
  if (packet.size() < kPacketPrefixBytesMax ||
      load_be<std::uint16_t>(from + kEtherTypeAt) != kEtherTypeIpv6 ||
      (from[kIpAt] >> 4U) != std::byte{6} || from[kIp6NextHeaderAt] != std::byte{kProtocolUdp} ||
      !local.address.equals(from + kIp6DestinationAt) ||
      load_be<std::uint16_t>(from + kUdpOverIpv6At + kUdpChecksumAt) == 0) {
    return std::nullopt;
  }
  const std::size_t room = load_be<std::uint16_t>(from + kIp6PayloadLengthAt);
  if (room > packet.size() - kUdpOverIpv6At) {
    return std::nullopt;
  }
  return datagram(from + kUdpOverIpv6At, room, local, port_count);
}

}  // namespace

PacketTemplate::PacketTemplate(const Endpoint& local, const Endpoint& remote, std::uint8_t dscp) {
  assert(dscp < 64 && local.address.is_v6() == remote.address.is_v6());
  const bool v6 = local.address.is_v6();
  std::byte* to = bytes_.data();
  std::memcpy(to, remote.mac.data(), remote.mac.size());
  std::memcpy(to + remote.mac.size(), local.mac.data(), local.mac.size());
  (v6 ? write_ipv6 : write_ipv4)(to, local.address, remote.address, dscp);
  const std::size_t udp_at = v6 ? kUdpOverIpv6At : kUdpOverIpv4At;
  store_be(to + udp_at, local.port);
  store_be(to + udp_at + kUdpDestinationAt, remote.port);
  prefix_bytes_ = udp_at + kUdpBytes;
  partial_sum_ = v6 ? sum_of(to + kIp6SourceAt, kUdpOverIpv6At - kIp6SourceAt) + kProtocolUdp
                    : sum_of(to + kIpAt, kIpv4Bytes);
}

void PacketTemplate::fill(std::span<std::byte> out, std::size_t udp_payload_bytes) const {
  assert(udp_payload_bytes <= kUdpPayloadBytesMax && out.size() >= prefix_bytes_);
  const auto udp_bytes = static_cast<std::uint16_t>(udp_payload_bytes + kUdpBytes);
  std::byte* to = out.data();
  if (prefix_bytes_ == kPacketPrefixBytes) {
    const auto ip_bytes = static_cast<std::uint16_t>(udp_bytes + kIpv4Bytes);
    std::memcpy(to, bytes_.data(), kPacketPrefixBytes);
    store_be(to + kIpTotalLengthAt, ip_bytes);
    store_be(to + kIpChecksumAt, static_cast<std::uint16_t>(~fold(partial_sum_ + ip_bytes)));
    store_be(to + kUdpOverIpv4At + kUdpLengthAt, udp_bytes);
  } else {
    std::memcpy(to, bytes_.data(), kPacketPrefixBytesMax);
    store_be(to + kIp6PayloadLengthAt, udp_bytes);
    store_be(to + kUdpOverIpv6At + kUdpLengthAt, udp_bytes);
    // The pseudo-header's sum: ports that compute the checksum go on from there.
    store_be(to + kUdpOverIpv6At + kUdpChecksumAt, fold(partial_sum_ + udp_bytes));
  }
}

bool needs_checksum(std::span<const std::byte> packet) {
  return packet.size() >= kPacketPrefixBytesMax &&
         load_be<std::uint16_t>(packet.data() + kEtherTypeAt) == kEtherTypeIpv6 &&
         packet[kIp6NextHeaderAt] == std::byte{kProtocolUdp};
}

void finish_checksum(std::span<std::byte> packet,
                     std::span<const std::span<const std::byte>> rest) {
  // The field still holds the pseudo-header's sum, which so becomes part of this one.
  ChecksumSum sum;
  sum.add(packet.subspan(kUdpOverIpv6At));
  for (const std::span<const std::byte> piece : rest) {
    sum.add(piece);
  }
  const std::uint16_t checksum = sum.checksum();
  // 0 would mean that there is none (RFC 768).
  store_be(packet.data() + kUdpOverIpv6At + kUdpChecksumAt,
           checksum == 0 ? std::uint16_t{UINT16_MAX} : checksum);
}

std::optional<std::span<const std::byte>> udp_payload(std::span<const std::byte> packet,
                                                      const Endpoint& local,
                                                      std::uint16_t port_count) {
  if (packet.size() < kPacketPrefixBytes) {
    return std::nullopt;
  }
  return local.address.is_v6() ? payload_over_ipv6(packet, local, port_count)
                               : payload_over_ipv4(packet, local, port_count);
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
