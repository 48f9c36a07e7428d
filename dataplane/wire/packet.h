// The headers below Sluice's own: Ethernet II / IPv4 / UDP, 42 bytes. Pure: no I/O.
//
//   +-----------------+------------------------+-----------+----------------+---------
//   | Ethernet   14 B | IPv4 (no options) 20 B | UDP   8 B | frame header   | records …
//   +-----------------+------------------------+-----------+----------------+---------
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "dataplane/wire/frame.h"

namespace sluice::wire {

inline constexpr std::size_t kEthernetBytes = 14;
inline constexpr std::size_t kIpv4Bytes = 20;
inline constexpr std::size_t kUdpBytes = 8;
inline constexpr std::size_t kPacketPrefixBytes = kEthernetBytes + kIpv4Bytes + kUdpBytes;

using MacAddress = std::array<std::uint8_t, 6>;

// One end of a flow. Addresses and ports in host byte order.
struct Endpoint {
  MacAddress mac{};
  std::uint32_t ipv4 = 0;
  std::uint16_t port = 0;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

[[nodiscard]] std::optional<MacAddress> parse_mac(std::string_view text);  // "02:00:5e:00:00:01"
[[nodiscard]] std::optional<std::uint32_t> parse_ipv4(std::string_view text);  // "10.77.1.1"
[[nodiscard]] std::string to_string(const MacAddress& mac);
[[nodiscard]] std::string ipv4_to_string(std::uint32_t address);

// The constant part of every packet of one flow, made once; fill() then patches lengths and the
// IPv4 header checksum. The UDP checksum is 0 ("none", RFC 768): the frame's own CRC32C covers the
// headers that matter and page hashes the contents. Don't Fragment is set: a path that cannot carry
// the frame must be noticed, not papered over.
class PacketTemplate {
 public:
  PacketTemplate() = default;
  // `dscp` is 0..63, put in the upper six bits of the IPv4 traffic class.
  PacketTemplate(const Endpoint& local, const Endpoint& remote, std::uint8_t dscp);

  // Writes 42 bytes for a UDP payload of `udp_payload_bytes` (at most 65,507).
  void fill(std::span<std::byte, kPacketPrefixBytes> out, std::size_t udp_payload_bytes) const;

 private:
  std::array<std::byte, kPacketPrefixBytes> bytes_{};
  std::uint32_t partial_sum_ = 0;  // of the IPv4 header with length and checksum as 0
};

// The UDP payload of a packet addressed to `local` (MAC is not compared: the port filters it;
// address and a port in [local.port, local.port + port_count) are). nullopt: not for us. Rejects
// fragments, options beyond the packet, lengths that do not fit.
[[nodiscard]] std::optional<std::span<const std::byte>> udp_payload(
    std::span<const std::byte> packet, const Endpoint& local, std::uint16_t port_count);

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

// The padding of a PROBE whose packet is exactly of this size, at least kMtuMin.
[[nodiscard]] std::uint16_t probe_body_bytes(std::size_t mtu,
                                             Protection protection = Protection::kChecksum);

}  // namespace sluice::wire
