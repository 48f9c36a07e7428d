// The destination's side of a handover against a source that says what the test makes it say.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <gtest/gtest.h>
#include <mutex>
#include <optional>
#include <thread>
#include <xxhash.h>

#include "control/agent/migration_destination.h"
#include "control/agent/peer_service.h"
#include "control/model/description.h"
#include "tests/integration/agent/fake_host.h"

namespace sluice::agent::test {
namespace {

using Calls = std::vector<std::string>;
using guest::Phase;

class FakeLink final : public SourceLink {
 public:
  bool read(v1::SourceMessage& message) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !incoming_.empty(); });
    if (incoming_.empty()) return false;
    message = incoming_.front();
    incoming_.pop_front();
    return true;
  }
  bool write(const v1::DestinationMessage& message) override {
    {
      const std::lock_guard lock(mutex_);
      outgoing_.push_back(message);
    }
    changed_.notify_all();
    return true;
  }

  Expected<void> speaks_for(const std::string& host) const override {
    if (host == "there") return {};
    return fail(ErrorKind::kPermission, "the certificate is not that of " + host);
  }

  void send(const v1::SourceMessage& message) {
    {
      const std::lock_guard lock(mutex_);
      incoming_.push_back(message);
    }
    changed_.notify_all();
  }
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }
  v1::DestinationMessage next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20), [&] { return !outgoing_.empty(); }))
      return {};
    auto message = outgoing_.front();
    outgoing_.pop_front();
    return message;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::SourceMessage> incoming_;
  std::deque<v1::DestinationMessage> outgoing_;
  bool closed_ = false;
};

class DestinationHandover : public testing::Test {
 protected:
  void SetUp() override {
    start_agent();
    begin(kSession);
  }
  void TearDown() override { end(); }

  void start_agent(std::vector<std::pair<std::string, std::shared_ptr<FakeFate>>> survivors = {},
                   std::uint64_t capacity_bytes = 1UL << 30) {
    end();  // a session may not outlive its agent
    host_.reset();
    host_ = std::make_unique<FakeHost>(directory_.path(), "unix:/nobody", std::move(survivors),
                                       capacity_bytes);
    host_->driver().next = fate_;
  }
  void begin(std::uint64_t session) {
    session_ = session;
    link_.emplace();
    thread_ = std::thread([this] { MigrationDestination(host_->agent().context(), *link_).run(); });
  }
  // The source's agent has gone.
  void end() {
    if (!thread_.joinable()) return;
    link_->close();
    thread_.join();
  }

  v1::DestinationMessage prepare(const std::string& to = "here", const std::string& from = "there",
                                 std::uint32_t mtu = 9000,
                                 std::optional<bool> by_controller = false) {
    const auto& info = SharedDataPlane::get().data_plane->info();
    v1::SourceMessage message;
    auto& prepare = *message.mutable_prepare();
    prepare.set_session(session_);
    prepare.set_from(from);
    prepare.set_secret(std::string(Secret::kBytes, 's'));
    prepare.set_to(to);
    if (by_controller) prepare.set_by_controller(*by_controller);
    prepare.set_guest_description_json(model::to_json(fake_description("db")));
    prepare.add_region_pages(kFakeBytes / kPageBytes);
    prepare.add_region_pages(kStateRegionBytes / kPageBytes);
    *prepare.mutable_source() = describe_endpoint(info);
    prepare.set_mtu(mtu);
    return say(message);
  }
  v1::DestinationMessage prove(bool matching = true) {
    std::array<page::PageHash, kExtentPages> zeros{};
    zeros.fill(page::zero_page_hash());
    v1::SourceMessage message;
    message.mutable_prove()->set_mode(v1::PROOF_MODE_FULL);
    auto& flow = *message.mutable_prove()->add_flow();
    for (std::uint64_t i = 0; i < (kFakeBytes + kStateRegionBytes) / kExtentBytes; ++i)
      flow.add_digest(page::fold_extent(zeros));
    if (!matching) flow.set_digest(1, flow.digest(1) + 1);
    return say(message);
  }
  v1::DestinationMessage load_state() {
    v1::SourceMessage message;
    message.mutable_load_state()->set_xxh3(XXH3_64bits("", 0));
    return say(message);
  }
  v1::DestinationMessage commit(std::uint64_t token) {
    v1::SourceMessage message;
    message.mutable_commit()->set_token(token);
    return say(message);
  }
  v1::DestinationMessage say(const v1::SourceMessage& message) {
    link_->send(message);
    return link_->next();
  }
  void reach_ready() {
    ASSERT_TRUE(prepare().has_prepared());
    ASSERT_TRUE(prove().proven().match());
    ASSERT_TRUE(load_state().has_state_loaded());
  }
  // As listed here; "none" if it is not.
  std::string state() {
    const auto guests = host_->registry().list();
    return guests.empty() ? "none" : guests.front().state;
  }
  bool becomes(Ownership wanted) {
    return becomes_true([&] { return outcome() == wanted; });
  }
  Ownership outcome() { return host_->outcomes().outcome(session_); }
  // As the agent of host `caller` asks; nothing if it is refused.
  std::optional<v1::Outcome> ask(std::uint64_t session, const std::string& guest,
                                 const std::string& caller, const std::string& to = "here") {
    security::Identity identity;
    identity.names = {caller};
    v1::OutcomeRequest request;
    request.set_session(session);
    request.set_guest(guest);
    request.set_to(to);
    v1::Outcome answer;
    if (!answer_outcome(host_->agent().context(), identity, request, answer).ok()) return {};
    return answer;
  }
  void expect_nothing_left() {
    end();
    EXPECT_EQ(fate_->phase(), Phase::kGone);
    EXPECT_FALSE(fate_->called("resume"));
    EXPECT_EQ(outcome(), Ownership::kNever);
    EXPECT_TRUE(host_->registry().list().empty());
    EXPECT_EQ(host_->registry().used_bytes(), 0U);
  }

  static constexpr std::uint64_t kSession = 42;
  TemporaryDirectory directory_;
  std::uint64_t session_ = 0;
  std::shared_ptr<FakeFate> fate_ = std::make_shared<FakeFate>(Phase::kIncoming);
  std::unique_ptr<FakeHost> host_;
  std::optional<FakeLink> link_;
  std::thread thread_;
};

TEST_F(DestinationHandover, OwnsTheGuestFromTheCommitOn) {
  ASSERT_TRUE(prepare().has_prepared());
  EXPECT_EQ(host_->registry().list().front().state, "incoming");
  EXPECT_EQ(outcome(), Ownership::kUndecided);
  ASSERT_TRUE(prove().proven().match());
  ASSERT_TRUE(load_state().has_state_loaded());
  EXPECT_EQ(fate_->calls(), (Calls{"load", "keep"}))
      << "the twin must outlive this agent before the source may commit";
  EXPECT_EQ(outcome(), Ownership::kUndecided);
  EXPECT_TRUE(commit(kSession).has_running());
  end();
  EXPECT_EQ(outcome(), Ownership::kOwned);
  EXPECT_EQ(fate_->phase(), Phase::kRunning);
  EXPECT_TRUE(fate_->called("announce"));
  EXPECT_EQ(host_->registry().list().front().state, "running");
  EXPECT_TRUE(host_->registry().claim("db", ClaimPurpose::kMove, "there"));
}

TEST_F(DestinationHandover, DiscardsTheTwinWhenTheSourceGoesBeforeTheCommit) {
  ASSERT_TRUE(prepare().has_prepared());
  expect_nothing_left();
}

TEST_F(DestinationHandover, DiscardsAKeptTwinWhenTheSourceGoesBeforeTheCommit) {
  reach_ready();
  expect_nothing_left();
}

TEST_F(DestinationHandover, DiscardsTheTwinWhenTheSourceAborts) {
  ASSERT_TRUE(prepare().has_prepared());
  v1::SourceMessage message;
  message.mutable_abort()->set_reason("the guest has exited");
  link_->send(message);
  expect_nothing_left();
}

TEST_F(DestinationHandover, RefusesATokenOfAnotherSession) {
  reach_ready();
  const auto reply = commit(kSession + 1);
  ASSERT_TRUE(reply.has_failed());
  EXPECT_NE(reply.failed().message().find("commit refused"), std::string::npos);
  expect_nothing_left();
}

TEST_F(DestinationHandover, RefusesACommitOfATwinThatIsNotReady) {
  ASSERT_TRUE(prepare().has_prepared());
  EXPECT_TRUE(commit(kSession).has_failed());
  expect_nothing_left();
}

TEST_F(DestinationHandover, RefusesMessagesOutOfTurn) {
  ASSERT_TRUE(prepare().has_prepared());
  EXPECT_TRUE(load_state().has_failed()) << "state before the proof";
  expect_nothing_left();
  fate_ = std::make_shared<FakeFate>(Phase::kIncoming);
  host_->driver().next = fate_;
  begin(kSession + 1);
  ASSERT_TRUE(prepare().has_prepared());
  EXPECT_TRUE(prepare().has_failed());
  expect_nothing_left();
}

TEST_F(DestinationHandover, ACordonKeepsOutWhatNoControllerBrings) {
  host_->agent().context().cordon.told("cordoned by run r3", Cordon::Clock::now());
  const auto refused = prepare();
  ASSERT_TRUE(refused.has_failed());
  EXPECT_NE(refused.failed().message().find("here takes no guests: it is cordoned by run r3"),
            std::string::npos)
      << refused.failed().message();
  end();
  EXPECT_TRUE(host_->registry().list().empty());
  begin(kSession + 1);
  EXPECT_TRUE(prepare("here", "there", 9000, /*by_controller=*/true).has_prepared());
}

TEST_F(DestinationHandover, ACordonLetsInWhatAnAgentBringsThatCannotSayForWhom) {
  host_->agent().context().cordon.told("cordoned by run r3", Cordon::Clock::now());
  EXPECT_TRUE(prepare("here", "there", 9000, /*by_controller=*/std::nullopt).has_prepared());
}

TEST_F(DestinationHandover, RefusesASessionThatWasUsedBefore) {
  reach_ready();
  ASSERT_TRUE(commit(kSession).has_running());
  end();
  begin(kSession);
  EXPECT_TRUE(prepare().has_failed());
  end();
  EXPECT_EQ(fate_->phase(), Phase::kRunning) << "the guest of the earlier session is not touched";
  EXPECT_EQ(outcome(), Ownership::kOwned);
}

// The number is in every frame's header, for all on the link to read.
TEST_F(DestinationHandover, RefusesASessionThatThisHostSendsIn) {
  std::shared_ptr<SessionEvents> under_way;
  // A worker may still be saying the last word of an earlier test's.
  ASSERT_TRUE(becomes_true([&] {
    under_way = SharedDataPlane::get().router.open(kSession, "web");
    return under_way != nullptr;
  }));
  const auto reply = prepare();
  ASSERT_TRUE(reply.has_failed());
  EXPECT_EQ(static_cast<ErrorKind>(reply.failed().error_kind()), ErrorKind::kBusy);
  EXPECT_FALSE(under_way->interruption().has_value());
  end();
  EXPECT_EQ(fate_->calls(), Calls{});
  EXPECT_TRUE(host_->registry().list().empty());
}

TEST_F(DestinationHandover, RefusesFlowsThatItsWorkersHaveNoRoomFor) {
  auto& slots = SharedDataPlane::get().data_plane->flow_slots();
  std::size_t taken = 0;
  while (slots.claim(0, dpdk::FlowRole::kReceive)) ++taken;
  EXPECT_EQ(taken, engine::kFlowsMax);
  EXPECT_TRUE(slots.claim(0, dpdk::FlowRole::kSend)) << "the other direction has room of its own";
  slots.release(0, dpdk::FlowRole::kSend);
  const auto reply = prepare();
  ASSERT_TRUE(reply.has_failed());
  EXPECT_EQ(static_cast<ErrorKind>(reply.failed().error_kind()), ErrorKind::kNoCapacity);
  expect_nothing_left();
  slots.release(0, dpdk::FlowRole::kReceive);
  fate_ = std::make_shared<FakeFate>(Phase::kIncoming);
  host_->driver().next = fate_;
  begin(kSession + 1);
  EXPECT_TRUE(prepare().has_prepared());
  end();
  while (--taken > 0) slots.release(0, dpdk::FlowRole::kReceive);
}

TEST_F(DestinationHandover, LeavesNothingWhenMemoryRunsOut) {
  ASSERT_TRUE(prepare().has_prepared());
  ASSERT_TRUE(prove().proven().match());
  fate_->throw_at("load");
  const auto reply = load_state();
  ASSERT_TRUE(reply.has_failed());
  EXPECT_NE(reply.failed().message().find("std::bad_alloc"), std::string::npos);
  expect_nothing_left();
}

TEST_F(DestinationHandover, NamesTheExtentThatDiffers) {
  ASSERT_TRUE(prepare().has_prepared());
  const auto reply = prove(/*matching=*/false);
  EXPECT_FALSE(reply.proven().match());
  ASSERT_EQ(reply.proven().mismatching_extent_size(), 1);
  EXPECT_EQ(reply.proven().mismatching_extent(0), 1U);
  expect_nothing_left();
}

TEST_F(DestinationHandover, SaysAtOnceThatTheTwinHasExited) {
  ASSERT_TRUE(prepare().has_prepared());
  fate_->die();
  const auto reply = link_->next();
  ASSERT_TRUE(reply.has_failed());
  EXPECT_NE(reply.failed().message().find("exited"), std::string::npos);
  expect_nothing_left();
}

TEST_F(DestinationHandover, GivesTheGuestBackWhenItCertainlyNeverRan) {
  reach_ready();
  fate_->fail_at("resume", Phase::kIncoming);
  const auto reply = commit(kSession);
  ASSERT_TRUE(reply.has_failed());
  EXPECT_EQ(outcome(), Ownership::kNever) << "the source asks as soon as it hears of the failure";
  EXPECT_EQ(fate_->phase(), Phase::kGone);
}

TEST_F(DestinationHandover, GivesTheGuestBackWhenItsTwinDiedBeforeItWasToldToRun) {
  reach_ready();
  fate_->fail_at("resume", Phase::kGone);
  ASSERT_TRUE(commit(kSession).has_failed());
  EXPECT_EQ(outcome(), Ownership::kNever);
}

TEST_F(DestinationHandover, KeepsAGuestThatMayHaveRun) {
  reach_ready();
  fate_->fail_at("resume", Phase::kGone, ErrorKind::kUnreachable);
  ASSERT_TRUE(commit(kSession).has_failed());
  end();
  EXPECT_TRUE(becomes(Ownership::kOwned));
}

TEST_F(DestinationHandover, TellsAGuestAgainWhoseResumeWasNotAnswered) {
  reach_ready();
  fate_->fail_at("resume", Phase::kIncoming, ErrorKind::kUnreachable, 3);
  ASSERT_TRUE(commit(kSession).has_failed());
  EXPECT_EQ(outcome(), Ownership::kUndecided) << "its source would end the other copy";
  end();
  EXPECT_TRUE(becomes(Ownership::kOwned));
  EXPECT_EQ(fate_->phase(), Phase::kRunning);
  EXPECT_TRUE(becomes_true([&] { return state() == "running"; }));
  EXPECT_FALSE(fate_->called("destroy"));
}

// As when memory runs out once it runs: only a certain "it never ran" may end it.
TEST_F(DestinationHandover, KeepsAGuestThatCannotSayWhetherItRan) {
  reach_ready();
  fate_->fail_at("resume", Phase::kRunning, ErrorKind::kInvalid);
  ASSERT_TRUE(commit(kSession).has_failed());
  end();
  EXPECT_TRUE(becomes(Ownership::kOwned));
  EXPECT_EQ(fate_->phase(), Phase::kRunning);
  EXPECT_FALSE(fate_->called("destroy"));
}

TEST_F(DestinationHandover, GivesTheGuestBackWhenItTurnsOutThatItNeverRan) {
  reach_ready();
  fate_->fail_at("resume", Phase::kIncoming, ErrorKind::kUnreachable, 1000);
  ASSERT_TRUE(commit(kSession).has_failed());
  end();
  EXPECT_EQ(outcome(), Ownership::kUndecided);
  fate_->fail_at("resume", Phase::kIncoming);
  EXPECT_TRUE(becomes(Ownership::kNever));
  EXPECT_EQ(fate_->phase(), Phase::kGone);
  EXPECT_EQ(state(), "none");
}

TEST_F(DestinationHandover, RefusesAGuestThatWasMeantForAnotherHost) {
  const auto reply = prepare("elsewhere");
  ASSERT_TRUE(reply.has_failed());
  EXPECT_NE(reply.failed().message().find("elsewhere"), std::string::npos);
  end();
  EXPECT_TRUE(host_->registry().list().empty());
}

TEST_F(DestinationHandover, RefusesAGuestOfferedInAnotherHostsName) {
  const auto reply = prepare("here", "impostor");
  ASSERT_TRUE(reply.has_failed());
  EXPECT_EQ(reply.failed().error_kind(), static_cast<std::uint32_t>(ErrorKind::kPermission));
  EXPECT_NE(reply.failed().message().find("impostor"), std::string::npos);
  end();
  EXPECT_TRUE(host_->registry().list().empty());
}

TEST_F(DestinationHandover, RefusesAnMtuThatPagesDoNotFitIn) {
  const auto reply = prepare("here", "there", wire::kMtuMin - 1);
  ASSERT_TRUE(reply.has_failed());
  EXPECT_EQ(static_cast<ErrorKind>(reply.failed().error_kind()), ErrorKind::kInvalid);
  EXPECT_NE(reply.failed().message().find("there asks for an MTU of 639, below 640"),
            std::string::npos);
  expect_nothing_left();
  fate_ = std::make_shared<FakeFate>(Phase::kIncoming);
  host_->driver().next = fate_;
  begin(kSession + 1);
  EXPECT_EQ(prepare("here", "there", wire::kMtuMin).prepared().mtu(), wire::kMtuMin);
}

TEST_F(DestinationHandover, SpeaksOfOutcomesForItselfAlone) {
  EXPECT_FALSE(ask(7, "db", "there", "elsewhere"))
      << "\"never owned\" of the wrong host would let a guest run twice";
  EXPECT_EQ(ask(7, "db", "there")->kind(), v1::Outcome::NEVER_OWNED);
}

TEST_F(DestinationHandover, SpeaksOfAnOutcomeToItsSourceAlone) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_EQ(ask(7, "db", "there")->kind(), v1::Outcome::UNDECIDED);
  EXPECT_FALSE(ask(7, "db", "third"));
  EXPECT_TRUE(host_->outcomes().own(7));
  host_->outcomes().mark_running(7);
  EXPECT_EQ(ask(7, "db", "there")->kind(), v1::Outcome::OWNED);
  EXPECT_FALSE(ask(7, "db", "third"));
}

// Who reads a session's number off the link, and has a host's certificate, could else have a source
// end its only copy.
TEST_F(DestinationHandover, ADiscardedSessionCannotBeOwnedByAnotherSource) {
  ASSERT_TRUE(prepare().has_prepared());
  end();  // discarded
  begin(kSession);
  EXPECT_TRUE(prepare().has_failed());
  end();
  EXPECT_EQ(ask(kSession, "db", "there")->kind(), v1::Outcome::NEVER_OWNED);
  // As if it had been forgotten since.
  EXPECT_TRUE(host_->outcomes().begin(7, "web", "third"));
  EXPECT_TRUE(host_->outcomes().own(7));
  host_->outcomes().mark_running(7);
  EXPECT_EQ(ask(7, "db", "there")->kind(), v1::Outcome::NEVER_OWNED);
}

TEST_F(DestinationHandover, RefusesAGuestThatDoesNotFit) {
  end();
  start_agent({}, kFakeBytes - 1);
  begin(kSession + 1);
  const auto reply = prepare();
  ASSERT_TRUE(reply.has_failed());
  EXPECT_EQ(static_cast<ErrorKind>(reply.failed().error_kind()), ErrorKind::kNoCapacity);
  end();
  EXPECT_EQ(fate_->calls(), Calls{});
  EXPECT_EQ(host_->registry().used_bytes(), 0U);
}

TEST_F(DestinationHandover, GivesTheGuestBackWhenItsTwinDiedBeforeTheCommit) {
  reach_ready();
  fate_->die();
  EXPECT_TRUE(link_->next().has_failed());
  EXPECT_TRUE(commit(kSession).has_failed());
  expect_nothing_left();
}

TEST_F(DestinationHandover, ARestartedAgentEndsAKeptTwinWithoutACommit) {
  start_agent({{"db", fate_}});
  EXPECT_EQ(fate_->calls(), Calls{"destroy"});
  EXPECT_TRUE(host_->registry().list().empty());
}

TEST_F(DestinationHandover, ARestartedAgentResumesATwinThatWasCommitted) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  start_agent({{"db", fate_}});
  EXPECT_TRUE(becomes_true([&] { return state() == "running"; }));
  EXPECT_EQ(fate_->calls(), (Calls{"resume", "announce"}));
  EXPECT_EQ(host_->outcomes().outcome(7), Ownership::kOwned);
}

TEST_F(DestinationHandover, ARestartedAgentGivesTheGuestBackWhenItsTwinRefusesToRun) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  fate_->fail_at("resume", Phase::kIncoming);
  start_agent({{"db", fate_}});
  session_ = 7;
  EXPECT_TRUE(becomes(Ownership::kNever)) << "the source has the only copy that can run";
  EXPECT_EQ(fate_->calls(), (Calls{"resume", "destroy"}));
  EXPECT_EQ(state(), "none");
  start_agent();
  EXPECT_EQ(outcome(), Ownership::kNever);
}

TEST_F(DestinationHandover, ARestartedAgentLeavesTheOutcomeOpenWhileATwinDoesNotAnswer) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  fate_->fail_at("resume", Phase::kIncoming, ErrorKind::kUnreachable, 2);
  session_ = 7;
  start_agent({{"db", fate_}});
  EXPECT_TRUE(becomes_true([&] { return fate_->called("resume"); }));
  EXPECT_EQ(outcome(), Ownership::kUndecided);
  EXPECT_EQ(state(), "incoming");
  EXPECT_TRUE(becomes(Ownership::kOwned)) << "without another restart";
  EXPECT_EQ(fate_->phase(), Phase::kRunning);
}

TEST_F(DestinationHandover, ATwinThatDiedWhileNoAgentWasThereMayHaveRun) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  session_ = 7;
  start_agent();
  EXPECT_EQ(outcome(), Ownership::kOwned);
}

TEST_F(DestinationHandover, ARestartedAgentResumesACommittedTwinAsSoonAsItAnswers) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  session_ = 7;
  fate_->answer_new_agents(false);
  start_agent({{"db", fate_}});
  EXPECT_EQ(state(), "silent");
  EXPECT_EQ(outcome(), Ownership::kUndecided) << "it may have run or not";
  fate_->answer_new_agents(true);
  EXPECT_TRUE(becomes(Ownership::kOwned));
  EXPECT_EQ(fate_->phase(), Phase::kRunning);
}

TEST_F(DestinationHandover, ACommittedTwinThatEndsWithoutAWordMayHaveRun) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  session_ = 7;
  fate_->answer_new_agents(false);
  start_agent({{"db", fate_}});
  fate_->die();
  EXPECT_TRUE(becomes(Ownership::kOwned));
  EXPECT_EQ(fate_->calls(), Calls{});
}

TEST_F(DestinationHandover, ATwinWithoutACommitIsEndedAsSoonAsItAnswers) {
  fate_->answer_new_agents(false);
  start_agent({{"db", fate_}});
  EXPECT_EQ(state(), "silent");
  fate_->answer_new_agents(true);
  EXPECT_TRUE(becomes_true([&] { return state() == "none"; }));
  EXPECT_EQ(fate_->calls(), Calls{"destroy"});
}

// The record may be that of the twin, or of a visit long ago.
TEST_F(DestinationHandover, ATwinBesideAnUnreadableRecordWaitsForAnOperator) {
  for (const Order order : {Order::kResume, Order::kEnd}) {
    fate_ = std::make_shared<FakeFate>(Phase::kIncoming);
    std::ofstream(directory_.path() + "/outcome/0000000000000007.json") << "{";
    start_agent({{"db", fate_}});
    session_ = 7;
    EXPECT_EQ(state(), "forgotten");
    EXPECT_EQ(fate_->calls(), Calls{});
    EXPECT_EQ(outcome(), Ownership::kLost);
    const auto answer = ask(7, "db", "there");
    ASSERT_TRUE(answer);
    EXPECT_NE(answer->kind(), v1::Outcome::OWNED);
    EXPECT_NE(answer->records_id(), host_->outcomes().store_id())
        << "the source must ask an operator";
    EXPECT_TRUE(host_->agent().obey("db", order));
    EXPECT_EQ(fate_->phase(), order == Order::kResume ? Phase::kRunning : Phase::kGone);
  }
}

TEST_F(DestinationHandover, ATwinIsNotResumedForTheCommitOfAnEarlierSession) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  reach_ready();
  // As after an agent's death: the twin waits for its commit, and the records are as they are now.
  const auto copy = directory_.path() + "/copy";
  std::filesystem::create_directory(copy);
  std::filesystem::copy(directory_.path() + "/outcome", copy + "/outcome");
  end();
  const auto survivor = std::make_shared<FakeFate>(Phase::kIncoming);
  const FakeHost restarted(copy, "unix:/nobody", {{"db", survivor}});
  EXPECT_EQ(survivor->calls(), Calls{"destroy"});
}

// The record of the first visit could not be brought up to date, as on a full tmpfs.
TEST_F(DestinationHandover, ATwinIsNotResumedForACommitThatItWasNotKeptFor) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  fate_->keep_for(kSession);
  start_agent({{"db", fate_}});
  EXPECT_EQ(fate_->calls(), Calls{"destroy"}) << "its source may run it";
  EXPECT_EQ(host_->outcomes().outcome(7), Ownership::kOwned);
  EXPECT_EQ(host_->outcomes().outcome(kSession), Ownership::kNever);
}

TEST_F(DestinationHandover, ATwinIsKeptForItsSession) {
  reach_ready();
  EXPECT_EQ(fate_->kept_for(), kSession);
}

TEST_F(DestinationHandover, TakesNoGuestWhoseEarlierVisitCannotBeConcluded) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  const auto in_the_way = directory_.path() + "/outcome/0000000000000007.json.new";
  std::filesystem::create_directory(in_the_way);
  host_->outcomes().mark_running(7);
  EXPECT_EQ(host_->outcomes().outcome(7), Ownership::kOwned) << "it runs all the same";
  const auto reply = prepare();
  ASSERT_TRUE(reply.has_failed());
  EXPECT_NE(reply.failed().message().find(in_the_way), std::string::npos)
      << reply.failed().message();
  expect_nothing_left();
  std::filesystem::remove(in_the_way);
  fate_ = std::make_shared<FakeFate>(Phase::kIncoming);
  host_->driver().next = fate_;
  begin(kSession + 1);
  EXPECT_TRUE(prepare().has_prepared());
  const auto again = *OutcomeRecords::open(directory_.path(), kBoot);
  EXPECT_EQ(again->outcome(7), Ownership::kOwned);
  EXPECT_TRUE(again->owned_but_not_running().empty());
}

TEST_F(DestinationHandover, AnOldArrivalOfTheSameGuestDoesNotCountAsItsCommit) {
  EXPECT_TRUE(host_->outcomes().begin(7, "db", "there"));
  EXPECT_TRUE(host_->outcomes().own(7));
  host_->outcomes().mark_running(7);
  end();
  start_agent({{"db", fate_}});
  EXPECT_EQ(fate_->calls(), Calls{"destroy"});
}

}  // namespace
}  // namespace sluice::agent::test
