// Sealed frames: what was altered, forged, repeated or sealed with another key changes nothing and
// is counted.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "tests/unit/engine/one_session.h"

namespace sluice::engine {
namespace {

using Packets = std::deque<std::vector<std::byte>>;

struct SealedSession : OneSession {
  explicit SealedSession(std::uint64_t seed = 1) : OneSession(seed, Frames::kSealed) {}

  // What the receiver knows and has.
  struct State {
    std::vector<std::byte> memory;
    std::uint64_t frames_received;
    std::uint64_t acks_sent;
    bool operator==(const State&) const = default;
  };
  State receiver_state() {
    return {{session.ram_there.base(), session.ram_there.page(kRamPages)},
            session.receive.receiver.counters().frames_received,
            session.receive.receiver.counters().acks_sent};
  }
  struct SenderState {
    std::uint64_t acks_received;
    TimeNs last_heard_ns;
    TimeNs smoothed_rtt_ns;
    std::uint64_t in_flight_pages;
    Sequence newest_ack;
    bool operator==(const SenderState&) const = default;
  };
  SenderState sender_state() {
    const protocol::Sender& sender = session.send.sender;
    return {sender.counters().acks_received, sender.last_heard_ns(), sender.rtt().smoothed_ns(),
            sender.in_flight_pages(), sender.newest_ack()};
  }

  // Starts the session and takes the first data packets off the wire.
  Packets first_data() {
    send_all_pages_first();
    session.start();
    session.run_iteration(false);
    while (to_right.packets.empty()) {
      fake_now += kStepNs;
      (void)left.worker->step(fake_now);
      run_right(to_right.packets.empty() ? 1 : 0);
    }
    return std::exchange(to_right.packets, {});
  }
  // The right worker alone, long enough that it would acknowledge what it had.
  void run_right(int steps) {
    for (; steps > 0; --steps) {
      fake_now += kStepNs;
      (void)right.worker->step(fake_now);
    }
  }
  // The left worker alone; what it sends does not arrive.
  void run_left_unheard(int steps) {
    to_right.loss = 1;
    for (; steps > 0; --steps) {
      fake_now += kStepNs;
      (void)left.worker->step(fake_now);
    }
  }
  static constexpr int kUntilAcked = 200;
};

std::vector<std::byte> flipped(std::vector<std::byte> packet, std::size_t bit) {
  packet.at(bit / 8) ^= std::byte{1} << bit % 8;
  return packet;
}

TEST(SealedFrames, CarryAWholeSessionThroughLossAndAFullPort) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SealedSession link(seed);
    link.to_left.loss = 0.1;
    link.to_right.loss = 0.05;
    link.to_right.depth = 3 + seed;
    link.run_whole_session();
    ASSERT_TRUE(link.session.same_memory());
    EXPECT_EQ(link.session.send.digests, link.session.receive.digests);
    EXPECT_EQ(link.right.drops(wire::DropReason::kBadTag), 0U);
    EXPECT_EQ(link.left.drops(wire::DropReason::kBadTag), 0U);
  }
}

TEST(SealedFrames, ShowNothingButTheirHeader) {
  SealedSession link;
  std::memset(link.session.ram_here.base(), 0x5A, kPageBytes);
  const std::vector<std::byte> known(32, std::byte{0x5A});
  for (const auto& packet : link.first_data()) {
    EXPECT_EQ(std::search(packet.begin(), packet.end(), known.begin(), known.end()), packet.end());
  }
}

TEST(SealedFrames, AlteredOnesChangeNothing) {
  SealedSession link;
  const Packets genuine = link.first_data();
  const auto before = link.receiver_state();
  const auto& packet = genuine.front();
  std::uint64_t sent = 0;
  // Some of every part: header, record table, payload, tag. The first two bytes of the header and
  // the length are judged before.
  for (std::size_t byte :
       {wire::kPacketPrefixBytes + 6, wire::kPacketPrefixBytes + 16, wire::kPacketPrefixBytes + 24,
        wire::kPacketPrefixBytes + 32, wire::kPacketPrefixBytes + 36, wire::kPacketPrefixBytes + 40,
        wire::kPacketPrefixBytes + 48, wire::kPacketPrefixBytes + 1000, packet.size() - 16,
        packet.size() - 1}) {
    for (std::size_t bit = 0; bit < 8; ++bit, ++sent) {
      link.to_right.packets.push_back(flipped(packet, byte * 8 + bit));
    }
  }
  link.run_right(SealedSession::kUntilAcked);
  EXPECT_EQ(link.right.drops(wire::DropReason::kBadTag) +
                link.right.drops(wire::DropReason::kDuplicate),  // the number became 0
            sent);
  EXPECT_GE(link.right.drops(wire::DropReason::kBadTag), sent - 8);
  EXPECT_TRUE(link.receiver_state() == before);
  EXPECT_TRUE(link.to_left.packets.empty()) << "an ack for what nobody sent";

  link.to_right.packets = genuine;
  link.run_right(SealedSession::kUntilAcked);
  EXPECT_EQ(link.session.receive.receiver.counters().frames_received, genuine.size())
      << "the genuine frames must count as new after all forgeries of them";
}

TEST(SealedFrames, RepeatedOnesChangeNothing) {
  SealedSession link;
  const Packets genuine = link.first_data();
  link.to_right.packets = genuine;
  link.run_right(SealedSession::kUntilAcked);
  const auto before = link.receiver_state();
  link.to_left.packets.clear();
  // The pages' memory has other content since then.
  for (int i = 0; i < 3; ++i) {
    for (const auto& packet : genuine) {
      link.to_right.packets.push_back(packet);
    }
  }
  link.run_right(SealedSession::kUntilAcked);
  EXPECT_EQ(link.right.drops(wire::DropReason::kDuplicate), 3 * genuine.size());
  EXPECT_TRUE(link.receiver_state() == before);
  EXPECT_TRUE(link.to_left.packets.empty());
}

TEST(SealedFrames, OfAnotherKeyOrInTheClearChangeNothing) {
  // The same session in all but its secret, which the keys of Session are made from.
  OneSession clear;
  clear.send_all_pages_first();
  clear.session.start();
  clear.session.run_iteration(false);
  SealedSession link;
  link.session.start();
  link.run_right(1);
  const auto before = link.receiver_state();
  std::uint64_t sent = 0;
  while (sent < 20) {
    fake_now += kStepNs;
    (void)clear.left.worker->step(fake_now);
    for (const auto& packet : std::exchange(clear.to_right.packets, {})) {
      link.to_right.packets.push_back(packet);
      ++sent;
    }
  }
  const auto foreign = sim::make_flow_keys(kSession + 1, 1);
  port::OutgoingPacket packet;
  const std::span<std::byte> head(packet.head);
  const wire::Record record{wire::RecordType::kZero, 0, 1, 0, 0, 7};
  const std::size_t bytes =
      wire::encode_data_prefix({wire::FrameType::kData, 1, 0, 0, kSession, 1, 1, 0}, {&record, 1},
                               head.subspan(wire::kPacketPrefixBytes), wire::Protection::kSealed);
  wire::PacketTemplate(endpoint(1), endpoint(2), 0)
      .fill(head.first<wire::kPacketPrefixBytes>(), bytes + wire::kTagBytes);
  packet.head_bytes = static_cast<std::uint16_t>(wire::kPacketPrefixBytes + bytes);
  packet.key = foreign->of(wire::FrameType::kData);
  link.to_right.packets.push_back(sim::assemble(packet));
  link.run_right(SealedSession::kUntilAcked);
  EXPECT_EQ(link.right.drops(wire::DropReason::kBadLength), sent) << "no room for a tag";
  EXPECT_EQ(link.right.drops(wire::DropReason::kBadTag), 1U);
  EXPECT_TRUE(link.receiver_state() == before);
}

TEST(SealedFrames, ThatAreCutShortAreDropped) {
  SealedSession link;
  auto packet = link.first_data().front();
  // A packet whose own headers are right, but whose frame says that it is longer.
  const auto shorter = static_cast<std::uint16_t>(packet.size() - wire::kPacketPrefixBytes - 1);
  wire::PacketTemplate(endpoint(1), endpoint(2), 0)
      .fill(std::span<std::byte, wire::kPacketPrefixBytes>(packet.data(), wire::kPacketPrefixBytes),
            shorter);
  packet.pop_back();
  link.to_right.packets.push_back(packet);
  link.run_right(5);
  EXPECT_EQ(link.right.drops(wire::DropReason::kBadLength), 1U);
}

TEST(SealedFrames, ProbesThatAreRepeatedAreNotAnswered) {
  SealedSession link;
  link.to_right.mtu = 1500;
  link.session.start();
  link.left.submit(CommandKind::kProbePath);
  Packets probes;
  for (int i = 0; i < 3'000'000 && !link.left.events.read_available(); ++i) {
    fake_now += kStepNs;
    (void)link.left.worker->step(fake_now);
    probes.insert(probes.end(), link.to_right.packets.begin(), link.to_right.packets.end());
    link.run_right(1);
  }
  link.expect(link.left, EventKind::kPathProbed);
  EXPECT_EQ(link.session.send.sender.mtu(), 1500U);
  ASSERT_FALSE(probes.empty());
  link.to_left.packets.clear();
  link.to_right.packets = probes;
  link.run_right(SealedSession::kUntilAcked);
  EXPECT_EQ(link.right.drops(wire::DropReason::kReplay), probes.size());
  EXPECT_TRUE(link.to_left.packets.empty());
}

TEST(SealedFrames, AcksThatAreAlteredOrRepeatedSayNothing) {
  SealedSession link;
  link.to_right.packets = link.first_data();
  link.run_right(SealedSession::kUntilAcked);
  const Packets acks = link.to_left.packets;
  ASSERT_FALSE(acks.empty());
  const auto before = link.sender_state();

  link.to_left.packets.clear();
  for (std::size_t byte = wire::kPacketPrefixBytes + 16; byte < acks.front().size(); ++byte) {
    link.to_left.packets.push_back(flipped(acks.front(), byte * 8 + 3));
  }
  const std::uint64_t altered = link.to_left.packets.size();
  link.run_left_unheard(50);
  EXPECT_EQ(link.left.drops(wire::DropReason::kBadTag), altered);
  auto after = link.sender_state();
  after.in_flight_pages = before.in_flight_pages;  // it went on sending
  EXPECT_TRUE(after == before);

  link.to_left.packets = acks;
  link.run_left_unheard(50);
  const auto told = link.sender_state();
  EXPECT_GT(told.acks_received, before.acks_received);
  fake_now += kMillisecondNs;
  link.to_left.packets = acks;
  link.run_left_unheard(50);
  EXPECT_EQ(link.left.drops(wire::DropReason::kReplay), acks.size());
  after = link.sender_state();
  after.in_flight_pages = told.in_flight_pages;
  EXPECT_TRUE(after == told);
}

}  // namespace
}  // namespace sluice::engine
