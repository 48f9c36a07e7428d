#include "dataplane/wire/neighbour.h"

#include <cassert>
#include <cstring>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

constexpr std::size_t kMacBytes = sizeof(MacAddress);
constexpr std::size_t kEtherTypeAt = 12;
constexpr std::uint16_t kEtherTypeArp = 0x0806;
constexpr std::uint16_t kEtherTypeIpv6 = 0x86DD;

constexpr std::size_t kArpAt = kEthernetBytes;
constexpr std::size_t kArpSenderMacAt = kArpAt + 8;
constexpr std::size_t kArpSenderIpAt = kArpAt + 14;
constexpr std::size_t kArpTargetMacAt = kArpAt + 18;
constexpr std::size_t kArpTargetIpAt = kArpAt + 24;
constexpr std::size_t kArpPacketBytes = kArpAt + 28;
// Hardware Ethernet, protocol IPv4, addresses of 6 and 4 bytes.
constexpr std::uint64_t kArpEthernetIpv4 = 0x0001'0800'0604;
constexpr std::uint16_t kArpRequest = 1;
constexpr std::uint16_t kArpReply = 2;

constexpr std::size_t kIpAt = kEthernetBytes;
constexpr std::size_t kPayloadLengthAt = kIpAt + 4;
constexpr std::size_t kNextHeaderAt = kIpAt + 6;
constexpr std::size_t kHopLimitAt = kIpAt + 7;
constexpr std::size_t kSourceAt = kIpAt + 8;
constexpr std::size_t kDestinationAt = kIpAt + 24;
constexpr std::size_t kIcmpAt = kIpAt + kIpv6Bytes;
constexpr std::size_t kIcmpCodeAt = kIcmpAt + 1;
constexpr std::size_t kIcmpChecksumAt = kIcmpAt + 2;
constexpr std::size_t kFlagsAt = kIcmpAt + 4;
constexpr std::size_t kTargetAt = kIcmpAt + 8;
constexpr std::size_t kOptionsAt = kIcmpAt + 24;
constexpr std::size_t kOptionBytes = 8;
static_assert(kOptionsAt + kOptionBytes == kNeighbourPacketBytesMax);

constexpr std::uint32_t kVersion6 = 6U << 28U;
constexpr std::uint8_t kIcmpv6 = 58;
constexpr std::uint8_t kSolicitation = 135;
constexpr std::uint8_t kAdvertisement = 136;
// A packet that a router has passed on has a smaller one: nobody outside of the link can ask or
// answer (RFC 4861, 11.2).
constexpr std::uint8_t kHopLimitOfTheLink = 255;
constexpr std::uint8_t kSourceLinkLayerAddress = 1;
constexpr std::uint8_t kTargetLinkLayerAddress = 2;
constexpr std::uint32_t kSolicited = 1U << 30U;
constexpr std::uint32_t kOverride = 1U << 29U;

MacAddress load_mac(const std::byte* from) {
  MacAddress mac{};
  std::memcpy(mac.data(), from, mac.size());
  return mac;
}

IpAddress load_ipv6(const std::byte* from) {
  IpAddress::V6Bytes bytes{};
  std::memcpy(bytes.data(), from, bytes.size());
  return IpAddress(bytes);
}

void store(std::byte* to, const MacAddress& mac) { std::memcpy(to, mac.data(), mac.size()); }

void store(std::byte* to, const IpAddress& address) {
  std::memcpy(to, address.bytes().data(), address.bytes().size());
}

void write_ethernet(std::byte* to, const MacAddress& destination, const MacAddress& source,
                    std::uint16_t type) {
  store(to, destination);
  store(to + kMacBytes, source);
  store_be(to + kEtherTypeAt, type);
}

// ---- ARP ----

bool is_arp(std::span<const std::byte> packet, std::uint16_t operation) {
  return packet.size() >= kArpPacketBytes &&
         load_be<std::uint16_t>(packet.data() + kEtherTypeAt) == kEtherTypeArp &&
         load_be<std::uint64_t>(packet.data() + kArpAt) == (kArpEthernetIpv4 << 16U | operation) &&
         is_unicast(load_mac(packet.data() + kArpSenderMacAt));
}

std::size_t write_arp(std::byte* to, std::uint16_t operation, const Endpoint& local,
                      const MacAddress& target_mac, std::uint32_t target_ip) {
  const bool request = operation == kArpRequest;
  MacAddress everybody{};
  everybody.fill(0xFF);
  write_ethernet(to, request ? everybody : target_mac, local.mac, kEtherTypeArp);
  store_be(to + kArpAt, kArpEthernetIpv4 << 16U | operation);
  store(to + kArpSenderMacAt, local.mac);
  store(to + kArpSenderIpAt, local.address);
  store(to + kArpTargetMacAt, target_mac);
  store_be(to + kArpTargetIpAt, target_ip);
  return kArpPacketBytes;
}

std::size_t answer_arp(std::span<const std::byte> packet, const Endpoint& local, std::byte* out) {
  if (!is_arp(packet, kArpRequest) || !local.address.equals(packet.data() + kArpTargetIpAt)) {
    return 0;
  }
  return write_arp(out, kArpReply, local, load_mac(packet.data() + kArpSenderMacAt),
                   load_be<std::uint32_t>(packet.data() + kArpSenderIpAt));
}

// ---- Neighbour Discovery ----

std::uint16_t icmp_checksum(const std::byte* packet, std::size_t icmp_bytes) {
  ChecksumSum sum;
  sum.add({packet + kSourceAt, kIcmpAt - kSourceAt});
  sum.add_word(static_cast<std::uint16_t>(icmp_bytes));
  sum.add_word(kIcmpv6);
  sum.add({packet + kIcmpAt, icmp_bytes});
  return sum.checksum();
}

// The message's options, if it is one of this type with everything that RFC 4861 (7.1) demands.
std::optional<std::span<const std::byte>> options_of(std::span<const std::byte> packet,
                                                     std::uint8_t type) {
  const std::byte* from = packet.data();
  if (packet.size() < kOptionsAt || load_be<std::uint16_t>(from + kEtherTypeAt) != kEtherTypeIpv6 ||
      (from[kIpAt] >> 4U) != std::byte{6} || from[kNextHeaderAt] != std::byte{kIcmpv6} ||
      from[kHopLimitAt] != std::byte{kHopLimitOfTheLink} || from[kIcmpAt] != std::byte{type} ||
      from[kIcmpCodeAt] != std::byte{0} || load_ipv6(from + kTargetAt).is_multicast()) {
    return std::nullopt;
  }
  const std::size_t icmp_bytes = load_be<std::uint16_t>(from + kPayloadLengthAt);
  if (icmp_bytes < kOptionsAt - kIcmpAt || icmp_bytes > packet.size() - kIcmpAt ||
      icmp_checksum(from, icmp_bytes) != 0) {
    return std::nullopt;
  }
  return packet.subspan(kOptionsAt, icmp_bytes - (kOptionsAt - kIcmpAt));
}

struct LinkLayerOption {
  bool well_formed = true;  // all options
  std::optional<MacAddress> mac;
};

LinkLayerOption find_option(std::span<const std::byte> options, std::uint8_t type) {
  LinkLayerOption found;
  while (!options.empty()) {
    const std::size_t bytes =
        options.size() < 2 ? 0 : std::to_integer<std::size_t>(options[1]) * kOptionBytes;
    if (bytes == 0 || bytes > options.size()) {
      return {false, std::nullopt};
    }
    if (options[0] == std::byte{type} && bytes == kOptionBytes) {
      found.mac = load_mac(options.data() + 2);
    }
    options = options.subspan(bytes);
  }
  return found;
}

std::size_t write_message(std::byte* to, std::uint8_t type, std::uint32_t flags,
                          const IpAddress& target, std::uint8_t option, const MacAddress& own) {
  constexpr std::size_t kIcmpBytes = kNeighbourPacketBytesMax - kIcmpAt;
  store_be(to + kIpAt, kVersion6);
  store_be(to + kPayloadLengthAt, static_cast<std::uint16_t>(kIcmpBytes));
  to[kNextHeaderAt] = std::byte{kIcmpv6};
  to[kHopLimitAt] = std::byte{kHopLimitOfTheLink};
  to[kIcmpAt] = std::byte{type};
  to[kIcmpCodeAt] = std::byte{0};
  store_be(to + kIcmpChecksumAt, std::uint16_t{0});
  store_be(to + kFlagsAt, flags);
  store(to + kTargetAt, target);
  to[kOptionsAt] = std::byte{option};
  to[kOptionsAt + 1] = std::byte{1};
  store(to + kOptionsAt + 2, own);
  store_be(to + kIcmpChecksumAt, icmp_checksum(to, kIcmpBytes));
  return kNeighbourPacketBytesMax;
}

// ff02::1:ffXX:XXXX, the solicited-node group.
IpAddress group_of(const IpAddress& address) {
  IpAddress::V6Bytes bytes{0xFF, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF};
  std::memcpy(bytes.data() + 13, address.bytes().data() + 13, 3);
  return IpAddress(bytes);
}

MacAddress mac_of_group(const IpAddress& group) {
  const auto bytes = group.bytes();
  return {0x33, 0x33, bytes[12], bytes[13], bytes[14], bytes[15]};
}

const IpAddress& all_nodes() {
  static const IpAddress address(
      IpAddress::V6Bytes{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  return address;
}

std::size_t answer_solicitation(std::span<const std::byte> packet, const Endpoint& local,
                                std::byte* out) {
  const auto options = options_of(packet, kSolicitation);
  if (!options || !local.address.equals(packet.data() + kTargetAt)) {
    return 0;
  }
  const IpAddress source = load_ipv6(packet.data() + kSourceAt);
  const auto [well_formed, link_layer] = find_option(*options, kSourceLinkLayerAddress);
  // A probe for a duplicate of its own address is what a host without one asks: everybody hears the
  // answer.
  const bool probe = !source.is_specified();
  if (!well_formed || source.is_multicast() || (probe && link_layer)) {
    return 0;
  }
  const IpAddress& to = probe ? all_nodes() : source;
  const MacAddress mac =
      probe ? mac_of_group(to) : link_layer.value_or(load_mac(packet.data() + kMacBytes));
  if (!probe && !is_unicast(mac)) {
    return 0;
  }
  write_ethernet(out, mac, local.mac, kEtherTypeIpv6);
  store(out + kSourceAt, local.address);
  store(out + kDestinationAt, to);
  return write_message(out, kAdvertisement, probe ? kOverride : kSolicited | kOverride,
                       local.address, kTargetLinkLayerAddress, local.mac);
}

}  // namespace

std::size_t answer_neighbour_request(std::span<const std::byte> packet, const Endpoint& local,
                                     std::span<std::byte> out) {
  assert(out.size() >= kNeighbourPacketBytesMax);
  return local.address.is_v6() ? answer_solicitation(packet, local, out.data())
                               : answer_arp(packet, local, out.data());
}

std::size_t encode_neighbour_request(const Endpoint& local, const IpAddress& target,
                                     std::span<std::byte> out) {
  assert(out.size() >= kNeighbourPacketBytesMax && target.is_v6() == local.address.is_v6());
  if (!target.is_v6()) {
    return write_arp(out.data(), kArpRequest, local, MacAddress{}, target.ipv4());
  }
  const IpAddress group = group_of(target);
  write_ethernet(out.data(), mac_of_group(group), local.mac, kEtherTypeIpv6);
  store(out.data() + kSourceAt, local.address);
  store(out.data() + kDestinationAt, group);
  return write_message(out.data(), kSolicitation, 0, target, kSourceLinkLayerAddress, local.mac);
}

std::optional<Neighbour> parse_neighbour_answer(std::span<const std::byte> packet,
                                                const Endpoint& local) {
  if (!local.address.is_v6()) {
    if (!is_arp(packet, kArpReply) || !local.address.equals(packet.data() + kArpTargetIpAt)) {
      return std::nullopt;
    }
    return Neighbour{IpAddress(load_be<std::uint32_t>(packet.data() + kArpSenderIpAt)),
                     load_mac(packet.data() + kArpSenderMacAt)};
  }
  const auto options = options_of(packet, kAdvertisement);
  if (!options || !local.address.equals(packet.data() + kDestinationAt) ||
      (load_be<std::uint32_t>(packet.data() + kFlagsAt) & kSolicited) == 0) {
    return std::nullopt;
  }
  const auto [well_formed, link_layer] = find_option(*options, kTargetLinkLayerAddress);
  if (!well_formed || !link_layer || !is_unicast(*link_layer)) {
    return std::nullopt;
  }
  return Neighbour{load_ipv6(packet.data() + kTargetAt), *link_layer};
}

MacAddress solicitation_group(const IpAddress& address) { return mac_of_group(group_of(address)); }

}  // namespace sluice::wire
