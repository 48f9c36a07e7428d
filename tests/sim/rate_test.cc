// How fast flows go, how long others' packets wait behind them and how they share a link: worker to
// worker through a simulated bottleneck, with more to send at any time than fits.
#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <numeric>
#include <ostream>
#include <vector>

#include "dataplane/engine/event_loop.h"
#include "drivers/sim/clock.h"
#include "drivers/sim/network.h"
#include "tests/sim/session.h"

namespace sluice::sim {
namespace {

constexpr TimeNs kTurnNs = 2 * kMicrosecondNs;  // of both workers' loops
constexpr std::uint64_t kPages = 4096;          // of one flow; more than a window holds
constexpr TimeNs kSettleNs = 100 * kMillisecondNs;
constexpr TimeNs kMeasureNs = 200 * kMillisecondNs;
constexpr std::size_t kDeepQueueBytes = 8 << 20;

struct Memory {
  Memory() : bytes(kPages * kPageBytes, std::byte{1}) {}
  std::vector<std::byte> bytes;
  page::Layout layout{{kPages}};
  page::MemoryMap map{layout, {bytes.data()}};
};

// One flow from end to end.
struct Stream {
  Stream(std::uint64_t session, std::size_t mtu)
      : shards(source.layout.extents(), 1, 0),
        sending({.session = session, .mtu = mtu}, source.layout, shards, source.map,
                wire::PacketTemplate(endpoint(0), endpoint(1), 0)),
        receiving({.session = session}, destination.layout, shards, destination.map,
                  wire::PacketTemplate(endpoint(1), endpoint(0), 0)) {
    sending.sender.begin_final_pass();  // nothing is held back as hot
  }
  void keep_busy() {
    if (sending.sender.pending_pages() < kPages / 2) {
      sending.sender.mark_dirty(0, kPages);
    }
  }
  [[nodiscard]] std::uint64_t pages() const {
    return receiving.receiver.counters().raw_pages_applied;
  }

  Memory source;
  Memory destination;
  page::ShardMap shards;
  engine::SendFlow sending;
  engine::ReceiveFlow receiving;
};

struct Host {
  Host(std::size_t number, Path& in, Path& out, engine::LinkCap& cap)
      : port({.transmit_ring = 1024, .receive_ring = 2048}, in, out, number, {}),
        worker(std::make_unique<engine::Worker<Port&>>(port, endpoint(number), cap, commands,
                                                       events, probe, read_virtual_clock)) {}
  void submit(engine::Command command, std::uint64_t session) {
    command.session = session;
    ASSERT_TRUE(commands.push(command));
  }

  Port port;
  engine::CommandRing commands;
  engine::EventRing events;
  engine::WorkerProbe probe;
  std::unique_ptr<engine::Worker<Port&>> worker;
};

PathOptions undisturbed(TimeNs delay_ns) {
  PathOptions options;
  options.delay_ns = delay_ns;
  return options;
}

// Two workers and a path each way; their streams share both.
class Lane {
 public:
  Lane(const PathOptions& forward, engine::LinkCap& cap, std::size_t mtu, std::size_t streams)
      : forward_(forward, 1, {}),
        back_(undisturbed(forward.delay_ns), 2, {}),
        source_(0, back_, forward_, cap),
        destination_(1, forward_, back_, no_cap_) {
    for (std::size_t i = 0; i < streams; ++i) {
      streams_.push_back(std::make_unique<Stream>(i + 1, mtu));
    }
  }

  void lead_through(const std::shared_ptr<Bottleneck>& bottleneck) {
    forward_.lead_through(bottleneck);
  }
  void begin() {
    for (const auto& stream : streams_) {
      const std::uint64_t session = stream->sending.id_session;
      engine::Command command;
      command.kind = engine::CommandKind::kStartReceiving;
      command.receive = &stream->receiving;
      destination_.submit(command, session);
      command.kind = engine::CommandKind::kStartSending;
      command.send = &stream->sending;
      source_.submit(command, session);
      command.kind = engine::CommandKind::kSendPages;
      command.pages = kPages;
      source_.submit(command, session);
    }
  }
  void turn(TimeNs now, bool destination_stalls) {
    for (const auto& stream : streams_) {
      stream->keep_busy();
    }
    source_.port.advance(now);
    destination_.port.advance(now);
    (void)source_.worker->step(now);
    if (!destination_stalls) {
      (void)destination_.worker->step(now);
    }
  }
  [[nodiscard]] const std::vector<std::unique_ptr<Stream>>& streams() const { return streams_; }

 private:
  engine::LinkCap no_cap_{0};
  Path forward_;
  Path back_;
  Host source_;
  Host destination_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

struct Link {
  std::uint64_t bits_per_second = 10'000'000'000;
  std::size_t mtu = 9000;
  std::size_t queue_bytes = kDeepQueueBytes;
  double share = 0;  // of the rate, as the senders' cap; 0: none

  // In bits of page contents per second.
  [[nodiscard]] double payload_limit() const {
    const std::size_t pages = wire::raw_pages_per_frame(mtu);
    const double payload = static_cast<double>(
        pages > 0 ? pages * kPageBytes : std::min(wire::fragment_bytes(mtu), kPageBytes / 3));
    const double frame = payload + wire::kPacketPrefixBytes + wire::data_prefix_bytes(1);
    return static_cast<double>(bits_per_second) * (share > 0 ? share : 1) * payload / frame;
  }
  friend void PrintTo(const Link& link, std::ostream* out) {
    *out << link.bits_per_second << " bit/s, MTU " << link.mtu << ", share " << link.share;
  }
};

class Network {
 public:
  explicit Network(const Link& link)
      : cap_(static_cast<std::uint64_t>(static_cast<double>(link.bits_per_second) * link.share)),
        link_(link),
        bottleneck_(std::make_shared<Bottleneck>(link.bits_per_second, link.queue_bytes)) {
    bottleneck_->on_wait = [this](TimeNs wait_ns) { waits_.push_back(wait_ns); };
    virtual_now_ns = kSecondNs;
  }

  // Lanes of one network share its bottleneck and its cap.
  Lane& add_lane(std::size_t streams = 1, const PathOptions& faults = {}) {
    PathOptions options = faults;
    options.delay_ns = 20 * kMicrosecondNs;
    lanes_.push_back(std::make_unique<Lane>(options, cap_, link_.mtu, streams));
    lanes_.back()->lead_through(bottleneck_);
    lanes_.back()->begin();
    return *lanes_.back();
  }
  // Lets time pass and forgets what was measured before; destinations stall for the first
  // `stall_ns` of every 10 milliseconds.
  void run(TimeNs time_ns, TimeNs stall_ns = 0) {
    waits_.clear();
    pages_before_ = pages();
    measured_ns_ = time_ns;
    for (const TimeNs end_ns = virtual_now_ns + time_ns; virtual_now_ns < end_ns;) {
      virtual_now_ns += kTurnNs;
      for (const auto& lane : lanes_) {
        lane->turn(virtual_now_ns, virtual_now_ns % (10 * kMillisecondNs) < stall_ns);
      }
    }
  }

  // By stream: bits of page contents per second, as a share of the link's payload limit.
  [[nodiscard]] std::vector<double> goodputs() const {
    std::vector<double> shares;
    const std::vector<std::uint64_t> now = pages();
    for (std::size_t i = 0; i < now.size(); ++i) {
      const std::uint64_t before = i < pages_before_.size() ? pages_before_[i] : 0;
      const double bits = static_cast<double>(now[i] - before) * kPageBytes * 8;
      shares.push_back(bits * kSecondNs / static_cast<double>(measured_ns_) /
                       link_.payload_limit());
    }
    return shares;
  }
  [[nodiscard]] double goodput() const {
    const auto shares = goodputs();
    return std::accumulate(shares.begin(), shares.end(), 0.0);
  }
  // Jain's index: 1 when all are equal.
  [[nodiscard]] double fairness() const {
    const auto shares = goodputs();
    const double squares = std::inner_product(shares.begin(), shares.end(), shares.begin(), 0.0);
    return goodput() * goodput() / (static_cast<double>(shares.size()) * squares);
  }
  // What a packet of somebody else would have waited, in 99 of 100 cases at the most.
  [[nodiscard]] TimeNs wait_p99_ns() {
    std::sort(waits_.begin(), waits_.end());
    return waits_.at(waits_.size() * 99 / 100);
  }

 private:
  [[nodiscard]] std::vector<std::uint64_t> pages() const {
    std::vector<std::uint64_t> counts;
    for (const auto& lane : lanes_) {
      for (const auto& stream : lane->streams()) {
        counts.push_back(stream->pages());
      }
    }
    return counts;
  }

  engine::LinkCap cap_;
  Link link_;
  std::shared_ptr<Bottleneck> bottleneck_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<TimeNs> waits_;
  std::vector<std::uint64_t> pages_before_;
  TimeNs measured_ns_ = 0;
};

constexpr TimeNs kQueueMaxNs = kMillisecondNs;

const auto shaped_links = testing::Values(
    Link{.bits_per_second = 1'000'000'000}, Link{.bits_per_second = 10'000'000'000},
    Link{.bits_per_second = 10'000'000'000, .mtu = 1500}, Link{.bits_per_second = 25'000'000'000});

class OneFlow : public testing::TestWithParam<Link> {};

TEST_P(OneFlow, FillsTheLinkWithoutAStandingQueue) {
  Network network(GetParam());
  network.add_lane();
  network.run(kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.goodput(), 0.95);
  EXPECT_LE(network.wait_p99_ns(), kQueueMaxNs);
}

INSTANTIATE_TEST_SUITE_P(Links, OneFlow, shaped_links);

// Below the link's rate nothing queues at all, beyond what leaves at once.
TEST(Capped, NothingQueuesAndTheCapIsReached) {
  Network network({.share = 0.9});
  network.add_lane();
  network.run(kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.goodput(), 0.95);
  EXPECT_LE(network.goodput(), 1.01);
  EXPECT_LE(network.wait_p99_ns(), 100 * kMicrosecondNs);
}

TEST(Capped, SessionsOfOneWorkerShareTheCap) {
  Network network({.share = 0.9});
  network.add_lane(3);
  network.run(kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.goodput(), 0.95);
  EXPECT_LE(network.goodput(), 1.01);
  EXPECT_GE(network.fairness(), 0.95);
}

TEST(Capped, WorkersShareTheCapByTheirFlows) {
  Network network({.share = 0.9});
  network.add_lane();
  network.run(kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.goodput(), 0.95) << "alone it has the whole cap";
  network.add_lane(2);
  network.run(kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.goodput(), 0.95);
  EXPECT_LE(network.goodput(), 1.01);
  EXPECT_GE(network.fairness(), 0.95);
  EXPECT_LE(network.wait_p99_ns(), 100 * kMicrosecondNs);
}

class TwoHosts : public testing::TestWithParam<Link> {};

// The second one finds the queue of the first and must not take it for the path.
TEST_P(TwoHosts, ShareABottleneckFairly) {
  Network network(GetParam());
  network.add_lane();
  network.run(kSettleNs);
  network.add_lane();
  network.run(2 * kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.fairness(), 0.95);
  EXPECT_GE(network.goodput(), 0.95);
  EXPECT_LE(network.wait_p99_ns(), kQueueMaxNs);
}

INSTANTIATE_TEST_SUITE_P(Links, TwoHosts, shaped_links);

TEST(RandomLoss, OfOnePercentCostsLittleAndNothingAfterwards) {
  for (const std::size_t mtu : {9000, 1500}) {
    SCOPED_TRACE(mtu);
    Network network({.mtu = mtu});
    PathOptions faults;
    faults.loss = 0.01;
    faults.heals_at_ns = kSecondNs + kSettleNs + kMeasureNs;
    network.add_lane(1, faults);
    network.run(kSettleNs);
    network.run(kMeasureNs);
    EXPECT_GE(network.goodput(), 0.85);
    network.run(kSettleNs);
    EXPECT_GE(network.goodput(), 0.95);
  }
}

// A fixed window would overflow the queue in step with the fragments of a page, for ever.
TEST(SmallQueue, FragmentsGetThroughWhole) {
  Network network({.bits_per_second = 500'000'000, .mtu = 1500, .queue_bytes = 20'000});
  network.add_lane();
  network.run(kSettleNs);
  network.run(kMeasureNs);
  EXPECT_GE(network.goodput(), 0.7);
}

// One thread in ten milliseconds loses its core for one: no more is lost than that time.
TEST(LateThreads, AreNotTakenForAQueue) {
  Network network({});
  network.add_lane();
  network.run(kSettleNs, kMillisecondNs);
  network.run(kMeasureNs, kMillisecondNs);
  EXPECT_GE(network.goodput(), 0.85);
}

}  // namespace
}  // namespace sluice::sim
