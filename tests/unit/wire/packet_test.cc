#include "dataplane/wire/packet.h"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

using Bytes = std::vector<std::byte>;

constexpr Endpoint kLocal{
    .mac = {2, 0, 0x5E, 0, 0, 1}, .address = IpAddress(0xC0A80001), .port = 0x1234};
constexpr Endpoint kRemote{
    .mac = {2, 0, 0x5E, 0, 0, 2}, .address = IpAddress(0xC0A800C7), .port = 0x5678};

Bytes packet(std::size_t payload_bytes, std::uint8_t dscp = 0) {
  Bytes bytes(kPacketPrefixBytes + payload_bytes);
  const PacketTemplate prefix(kLocal, kRemote, dscp);
  prefix.fill(bytes, payload_bytes);
  return bytes;
}

bool accepted(std::span<const std::byte> bytes, const Endpoint& local = kRemote,
              std::uint16_t port_count = 1) {
  return udp_payload(bytes, local, port_count).has_value();
}

// The one's complement sum over a header with its checksum in it is 0xFFFF (RFC 1071).
std::uint32_t header_sum(const Bytes& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t at = 14; at < 34; at += 2) {
    sum += load_be<std::uint16_t>(bytes.data() + at);
  }
  while (sum > 0xFFFF) {
    sum = (sum & 0xFFFF) + (sum >> 16U);
  }
  return sum;
}

TEST(PacketTemplate, IsThisPacket) {
  // 192.168.0.1 to 192.168.0.199, 115 bytes, checksum 0xB861: the worked example of the IPv4 header
  // checksum in common use.
  const std::vector<int> golden{
      0x02, 0x00, 0x5E, 0x00, 0x00, 0x02, 0x02, 0x00, 0x5E, 0x00, 0x00, 0x01, 0x08, 0x00,  //
      0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xB8, 0x61,              //
      0xC0, 0xA8, 0x00, 0x01, 0xC0, 0xA8, 0x00, 0xC7,                                      //
      0x12, 0x34, 0x56, 0x78, 0x00, 0x5F, 0x00, 0x00,
  };
  ASSERT_EQ(golden.size(), kPacketPrefixBytes);
  const Bytes bytes = packet(87);
  for (std::size_t i = 0; i < golden.size(); ++i) {
    EXPECT_EQ(std::to_integer<int>(bytes[i]), golden[i]) << "byte " << i;
  }
}

TEST(PacketTemplate, ChecksumHoldsForEveryLengthAndDscp) {
  Bytes bytes(kPacketPrefixBytes);
  for (std::uint8_t dscp = 0; dscp < 64; ++dscp) {
    const PacketTemplate prefix(kLocal, kRemote, dscp);
    for (std::size_t payload_bytes = 0; payload_bytes <= 65'507; payload_bytes += 97) {
      prefix.fill(bytes, payload_bytes);
      ASSERT_EQ(header_sum(bytes), 0xFFFFU) << payload_bytes << " bytes, dscp " << int{dscp};
    }
    ASSERT_EQ(bytes[15], static_cast<std::byte>(dscp * 4));
  }
}

TEST(UdpPayload, IsWhatWasSent) {
  for (const std::size_t payload_bytes : {0, 1, 18, 1472, 65'507}) {
    Bytes bytes = packet(payload_bytes);
    const auto payload = udp_payload(bytes, kRemote, 1);
    ASSERT_TRUE(payload.has_value()) << payload_bytes;
    EXPECT_EQ(payload->data(), bytes.data() + kPacketPrefixBytes);
    EXPECT_EQ(payload->size(), payload_bytes);
  }
}

TEST(UdpPayload, EthernetPaddingIsCutOff) {
  Bytes bytes = packet(5);
  bytes.resize(60);
  const auto payload = udp_payload(bytes, kRemote, 1);
  ASSERT_TRUE(payload.has_value());
  EXPECT_EQ(payload->size(), 5U);
}

TEST(UdpPayload, TruncatedAtEveryLengthIsRefused) {
  const Bytes whole = packet(64);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    ASSERT_FALSE(accepted(cut)) << length;
  }
}

TEST(UdpPayload, OnlyOurAddressAndPorts) {
  const Bytes bytes = packet(64);
  Endpoint local = kRemote;
  local.mac = {};
  EXPECT_TRUE(accepted(bytes, local)) << "the port filters the MAC address";
  local.address = IpAddress(0xC0A800C8);
  EXPECT_FALSE(accepted(bytes, local));

  local = kRemote;
  local.port = 0x5677;
  EXPECT_FALSE(accepted(bytes, local, 1));
  EXPECT_TRUE(accepted(bytes, local, 2));
  local.port = 0x5679;
  EXPECT_FALSE(accepted(bytes, local, UINT16_MAX));
  EXPECT_FALSE(accepted(bytes, kRemote, 0));
}

TEST(UdpPayload, OtherProtocolsAndBadLengths) {
  struct Change {
    std::size_t at;
    std::uint16_t value;
    const char* what;
  };
  for (const Change& change : {
           Change{12, 0x86DD, "IPv6"},
           Change{12, 0x8100, "VLAN"},
           Change{14, 0x6500, "version 6"},
           Change{14, 0x4400, "header of 16 bytes"},
           Change{14, 0x4F00, "options as long as the packet"},
           Change{16, 20, "no room for UDP"},
           Change{16, 93, "longer than what arrived"},
           Change{16, 91, "UDP longer than IPv4"},
           Change{16, 0xFFFF, "far longer"},
           Change{20, 0x2000, "more fragments"},
           Change{20, 0x0001, "a later fragment"},
           Change{22, 0x4006, "TCP"},
           Change{38, 7, "UDP shorter than its header"},
           Change{38, 73, "UDP longer than the packet"},
           Change{38, 0, "UDP of unknown length"},
       }) {
    Bytes bytes = packet(64);  // 92 bytes of IPv4, 72 of UDP
    ASSERT_TRUE(accepted(bytes));
    store_be(bytes.data() + change.at, change.value);
    EXPECT_FALSE(accepted(bytes)) << change.what;
  }
}

TEST(UdpPayload, SkipsOptions) {
  Bytes bytes = packet(64);
  const Bytes options(8, std::byte{1});
  bytes.insert(bytes.begin() + 34, options.begin(), options.end());
  bytes[14] = std::byte{0x47};
  store_be(bytes.data() + 16, std::uint16_t{100});
  const auto payload = udp_payload(bytes, kRemote, 1);
  ASSERT_TRUE(payload.has_value());
  EXPECT_EQ(payload->data(), bytes.data() + kPacketPrefixBytes + 8);
  EXPECT_EQ(payload->size(), 64U);
}

// ---- IPv6 ----

Endpoint v6_endpoint(const char* address, std::uint16_t port) {
  return {{2, 0, 0x5E, 0, 0, 1}, *parse_ip(address), port};
}

const Endpoint local6 = v6_endpoint("fd00::1", 0x1234);
const Endpoint remote6 = v6_endpoint("fd00::2", 0x5678);

// A finished packet whose payload is split behind its first bytes, as page contents are.
Bytes packet_over_ipv6(std::size_t payload_bytes, std::size_t in_head) {
  Bytes bytes(kPacketPrefixBytesMax + payload_bytes);
  for (std::size_t i = 0; i < payload_bytes; ++i) {
    bytes[kPacketPrefixBytesMax + i] = static_cast<std::byte>(i * 7 + i / 256);
  }
  const PacketTemplate prefix(local6, remote6, 1);
  EXPECT_EQ(prefix.bytes(), kPacketPrefixBytesMax);
  prefix.fill(bytes, payload_bytes);
  EXPECT_TRUE(needs_checksum(bytes));
  const std::span<std::byte> whole(bytes);
  const std::size_t head_bytes = kPacketPrefixBytesMax + in_head;
  const std::array<std::span<const std::byte>, 1> rest{whole.subspan(head_bytes)};
  finish_checksum(whole.first(head_bytes), rest);
  return bytes;
}

// By the book: RFC 8200, 8.1, over the pseudo-header and the datagram, 16 bits at a time.
std::uint32_t udp_sum_over_ipv6(const Bytes& bytes) {
  std::uint32_t sum = 17 + static_cast<std::uint32_t>(bytes.size() - 54);
  for (std::size_t at = 22; at < bytes.size(); at += 2) {
    sum += std::to_integer<std::uint32_t>(bytes[at]) << 8U;
    sum += at + 1 < bytes.size() ? std::to_integer<std::uint32_t>(bytes[at + 1]) : 0;
    sum = (sum & 0xFFFF) + (sum >> 16U);
  }
  return sum;
}

TEST(PacketOverIpv6, IsThisPacket) {
  const std::vector<int> golden{
      0x02, 0x00, 0x5E, 0x00, 0x00, 0x01, 0x02, 0x00, 0x5E, 0x00, 0x00, 0x01, 0x86, 0xDD,        //
      0x60, 0x40, 0x00, 0x00, 0x00, 0x0A, 0x11, 0x40,                                            //
      0xFD, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0, 1,  //
      0xFD, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0, 2,  //
      0x12, 0x34, 0x56, 0x78, 0x00, 0x0A,
  };
  const Bytes bytes = packet_over_ipv6(2, 2);
  for (std::size_t i = 0; i < golden.size(); ++i) {
    EXPECT_EQ(std::to_integer<int>(bytes[i]), golden[i]) << "byte " << i;
  }
}

TEST(PacketOverIpv6, ChecksumHoldsHoweverThePayloadIsSplit) {
  for (const std::size_t payload_bytes : {0, 1, 2, 3, 18, 1433, 8249, 65'000}) {
    for (const std::size_t in_head : {0, 1, 40, 56}) {
      const Bytes bytes = packet_over_ipv6(payload_bytes, std::min(in_head, payload_bytes));
      ASSERT_EQ(udp_sum_over_ipv6(bytes), 0xFFFFU) << payload_bytes << " bytes";
      const auto payload = udp_payload(bytes, remote6, 1);
      ASSERT_TRUE(payload.has_value());
      EXPECT_EQ(payload->data(), bytes.data() + kPacketPrefixBytesMax);
      EXPECT_EQ(payload->size(), payload_bytes);
    }
  }
}

TEST(PacketOverIpv6, ChecksumThatComesOutAsNoneIsWrittenAsAllOnes) {
  // The last word is chosen so that the sum is all ones.
  for (std::uint32_t word = 0; word <= 0xFFFF; ++word) {
    Bytes bytes(kPacketPrefixBytesMax + 2);
    PacketTemplate(local6, remote6, 0).fill(bytes, 2);
    store_be(bytes.data() + kPacketPrefixBytesMax, static_cast<std::uint16_t>(word));
    finish_checksum(bytes, {});
    ASSERT_NE(load_be<std::uint16_t>(bytes.data() + 60), 0U) << word;
  }
}

TEST(UdpPayloadOverIpv6, TruncatedAtEveryLengthIsRefused) {
  const Bytes whole = packet_over_ipv6(64, 64);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    ASSERT_FALSE(accepted(cut, remote6)) << length;
  }
}

TEST(UdpPayloadOverIpv6, OtherProtocolsAddressesAndLengths) {
  struct Change {
    std::size_t at;
    int value;
    const char* what;
  };
  const Bytes good = packet_over_ipv6(64, 64);
  EXPECT_FALSE(accepted(good, kRemote)) << "to a host of IPv4";
  EXPECT_FALSE(accepted(packet(64), remote6)) << "IPv4 to a host of IPv6";
  EXPECT_FALSE(accepted(good, local6)) << "another address";
  for (const Change& change :
       {Change{13, 0x00, "EtherType"}, Change{14, 0x40, "version"}, Change{18, 0xFF, "length"},
        Change{19, 7, "length below the header"}, Change{20, 44, "a fragment header"},
        Change{20, 0, "hop-by-hop options"}, Change{53, 3, "destination"}, Change{57, 0x77, "port"},
        Change{58, 0xFF, "UDP length"}, Change{59, 7, "UDP length"}}) {
    Bytes bad = good;
    bad[change.at] = static_cast<std::byte>(change.value);
    EXPECT_FALSE(accepted(bad, remote6)) << change.what;
  }
  Bytes without_checksum = good;
  without_checksum[60] = without_checksum[61] = std::byte{0};
  EXPECT_FALSE(accepted(without_checksum, remote6));
}

TEST(Mtu, RawPages) {
  EXPECT_EQ(raw_pages_per_frame(0), 0U);
  EXPECT_EQ(raw_pages_per_frame(1500), 0U);
  EXPECT_EQ(raw_pages_per_frame(9000), 2U);
  EXPECT_EQ(raw_pages_per_frame(65'535), 15U);
  EXPECT_EQ(raw_pages_per_frame(1'000'000), 15U);
  // Where one page begins to fit beside a full record table.
  EXPECT_EQ(raw_pages_per_frame(28 + 40 + 256 + 4096 - 1), 0U);
  EXPECT_EQ(raw_pages_per_frame(28 + 40 + 256 + 4096), 1U);
  EXPECT_EQ(raw_pages_per_frame(28 + 40 + 256 + 4096 + 15, Protection::kSealed), 0U);
  EXPECT_EQ(raw_pages_per_frame(28 + 40 + 256 + 4096 + 16, Protection::kSealed), 1U);
  EXPECT_EQ(raw_pages_per_frame(9000, Protection::kSealed), 2U);
}

TEST(Mtu, FragmentBytes) {
  EXPECT_EQ(fragment_bytes(0), 0U);
  EXPECT_EQ(fragment_bytes(595), 0U);
  EXPECT_EQ(fragment_bytes(596), 512U);
  EXPECT_EQ(fragment_bytes(1280), 1024U);
  EXPECT_EQ(fragment_bytes(1500), 1368U);
  EXPECT_EQ(fragment_bytes(3498), 2048U);
  EXPECT_EQ(fragment_bytes(4300), 2048U) << "one fragment would be a whole page";
}

// Every usable MTU's fragments fit in it, and fewer would not have.
TEST(Mtu, SealedFragmentsLeaveRoomForTheirTag) {
  for (std::size_t mtu = 640; mtu < 4500; ++mtu) {
    const std::size_t bytes = fragment_bytes(mtu, Protection::kSealed);
    ASSERT_GT(bytes, 0U) << mtu;
    ASSERT_LE(28 + data_prefix_bytes(1) + bytes + kTagBytes, mtu);
    ASSERT_EQ(bytes, fragment_bytes(mtu - kTagBytes));
  }
}

TEST(Mtu, FragmentsAreAsFewAsFit) {
  constexpr std::size_t kOverheadBytes = 20 + 8 + 40 + 16;
  for (std::size_t mtu = 596; mtu < 9000; ++mtu) {
    const std::size_t bytes = fragment_bytes(mtu);
    ASSERT_GT(bytes, 0U) << mtu;
    ASSERT_EQ(bytes % 8, 0U) << mtu;
    ASSERT_LE(bytes + kOverheadBytes, mtu);
    const std::size_t fragments = (kPageBytes + bytes - 1) / bytes;
    ASSERT_LE(fragments, kFragmentsMax) << mtu;
    ASSERT_GE(fragments, 2U) << mtu;
    if (fragments > 2) {
      const std::size_t larger = (kPageBytes / (fragments - 1) + 7) / 8 * 8;
      ASSERT_GT(larger + kOverheadBytes, mtu);
    }
  }
}

}  // namespace
}  // namespace sluice::wire
