// Where RSS puts packets, and the choice of source ports for it: against published hashes, and
// against the definition for random keys.
#include "drivers/dpdk/rss.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <string_view>

#include "dataplane/base/random.h"

namespace sluice::dpdk {
namespace {

wire::Endpoint endpoint(std::string_view address, std::uint16_t port) {
  return {{2, 0, 0, 0, 0, 1}, wire::parse_ip(address).value(), port};
}

// "Verifying the RSS Hash Calculation", Microsoft.
const std::vector<std::uint8_t> published_key = {
    0x6D, 0x5A, 0x56, 0xDA, 0x25, 0x5B, 0x0E, 0xC2, 0x41, 0x67, 0x25, 0x3D, 0x43, 0xA3,
    0x8F, 0xB0, 0xD0, 0xCA, 0x2B, 0xCB, 0xAE, 0x7B, 0x30, 0xB4, 0x77, 0xCB, 0x2D, 0xA3,
    0x80, 0x30, 0xF2, 0x0C, 0x6A, 0x42, 0xB7, 0x3B, 0xBE, 0xAC, 0x01, 0xFA};

struct Vector {
  wire::Endpoint from;
  wire::Endpoint to;
  std::uint32_t hash;
};

TEST(Rss, HashesAsPublished) {
  const Vector vectors[] = {
      {endpoint("66.9.149.187", 2794), endpoint("161.142.100.80", 1766), 0x51CCC178},
      {endpoint("199.92.111.2", 14230), endpoint("65.69.140.83", 4739), 0xC626B0EA},
      {endpoint("24.19.198.95", 12898), endpoint("12.22.207.184", 38024), 0x5C2B394A},
      {endpoint("38.27.205.30", 48228), endpoint("209.142.163.6", 2217), 0xAFC7327F},
      {endpoint("153.39.163.191", 44251), endpoint("202.188.127.2", 1303), 0x10E828A2},
      {endpoint("3ffe:2501:200:1fff::7", 2794), endpoint("3ffe:2501:200:3::1", 1766), 0x40207D3D},
      {endpoint("3ffe:501:8::260:97ff:fe40:efab", 14230), endpoint("ff02::1", 4739), 0xDDE51BBF},
      {endpoint("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
       endpoint("fe80::200:f8ff:fe21:67cf", 38024), 0x02D1FEEF}};
  for (const Vector& vector : vectors) {
    EXPECT_EQ(rss_hash(published_key, vector.from, vector.to), vector.hash)
        << wire::to_string(vector.from.address);
  }
}

// Bit by bit, as the definition has it.
std::uint32_t toeplitz(const std::vector<std::uint8_t>& key,
                       const std::vector<std::uint8_t>& input) {
  const auto key_bit = [&](std::size_t i) { return key[i / 8] >> (7 - i % 8) & 1; };
  std::uint32_t hash = 0;
  for (std::size_t bit = 0; bit < input.size() * 8; ++bit) {
    if ((input[bit / 8] >> (7 - bit % 8) & 1) == 0) {
      continue;
    }
    std::uint32_t window = 0;
    for (std::size_t i = 0; i < 32; ++i) {
      window = window << 1U | static_cast<std::uint32_t>(key_bit(bit + i));
    }
    hash ^= window;
  }
  return hash;
}

std::vector<std::uint8_t> hashed_bytes(const wire::Endpoint& from, const wire::Endpoint& to) {
  std::vector<std::uint8_t> bytes;
  for (const wire::Endpoint* end : {&from, &to}) {
    bytes.insert(bytes.end(), end->address.bytes().begin(), end->address.bytes().end());
  }
  for (const std::uint16_t port : {from.port, to.port}) {
    bytes.push_back(static_cast<std::uint8_t>(port >> 8U));
    bytes.push_back(static_cast<std::uint8_t>(port));
  }
  return bytes;
}

std::vector<std::uint8_t> random_bytes(Random& random, std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  std::generate(bytes.begin(), bytes.end(),
                [&] { return static_cast<std::uint8_t>(random.next()); });
  return bytes;
}

wire::Endpoint random_endpoint(Random& random, bool v6) {
  wire::IpAddress::V6Bytes bytes{};
  std::generate(bytes.begin(), bytes.end(),
                [&] { return static_cast<std::uint8_t>(random.next()); });
  return {{2, 0, 0, 0, 0, 1},
          v6 ? wire::IpAddress(bytes) : wire::IpAddress(static_cast<std::uint32_t>(random.next())),
          static_cast<std::uint16_t>(random.next() | 1U)};
}

TEST(Rss, HashesAsDefinedWithAnyKey) {
  constexpr std::uint64_t kSeed = 20221128;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int i = 0; i < 2000; ++i) {
    const auto key = random_bytes(random, i % 3 == 0 ? 52 : 40);
    const wire::Endpoint from = random_endpoint(random, i % 2 == 0);
    const wire::Endpoint to = random_endpoint(random, i % 2 == 0);
    ASSERT_EQ(rss_hash(key, from, to), toeplitz(key, hashed_bytes(from, to))) << i;
  }
}

RssFunction spread(std::vector<std::uint8_t> key, std::size_t entries, std::uint32_t queues) {
  RssFunction function{std::move(key), std::vector<std::uint16_t>(entries)};
  for (std::size_t i = 0; i < entries; ++i) {
    function.queues[i] = static_cast<std::uint16_t>(i % queues);
  }
  return function;
}

TEST(Rss, ChosenPortsLeadToEveryQueue) {
  constexpr std::uint64_t kSeed = 7401;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (const std::uint32_t queues : {2U, 3U, 8U, 64U}) {
    for (const std::size_t entries : {64UL, 128UL, 512UL}) {
      const bool v6 = queues % 2 == 1;
      const RssFunction function = spread(random_bytes(random, 40), entries, queues);
      ASSERT_TRUE(is_usable(function, queues));
      wire::Endpoint from = random_endpoint(random, v6);
      wire::Endpoint to = random_endpoint(random, v6);
      for (std::uint32_t queue = 0; queue < queues; ++queue) {
        const auto port = source_port_to(function, from, to, queue);
        ASSERT_TRUE(port) << queue;
        EXPECT_GE(*port, 1024);
        from.port = *port;
        const auto index = toeplitz(function.key, hashed_bytes(from, to)) % entries;
        EXPECT_EQ(function.queues[index], queue);
      }
    }
  }
}

TEST(Rss, TheUsualPortIsKeptWhereItLeadsToTheQueue) {
  const RssFunction function = spread(published_key, 128, 4);
  const wire::Endpoint to = endpoint("10.77.1.2", 7401);
  const wire::Endpoint from = endpoint("10.77.1.1", 7402);
  EXPECT_EQ(source_port_to(function, from, to, queue_of(function, from, to)), 7402);
}

TEST(Rss, SearchGoesOnBelowTheLastPort) {
  const RssFunction function = spread(published_key, 128, 128);
  const wire::Endpoint to = endpoint("10.77.1.2", 7401);
  for (std::uint32_t queue = 0; queue < 128; ++queue) {
    EXPECT_TRUE(source_port_to(function, endpoint("10.77.1.1", 65'535), to, queue)) << queue;
  }
}

TEST(Rss, AKeyThatIgnoresPortsHasNoneToChoose) {
  RssFunction function = spread(std::vector<std::uint8_t>(40, 0), 128, 2);
  const wire::Endpoint from = endpoint("10.77.1.1", 7401);
  const wire::Endpoint to = endpoint("10.77.1.2", 7401);
  EXPECT_TRUE(source_port_to(function, from, to, 0));
  EXPECT_FALSE(source_port_to(function, from, to, 1));
}

TEST(Rss, WhatNoPortHasIsNotUsable) {
  const RssFunction good = spread(published_key, 128, 2);
  EXPECT_TRUE(is_usable(good, 2));
  EXPECT_FALSE(is_usable(good, 1)) << "a queue beyond the last";
  EXPECT_FALSE(is_usable(good, 3)) << "a queue that nothing leads to";
  EXPECT_FALSE(is_usable(spread({published_key.begin(), published_key.end() - 1}, 128, 2), 2));
  EXPECT_FALSE(is_usable(spread(std::vector<std::uint8_t>(256), 128, 2), 2));
  EXPECT_FALSE(is_usable(spread(published_key, 0, 2), 2));
  EXPECT_FALSE(is_usable(spread(published_key, 100, 2), 2)) << "not a power of two";
  EXPECT_FALSE(is_usable(spread(published_key, 8192, 2), 2));
}

}  // namespace
}  // namespace sluice::dpdk
