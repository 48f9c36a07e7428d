// The controller's executor against agents that fall silent: no guest is taken for lost, none is
// moved twice, and every action ends.
#include "control/controller/executor.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "tests/integration/cli/fake_agent.h"
#include "tests/integration/test_pki.h"

namespace sluice::controller {
namespace {

using cli::FakeAgent;
using patch::Outcome;

class ExecutorTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* host : {"h1", "h2"})
      config_.hosts.push_back({host, "unix:" + directory_ + "/" + host + ".sock"});
    config_.state_dir = directory_;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<FakeAgent> agent(const std::string& host) {
    return std::make_unique<FakeAgent>(host, directory_, *pki_.credentials(host));
  }

  // Of moving g1 from h1 to h2. `silence_max` is no time that is waited for, but by the cases that
  // end by it.
  Outcome move(bool again = false, std::chrono::milliseconds silence_max = std::chrono::hours(1)) {
    patch::Intent intent{1, patch::ActionKind::kMigrate, "drain:g1", "h1", "g1", "h1", "h2"};
    return perform(intent, again, silence_max);
  }

  Outcome perform(const patch::Intent& intent, bool again = false,
                  std::chrono::milliseconds silence_max = std::chrono::hours(1),
                  const std::string& journal_id = "0123456789abcdef") {
    const auto credentials = pki_.credentials("c1", security::Role::kController);
    Inventory inventory(config_, *credentials, {journal_id, 1});
    inventory.watch();
    std::promise<Outcome> end;
    Executor executor(
        config_, *credentials, {journal_id, 1}, inventory,
        [&end](const std::string&, const Outcome& outcome) { end.set_value(outcome); },
        [](const std::string& message) { ADD_FAILURE() << message; }, silence_max);
    executor.begin(run_, intent, again);
    auto ended = end.get_future();
    while (ended.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready) {
      const auto waiting = executor.waiting("r1");
      if (!waiting.empty() && on_waiting_) std::exchange(on_waiting_, nullptr)(waiting.at(1));
    }
    EXPECT_TRUE(executor.waiting("r1").empty());
    return ended.get();
  }

  // Of checking the paths of h1, which has come back.
  Outcome check_paths() {
    const auto credentials = pki_.credentials("c1", security::Role::kController);
    const std::string journal_id = "0123456789abcdef";
    Inventory inventory(config_, *credentials, {journal_id, 1});
    inventory.watch();
    std::vector<std::string> names;
    for (const auto& host : config_.hosts) names.push_back(host.name);
    inventory.refresh(names);
    std::promise<Outcome> end;
    Executor executor(
        config_, *credentials, {journal_id, 1}, inventory,
        [&end](const std::string&, const Outcome& outcome) { end.set_value(outcome); },
        [](const std::string& message) { ADD_FAILURE() << message; });
    executor.begin(patch::Run("r1"), {1, patch::ActionKind::kCheckPaths, "paths", "h1"}, false);
    return end.get_future().get();
  }

  const std::string directory_ = [] {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-ctl-XXXXXX").string();
    return std::string(mkdtemp(pattern.data()));
  }();
  test::TestPki pki_{directory_};
  Config config_;
  patch::Run run_{"r1"};
  std::function<void(const std::string& for_what)> on_waiting_;
};

constexpr const char* kNarrow =
    "configured 9000, largest frame that reaches h1 is 1500: check the switch ports";

TEST_F(ExecutorTest, PathsAreCheckedInBothDirections) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->paths = {{"h2", ""}};
  h2->paths = {{"h1", ""}};
  const Outcome good = check_paths();
  EXPECT_TRUE(good.ok) << good.detail;
  EXPECT_EQ(good.detail, "full frames to and from h2");
  h2->paths = {{"h1", kNarrow}};
  const Outcome bad = check_paths();
  EXPECT_FALSE(bad.ok);
  EXPECT_EQ(bad.detail, kNarrow);
}

TEST_F(ExecutorTest, AFaultOnTheWayToOneOfSeveralPeersIsNamedAndNotTheHosts) {
  config_.hosts.push_back({"h3", "unix:" + directory_ + "/h3.sock"});
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  const auto h3 = agent("h3");
  h1->paths = {{"h2", ""}, {"h3", "largest frame that reaches h3 is 1500"}};
  h2->paths = h3->paths = {{"h1", ""}};
  const Outcome end = check_paths();
  EXPECT_TRUE(end.ok);
  EXPECT_EQ(end.detail, "full frames to and from h2; largest frame that reaches h3 is 1500");
}

TEST_F(ExecutorTest, APathThatCarriesNothingFailsTheHost) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->paths = {{"h2", ""}};
  const Outcome end = check_paths();
  EXPECT_FALSE(end.ok);
  EXPECT_EQ(end.detail, "no frame of any size reaches h1");
}

TEST_F(ExecutorTest, PeersThatDoNotAnswerFailNobody) {
  const auto h1 = agent("h1");
  h1->paths = {{"h2", ""}};
  const Outcome end = check_paths();
  EXPECT_TRUE(end.ok);
  EXPECT_EQ(end.detail, "no other host answers");
}

// As an agent ends a migration whose commit nobody has confirmed.
FakeAgent::Script leaves_it(const std::string& state) {
  return [state](FakeAgent& source, const v1::MigrateRequest& request, auto& writer) {
    source.add_guest(request.guest(), state);
    source.send_summary(writer, request, "unknown", "the connection to h2 was lost");
    return grpc::Status::OK;
  };
}

TEST_F(ExecutorTest, AMoveWhoseDestinationStaysSilentEndsUnsettledAndIsNotBegunAgain) {
  const auto h1 = agent("h1");
  h1->add_guest("g1");
  h1->script = leaves_it("handed-over");
  const Outcome end = move(false, std::chrono::milliseconds(1));
  EXPECT_FALSE(end.ok);
  EXPECT_TRUE(end.unsettled);
  EXPECT_EQ(end.detail,
            "where g1 runs is not known: h1 has it as \"handed-over\", h2 does not answer (the "
            "connection to h2 was lost)");
  EXPECT_EQ(h1->migrations.size(), 1U);
}

TEST_F(ExecutorTest, SaysWhomItWaitsForAndGoesOnWhenTheyAnswer) {
  const auto h1 = agent("h1");
  std::unique_ptr<FakeAgent> h2;
  h1->script = leaves_it("handed-over");
  std::string waited_for;
  on_waiting_ = [&](const std::string& for_what) {
    waited_for = for_what;
    h2 = agent("h2");
    h2->add_guest("g1");
  };
  EXPECT_TRUE(move().ok);
  EXPECT_NE(waited_for.find("h2 does not answer"), std::string::npos) << waited_for;
}

// While the source's agent asks the destination, it calls the guest moving.
TEST_F(ExecutorTest, AnAgentThatIsAskingItselfIsNoMigrationThatGoesOn) {
  const auto h1 = agent("h1");
  h1->add_guest("g1", "moving");
  h1->script = [](FakeAgent& source, const v1::MigrateRequest& request, auto& writer) {
    if (source.watched > 0) return grpc::Status(grpc::StatusCode::NOT_FOUND, "it is not moving");
    return leaves_it("moving")(source, request, writer);
  };
  const Outcome end = move(false, std::chrono::milliseconds(1));
  EXPECT_TRUE(end.unsettled) << end.detail;
  EXPECT_GE(h1->watched, 1);
}

TEST_F(ExecutorTest, AMigrationThatGoesOnAfterItsConnectionWasLostIsFollowedAgain) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1", "moving");
  h1->script = [&h2](FakeAgent& source, const v1::MigrateRequest& request, auto& writer) {
    if (source.watched == 0)
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "Connection reset by peer");
    source.remove_guest(request.guest());
    h2->add_guest(request.guest());
    source.send_summary(writer, request, "completed");
    return grpc::Status::OK;
  };
  const Outcome end = move();
  EXPECT_TRUE(end.ok) << end.detail;
  EXPECT_GT(end.downtime_ms, 0);
  EXPECT_EQ(h1->migrations.size(), 1U);
}

TEST_F(ExecutorTest, LossIsOfTheFramesThatWereSentWhateverTheirSize) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1");
  h1->script = [](FakeAgent&, const v1::MigrateRequest&, auto& writer) {
    v1::MigrateUpdate update;
    v1::MigrateSummary& summary = *update.mutable_summary();
    summary.set_to("h2");
    summary.set_status("completed");
    summary.set_mtu(9000);
    summary.set_bytes_wire(9'000'000);
    summary.set_frames_sent(4'000);
    summary.set_frames_lost(20);
    writer.Write(update);
    return grpc::Status::OK;
  };
  EXPECT_DOUBLE_EQ(move().lost_share, 0.005);
}

TEST_F(ExecutorTest, WhatAnAgentSaysThatIsNoNumberIsNotTakenDown) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1");
  h1->more.set_waited_share(std::numeric_limits<double>::quiet_NaN());
  h1->script = [](FakeAgent&, const v1::MigrateRequest&, auto& writer) {
    v1::MigrateUpdate update;
    v1::MigrateSummary& summary = *update.mutable_summary();
    summary.set_to("h2");
    summary.set_status("completed");
    summary.set_seconds(std::numeric_limits<double>::infinity());
    summary.set_goodput_gbps(std::numeric_limits<double>::quiet_NaN());
    writer.Write(update);
    return grpc::Status::OK;
  };
  const Outcome end = move();
  EXPECT_TRUE(end.ok) << end.detail;
  EXPECT_EQ(end.seconds, 0);
  EXPECT_EQ(end.goodput_gbps, 0);
  const auto credentials = pki_.credentials("c1", security::Role::kController);
  Inventory inventory(config_, *credentials, {"0123456789abcdef", 1});
  inventory.refresh({"h1"});
  EXPECT_FALSE(inventory.hosts().at("h1").info.has_waited_share());
}

// It was begun after the guest had been seen at rest.
TEST_F(ExecutorTest, AMoveThatSomebodyElseBeganToAnotherHostIsNotThisOne) {
  config_.hosts.push_back({"h3", "unix:" + directory_ + "/h3.sock"});
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  const auto h3 = agent("h3");
  h1->add_guest("g1", "moving");
  h1->script = [&](FakeAgent& source, const v1::MigrateRequest& request, auto& writer) {
    if (source.watched == 0) return grpc::Status(grpc::StatusCode::ABORTED, "g1 is being moved");
    source.remove_guest("g1");
    h3->add_guest("g1");
    v1::MigrateRequest by_hand = request;
    by_hand.set_to("h3");
    source.send_summary(writer, by_hand, "completed");
    return grpc::Status(grpc::Status::OK);
  };
  const Outcome end = move();
  EXPECT_FALSE(end.ok);
  EXPECT_FALSE(end.unsettled);
  EXPECT_EQ(end.detail, "somebody else was moving g1 to h3");
  EXPECT_EQ(end.goodput_gbps, 0);
}

// Its agent may not have let go yet of the move by which it came.
TEST_F(ExecutorTest, AGuestThatHasJustArrivedIsMovedOn) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1");
  int asked = 0;
  h1->script = [&](FakeAgent& source, const v1::MigrateRequest& request, auto& writer) {
    ++asked;
    if (asked == 1) return grpc::Status(grpc::StatusCode::ABORTED, "guest g1 is being moved");
    if (asked == 2) return grpc::Status(grpc::StatusCode::NOT_FOUND, "guest g1 is not moving");
    source.remove_guest("g1");
    h2->add_guest("g1");
    source.send_summary(writer, request, "completed");
    return grpc::Status(grpc::Status::OK);
  };
  const Outcome end = move();
  EXPECT_TRUE(end.ok) << end.detail;
  EXPECT_EQ(asked, 3);
}

TEST_F(ExecutorTest, WhatTheDestinationRunsHasArrived) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h2->add_guest("g1");
  h1->script = leaves_it("handed-over");
  EXPECT_TRUE(move().ok);
  EXPECT_EQ(h1->migrations.size(), 1U);
  EXPECT_TRUE(move(/*again=*/true).ok);
  EXPECT_EQ(h1->migrations.size(), 1U);
}

TEST_F(ExecutorTest, WhatTheSourceRunsHasStayed) {
  const auto h1 = agent("h1");
  h1->script = leaves_it("running");
  const Outcome end = move();
  EXPECT_FALSE(end.ok);
  EXPECT_FALSE(end.unsettled);
  EXPECT_EQ(end.detail, "the connection to h2 was lost");
}

TEST_F(ExecutorTest, AGuestThatWaitsForAnOperatorIsLeftToTheOperatorAtOnce) {
  const auto h1 = agent("h1");
  h1->script = leaves_it("forgotten");
  const Outcome end = move();
  EXPECT_TRUE(end.unsettled);
  EXPECT_NE(end.detail.find("on h1 it waits for an operator"), std::string::npos) << end.detail;
}

// Every journal begins with a run r1.
TEST_F(ExecutorTest, AHookOfANewJournalIsAnotherOneForItsAgent) {
  const auto h1 = agent("h1");
  patch::Intent intent{5, patch::ActionKind::kHook, "patch", "h1"};
  intent.hook.name = "patch";
  for (const char* journal : {"aaaa", "bbbb"})
    EXPECT_TRUE(perform(intent, false, std::chrono::hours(1), journal).ok);
  EXPECT_EQ(h1->hook_keys, (std::vector<std::string>{"aaaa-r1-5", "bbbb-r1-5"}));
}

// So gRPC calls a connection that breaks at the wrong moment.
const grpc::Status stream_removed(grpc::StatusCode::UNKNOWN, "Stream removed");

TEST_F(ExecutorTest, AHookWhoseAnswerWasLostIsAskedForAgain) {
  const auto h1 = agent("h1");
  patch::Intent intent{5, patch::ActionKind::kHook, "patch", "h1"};
  intent.hook.name = "patch";
  h1->on_hook = [&]() -> std::optional<grpc::Status> {
    return h1->hook_keys.size() == 1 ? std::optional(stream_removed) : std::nullopt;
  };
  const Outcome end = perform(intent);
  EXPECT_TRUE(end.ok) << end.detail;
  EXPECT_EQ(h1->hook_keys.size(), 2U);
  EXPECT_EQ(h1->hook_keys.front(), h1->hook_keys.back());
  // One that never says what became of it does not keep the run for ever.
  h1->on_hook = [] { return stream_removed; };
  intent.hook.timeout_s = 0;
  EXPECT_FALSE(perform(intent, false, std::chrono::milliseconds(1)).ok);
}

TEST_F(ExecutorTest, AHookMayHaveBegunOnceAnAnswerWasLost) {
  const auto h1 = agent("h1");
  patch::Intent intent{5, patch::ActionKind::kHook, "unsilence", "h1"};
  intent.hook.name = "patch";
  int lost = 0;
  h1->on_hook = [&]() -> std::optional<grpc::Status> {
    if (lost-- > 0) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "Connection reset by peer");
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no hook patch");
  };
  EXPECT_TRUE(perform(intent).not_begun);
  lost = 1;
  EXPECT_FALSE(perform(intent).not_begun);
  EXPECT_FALSE(perform(intent, /*again=*/true).not_begun) << "an earlier controller has asked";
  // Nor when another process may begin it.
  intent.hook.on_controller = true;
  EXPECT_TRUE(perform(intent).not_begun);
  EXPECT_FALSE(perform(intent, /*again=*/true).not_begun);
}

patch::Intent stop_g1() { return {1, patch::ActionKind::kStopGuest, "drain:g1", "h1", "g1"}; }

// As after the death of a controller that asked for the same.
TEST_F(ExecutorTest, AStopThatIsUnderWayAlreadyIsWaitedFor) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1");
  int asked = 0;
  h1->on_start_or_stop = [&](const std::string& guest) -> std::optional<grpc::Status> {
    if (++asked == 2) h1->remove_guest(guest);
    return asked > 2 ? std::nullopt
                     : std::optional(grpc::Status(grpc::StatusCode::ABORTED,
                                                  "guest g1 is being started or stopped"));
  };
  const Outcome end = perform(stop_g1(), /*again=*/true);
  EXPECT_TRUE(end.ok) << end.detail;
  EXPECT_EQ(asked, 2);
}

TEST_F(ExecutorTest, AStopWhoseAnswerWasLostHasHappenedIfTheGuestIsGone) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1");
  h1->on_start_or_stop = [&](const std::string& guest) -> std::optional<grpc::Status> {
    h1->remove_guest(guest);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "Connection reset by peer");
  };
  EXPECT_TRUE(perform(stop_g1()).ok);
}

TEST_F(ExecutorTest, AGuestThatSomebodyStartedElsewhereIsNotStoppedThere) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h2->add_guest("g1");
  const Outcome end = perform(stop_g1(), /*again=*/true);
  EXPECT_FALSE(end.ok);
  EXPECT_EQ(end.detail, "g1 is on h2 by now");
  EXPECT_EQ(h2->guest_count(), 1U);
}

TEST_F(ExecutorTest, AGuestThatWaitsForAnOperatorIsNotStopped) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->add_guest("g1", "forgotten");
  const Outcome end = perform(stop_g1());
  EXPECT_FALSE(end.ok);
  EXPECT_TRUE(end.unsettled);
  EXPECT_EQ(end.detail,
            "where g1 runs is not known: on h1 it waits for an operator: see sluice guest resume "
            "and sluice guest stop");
  EXPECT_EQ(h1->guest_count(), 1U);
  // A run's own, which nobody needs to look at, is not its hosts' trouble.
  patch::Intent stop_canary = stop_g1();
  stop_canary.guest = "canary-r1-h1";
  h1->add_guest(stop_canary.guest, "forgotten");
  EXPECT_FALSE(perform(stop_canary).unsettled);
  EXPECT_EQ(h1->guest_count(), 2U);
}

// Of a guest that its run has shut down on h1.
class RestartTest : public ExecutorTest {
 protected:
  RestartTest() {
    patch::Intent stop{1, patch::ActionKind::kStopGuest, "shutdown:g1", "h1", "g1"};
    stop.definition = "name = \"g1\"\ndriver = \"memory\"\nmemory = \"64M\"\n";
    const patch::Created created{"name = 'p'\nhosts = ['h1']\ndrain_only = true\n"};
    using Body = decltype(patch::Record::body);
    for (const Body& body : {Body(created), Body(stop)}) {
      const auto applied = run_.apply({1, body});
      EXPECT_TRUE(applied) << applied.error().message;
    }
  }
  Outcome start(bool again, std::chrono::milliseconds silence_max = std::chrono::hours(1)) {
    const patch::Intent intent{1, patch::ActionKind::kStartGuest, "start:g1", "h1", "g1"};
    return perform(intent, again, silence_max);
  }
};

// As by hand, when no controller was there to see it.
TEST_F(RestartTest, AGuestThatRunsElsewhereByNowIsNotStartedAgain) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  for (const char* state : {"running", "moving"}) {
    h2->add_guest("g1", state);
    const Outcome end = start(/*again=*/true);
    EXPECT_TRUE(end.ok) << end.detail;
    EXPECT_EQ(end.detail, "it runs on h2 by now");
  }
  EXPECT_EQ(h1->guest_count(), 0U);
}

TEST_F(RestartTest, AGuestThatASilentHostMayHaveIsNotStarted) {
  const auto h1 = agent("h1");
  const Outcome end = start(/*again=*/true, std::chrono::milliseconds(1));
  EXPECT_FALSE(end.ok);
  EXPECT_EQ(end.detail, "where g1 runs is not known: h2 does not answer");
  std::unique_ptr<FakeAgent> h2;
  on_waiting_ = [&](const std::string&) {
    h2 = agent("h2");
    h2->add_guest("g1");
  };
  EXPECT_EQ(start(/*again=*/true).detail, "it runs on h2 by now");
  EXPECT_EQ(h1->guest_count(), 0U);
}

TEST_F(RestartTest, AGuestThatIsNeitherHereNorThereIsNotStarted) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  for (const char* state : {"incoming", "forgotten", "silent"}) {
    h2->add_guest("g1", state);
    const Outcome end = start(/*again=*/false, std::chrono::milliseconds(1));
    EXPECT_FALSE(end.ok) << state;
    EXPECT_EQ(end.detail.find("where g1 runs is not known: "), 0U) << end.detail;
  }
  h2->remove_guest("g1");
  EXPECT_TRUE(start(/*again=*/false).ok);
  EXPECT_EQ(h1->guest_count(), 1U);
}

// Who has watched all the time knows that nobody has it.
TEST_F(RestartTest, ASilentHostKeepsNoGuestDownThatThisControllerHasShutDown) {
  const auto h1 = agent("h1");
  EXPECT_TRUE(start(/*again=*/false).ok);
  EXPECT_EQ(h1->guest_count(), 1U);
}

TEST_F(ExecutorTest, ARebootIsAskedForAgainWhenTheQuestionWasLost) {
  patch::Intent intent{1, patch::ActionKind::kReboot, "reboot", "h1"};
  intent.boot_id = "b1";
  std::unique_ptr<FakeAgent> h1;
  on_waiting_ = [&](const std::string&) { h1 = agent("h1"); };
  const Outcome end = perform(intent);
  EXPECT_TRUE(end.ok) << end.detail;
  ASSERT_NE(h1, nullptr);
  EXPECT_EQ(h1->reboots, (std::vector<std::string>{"b1"}));
}

TEST_F(ExecutorTest, ARebootWhoseAnswerWasLostIsAskedForAgain) {
  patch::Intent intent{1, patch::ActionKind::kReboot, "reboot", "h1"};
  intent.boot_id = "b1";
  const auto h1 = agent("h1");
  int asked = 0;
  h1->on_reboot = [&]() -> std::optional<grpc::Status> {
    return ++asked == 1 ? std::optional(stream_removed) : std::nullopt;
  };
  const Outcome end = perform(intent);
  EXPECT_TRUE(end.ok) << end.detail;
  EXPECT_EQ(asked, 2);
}

TEST_F(ExecutorTest, ARebootIsAskedForAgainWhileSomethingIsInItsWay) {
  patch::Intent intent{1, patch::ActionKind::kReboot, "reboot", "h1"};
  intent.boot_id = "b1";
  const auto h1 = agent("h1");
  int refusals = 2;
  h1->on_reboot = [&]() -> std::optional<grpc::Status> {
    if (refusals-- <= 0) return std::nullopt;
    return grpc::Status(grpc::StatusCode::ABORTED, "h1 has 1 guests that must be moved first");
  };
  const Outcome good = perform(intent);
  EXPECT_TRUE(good.ok) << good.detail;
  EXPECT_EQ(h1->reboots.size(), 1U);
  refusals = 1'000'000;
  const Outcome bad = perform(intent, /*again=*/false, std::chrono::milliseconds(100));
  EXPECT_FALSE(bad.ok);
  EXPECT_EQ(bad.detail, "h1 has 1 guests that must be moved first");
}

// As after it was taken out of the configuration while something was under way there.
TEST_F(ExecutorTest, AHostThatIsNotConfiguredAnyMoreIsNamedWithTheRemedy) {
  const auto h2 = agent("h2");
  patch::Intent hook{1, patch::ActionKind::kHook, "patch", "h3"};
  hook.hook.name = "patch";
  const patch::Intent move{1, patch::ActionKind::kMigrate, "drain:g1", "h3", "g1", "h3", "h2"};
  const patch::Intent stop{1, patch::ActionKind::kStopGuest, "drain:g1", "h3", "g1"};
  patch::Intent reboot{1, patch::ActionKind::kReboot, "reboot", "h3"};
  config_.hosts.erase(config_.hosts.begin());  // h1, which would only be waited for
  for (const patch::Intent& intent : {hook, move, stop, reboot}) {
    const Outcome end = perform(intent, /*again=*/true, std::chrono::milliseconds(1));
    EXPECT_FALSE(end.ok) << to_string(intent.kind);
    EXPECT_NE(end.detail.find("h3 is not in [hosts]"), std::string::npos) << end.detail;
    EXPECT_NE(end.detail.find("put it back"), std::string::npos) << end.detail;
    EXPECT_EQ(end.unsettled, intent.kind == patch::ActionKind::kMigrate);
    if (!intent.guest.empty()) {
      EXPECT_NE(end.detail.find("where g1 runs is not known"), std::string::npos) << end.detail;
    }
  }
}

TEST_F(ExecutorTest, AGuestThatHasEndedIsNotWaitedFor) {
  const auto h1 = agent("h1");
  const auto h2 = agent("h2");
  h1->script = [](FakeAgent&, const v1::MigrateRequest&, auto&) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no guest g1 on h1");
  };
  const Outcome end = move();
  EXPECT_FALSE(end.ok);
  EXPECT_FALSE(end.unsettled);
  EXPECT_EQ(end.detail, "no guest g1 on h1");
}

}  // namespace
}  // namespace sluice::controller
