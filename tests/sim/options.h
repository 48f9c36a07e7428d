// What one simulated run is like; all of it follows from its seed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/units.h"
#include "drivers/sim/network.h"

namespace sluice::sim {

struct SessionOptions {
  bool forward = true;                      // from host 1 to host 2
  std::vector<std::uint64_t> region_pages;  // guest RAM, device state
  std::uint32_t shards = 1;
  std::size_t mtu = 9000;
  std::uint32_t window_max_frames = 1024;
  bool sealed = false;                   // frames are encrypted and authenticated
  std::uint64_t working_set_pages = 32;  // what the guest writes to
  TimeNs write_every_ns = 20 * kMicrosecondNs;
  double zeroing = 0;     // probability that a write leaves the page zero
  bool mark_all = false;  // all memory at first, not only what is populated
  int iterations = 2;
  TimeNs tracker_fails_at_ns = kNeverNs;
  TimeNs operator_cancels_at_ns = kNeverNs;
};

struct HostOptions {
  PortOptions port;
  std::uint64_t cap_bits_per_second = 0;  // of what its sessions send together; 0: none
  TimeNs step_ns = 2 * kMicrosecondNs;    // what a busy step takes, on average
  // The worker is not stepped for a while.
  std::vector<Interval> stalls;
};

struct Options {
  static Options draw(std::uint64_t seed);
  [[nodiscard]] std::string to_string() const;

  // Faults so mild that every session has to commit, unless contents were corrupted on the way.
  [[nodiscard]] bool mild() const;

  std::vector<SessionOptions> sessions;
  std::array<HostOptions, 2> hosts;
  std::array<PathOptions, 2> paths;  // [0]: from host 1 to host 2
};

}  // namespace sluice::sim
