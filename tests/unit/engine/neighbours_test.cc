#include "dataplane/engine/neighbours.h"

#include <gtest/gtest.h>
#include <memory>

namespace sluice::engine {
namespace {

using Verdict = Neighbours::Verdict;

wire::Endpoint endpoint(std::uint8_t host) {
  return {{2, 0, 0, 0, 0, host}, wire::IpAddress(0x0A4D0100U + host), 7401};
}

std::span<const std::byte> bytes_of(const port::OutgoingPacket& packet) {
  return {packet.head.data(), packet.head_bytes};
}

struct Hosts {
  Neighbours left{endpoint(1)};
  Neighbours right{endpoint(2)};
  port::OutgoingPacket question;
  port::OutgoingPacket answer;

  Hosts() { left.ask(endpoint(2).address, question); }
  Verdict ask_right(TimeNs now) { return right.look_at(bytes_of(question), now, answer); }
};

TEST(Neighbours, AnExpectedAnswerIsReportedOnce) {
  const auto hosts = std::make_unique<Hosts>();
  port::OutgoingPacket unused;
  ASSERT_EQ(hosts->ask_right(kSecondNs), Verdict::kAnswer);
  EXPECT_EQ(hosts->left.look_at(bytes_of(hosts->answer), kSecondNs, unused), Verdict::kNothing)
      << "nobody asked";
  hosts->left.expect(7, endpoint(3).address);
  hosts->left.expect(8, endpoint(2).address);
  hosts->left.expect(8, endpoint(2).address);
  ASSERT_EQ(hosts->left.look_at(bytes_of(hosts->answer), kSecondNs, unused), Verdict::kFound);
  EXPECT_EQ(hosts->left.found().id, 8U);
  EXPECT_EQ(hosts->left.found().mac, endpoint(2).mac);
  EXPECT_EQ(hosts->left.look_at(bytes_of(hosts->answer), kSecondNs, unused), Verdict::kNothing);
}

TEST(Neighbours, AFloodOfRequestsIsAnsweredAtABoundedRate) {
  const auto hosts = std::make_unique<Hosts>();
  const TimeNs begin = 1'000 * kSecondNs;
  std::uint32_t answered = 0;
  for (int i = 0; i < 1000; ++i) {
    answered += hosts->ask_right(begin) == Verdict::kAnswer ? 1 : 0;
  }
  EXPECT_EQ(answered, Neighbours::kAnswersAtOnce);
  EXPECT_EQ(hosts->ask_right(begin), Verdict::kTooMany);
  answered = 0;
  for (TimeNs now = begin; now < begin + kSecondNs; now += kMillisecondNs) {
    answered += hosts->ask_right(now) == Verdict::kAnswer ? 1 : 0;
  }
  EXPECT_LE(answered, kSecondNs / Neighbours::kAnswerEveryNs);
  EXPECT_GE(answered, kSecondNs / Neighbours::kAnswerEveryNs - 1);
}

TEST(Neighbours, OtherPacketsAreNothing) {
  const auto hosts = std::make_unique<Hosts>();
  const std::array<std::byte, 60> zeros{};
  EXPECT_EQ(hosts->right.look_at(zeros, 0, hosts->answer), Verdict::kNothing);
  EXPECT_EQ(hosts->right.look_at({}, 0, hosts->answer), Verdict::kNothing);
}

}  // namespace
}  // namespace sluice::engine
