#include "drivers/dpdk/rss.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_thash.h>

namespace sluice::dpdk {
namespace {

// Each bit of what is hashed takes the key's next 32 bits.
constexpr std::size_t kKeyBytesMin = sizeof(rte_ipv6_tuple) + sizeof(std::uint32_t);
constexpr std::size_t kKeyBytesMax = 255;  // the length is a byte in DPDK
constexpr std::size_t kTableMax = 4096;
constexpr std::uint32_t kSourcePortMin = 1024;
constexpr std::uint32_t kSourcePorts = 65'536 - kSourcePortMin;

// What is hashed, as rte_softrss() wants it: words in host byte order.
using Tuple = std::array<std::uint32_t, RTE_THASH_V6_L4_LEN>;

std::size_t append(Tuple& tuple, std::size_t words, const wire::IpAddress& address) {
  const auto bytes = address.bytes();
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint32_t)) {
    rte_be32_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    tuple[words++] = rte_be_to_cpu_32(word);
  }
  return words;
}

}  // namespace

bool is_usable(const RssFunction& function, std::uint32_t queues) {
  const auto& table = function.queues;
  if (function.key.size() < kKeyBytesMin || function.key.size() > kKeyBytesMax ||
      !std::has_single_bit(table.size()) || table.size() > kTableMax ||
      std::any_of(table.begin(), table.end(), [&](auto queue) { return queue >= queues; })) {
    return false;
  }
  for (std::uint32_t queue = 0; queue < queues; ++queue) {
    if (std::find(table.begin(), table.end(), queue) == table.end()) {
      return false;
    }
  }
  return true;
}

std::uint32_t rss_hash(const std::vector<std::uint8_t>& key, const wire::Endpoint& from,
                       const wire::Endpoint& to) {
  assert(key.size() >= kKeyBytesMin);
  std::array<std::uint32_t, kKeyBytesMin / sizeof(std::uint32_t)> aligned_key{};
  std::memcpy(aligned_key.data(), key.data(), kKeyBytesMin);
  Tuple tuple{};
  std::size_t words = append(tuple, 0, from.address);
  words = append(tuple, words, to.address);
  tuple[words++] = static_cast<std::uint32_t>(from.port) << 16U | to.port;
  return rte_softrss(tuple.data(), static_cast<std::uint32_t>(words),
                     reinterpret_cast<const std::uint8_t*>(aligned_key.data()));
}

std::uint16_t queue_of(const RssFunction& function, const wire::Endpoint& from,
                       const wire::Endpoint& to) {
  return function.queues[rss_hash(function.key, from, to) & (function.queues.size() - 1)];
}

std::optional<std::uint16_t> source_port_to(const RssFunction& function, wire::Endpoint from,
                                            const wire::Endpoint& to, std::uint32_t queue) {
  const std::uint32_t first = std::max<std::uint32_t>(from.port, kSourcePortMin) - kSourcePortMin;
  for (std::uint32_t i = 0; i < kSourcePorts; ++i) {
    from.port = static_cast<std::uint16_t>(kSourcePortMin + (first + i) % kSourcePorts);
    if (queue_of(function, from, to) == queue) {
      return from.port;
    }
  }
  return std::nullopt;
}

}  // namespace sluice::dpdk
