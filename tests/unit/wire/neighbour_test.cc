#include "dataplane/wire/neighbour.h"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <vector>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

using Bytes = std::vector<std::byte>;

Endpoint endpoint(std::uint8_t last_of_mac, const char* address) {
  return {{2, 0, 0, 0, 0, last_of_mac}, *parse_ip(address), 7401};
}

// Two hosts of one family.
struct Link {
  Endpoint we;
  Endpoint they;
};

const Link our_ipv4{endpoint(1, "10.77.1.1"), endpoint(2, "10.77.0.9")};
const Link our_ipv6{endpoint(1, "fd00::1:2"), endpoint(2, "fd00::9")};

Bytes request(const Endpoint& from, const IpAddress& target) {
  Bytes bytes(kNeighbourPacketBytesMax);
  bytes.resize(encode_neighbour_request(from, target, bytes));
  return bytes;
}

Bytes answer(const Bytes& question, const Endpoint& local) {
  Bytes bytes(kNeighbourPacketBytesMax);
  bytes.resize(answer_neighbour_request(question, local, bytes));
  return bytes;
}

Bytes from_numbers(const std::vector<int>& numbers) {
  Bytes bytes;
  for (const int number : numbers) {
    bytes.push_back(static_cast<std::byte>(number));
  }
  return bytes;
}

// Puts the right checksum in a message that a test has changed.
void mend_checksum(Bytes& bytes) {
  bytes[56] = bytes[57] = std::byte{0};
  ChecksumSum sum;
  const std::span<const std::byte> all(bytes);
  sum.add(all.subspan(22, 32));
  sum.add_word(load_be<std::uint16_t>(bytes.data() + 18));
  sum.add_word(58);
  sum.add(all.subspan(54));
  store_be(bytes.data() + 56, sum.checksum());
}

class NeighbourOfEitherFamily : public testing::TestWithParam<Link> {};

TEST_P(NeighbourOfEitherFamily, FindsTheOther) {
  const auto& [we, they] = GetParam();
  const Bytes reply = answer(request(they, we.address), we);
  ASSERT_FALSE(reply.empty());
  EXPECT_EQ(parse_neighbour_answer(reply, they), (Neighbour{we.address, we.mac}));
  EXPECT_EQ(0, std::memcmp(reply.data(), they.mac.data(), 6)) << "sent to the one who asked";
  EXPECT_EQ(0, std::memcmp(reply.data() + 6, we.mac.data(), 6));
}

TEST_P(NeighbourOfEitherFamily, OnlyOurAddressIsOurs) {
  const auto& [we, they] = GetParam();
  EXPECT_TRUE(answer(request(they, they.address), we).empty());
  EXPECT_TRUE(answer(answer(request(they, we.address), we), they).empty()) << "no question";
  EXPECT_FALSE(parse_neighbour_answer(request(they, we.address), we)) << "no answer";
  EXPECT_FALSE(parse_neighbour_answer(answer(request(they, we.address), we), we)) << "for another";
}

TEST_P(NeighbourOfEitherFamily, EveryCutIsRefused) {
  const auto& [we, they] = GetParam();
  const Bytes question = request(they, we.address);
  const Bytes reply = answer(question, we);
  for (std::size_t length = 0; length < question.size(); ++length) {
    const auto cut = static_cast<std::ptrdiff_t>(length);
    EXPECT_TRUE(answer(Bytes(question.begin(), question.begin() + cut), we).empty());
    EXPECT_FALSE(parse_neighbour_answer(Bytes(reply.begin(), reply.begin() + cut), they));
  }
}

TEST_P(NeighbourOfEitherFamily, PaddingIsNoHarm) {
  const auto& [we, they] = GetParam();
  Bytes question = request(they, we.address);
  question.resize(question.size() + 18);
  EXPECT_FALSE(answer(question, we).empty());
}

INSTANTIATE_TEST_SUITE_P(All, NeighbourOfEitherFamily, testing::Values(our_ipv4, our_ipv6));

// As tcpdump shows it: who-has 10.77.1.1 tell 10.77.0.9.
TEST(Arp, RequestAndReplyAreThesePackets) {
  const Bytes question =
      from_numbers({0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2,  0,  0, 0, 0, 2, 8, 6,  //
                    0,    1,    8,    0,    6,    4,    0,  1,                     //
                    2,    0,    0,    0,    0,    2,    10, 77, 0, 9,              //
                    0,    0,    0,    0,    0,    0,    10, 77, 1, 1});
  EXPECT_EQ(request(our_ipv4.they, our_ipv4.we.address), question);
  EXPECT_EQ(answer(question, our_ipv4.we),
            from_numbers({2, 0, 0, 0, 0, 2, 2,  0,  0, 0, 0, 1, 8, 6,  //
                          0, 1, 8, 0, 6, 4, 0,  2,                     //
                          2, 0, 0, 0, 0, 1, 10, 77, 1, 1,              //
                          2, 0, 0, 0, 0, 2, 10, 77, 0, 9}));
}

TEST(Arp, ProbesAreAnsweredAndForeignFormatsAreNot) {
  Bytes probe = request(our_ipv4.they, our_ipv4.we.address);
  std::fill_n(probe.begin() + 28, 4, std::byte{0});  // RFC 5227
  EXPECT_FALSE(answer(probe, our_ipv4.we).empty());
  for (const std::size_t at : {12, 14, 16, 18, 19, 20, 21}) {
    Bytes changed = request(our_ipv4.they, our_ipv4.we.address);
    changed[at] ^= std::byte{0x10};
    EXPECT_TRUE(answer(changed, our_ipv4.we).empty()) << at;
  }
}

TEST(Arp, NobodyIsAnsweredAtAGroupsAddress) {
  Bytes question = request(our_ipv4.they, our_ipv4.we.address);
  question[22] = std::byte{0xFF};
  EXPECT_TRUE(answer(question, our_ipv4.we).empty()) << "the answer would go to many";
  Bytes reply = answer(request(our_ipv4.they, our_ipv4.we.address), our_ipv4.we);
  reply[22] = std::byte{1};
  EXPECT_FALSE(parse_neighbour_answer(reply, our_ipv4.they));
}

TEST(NeighbourDiscovery, SolicitationGoesToItsGroup) {
  const Bytes question = request(our_ipv6.they, our_ipv6.we.address);
  EXPECT_EQ(question.size(), 86U);
  const MacAddress group{0x33, 0x33, 0xFF, 0x01, 0x00, 0x02};
  EXPECT_EQ(solicitation_group(our_ipv6.we.address), group);
  EXPECT_EQ(0, std::memcmp(question.data(), group.data(), 6));
  const auto destination = *parse_ip("ff02::1:ff01:2");
  EXPECT_TRUE(destination.equals(question.data() + 38));
}

TEST(NeighbourDiscovery, EveryDamagedByteOfTheMessageIsSeen) {
  const Bytes question = request(our_ipv6.they, our_ipv6.we.address);
  const Bytes reply = answer(question, our_ipv6.we);
  // Version, next header and hop limit are checked by themselves, the rest by the checksum; flow
  // label and traffic class mean nothing to us.
  for (std::size_t at = 18; at < question.size(); ++at) {
    Bytes changed = question;
    changed[at] ^= std::byte{0x40};
    EXPECT_TRUE(answer(changed, our_ipv6.we).empty()) << at;
    changed = reply;
    changed[at] ^= std::byte{0x40};
    EXPECT_FALSE(parse_neighbour_answer(changed, our_ipv6.they)) << at;
  }
}

TEST(NeighbourDiscovery, WhatRoutersPassOnIsRefused) {
  Bytes question = request(our_ipv6.they, our_ipv6.we.address);
  question[21] = std::byte{254};
  EXPECT_TRUE(answer(question, our_ipv6.we).empty());
}

TEST(NeighbourDiscovery, MalformedOptionsAreRefused) {
  for (const int length : {0, 2, 255}) {
    Bytes question = request(our_ipv6.they, our_ipv6.we.address);
    question[79] = static_cast<std::byte>(length);
    mend_checksum(question);
    EXPECT_TRUE(answer(question, our_ipv6.we).empty()) << length;
  }
}

TEST(NeighbourDiscovery, WithoutOptionTheEthernetSourceIsAnswered) {
  Bytes question = request(our_ipv6.they, our_ipv6.we.address);
  question.resize(78);
  question[19] = std::byte{24};
  mend_checksum(question);
  const Bytes reply = answer(question, our_ipv6.we);
  ASSERT_FALSE(reply.empty());
  EXPECT_EQ(0, std::memcmp(reply.data(), our_ipv6.they.mac.data(), 6));
}

TEST(NeighbourDiscovery, AProbeForADuplicateIsAnsweredToAll) {
  Bytes probe = request(our_ipv6.they, our_ipv6.we.address);
  std::fill_n(probe.begin() + 22, 16, std::byte{0});
  mend_checksum(probe);
  EXPECT_TRUE(answer(probe, our_ipv6.we).empty())
      << "a host without an address names no link address";
  probe.resize(78);
  probe[19] = std::byte{24};
  mend_checksum(probe);
  const Bytes reply = answer(probe, our_ipv6.we);
  ASSERT_FALSE(reply.empty());
  const MacAddress everybody{0x33, 0x33, 0, 0, 0, 1};
  EXPECT_EQ(0, std::memcmp(reply.data(), everybody.data(), 6));
  EXPECT_EQ(reply[58] & std::byte{0x40}, std::byte{0}) << "solicited";
}

// Nothing outside of the packet is read (the sanitizer run sees it), whatever its bytes are.
RC_GTEST_PROP(Neighbour, HostileBytesAreHarmless, ()) {
  const Link& link = **rc::gen::element(&our_ipv4, &our_ipv6);
  Bytes bytes = *rc::gen::element(request(link.they, link.we.address),
                                  answer(request(link.we, link.they.address), link.they));
  const auto changes = *rc::gen::container<std::vector<std::pair<std::size_t, std::uint8_t>>>(
      rc::gen::pair(rc::gen::inRange<std::size_t>(12, 86), rc::gen::arbitrary<std::uint8_t>()));
  for (const auto& [at, value] : changes) {
    if (at < bytes.size()) {
      bytes[at] = static_cast<std::byte>(value);
    }
  }
  bytes.resize(*rc::gen::inRange<std::size_t>(0, bytes.size() + 1));
  bytes.shrink_to_fit();
  const auto found = parse_neighbour_answer(bytes, link.we);
  RC_ASSERT(!found || is_unicast(found->mac));
  const std::size_t answered = answer(bytes, link.we).size();
  RC_ASSERT(answered == 0 || answered == (link.we.address.is_v6() ? 86U : 42U));
}

// Sums over pieces are sums over the whole, wherever it is cut.
RC_GTEST_PROP(Checksum, DoesNotDependOnPieces, (const std::vector<std::uint8_t>& data)) {
  const auto bytes = std::as_bytes(std::span(data));
  std::uint32_t expected = 0;
  for (std::size_t at = 0; at < data.size(); ++at) {
    expected += at % 2 == 0 ? data[at] << 8U : data[at];
    expected = (expected & 0xFFFF) + (expected >> 16U);
  }
  const auto cut = *rc::gen::inRange<std::size_t>(0, data.size() + 1);
  ChecksumSum sum;
  sum.add(bytes.first(cut));
  sum.add(bytes.subspan(cut));
  RC_ASSERT(sum.folded() == expected);
}

}  // namespace
}  // namespace sluice::wire
