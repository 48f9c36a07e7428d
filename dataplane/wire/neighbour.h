// Who has an address on this link: ARP (RFC 826) for IPv4 and Neighbour Discovery (RFC 4861) for
// IPv6. Pure: no I/O. Everything is safe on hostile input and never reads beyond the packet.
//
//   ARP, 42 bytes: Ethernet | 1, 0x0800, 6, 4, operation | sender MAC, IP | target MAC, IP
//   Neighbour solicitation and advertisement, 86 bytes: Ethernet | IPv6, hop limit 255 |
//     ICMPv6 type 135 or 136, code, checksum | flags 4 B | target 16 B | option: link-layer address
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "dataplane/wire/address.h"
#include "dataplane/wire/packet.h"

namespace sluice::wire {

inline constexpr std::size_t kNeighbourPacketBytesMax = 86;

struct Neighbour {
  IpAddress address;
  MacAddress mac{};

  friend bool operator==(const Neighbour&, const Neighbour&) = default;
};

// If `packet` asks who has local.address, writes the answer to `out` (at least
// kNeighbourPacketBytesMax) and returns its length, else 0. Probes for duplicate addresses are
// answered too.
[[nodiscard]] std::size_t answer_neighbour_request(std::span<const std::byte> packet,
                                                   const Endpoint& local, std::span<std::byte> out);

// Asks everybody on the link who has `target`, of the family of local.address. Returns the bytes
// written to `out`, at least kNeighbourPacketBytesMax.
std::size_t encode_neighbour_request(const Endpoint& local, const IpAddress& target,
                                     std::span<std::byte> out);

// What an answer to `local` says. nullopt: none, or not one that was asked for by `local`.
[[nodiscard]] std::optional<Neighbour> parse_neighbour_answer(std::span<const std::byte> packet,
                                                              const Endpoint& local);

// The group whose Ethernet address solicitations for an IPv6 address go to (RFC 4291, 2.7.1, and
// RFC 2464, 7): a port must let it pass.
[[nodiscard]] MacAddress solicitation_group(const IpAddress& address);

}  // namespace sluice::wire
