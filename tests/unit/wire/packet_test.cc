#include "dataplane/wire/packet.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

using Bytes = std::vector<std::byte>;

constexpr Endpoint kLocal{.mac = {2, 0, 0x5E, 0, 0, 1}, .ipv4 = 0xC0A80001, .port = 0x1234};
constexpr Endpoint kRemote{.mac = {2, 0, 0x5E, 0, 0, 2}, .ipv4 = 0xC0A800C7, .port = 0x5678};

Bytes packet(std::size_t payload_bytes, std::uint8_t dscp = 0) {
  Bytes bytes(kPacketPrefixBytes + payload_bytes);
  const PacketTemplate prefix(kLocal, kRemote, dscp);
  prefix.fill(std::span<std::byte, kPacketPrefixBytes>(bytes.data(), kPacketPrefixBytes),
              payload_bytes);
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
      prefix.fill(std::span<std::byte, kPacketPrefixBytes>(bytes), payload_bytes);
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
  local.ipv4 += 1;
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

TEST(Addresses, Mac) {
  const auto mac = parse_mac("02:00:5e:00:a0:FF");
  ASSERT_TRUE(mac.has_value());
  EXPECT_EQ(*mac, (MacAddress{2, 0, 0x5E, 0, 0xA0, 0xFF}));
  EXPECT_EQ(to_string(*mac), "02:00:5e:00:a0:ff");
  for (const char* text :
       {"", "02:00:5e:00:00", "02:00:5e:00:00:1", "02:00:5e:00:00:011", "02-00-5e-00-00-01",
        "02:00:5e:00:00:0g", "2:000:5e:00:00:01", "02:00:5e:00:00:-1", "02:00:5e:00:00:01:"}) {
    EXPECT_FALSE(parse_mac(text).has_value()) << text;
  }
}

TEST(Addresses, Ipv4) {
  EXPECT_EQ(parse_ipv4("10.77.1.1"), 0x0A4D0101U);
  EXPECT_EQ(parse_ipv4("0.0.0.0"), 0U);
  EXPECT_EQ(parse_ipv4("255.255.255.255"), 0xFFFFFFFFU);
  EXPECT_EQ(ipv4_to_string(0x0A4D0101), "10.77.1.1");
  EXPECT_EQ(ipv4_to_string(0xFFFFFFFF), "255.255.255.255");
  for (const char* text :
       {"", "10", "10.77.1", "10.77.1.", "10.77.1.256", "10.77.1.1.1", "10.77.1.1 ", " 10.77.1.1",
        "10.77..1", "10.77.01.1", "10.77.-1.1", "10.77.+1.1", "a.b.c.d", "10.77.1.1/24"}) {
    EXPECT_FALSE(parse_ipv4(text).has_value()) << text;
  }
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
