// What a queue makes of the engine's packets, seen on a port that gives back what it is given.
#include "drivers/dpdk/queue.h"

#include <algorithm>
#include <atomic>
#include <gtest/gtest.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <tuple>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/wire/checksum.h"
#include "drivers/dpdk/crypto.h"
#include "drivers/dpdk/eal.h"

namespace sluice::dpdk {
namespace {

constexpr std::uint16_t kSlots = 256;
constexpr std::uint16_t kRoomBytes = 9000 + 256;
constexpr std::uint8_t kProtocolUdp = 17;

// The EAL starts once in a process.
class LoopPort {
 public:
  static const LoopPort& get() {
    static const LoopPort port;
    return port;
  }
  [[nodiscard]] QueueConfig config(bool references_memory, std::uint16_t queue = 0) const {
    QueueConfig config;
    config.port_id = id_;
    config.queue_id = queue;
    config.udp_port_first = 7401;
    config.over_ipv6 = true;
    config.references_memory = references_memory;
    config.heads = buffers_;
    config.sealed = buffers_;
    config.references = references_;
    config.started = &started_;
    return config;
  }
  [[nodiscard]] std::unique_ptr<GcmKey> key(KeyUse use) const {
    auto key = crypto_->make_key(Secret(), use);
    EXPECT_TRUE(key) << key.error().message;
    return std::move(*key);
  }

 private:
  LoopPort() {
    const auto eal = start_eal({Hugepages::kNo, 64UL << 20, "sluice-queue-test", "", "net_ring0"});
    EXPECT_TRUE(eal) << eal.error().message;
    EXPECT_EQ(rte_eth_dev_get_port_by_name("net_ring0", &id_), 0);
    buffers_ = rte_pktmbuf_pool_create("buffers", 2 * kSlots, 0, 0, kRoomBytes, SOCKET_ID_ANY);
    references_ = rte_pktmbuf_pool_create("references", 2 * kSlots, 0, 0, 0, SOCKET_ID_ANY);
    const rte_eth_conf config{};
    EXPECT_EQ(rte_eth_dev_configure(id_, 2, 2, &config), 0);
    for (const std::uint16_t queue : {std::uint16_t{0}, std::uint16_t{1}}) {
      EXPECT_EQ(rte_eth_rx_queue_setup(id_, queue, kSlots, 0, nullptr, buffers_), 0);
      EXPECT_EQ(rte_eth_tx_queue_setup(id_, queue, kSlots, 0, nullptr), 0);
    }
    EXPECT_EQ(rte_eth_dev_start(id_), 0);
    auto crypto = Crypto::start();
    EXPECT_TRUE(crypto) << crypto.error().message;
    crypto_ = std::move(*crypto);
  }

  std::uint16_t id_ = 0;
  rte_mempool* buffers_ = nullptr;
  rte_mempool* references_ = nullptr;
  std::unique_ptr<Crypto> crypto_;
  std::atomic<bool> started_{true};
};

wire::Endpoint endpoint(std::uint8_t host) {
  wire::IpAddress::V6Bytes bytes{0xFD};
  bytes.back() = host;
  return {{2, 0, 0, 0, 0, host}, wire::IpAddress(bytes), 7401};
}

// A probe with `body` in 4 KiB slices.
port::OutgoingPacket make_packet(std::span<const std::byte> body, const port::FrameKey* key,
                                 Sequence sequence = 9) {
  port::OutgoingPacket packet;
  const auto protection = key == nullptr ? wire::Protection::kChecksum : wire::Protection::kSealed;
  const wire::PacketTemplate headers(endpoint(1), endpoint(2), 46);
  wire::FrameHeader header;
  header.session = 7;
  header.sequence = sequence;
  header.body_bytes = static_cast<std::uint16_t>(body.size());
  const std::span<std::byte> head(packet.head);
  const std::size_t bytes =
      wire::encode_probe_prefix(header, head.subspan(headers.bytes()), protection);
  headers.fill(head, bytes + body.size() + wire::tag_bytes(protection));
  packet.head_bytes = static_cast<std::uint16_t>(headers.bytes() + bytes);
  for (std::size_t at = 0; at < body.size(); at += packet.slice[packet.slices++].size()) {
    packet.slice[packet.slices] = body.subspan(at, std::min<std::size_t>(4096, body.size() - at));
  }
  packet.key = key;
  return packet;
}

// As RFC 8200, 8.1 has it; computed without the sum that the headers were made with.
bool checksum_holds(std::span<const std::byte> packet) {
  constexpr std::size_t kAddressesAt = wire::kEthernetBytes + 8;
  const auto udp = packet.subspan(wire::kEthernetBytes + wire::kIpv6Bytes);
  wire::ChecksumSum sum;
  sum.add(packet.subspan(kAddressesAt, 32));
  sum.add_word(static_cast<std::uint16_t>(udp.size()));
  sum.add_word(kProtocolUdp);
  sum.add(udp);
  return sum.checksum() == 0;
}

class QueueOverIpv6 : public testing::TestWithParam<std::tuple<bool, bool, std::size_t>> {};

TEST_P(QueueOverIpv6, ThePacketThatLeavesHasItsChecksum) {
  const auto [sealed, references_memory, body_bytes] = GetParam();
  const auto sealing = LoopPort::get().key(KeyUse::kSeal);
  const auto opening = LoopPort::get().key(KeyUse::kOpen);
  Queue queue(LoopPort::get().config(references_memory));
  Random random(11);
  std::vector<std::byte> body(body_bytes);
  std::generate(body.begin(), body.end(), [&] { return static_cast<std::byte>(random.next()); });

  const port::OutgoingPacket packet = make_packet(body, sealed ? sealing.get() : nullptr);
  ASSERT_EQ(queue.transmit({&packet, 1}), 1U);
  // Not by the queue, which drops packets of several pieces.
  rte_mbuf* arrived = nullptr;
  ASSERT_EQ(rte_eth_rx_burst(LoopPort::get().config(false).port_id, 0, &arrived, 1), 1);
  ASSERT_EQ(rte_pktmbuf_pkt_len(arrived), packet.bytes());
  std::vector<std::byte> bytes(packet.bytes());
  const void* whole =
      rte_pktmbuf_read(arrived, 0, static_cast<std::uint32_t>(bytes.size()), bytes.data());
  std::copy_n(static_cast<const std::byte*>(whole), whole == bytes.data() ? 0 : bytes.size(),
              bytes.data());
  rte_pktmbuf_free(arrived);

  EXPECT_TRUE(checksum_holds(bytes));
  const auto payload = wire::udp_payload(bytes, endpoint(2), 1);
  ASSERT_TRUE(payload);
  std::vector<std::byte> frame(payload->begin(), payload->end());
  if (sealed) {
    port::SealedFrame to_open{frame, opening.get()};
    queue.open({&to_open, 1});
    EXPECT_TRUE(to_open.authentic);
  }
  EXPECT_TRUE(std::equal(body.begin(), body.end(), frame.begin() + wire::kFrameHeaderBytes));
}

INSTANTIATE_TEST_SUITE_P(SealedReferencesBytes, QueueOverIpv6,
                         testing::Combine(testing::Bool(), testing::Bool(),
                                          testing::Values(0UL, 1UL, 1431UL, 8192UL, 8701UL)));

// The port's ring, for a test that needs it full.
class FullRing {
 public:
  FullRing() : ring_(rte_ring_lookup("ETH_RXTX0_net_ring0")) {
    while (rte_ring_enqueue(ring_, &something_) == 0) ++taken_;
  }
  ~FullRing() { drain(); }
  FullRing(const FullRing&) = delete;
  FullRing& operator=(const FullRing&) = delete;
  void drain() {
    void* taken = nullptr;
    for (; taken_ > 0; --taken_) EXPECT_EQ(rte_ring_dequeue(ring_, &taken), 0);
  }

 private:
  rte_ring* ring_;
  std::size_t taken_ = 0;
  char something_ = 0;
};

// The engine gives the number of a refused frame to another content: had the refused one been
// sealed, a key would have sealed two contents under one number.
TEST(QueueSealing, SealsWhatItAcceptsAndNothingElse) {
  const auto sealing = LoopPort::get().key(KeyUse::kSeal);
  const auto opening = LoopPort::get().key(KeyUse::kOpen);
  Queue queue(LoopPort::get().config(false));
  const std::vector<std::byte> accepted(100, std::byte{1});
  const std::vector<std::byte> refused(100, std::byte{2});
  const std::vector<std::byte> instead(100, std::byte{3});
  const auto first = make_packet(accepted, sealing.get(), 9);
  const auto second = make_packet(refused, sealing.get(), 10);
  const auto third = make_packet(instead, sealing.get(), 10);
  FullRing ring;
  ASSERT_EQ(queue.transmit({&first, 1}), 1U) << "sealed, and waits for the port";
  ASSERT_EQ(queue.transmit({&second, 1}), 0U);
  ring.drain();
  ASSERT_EQ(queue.transmit({&third, 1}), 1U);

  for (const auto& content : {accepted, instead}) {
    std::array<port::ReceivedPacket, 1> received{};
    ASSERT_EQ(queue.receive(received), 1U);
    const auto payload = wire::udp_payload(received[0].bytes, endpoint(2), 1);
    ASSERT_TRUE(payload);
    std::vector<std::byte> frame(payload->begin(), payload->end());
    port::SealedFrame to_open{frame, opening.get()};
    queue.open({&to_open, 1});
    EXPECT_TRUE(to_open.authentic);
    EXPECT_TRUE(
        std::equal(content.begin(), content.end(), frame.begin() + wire::kFrameHeaderBytes));
    queue.release(received);
  }
  std::array<port::ReceivedPacket, 1> more{};
  EXPECT_EQ(queue.receive(more), 0U);
}

// Each queue of the port gives back its own packets, so that one to 7402 sent through queue 0 comes
// to the wrong one.
TEST(QueueSteering, APacketInTheWrongQueueIsPassedOnAndCounted) {
  std::vector<std::unique_ptr<Queue>> queues;
  for (const std::uint16_t queue : {std::uint16_t{0}, std::uint16_t{1}}) {
    queues.push_back(std::make_unique<Queue>(LoopPort::get().config(false, queue)));
  }
  ASSERT_TRUE(Queue::steer_among(queues));
  const std::vector<std::byte> body(1000);
  std::array<port::OutgoingPacket, 2> packets{make_packet(body, nullptr),
                                              make_packet(body, nullptr)};
  constexpr std::size_t kDestinationAt = wire::kEthernetBytes + wire::kIpv6Bytes + 2;
  packets[1].head.at(kDestinationAt + 1) = std::byte{7402 & 0xFF};
  ASSERT_EQ(queues[0]->transmit(packets), 2U);

  std::array<port::ReceivedPacket, port::kBurstMax> received{};
  ASSERT_EQ(queues[0]->receive(received), 1U);
  EXPECT_EQ(received[0].bytes[kDestinationAt + 1], std::byte{7401 & 0xFF});
  queues[0]->release(std::span(received).first(1));
  EXPECT_EQ(queues[0]->passed_on(), 1U);
  ASSERT_EQ(queues[1]->receive(received), 1U);
  EXPECT_EQ(received[0].bytes[kDestinationAt + 1], std::byte{7402 & 0xFF});
  queues[1]->release(std::span(received).first(1));
  EXPECT_EQ(queues[1]->passed_on(), 0U);
}

}  // namespace
}  // namespace sluice::dpdk
