#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <vector>

#include "tests/unit/engine/one_session.h"

namespace sluice::engine {
namespace {

TEST(Worker, MovesAWholeSessionAndBothEndsFoldTheSame) {
  OneSession link;
  link.run_whole_session();
  EXPECT_TRUE(link.session.same_memory());
  EXPECT_EQ(link.session.send.digests, link.session.receive.digests);
  EXPECT_EQ(link.session.send.probe.frames_lost.load(), 0U);
  EXPECT_GE(link.session.send.probe.zero_pages_sent.load(), 1U)
      << "page 0 was written, then zeroed";
  EXPECT_GE(link.session.send.probe.harvested_pages.load(), 200U);
  EXPECT_EQ(link.session.send.probe.pending_pages.load(), 0U);
}

TEST(Worker, SurvivesLossInBothDirectionsAndAPortThatIsOftenFull) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    OneSession link(seed);
    link.to_left.loss = 0.1;
    link.to_right.loss = 0.05;
    link.to_right.depth = 3 + seed;
    link.run_whole_session();
    ASSERT_TRUE(link.session.same_memory());
    EXPECT_EQ(link.session.send.digests, link.session.receive.digests);
    EXPECT_GT(link.session.send.probe.frames_lost.load(), 0U);
    EXPECT_TRUE(link.session.send.sender.invariants_hold());
  }
}

TEST(Worker, SendsNothingBeforeTheFirstIteration) {
  OneSession link;
  link.send_all_pages_first();
  link.session.start();
  link.run(200);
  EXPECT_EQ(link.to_right.accepted, 0U);
  EXPECT_TRUE(link.left.worker->has_flows());
}

TEST(Worker, TellsHowManyPagesAnIterationHarvested) {
  OneSession link;
  link.session.start();
  for (const std::uint64_t page : {0UL, 1UL, 700UL, kRamPages - 1}) {
    link.session.write(page, link.random);
  }
  link.session.run_iteration(true);
  const auto done = link.await(link.left);
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->kind, EventKind::kIterationDone);
  EXPECT_EQ(done->value, 4U);
  EXPECT_EQ(link.session.tracker.pages_scanned, kRamPages)
      << "tracked pages are scanned once, others never";

  link.session.run_iteration(false);
  const auto empty = link.await(link.left);
  ASSERT_TRUE(empty.has_value());
  EXPECT_EQ(empty->value, 0U);
  EXPECT_EQ(link.session.tracker.pages_scanned, kRamPages) << "this iteration was to scan nothing";
}

TEST(Worker, EndsTheFinalScanInOneStep) {
  OneSession link;
  link.session.tracker.runs_max = 2;
  link.session.start();
  link.run(2);
  for (std::uint64_t page = 0; page < 100; page += 2) {
    link.session.write(page, link.random);
  }
  link.left.submit(CommandKind::kFinalPass);
  link.run(2);
  const auto scanned = link.left.next_event();
  ASSERT_TRUE(scanned.has_value());
  EXPECT_EQ(scanned->kind, EventKind::kFinalScanned);
  EXPECT_EQ(scanned->value, 50U);
  EXPECT_GT(link.session.tracker.scans, 20U);
}

TEST(Worker, GivesAFlowUpWhenItsTrackerFails) {
  OneSession link;
  link.send_all_pages_first();
  link.session.start();
  link.session.tracker.status = port::HarvestStatus::kTargetGone;
  link.session.run_iteration(true);
  const auto event = link.await(link.left);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->kind, EventKind::kTrackerFailed);
  EXPECT_EQ(event->value, static_cast<std::uint64_t>(port::HarvestStatus::kTargetGone));
  const std::uint64_t sent = link.to_right.accepted;
  link.session.run_iteration(false);
  link.run(500);
  EXPECT_EQ(link.to_right.accepted, sent) << "a failed flow sends nothing more";
  link.left.submit(CommandKind::kStop);
  link.expect(link.left, EventKind::kStopped);
}

// ---- audit ----

TEST(Worker, AWriteThatTheTrackerDoesNotReportEndsTheFlowAtTheNextScan) {
  OneSession link;
  link.send_all_pages_first();
  link.session.start();
  link.session.run_iteration(false);
  while (link.session.send.sender.counters().raw_pages_sent < kRamPages / 4) {
    link.step();
  }
  // Everywhere: whichever page is audited from now on differs.
  for (std::uint64_t page = 0; page < kRamPages; ++page) {
    scribble(link.session.ram_here.page(page), link.random);
  }
  link.expect(link.left, EventKind::kIterationDone);
  link.left.submit(CommandKind::kFinalPass);
  const auto event = link.await(link.left);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->kind, EventKind::kUnseenWrite) << "and neither scanned nor settled";
  EXPECT_LT(event->value, kRamPages);
  EXPECT_GT(link.session.send.probe.audited_pages.load(), 0U);
}

TEST(Worker, GivesASilentPeerUp) {
  OneSession link;
  link.send_all_pages_first();
  link.to_right.loss = 1;
  link.session.start();
  link.session.run_iteration(false);
  const TimeNs began = fake_now;
  const auto event = link.await(link.left, 2 * kPeerSilentNs);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->kind, EventKind::kPeerSilent);
  EXPECT_GE(event->at_ns - began, kPeerSilentNs);
  EXPECT_FALSE(link.await(link.left, kSecondNs).has_value()) << "said once";
  link.left.submit(CommandKind::kStop);
  link.expect(link.left, EventKind::kStopped);
}

TEST(Worker, DoesNotBlameThePeerForAPauseBetweenPhases) {
  OneSession link;
  link.send_all_pages_first();
  link.session.start();
  link.session.run_iteration(false);
  link.expect(link.left, EventKind::kIterationDone);
  link.run(1000);
  fake_now += 3 * kPeerSilentNs;
  link.run(10);
  link.session.send_pages(0, 10);
  link.expect(link.left, EventKind::kSettled);
}

TEST(Worker, DoesNotBlameThePeerWhileItOnlyLooksAtZeros) {
  OneSession link;
  link.session.send.sender.mark_dirty(0, kRamPages);
  link.session.start();
  link.session.run_iteration(false);
  link.run(1);
  for (int looks = 0; looks < 2; ++looks) {
    ASSERT_GT(link.session.send.sender.pending_pages(), 0U) << "nothing is left to look at";
    fake_now += kPeerSilentNs * 2 / 3;
    EXPECT_EQ(link.left.worker->step(fake_now), Activity::kBusy);
  }
  link.expect(link.left, EventKind::kIterationDone);
  EXPECT_EQ(link.to_right.accepted, 0U);
}

TEST(Worker, DoesNotBlameThePeerForItsOwnStandstill) {
  OneSession link;
  link.send_all_pages_first();
  link.session.start();
  link.left.submit(CommandKind::kProbePath);
  link.run(1);
  fake_now += 2 * kPeerSilentNs;
  const auto probed = link.await(link.left);
  ASSERT_TRUE(probed.has_value());
  EXPECT_EQ(probed->kind, EventKind::kPathProbed);
  EXPECT_EQ(probed->value, 9000U);
  link.session.run_iteration(false);
  link.to_right.loss = 1;
  link.run(3);
  ASSERT_GT(link.session.send.sender.in_flight_frames(), 0U);
  link.to_right.loss = 0;
  fake_now += 2 * kPeerSilentNs;
  link.expect(link.left, EventKind::kIterationDone);
}

TEST(Worker, GivesUpAPeerWhosePortTakesNothing) {
  OneSession link;
  link.send_all_pages_first();
  link.to_right.depth = 0;
  link.session.start();
  link.session.run_iteration(false);
  const auto event = link.await(link.left, 2 * kPeerSilentNs);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->kind, EventKind::kPeerSilent);
}

TEST(Worker, KeepsAStoppedFlowUntilTheDeviceReadsItsMemoryNoMore) {
  OneSession link;
  link.session.start();
  link.run(5);
  link.left.queue.references = 1;
  link.left.submit(CommandKind::kStop);
  link.run(100);
  EXPECT_FALSE(link.left.next_event().has_value());
  EXPECT_TRUE(link.left.worker->has_flows());
  link.left.queue.references = 0;
  link.expect(link.left, EventKind::kStopped);
  EXPECT_FALSE(link.left.worker->has_flows());
}

TEST(Worker, StopsReceivingAndDropsWhatComesLater) {
  OneSession link;
  link.to_right.depth = 1;
  link.send_all_pages_first();
  link.session.start();
  link.session.run_iteration(false);
  link.run(20);
  link.right.submit(CommandKind::kStop);
  link.expect(link.right, EventKind::kStopped);
  EXPECT_FALSE(link.right.worker->has_flows());
  const std::vector<std::byte> before(link.session.ram_there.base(),
                                      link.session.ram_there.page(kRamPages));
  link.run(100);
  EXPECT_GT(link.right.drops(wire::DropReason::kUnknownSession), 0U);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), link.session.ram_there.base()));
}

TEST(Worker, AnswersAStopOfAFlowItDoesNotHave) {
  OneSession link;
  link.left.submit(CommandKind::kStop);
  link.expect(link.left, EventKind::kStopped);
}

TEST(Worker, ServesFlowsInBothDirectionsInTurn) {
  Link link;
  fake_now = kSecondNs;
  std::vector<std::unique_ptr<Session>> sessions;
  for (std::uint64_t id = 1; id <= 3; ++id) {
    sessions.push_back(
        std::make_unique<Session>(link.left, link.right, endpoint(1), endpoint(2), id));
  }
  sessions.push_back(std::make_unique<Session>(link.right, link.left, endpoint(2), endpoint(1), 4));
  Random random(5);
  for (auto& session : sessions) {
    for (std::uint64_t page = 0; page < kRamPages; ++page) {
      scribble(session->ram_here.page(page), random);
    }
    session->send.sender.mark_dirty(0, kRamPages);
    session->start();
    session->run_iteration(false);
  }
  link.run(20);
  const auto sent = [&](std::size_t i) { return sessions[i]->send.probe.frames_sent.load(); };
  EXPECT_GT(sent(0), 10U);
  EXPECT_NEAR(static_cast<double>(sent(0)), static_cast<double>(sent(1)), kTransmitBurst);
  EXPECT_NEAR(static_cast<double>(sent(0)), static_cast<double>(sent(2)), kTransmitBurst);
  for (int i = 0; i < 3; ++i) {
    link.expect(link.left, EventKind::kIterationDone);
  }
  link.expect(link.right, EventKind::kIterationDone);
  for (auto& session : sessions) {
    session->send_pages(0, 1);
    link.expect(session->sender, EventKind::kSettled);
    EXPECT_TRUE(session->same_memory());
  }
}

TEST(Worker, CountsWhatItDropsByReason) {
  OneSession link;
  link.session.start();
  link.to_right.packets.push_back(std::vector<std::byte>(60));
  std::vector<std::byte> empty_datagram(wire::kPacketPrefixBytes);
  wire::PacketTemplate(endpoint(1), endpoint(2), 0).fill(empty_datagram, 0);
  link.to_right.packets.push_back(empty_datagram);
  link.run(2);
  EXPECT_EQ(link.right.drops(wire::DropReason::kNotForUs), 1U);
  EXPECT_EQ(link.right.drops(wire::DropReason::kTooShort), 1U);
  EXPECT_EQ(link.right.probe.packets_received.load(), 2U);
}

TEST(Worker, IsIdleWhenThereIsNothingToDo) {
  OneSession link;
  link.session.start();
  link.run(10);
  EXPECT_EQ(link.left.worker->step(fake_now), Activity::kIdle);
  link.session.send_pages(0, 10);
  EXPECT_EQ(link.left.worker->step(fake_now), Activity::kBusy);
}

// ---- the path ----

// The MTU that a flow is told at its start.
std::optional<std::uint64_t> probe_path(OneSession& link) {
  link.session.start();
  link.left.submit(CommandKind::kProbePath);
  const auto event = link.await(link.left, 2 * protocol::kProbeSilentNs);
  if (!event || event->kind != EventKind::kPathProbed) {
    return std::nullopt;
  }
  return event->value;
}

TEST(Worker, FindsThePathAsWideAsAgreed) {
  OneSession link;
  EXPECT_EQ(probe_path(link), 9000U);
  EXPECT_EQ(link.to_right.accepted, 1U);
  EXPECT_EQ(link.to_left.accepted, 1U);
}

TEST(Worker, FallsBackToTheLargestFrameThatArrives) {
  OneSession link;
  link.to_right.mtu = 1500;
  EXPECT_EQ(probe_path(link), 1500U);
  link.run(kBusyStepsPerCommandPoll);
  EXPECT_EQ(link.session.send.sender.mtu(), 1500U);
}

TEST(Worker, SaysThatNothingArrivesAtAll) {
  OneSession link;
  link.to_right.mtu = 0;
  EXPECT_EQ(probe_path(link), 0U);
  EXPECT_LT(fake_now, kSecondNs + protocol::kProbeSilentNs + kSecondNs / 10);
}

TEST(Worker, SaysThatAPortTakesNothing) {
  OneSession link;
  link.to_right.depth = 0;
  EXPECT_EQ(probe_path(link), 0U);
}

TEST(Worker, MarksPagesOnCommand) {
  OneSession link;
  link.session.start();
  const std::vector<port::PageRun> runs = {{3, 2}, {600, 1}};
  for (const PageNumber page : {3, 4, 600}) {
    scribble(link.session.ram_here.page(page), link.random);
  }
  Command command = Host::make(CommandKind::kMarkPages);
  command.runs = runs;
  command.tracker = &link.session.tracker;
  link.left.submit(command);
  link.expect(link.left, EventKind::kPagesMarked);
  link.session.run_iteration(false);
  link.expect(link.left, EventKind::kIterationDone);
  EXPECT_EQ(link.session.send.probe.raw_pages_sent.load(), 3U);
}

// Long before the peer counts as silent, at any time of a session, and more than once.
TEST(Worker, APathThatNarrowsUnderWayCostsASessionSmallerFramesOnly) {
  for (const std::uint64_t steps : {1U, 20U, 60U}) {
    SCOPED_TRACE("narrows after step " + std::to_string(steps));
    OneSession link;
    link.send_all_pages_first();
    link.session.start();
    link.session.run_iteration(false);
    link.run(steps);
    link.to_right.mtu = 1500;
    link.expect(link.left, EventKind::kIterationDone);
    link.write_some(100);
    link.session.run_iteration(true);
    link.run(10);
    link.to_right.mtu = 640;
    link.expect(link.left, EventKind::kIterationDone);
    link.left.submit(CommandKind::kFinalPass);
    link.expect(link.left, EventKind::kFinalScanned);
    link.expect(link.left, EventKind::kSettled);
    EXPECT_TRUE(link.session.same_memory());
    EXPECT_LE(link.session.send.probe.mtu.load(), 1500U);
    EXPECT_TRUE(link.session.send.sender.invariants_hold());
  }
}

// A standstill makes a round trip look as long as itself, and what waits for round trips slow.
void stand_still_for_a_round_trip(OneSession& link) {
  link.send_all_pages_first();
  link.session.start();
  link.session.run_iteration(false);
  link.run(2);
  ASSERT_GT(link.session.send.sender.in_flight_frames(), 0U);
  fake_now += kSecondNs;
  link.run(5);
  ASSERT_GT(link.session.send.sender.rtt().smoothed_ns(), kSecondNs / 2);
}

TEST(Worker, APathThatNarrowsAfterAStandstillIsFoundOutBeforeThePeerCountsAsSilent) {
  OneSession link;
  stand_still_for_a_round_trip(link);
  link.to_right.mtu = 1500;
  const auto event = link.await(link.left, 2 * kPeerSilentNs);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->kind, EventKind::kIterationDone);
  EXPECT_EQ(link.session.send.probe.mtu.load(), 1500U);
}

TEST(Worker, APeerThatAnswersProbesIsNotSilent) {
  OneSession link;
  stand_still_for_a_round_trip(link);
  link.to_right.mtu = 0;
  EXPECT_FALSE(link.await(link.left, kPeerSilentNs * 3 / 4).has_value());
  link.to_right.mtu = 1500;
  const auto event = link.await(link.left, 2 * kPeerSilentNs);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->kind, EventKind::kIterationDone);
}

TEST(Worker, APathThatCarriesNothingIsSilence) {
  OneSession link;
  link.send_all_pages_first();
  link.session.start();
  link.to_right.mtu = 0;
  link.session.run_iteration(false);
  const auto silent = link.await(link.left, 2 * kPeerSilentNs);
  ASSERT_TRUE(silent);
  EXPECT_EQ(silent->kind, EventKind::kPeerSilent) << "no size arrives: nothing to fall back to";
}

}  // namespace
}  // namespace sluice::engine
