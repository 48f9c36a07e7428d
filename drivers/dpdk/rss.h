// How a port with RSS (receive side scaling) puts packets into queues, and which UDP source ports
// lead to a wanted one. Pure arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/wire/packet.h"

namespace sluice::dpdk {

// Toeplitz hash over addresses and UDP ports; its lowest bits are looked up in a table.
struct RssFunction {
  std::vector<std::uint8_t> key;
  std::vector<std::uint16_t> queues;  // as many as a power of two

  friend bool operator==(const RssFunction&, const RssFunction&) = default;
};

// A port of this many queues may have it: key and table have a size that ports have, and every
// queue, but no other, is in the table.
[[nodiscard]] bool is_usable(const RssFunction& function, std::uint32_t queues);

// The hash of packets between these ends; needs a usable function's key.
[[nodiscard]] std::uint32_t rss_hash(const std::vector<std::uint8_t>& key,
                                     const wire::Endpoint& from, const wire::Endpoint& to);

// The queue that packets come to.
[[nodiscard]] std::uint16_t queue_of(const RssFunction& function, const wire::Endpoint& from,
                                     const wire::Endpoint& to);

// The first port from `from.port` on from which packets to `to` come to `queue`. Not one of the
// system's (below 1024). Nothing if none does, which a key or a table of little variety can cause.
[[nodiscard]] std::optional<std::uint16_t> source_port_to(const RssFunction& function,
                                                          wire::Endpoint from,
                                                          const wire::Endpoint& to,
                                                          std::uint32_t queue);

}  // namespace sluice::dpdk
