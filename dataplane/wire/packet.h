// The headers below Sluice's own: Ethernet II / IPv4 or IPv6 / UDP. Pure: no I/O.
//
//   +-----------------+------------------------+-----------+----------------+---------
//   | Ethernet   14 B | IPv4 (no options) 20 B | UDP   8 B | frame header   | records …
//   |                 | IPv6             40 B  |           |                |
//   +-----------------+------------------------+-----------+----------------+---------
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/wire/address.h"
#include "dataplane/wire/frame.h"

namespace sluice::wire {

inline constexpr std::size_t kEthernetBytes = 14;
inline constexpr std::size_t kIpv4Bytes = 20;
inline constexpr std::size_t kIpv6Bytes = 40;
inline constexpr std::size_t kUdpBytes = 8;
// Before the frame's own header, over IPv4 and over either.
inline constexpr std::size_t kPacketPrefixBytes = kEthernetBytes + kIpv4Bytes + kUdpBytes;
inline constexpr std::size_t kPacketPrefixBytesMax = kEthernetBytes + kIpv6Bytes + kUdpBytes;

// One end of a flow. The port in host byte order.
struct Endpoint {
  MacAddress mac{};
  IpAddress address;
  std::uint16_t port = 0;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// The constant part of every packet of one flow, made once; fill() then patches lengths and
// checksums. Over IPv4 the UDP checksum is 0 ("none", RFC 768): the frame's own CRC32C covers the
// headers that matter and page hashes the contents. Over IPv6 it must be there (RFC 8200), and is
// left for finish_checksum() or a port that computes it. Don't Fragment is set: a path that cannot
// carry the frame must be noticed, not papered over.
class PacketTemplate {
 public:
  PacketTemplate() = default;
  // `dscp` is 0..63, put in the upper six bits of the traffic class. Both addresses are of one
  // family.
  PacketTemplate(const Endpoint& local, const Endpoint& remote, std::uint8_t dscp);

  // What fill() writes: kPacketPrefixBytes over IPv4, kPacketPrefixBytesMax over IPv6.
  [[nodiscard]] std::size_t bytes() const { return prefix_bytes_; }

  // Writes bytes() bytes for a UDP payload of `udp_payload_bytes` (at most 65,507).
  void fill(std::span<std::byte> out, std::size_t udp_payload_bytes) const;

 private:
  std::array<std::byte, kPacketPrefixBytesMax> bytes_{};
  std::size_t prefix_bytes_ = kPacketPrefixBytes;
  // Of the IPv4 header with length and checksum as 0; of IPv6's pseudo-header without length.
  std::uint32_t partial_sum_ = 0;
};

// Whether a packet that begins so needs its UDP checksum computed: over IPv6, made by fill().
[[nodiscard]] bool needs_checksum(std::span<const std::byte> packet);
// Writes that checksum. `packet` begins with fill()'s bytes and goes on with the first bytes of the
// payload; `rest` is the payload's remainder, in order.
void finish_checksum(std::span<std::byte> packet, std::span<const std::span<const std::byte>> rest);

// The UDP payload of a packet addressed to `local` (MAC is not compared: the port filters it;
// address and a port in [local.port, local.port + port_count) are). nullopt: not for us. Rejects
// fragments, extension headers, options beyond the packet, lengths that do not fit. The UDP
// checksum is not computed again: a port does that where it can, and what it protects the frame
// protects too; over IPv6 it must be present.
[[nodiscard]] std::optional<std::span<const std::byte>> udp_payload(
    std::span<const std::byte> packet, const Endpoint& local, std::uint16_t port_count);

// The largest IPv4 packet with the payload of the largest packet to `address` on a path of this
// MTU: what the functions below and the protocol count in.
[[nodiscard]] constexpr std::size_t ipv4_mtu(std::size_t mtu, const IpAddress& address) {
  return address.is_v6() ? mtu - (kIpv6Bytes - kIpv4Bytes) : mtu;
}

// How many whole pages one frame can carry as RAW records on a path of this MTU (IPv4 packet size),
// 0 if none fits (fragments are needed): MTU 9000 carries 2. Reserves room for kRecordsMax records,
// at most kRawPagesMax, and for the tag of a sealed frame.
[[nodiscard]] std::size_t raw_pages_per_frame(std::size_t mtu,
                                              Protection protection = Protection::kChecksum);

// The payload of one fragment: 4096 split evenly over the fewest fragments that fit, but at least
// two (a whole page is RAW), rounded up to 8 bytes; 0 if more than kFragmentsMax would be needed
// (the MTU is then too small to use).
[[nodiscard]] std::size_t fragment_bytes(std::size_t mtu,
                                         Protection protection = Protection::kChecksum);

// The smallest IPv4 packet size that a path may have: its fragments fit (fragment_bytes()), with
// room to spare.
inline constexpr std::size_t kMtuMin = 640;

// The same of packets to `address`.
[[nodiscard]] constexpr std::size_t smallest_mtu(const IpAddress& address) {
  return address.is_v6() ? kMtuMin + (kIpv6Bytes - kIpv4Bytes) : kMtuMin;
}

// The padding of a PROBE whose packet is exactly of this size, at least kMtuMin.
[[nodiscard]] std::uint16_t probe_body_bytes(std::size_t mtu,
                                             Protection protection = Protection::kChecksum);

}  // namespace sluice::wire
