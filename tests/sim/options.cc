#include "tests/sim/options.h"

#include <algorithm>
#include <sstream>

#include "dataplane/base/random.h"
#include "dataplane/page/layout.h"
#include "dataplane/wire/packet.h"

namespace sluice::sim {
namespace {

template <typename T, std::size_t N>
T one_of(Random& random, const T (&values)[N]) {
  return values[random.below(N)];
}

// Every fault is absent from most runs: a run with all faults at once hides what a few of them do
// (Groce et al., "Swarm testing", ISSTA 2012).
double sometimes(Random& random, double probability, double value_max) {
  return random.chance(probability) ? value_max * static_cast<double>(1 + random.below(100)) / 100
                                    : 0;
}

Interval draw_interval(Random& random, TimeNs from_max_ns, TimeNs length_max_ns) {
  const TimeNs from_ns = random.below(from_max_ns);
  return {from_ns, from_ns + 1 + random.below(length_max_ns)};
}

SessionOptions draw_session(Random& random) {
  SessionOptions options;
  options.forward = random.chance(0.7);
  // Shards own chunks of 64 MiB: several need a large page space, with holes.
  options.shards = random.chance(0.04) ? 2 + static_cast<std::uint32_t>(random.below(2)) : 1;
  const std::uint64_t chunks = options.shards - 1;
  options.region_pages = {chunks * page::ShardMap::kChunkPages + 1 +
                              random.below(random.chance(0.5) ? 300 : 4 * kExtentPages),
                          1 + random.below(random.chance(0.2) ? 200 : 20)};
  options.mtu = one_of<std::size_t>(random, {9000, 9000, 9000, 1500, 1500, 4300, 640, 65535});
  options.window_max_frames = one_of<std::uint32_t>(random, {1, 4, 64, 1024, 1024, 1024});
  options.sealed = random.chance(0.4);
  options.working_set_pages =
      1 + random.below(one_of<std::uint64_t>(random, {10, 30, 30, 300, 300, 1000}));
  options.write_every_ns = one_of<TimeNs>(random, {2'000, 20'000, 200'000, 2'000'000});
  options.zeroing = one_of(random, {0.0, 0.1, 0.6});
  options.mark_all = options.shards == 1 && random.chance(0.3);
  options.iterations = static_cast<int>(random.below(5));
  if (random.chance(0.02)) {
    options.tracker_fails_at_ns = random.below(3 * kMillisecondNs);
  }
  if (random.chance(0.04)) {
    options.operator_cancels_at_ns = random.below(5 * kMillisecondNs);
  }
  return options;
}

HostOptions draw_host(Random& random) {
  HostOptions options;
  options.port.transmit_ring = one_of<std::size_t>(random, {1, 8, 64, 256, 1024});
  options.port.receive_ring = one_of<std::size_t>(random, {16, 256, 1024});
  options.port.refusal = sometimes(random, 0.15, 0.5);
  options.port.refuses_until_ns = 5 * kMillisecondNs << random.below(7);
  options.port.bits_per_second =
      one_of<std::uint64_t>(random, {0, 10'000'000'000, 100'000'000'000});
  options.cap_bits_per_second =
      one_of<std::uint64_t>(random, {0, 0, 1'000'000'000, 10'000'000'000, 25'000'000'000});
  options.step_ns = one_of<TimeNs>(random, {500, 2'000, 20'000});
  while (options.stalls.size() < 3 && random.chance(0.15)) {
    const TimeNs length_ns = one_of<TimeNs>(
        random, {kMillisecondNs, 30 * kMillisecondNs, 500 * kMillisecondNs, 4 * kSecondNs});
    options.stalls.push_back(draw_interval(random, 10 * kMillisecondNs, length_ns));
  }
  return options;
}

void draw_random_faults(Random& random, PathOptions& options) {
  options.loss = sometimes(random, 0.3, random.chance(0.5) ? 0.05 : 0.5);
  options.ack_loss = sometimes(random, 0.1, 0.9);
  if (random.chance(0.1)) {
    options.burst_begin = 0.02;
    options.burst_end = one_of(random, {0.3, 0.05, 0.01});
  }
  options.duplication = sometimes(random, 0.15, 0.3);
  options.reordering = sometimes(random, 0.2, random.chance(0.5) ? 0.05 : 1);
  options.reorder_ns =
      one_of<TimeNs>(random, {50 * kMicrosecondNs, kMillisecondNs, 30 * kMillisecondNs});
  options.corruption = sometimes(random, 0.08, random.chance(0.7) ? 0.01 : 0.3);
  options.forged_acks = sometimes(random, 0.05, 0.1);
}

PathOptions draw_path(Random& random) {
  PathOptions options;
  draw_random_faults(random, options);
  options.delay_ns = one_of<TimeNs>(
      random, {kMicrosecondNs, 20 * kMicrosecondNs, kMillisecondNs / 2, 5 * kMillisecondNs});
  options.jitter_ns = random.chance(0.2) ? random.below(2 * kMillisecondNs) : 0;
  if (random.chance(0.15)) {
    options.bits_per_second = one_of<std::uint64_t>(random, {500'000'000, 5'000'000'000});
    options.queue_bytes = 20'000 << random.below(6);
  }
  options.heals_at_ns = 5 * kMillisecondNs << random.below(7);
  if (random.chance(0.06)) {
    // Before the first frame, or while it streams.
    options.mtu_shrinks_at_ns = random.chance(0.3) ? 0 : random.below(20 * kMillisecondNs);
    options.mtu_shrunk = one_of<std::size_t>(random, {576, 640, 1500, 1500, 4000, 4500});
  }
  while (options.partitions.size() < 3 && random.chance(0.08)) {
    const TimeNs length_ns =
        one_of<TimeNs>(random, {5 * kMillisecondNs, 300 * kMillisecondNs, 5 * kSecondNs});
    options.partitions.push_back(draw_interval(random, 5 * kMillisecondNs, length_ns));
  }
  if (random.chance(0.02)) {
    // A one-way link.
    options.partitions.push_back({random.below(5 * kMillisecondNs), kNeverNs});
  }
  return options;
}

std::ostream& operator<<(std::ostream& out, const SessionOptions& options) {
  out << "session: " << (options.forward ? "1->2" : "2->1") << " ram " << options.region_pages[0]
      << " state " << options.region_pages[1] << " shards " << options.shards << " mtu "
      << options.mtu << " window " << options.window_max_frames << (options.sealed ? " sealed" : "")
      << " working set " << options.working_set_pages << " write every " << options.write_every_ns
      << "ns zeroing " << options.zeroing << " mark all " << options.mark_all << " iterations "
      << options.iterations;
  if (options.tracker_fails_at_ns != kNeverNs) {
    out << " tracker fails at " << options.tracker_fails_at_ns;
  }
  if (options.operator_cancels_at_ns != kNeverNs) {
    out << " operator cancels at " << options.operator_cancels_at_ns;
  }
  return out;
}

void print_intervals(std::ostream& out, const char* name, const std::vector<Interval>& intervals) {
  for (const Interval& interval : intervals) {
    out << ' ' << name << ' ' << interval.from_ns << "..";
    if (interval.until_ns != kNeverNs) {
      out << interval.until_ns;
    }
  }
}

std::ostream& operator<<(std::ostream& out, const HostOptions& options) {
  out << "transmit ring " << options.port.transmit_ring << " receive ring "
      << options.port.receive_ring << " refusal " << options.port.refusal << " until "
      << options.port.refuses_until_ns << "ns line rate " << options.port.bits_per_second << " cap "
      << options.cap_bits_per_second << " step " << options.step_ns << "ns";
  print_intervals(out, "stall", options.stalls);
  return out;
}

std::ostream& operator<<(std::ostream& out, const PathOptions& options) {
  out << "loss " << options.loss << " ack loss " << options.ack_loss << " burst "
      << options.burst_begin << '/' << options.burst_end << " duplication " << options.duplication
      << " reordering " << options.reordering << "*" << options.reorder_ns << "ns corruption "
      << options.corruption << " forged acks " << options.forged_acks << " delay "
      << options.delay_ns << "ns jitter " << options.jitter_ns << "ns heals at "
      << options.heals_at_ns;
  if (options.bits_per_second != 0) {
    out << " bottleneck " << options.bits_per_second << " queue " << options.queue_bytes;
  }
  if (options.mtu_shrinks_at_ns != kNeverNs) {
    out << " mtu " << options.mtu_shrunk << " from " << options.mtu_shrinks_at_ns;
  }
  print_intervals(out, "partition", options.partitions);
  return out;
}

bool all_shorter(const std::vector<Interval>& intervals, TimeNs length_ns) {
  return std::all_of(intervals.begin(), intervals.end(), [&](const Interval& interval) {
    return interval.until_ns - interval.from_ns <= length_ns;
  });
}

// Data frames get smaller; acks always fit.
bool mtu_usable(const PathOptions& path) {
  return path.mtu_shrinks_at_ns == kNeverNs || path.mtu_shrunk >= wire::kMtuMin;
}

bool mild_path(const PathOptions& path) {
  return path.loss <= 0.1 && path.ack_loss <= 0.1 && path.burst_begin == 0 &&
         path.corruption <= 0.1 && mtu_usable(path) &&
         all_shorter(path.partitions, 300 * kMillisecondNs);
}

bool mild_host(const HostOptions& host) {
  return host.port.receive_ring > 16 && host.port.refusal <= 0.2 &&
         all_shorter(host.stalls, kSecondNs);
}

bool mild_session(const SessionOptions& session) {
  return session.tracker_fails_at_ns == kNeverNs && session.operator_cancels_at_ns == kNeverNs;
}

}  // namespace

Options Options::draw(std::uint64_t seed) {
  Random random(seed);
  Options options;
  const std::size_t sessions = random.chance(0.15) ? 2 : 1;
  while (options.sessions.size() < sessions) {
    options.sessions.push_back(draw_session(random));
  }
  for (HostOptions& host : options.hosts) {
    host = draw_host(random);
  }
  for (PathOptions& path : options.paths) {
    path = draw_path(random);
  }
  return options;
}

std::string Options::to_string() const {
  std::ostringstream out;
  for (const SessionOptions& session : sessions) {
    out << session << '\n';
  }
  for (std::size_t i = 0; i < 2; ++i) {
    out << "host " << i + 1 << ": " << hosts[i] << "\nhost " << i + 1
        << " sends through: " << paths[i] << '\n';
  }
  return out.str();
}

bool Options::mild() const {
  return std::all_of(paths.begin(), paths.end(), mild_path) &&
         std::all_of(hosts.begin(), hosts.end(), mild_host) &&
         std::all_of(sessions.begin(), sessions.end(), mild_session);
}

}  // namespace sluice::sim
