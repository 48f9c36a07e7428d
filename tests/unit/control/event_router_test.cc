#include "control/agent/event_router.h"

#include <gtest/gtest.h>
#include <thread>

#include "dataplane/port/dirty_source.h"
#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

engine::Event event(engine::EventKind kind, std::uint64_t session, std::uint16_t flow,
                    std::uint64_t value = 0) {
  engine::Event made;
  made.kind = kind;
  made.session = session;
  made.flow = flow;
  made.value = value;
  return made;
}

TEST(EventRouter, KeepsSessionsApart) {
  EventRouter router;
  const auto one = router.open(1, "db-3");
  const auto two = router.open(2, "db-3");
  router.deliver(event(engine::EventKind::kSettled, 2, 0, 22));
  router.deliver(event(engine::EventKind::kSettled, 1, 0, 11));
  router.deliver(event(engine::EventKind::kSettled, 3, 0));
  EXPECT_EQ(one->await(engine::EventKind::kSettled, 1, 0)->front().value, 11U);
  EXPECT_EQ(two->await(engine::EventKind::kSettled, 1, 0)->front().value, 22U);
}

TEST(EventRouter, ForgetsASessionThatNobodyHolds) {
  EventRouter router;
  auto first = router.open(7, "db-3");
  first.reset();
  router.deliver(event(engine::EventKind::kSettled, 7, 0));
  const auto second = router.open(7, "db-3");
  EXPECT_FALSE(second->await(engine::EventKind::kSettled, 1, monotonic_now_ns()));
}

// A peer chooses the numbers of its sessions.
TEST(EventRouter, RefusesASessionThatIsInUse) {
  EventRouter router;
  const auto first = router.open(7, "db-3");
  EXPECT_EQ(router.open(7, "db-4"), nullptr);
  router.deliver(event(engine::EventKind::kSettled, 7, 0));
  EXPECT_TRUE(first->await(engine::EventKind::kSettled, 1, monotonic_now_ns()));
}

TEST(SessionEvents, WaitsForOneEventFromEachFlowAndKeepsEarlyOnes) {
  SessionEvents events("db-3");
  std::thread worker([&] {
    events.push(event(engine::EventKind::kFinalScanned, 1, 0));
    events.push(event(engine::EventKind::kSettled, 1, 0));
    events.push(event(engine::EventKind::kFinalScanned, 1, 1));
    events.push(event(engine::EventKind::kSettled, 1, 1));
  });
  EXPECT_EQ(events.await(engine::EventKind::kFinalScanned, 2, 0)->size(), 2U);
  EXPECT_EQ(events.await(engine::EventKind::kSettled, 2, 0)->size(), 2U);
  worker.join();
}

TEST(SessionEvents, ADeadlineThatPassesNamesWhatWasWaitedFor) {
  SessionEvents events("db-3");
  events.push(event(engine::EventKind::kFolded, 1, 0));
  const auto result = events.await(engine::EventKind::kFolded, 2, monotonic_now_ns());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kUnreachable);
  EXPECT_NE(result.error().message.find("folded"), std::string::npos);
}

TEST(SessionEvents, ASilentPeerEndsEveryWaitButNotTheReturnOfFlows) {
  SessionEvents events("db-3");
  events.push(event(engine::EventKind::kPeerSilent, 1, 1));
  events.push(event(engine::EventKind::kStopped, 1, 0));
  const auto result = events.await(engine::EventKind::kIterationDone, 1, 0);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kUnreachable);
  EXPECT_TRUE(events.await_regardless(engine::EventKind::kStopped, 1, 0));
}

TEST(SessionEvents, AFailedTrackerSaysWhetherTheGuestHasGone) {
  SessionEvents gone("db-3");
  gone.push(event(engine::EventKind::kTrackerFailed, 1, 0,
                  static_cast<std::uint64_t>(port::HarvestStatus::kTargetGone)));
  EXPECT_NE(gone.interruption()->message.find("exited"), std::string::npos);
  SessionEvents failed("db-3");
  failed.push(event(engine::EventKind::kTrackerFailed, 1, 0,
                    static_cast<std::uint64_t>(port::HarvestStatus::kFailed)));
  EXPECT_NE(failed.interruption()->message.find("tracking"), std::string::npos);
}

TEST(SessionEvents, AnUnseenWriteNamesTheGuestAndWhereItsMemoryChanged) {
  SessionEvents events("db-3");
  events.push(event(engine::EventKind::kUnseenWrite, 1, 0, 0x1234));
  const auto result = events.await(engine::EventKind::kIterationDone, 1, 0);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("offset 0x1234000 of guest db-3"), std::string::npos);
  EXPECT_NE(result.error().message.find("vhost-user"), std::string::npos);
}

TEST(SessionEvents, AnInterruptionWakesAWaiterAndTheFirstOneCounts) {
  SessionEvents events("db-3");
  std::thread other([&] {
    events.interrupt({ErrorKind::kFailed, "first"});
    events.interrupt({ErrorKind::kBusy, "second"});
  });
  const auto result = events.await(engine::EventKind::kSettled, 1, 0);
  other.join();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "first");
}

}  // namespace
}  // namespace sluice::agent
