// The source's side of a handover against a destination that does what the test says.
#include <atomic>
#include <fstream>
#include <functional>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "control/model/channel.h"
#include "control/proto/sluice.grpc.pb.h"
#include "tests/integration/agent/fake_host.h"

namespace sluice::agent::test {
namespace {

using Calls = std::vector<std::string>;
using guest::Phase;

enum class Misbehaviour : std::uint8_t {
  kNone = 1,
  kProofMismatch,
  kStateFails,
  kClosesAtCommit,
  kFailsAtCommit,
  kChatters
};

class FakePeer final : public v1::Peer::Service {
 public:
  std::atomic<Misbehaviour> misbehaviour{Misbehaviour::kNone};
  std::atomic<v1::Outcome::Kind> outcome{v1::Outcome::UNDECIDED};
  std::atomic<std::uint64_t> records_id{11};
  std::atomic<int> questions{0};
  std::atomic<std::uint32_t> mtu{9000};
  std::atomic<bool> by_controller{false};  // as the last source said
  std::atomic<bool> says_for_whom{false};  // and whether it did
  std::function<void()> on_commit = [] {};

  grpc::Status Receive(
      grpc::ServerContext* /*context*/,
      grpc::ServerReaderWriter<v1::DestinationMessage, v1::SourceMessage>* stream) override {
    v1::SourceMessage message;
    while (stream->Read(&message)) {
      v1::DestinationMessage reply;
      if (message.has_prepare()) {
        by_controller = message.prepare().by_controller();
        says_for_whom = message.prepare().has_by_controller();
        auto& endpoint = *reply.mutable_prepared()->mutable_destination();
        endpoint.set_mac("\x02\x01\x01\x01\x01\x01");
        endpoint.set_ipv4(0x0A4D6202);
        endpoint.set_udp_port(7401);
        endpoint.set_queues(1);
        reply.mutable_prepared()->set_flows(1);
        reply.mutable_prepared()->set_records_id(records_id);
        reply.mutable_prepared()->set_mtu(mtu);
      } else if (message.has_prove()) {
        reply.mutable_proven()->set_match(misbehaviour != Misbehaviour::kProofMismatch);
        if (misbehaviour == Misbehaviour::kProofMismatch)
          reply.mutable_proven()->add_mismatching_extent(1);
      } else if (message.has_load_state()) {
        if (misbehaviour == Misbehaviour::kStateFails) {
          reply.mutable_failed()->set_message("no such device");
        } else {
          reply.mutable_state_loaded();
        }
      } else if (message.has_commit()) {
        on_commit();
        if (misbehaviour == Misbehaviour::kClosesAtCommit) return grpc::Status::OK;
        if (misbehaviour == Misbehaviour::kFailsAtCommit) {
          reply.mutable_failed()->set_message("the twin has exited");
        } else {
          reply.mutable_running();
        }
      } else {
        return grpc::Status::OK;
      }
      stream->Write(reply);
      for (int i = 0; i < 10 && misbehaviour == Misbehaviour::kChatters; ++i) stream->Write(reply);
    }
    return grpc::Status::OK;
  }

  grpc::Status GetOutcome(grpc::ServerContext* /*context*/, const v1::OutcomeRequest* /*request*/,
                          v1::Outcome* reply) override {
    ++questions;
    reply->set_kind(outcome);
    reply->set_records_id(records_id);
    return grpc::Status::OK;
  }
};

class SourceHandover : public testing::Test {
 protected:
  void SetUp() override { serve(); }

  void serve() {
    grpc::ServerBuilder builder;
    model::set_keepalive(builder);
    builder.AddListeningPort(address_, credentials_->for_server([](const std::string&) {}));
    builder.RegisterService(&peer_);
    server_ = builder.BuildAndStart();
    ASSERT_TRUE(server_);
  }

  // One agent with one running guest.
  void start_agent() {
    host_ = std::make_unique<FakeHost>(
        directory_.path(), address_,
        std::vector<std::pair<std::string, std::shared_ptr<FakeFate>>>{{"db", fate_}});
  }

  v1::MigrateSummary migrate(bool by_controller = false) {
    v1::MigrateRequest request;
    request.set_guest("db");
    request.set_to("there");
    const auto migration = host_->agent().migrate(request, by_controller);
    EXPECT_TRUE(migration);
    v1::MigrateSummary summary;
    (*migration)->follow([&](const v1::MigrateUpdate& update) {
      if (update.has_summary()) summary = update.summary();
      return true;
    });
    return summary;
  }

  // As listed here; "none" if it is not.
  std::string state() {
    const auto guests = host_->registry().list();
    return guests.empty() ? "none" : guests.front().state;
  }
  bool becomes(Phase phase) {
    return becomes_true([&] { return fate_->phase() == phase; });
  }

  TemporaryDirectory directory_;
  const std::string address_ = "unix:" + directory_.path() + "/peer.sock";
  FakePeer peer_;
  const std::shared_ptr<const security::Credentials> credentials_ =
      SharedDataPlane::get().pki.credentials("there");
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<FakeFate> fate_ = std::make_shared<FakeFate>(Phase::kRunning);
  std::unique_ptr<FakeHost> host_;  // last: it uses all of the above
};

TEST_F(SourceHandover, TellsTheDestinationWhetherAControllerMovesTheGuest) {
  for (const bool by_controller : {true, false}) {
    peer_.by_controller = !by_controller;
    peer_.misbehaviour = Misbehaviour::kProofMismatch;
    start_agent();
    static_cast<void>(migrate(by_controller));
    EXPECT_EQ(peer_.by_controller, by_controller);
    EXPECT_TRUE(peer_.says_for_whom) << "or a cordon would take it for an older agent";
    host_.reset();
  }
}

TEST_F(SourceHandover, EndsTheGuestHereOnceItRunsThere) {
  start_agent();
  std::size_t records_at_commit = 0;
  Calls calls_at_commit;
  peer_.on_commit = [&] {
    records_at_commit = host_->handovers().read_all().records.size();
    calls_at_commit = fate_->calls();
  };
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "completed") << summary.error();
  EXPECT_EQ(records_at_commit, 1U) << "the record must stand before the commit is sent";
  EXPECT_EQ(calls_at_commit, (Calls{"pause", "save"}));
  EXPECT_EQ(fate_->calls(), (Calls{"pause", "save", "destroy"}));
  EXPECT_TRUE(host_->handovers().read_all().records.empty());
  EXPECT_TRUE(host_->registry().list().empty());
  const auto& downtime = summary.downtime();
  EXPECT_EQ(downtime.stop_us() + downtime.final_scan_us() + downtime.final_copy_us() +
                downtime.proof_us() + downtime.state_us() + downtime.resume_us(),
            summary.downtime_us());
}

TEST_F(SourceHandover, RunsOnHereWhenTheProofDoesNotMatch) {
  start_agent();
  peer_.misbehaviour = Misbehaviour::kProofMismatch;
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_NE(summary.error().find("extent 1"), std::string::npos) << summary.error();
  EXPECT_EQ(fate_->calls(), (Calls{"pause", "cancel"}));
  EXPECT_EQ(host_->registry().list().front().state, "running");
}

TEST_F(SourceHandover, RunsOnHereWhenTheStateDoesNotLoad) {
  start_agent();
  peer_.misbehaviour = Misbehaviour::kStateFails;
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_EQ(summary.error(), "no such device");
  EXPECT_EQ(fate_->calls(), (Calls{"pause", "save", "cancel"}));
}

TEST_F(SourceHandover, RunsOnHereWhenItCannotBePaused) {
  start_agent();
  fate_->fail_at("pause", Phase::kRunning);
  EXPECT_EQ(migrate().status(), "failed");
  EXPECT_EQ(fate_->phase(), Phase::kRunning);
}

TEST_F(SourceHandover, RefusesAnMtuThatPagesDoNotFitIn) {
  start_agent();
  peer_.mtu = wire::kMtuMin - 1;
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_NE(summary.error().find("there asks for an MTU of 639, below 640"), std::string::npos)
      << summary.error();
  EXPECT_EQ(fate_->calls(), Calls{});
  peer_.mtu = wire::kMtuMin;
  EXPECT_EQ(migrate().status(), "completed");
}

TEST_F(SourceHandover, TouchesNoGuestWhoseFramesDoNotArrive) {
  fate_ = std::make_shared<FakeFate>(Phase::kRunning, /*has_content=*/true);
  start_agent();
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_EQ(summary.error(),
            "no frame of any size from 10.77.98.1 reaches 10.77.98.2: check cable, VLAN, address");
  EXPECT_EQ(static_cast<ErrorKind>(summary.error_kind()), ErrorKind::kUnreachable);
  EXPECT_EQ(summary.pages_sent() + summary.zero_pages(), 0U);
  EXPECT_EQ(fate_->calls(), Calls{});
  EXPECT_EQ(host_->registry().list().front().state, "running");
}

TEST_F(SourceHandover, KeepsNotEverythingThatADestinationSays) {
  fate_ = std::make_shared<FakeFate>(Phase::kRunning, /*has_content=*/true);
  start_agent();
  peer_.misbehaviour = Misbehaviour::kChatters;
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_EQ(summary.error(), "host there says what it was not asked for");
  EXPECT_EQ(fate_->calls(), Calls{});
}

TEST_F(SourceHandover, RunsOnHereWhenNobodyAnswers) {
  start_agent();
  server_->Shutdown();
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_NE(summary.error().find("there"), std::string::npos);
  EXPECT_EQ(fate_->calls(), Calls{});
}

TEST_F(SourceHandover, AskedDestinationOwnsTheGuest) {
  start_agent();
  peer_.misbehaviour = Misbehaviour::kClosesAtCommit;
  peer_.outcome = v1::Outcome::OWNED;
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "completed") << summary.error();
  EXPECT_EQ(fate_->calls(), (Calls{"pause", "save", "destroy"}));
}

TEST_F(SourceHandover, AskedDestinationNeverOwnedTheGuest) {
  start_agent();
  for (const auto misbehaviour : {Misbehaviour::kClosesAtCommit, Misbehaviour::kFailsAtCommit}) {
    peer_.misbehaviour = misbehaviour;
    peer_.outcome = v1::Outcome::NEVER_OWNED;
    const auto summary = migrate();
    EXPECT_EQ(summary.status(), "failed");
    EXPECT_EQ(fate_->phase(), Phase::kRunning);
    EXPECT_EQ(fate_->calls().back(), "cancel");
    EXPECT_TRUE(host_->handovers().read_all().records.empty());
  }
}

TEST_F(SourceHandover, StaysPausedWhileTheOutcomeIsUnknownAndIsSettledLater) {
  start_agent();
  peer_.misbehaviour = Misbehaviour::kClosesAtCommit;
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "unknown");
  EXPECT_EQ(fate_->calls(), (Calls{"pause", "save"}));
  EXPECT_EQ(host_->handovers().read_all().records.size(), 1U);
  v1::MigrateRequest again;
  again.set_guest("db");
  again.set_to("there");
  EXPECT_EQ(host_->agent().migrate(again, false).error().kind, ErrorKind::kBusy);
  peer_.outcome = v1::Outcome::OWNED;
  EXPECT_TRUE(becomes(Phase::kGone));
}

TEST_F(SourceHandover, ARestartedAgentGoesOnAsking) {
  for (const auto outcome : {v1::Outcome::OWNED, v1::Outcome::NEVER_OWNED}) {
    fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
    peer_.outcome = v1::Outcome::UNDECIDED;
    peer_.questions = 0;
    ASSERT_TRUE(
        HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_, 11}));
    start_agent();
    EXPECT_TRUE(becomes_true([&] { return peer_.questions > 0; }));
    EXPECT_EQ(fate_->calls(), Calls{}) << "nothing may happen before the destination has said";
    peer_.outcome = outcome;
    EXPECT_TRUE(becomes(outcome == v1::Outcome::OWNED ? Phase::kGone : Phase::kRunning));
    host_.reset();
  }
}

// Its answer "never owned" comes from a host that has lost its memory of what it ran.
TEST_F(SourceHandover, OnlyAnOperatorSettlesWhatTheDestinationHasForgotten) {
  for (const Order order : {Order::kResume, Order::kEnd}) {
    fate_ = std::make_shared<FakeFate>(Phase::kRunning);
    start_agent();
    peer_.misbehaviour = Misbehaviour::kClosesAtCommit;
    peer_.outcome = v1::Outcome::NEVER_OWNED;
    peer_.on_commit = [&] { ++peer_.records_id; };
    const auto summary = migrate();
    EXPECT_EQ(summary.status(), "unknown");
    EXPECT_NE(summary.error().find("sluice guest resume db"), std::string::npos) << summary.error();
    start_agent();  // also one that starts anew has only its record to go by
    EXPECT_TRUE(becomes_true([&] { return state() == "forgotten"; }));
    EXPECT_EQ(fate_->calls(), (Calls{"pause", "save"}));
    v1::MigrateRequest again;
    again.set_guest("db");
    again.set_to("there");
    EXPECT_EQ(host_->agent().migrate(again, false).error().kind, ErrorKind::kBusy);
    EXPECT_EQ(host_->agent().obey("other", order).error().kind, ErrorKind::kNotFound);
    ASSERT_TRUE(host_->agent().obey("db", order));
    EXPECT_EQ(fate_->phase(), order == Order::kResume ? Phase::kRunning : Phase::kGone);
    EXPECT_TRUE(host_->handovers().read_all().records.empty());
    host_.reset();
  }
}

// Of a record from before stores had numbers, and a store that cannot say: both have the number 0.
TEST_F(SourceHandover, NoStoreIsTheSameAsNoStore) {
  fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
  ASSERT_TRUE(
      HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_, 0}));
  peer_.outcome = v1::Outcome::NEVER_OWNED;
  peer_.records_id = 0;
  start_agent();
  EXPECT_TRUE(becomes_true([&] { return state() == "forgotten"; }));
  EXPECT_EQ(fate_->calls(), Calls{});
}

TEST_F(SourceHandover, AnOperatorDecidesWhenTheDestinationNeverComesBack) {
  for (const Order order : {Order::kResume, Order::kEnd}) {
    fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
    ASSERT_TRUE(
        HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_, 11}));
    peer_.outcome = v1::Outcome::UNDECIDED;
    start_agent();
    EXPECT_TRUE(becomes_true([&] { return peer_.questions > 0; }));
    const auto refused = host_->agent().obey("db", order, /*destination_is_gone=*/true);
    ASSERT_FALSE(refused) << "it answers";
    EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
    EXPECT_EQ(fate_->calls(), Calls{});
    server_->Shutdown();
    EXPECT_FALSE(host_->agent().obey("db", order)) << "not without saying so";
    EXPECT_FALSE(host_->agent().obey("other", order, /*destination_is_gone=*/true));
    EXPECT_EQ(fate_->calls(), Calls{});
    fate_->fail_at(order == Order::kResume ? "cancel" : "destroy", Phase::kHandedOver);
    EXPECT_FALSE(host_->agent().obey("db", order, /*destination_is_gone=*/true));
    // What failed can be said again, in the same words.
    const auto obeyed = host_->agent().obey("db", order, /*destination_is_gone=*/true);
    ASSERT_TRUE(obeyed) << obeyed.error().message;
    EXPECT_EQ(fate_->phase(), order == Order::kResume ? Phase::kRunning : Phase::kGone);
    EXPECT_TRUE(host_->handovers().read_all().records.empty());
    host_.reset();
    serve();
    peer_.questions = 0;
  }
}

TEST_F(SourceHandover, ADestinationIsAskedWhereItIsNow) {
  fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
  ASSERT_TRUE(HandoverRecords::open(directory_.path(), kBoot)
                  ->write({7, "db", "there", "unix:/nowhere/peer.sock", 11}));
  peer_.outcome = v1::Outcome::NEVER_OWNED;
  start_agent();
  EXPECT_TRUE(becomes(Phase::kRunning));
}

TEST_F(SourceHandover, TheRecordStaysUntilTheCopyHereHasEnded) {
  start_agent();
  fate_->fail_at("destroy", Phase::kHandedOver, ErrorKind::kFailed, 1000);
  EXPECT_EQ(migrate().status(), "completed");
  EXPECT_EQ(host_->handovers().read_all().records.size(), 1U)
      << "without it a restarted agent would let the guest run a second time";
  fate_->fail_at("destroy", Phase::kHandedOver, ErrorKind::kFailed, 0);
  EXPECT_TRUE(becomes(Phase::kGone)) << "the same agent must try again";
  EXPECT_TRUE(becomes_true([&] { return host_->handovers().read_all().records.empty(); }));
  EXPECT_EQ(state(), "none");
  EXPECT_FALSE(fate_->called("cancel"));
}

TEST_F(SourceHandover, AGuestThatDoesNotResumeHereIsToldAgain) {
  start_agent();
  peer_.misbehaviour = Misbehaviour::kStateFails;
  fate_->fail_at("cancel", Phase::kHandedOver, ErrorKind::kUnreachable, 2);
  const auto summary = migrate();
  EXPECT_EQ(summary.status(), "failed");
  EXPECT_NE(summary.error().find("could not be resumed"), std::string::npos) << summary.error();
  EXPECT_TRUE(becomes(Phase::kRunning));
  EXPECT_TRUE(becomes_true([&] { return state() == "running"; }));
  EXPECT_TRUE(host_->registry().claim("db", ClaimPurpose::kMove, "there"));
}

TEST_F(SourceHandover, AGuestThatIsGivenBackAndDoesNotResumeKeepsItsRecordUntilItRuns) {
  start_agent();
  peer_.misbehaviour = Misbehaviour::kClosesAtCommit;
  EXPECT_EQ(migrate().status(), "unknown");
  fate_->fail_at("cancel", Phase::kHandedOver, ErrorKind::kUnreachable, 1000);
  peer_.outcome = v1::Outcome::NEVER_OWNED;
  EXPECT_TRUE(becomes_true([&] { return fate_->called("cancel"); }));
  EXPECT_EQ(host_->handovers().read_all().records.size(), 1U);
  fate_->fail_at("cancel", Phase::kHandedOver, ErrorKind::kUnreachable, 0);
  EXPECT_TRUE(becomes(Phase::kRunning));
  EXPECT_TRUE(becomes_true([&] { return host_->handovers().read_all().records.empty(); }));
}

TEST_F(SourceHandover, AnOperatorsWordThatFailsCanBeSaidAgain) {
  for (const Order order : {Order::kResume, Order::kEnd}) {
    const std::string call = order == Order::kResume ? "cancel" : "destroy";
    fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
    ASSERT_TRUE(
        HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_, 1}));
    peer_.outcome = v1::Outcome::NEVER_OWNED;
    start_agent();
    ASSERT_TRUE(becomes_true([&] { return state() == "forgotten"; }));
    fate_->fail_at(call, Phase::kHandedOver);
    EXPECT_FALSE(host_->agent().obey("db", order));
    EXPECT_EQ(state(), "forgotten");
    EXPECT_EQ(host_->handovers().read_all().records.size(), 1U);
    EXPECT_TRUE(host_->agent().obey("db", order));
    EXPECT_EQ(fate_->phase(), order == Order::kResume ? Phase::kRunning : Phase::kGone);
    EXPECT_TRUE(host_->handovers().read_all().records.empty());
    host_.reset();
  }
}

// A record that is there and cannot be read is not one that is absent.
TEST_F(SourceHandover, AGuestWhoseRecordCannotBeReadStaysPausedUntilAnOperatorHasDecided) {
  for (const Order order : {Order::kResume, Order::kEnd}) {
    fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
    std::filesystem::create_directories(directory_.path() + "/handover");
    std::ofstream(directory_.path() + "/handover/0000000000000007.json") << R"({"guest": "d)";
    start_agent();
    EXPECT_EQ(state(), "forgotten");
    EXPECT_EQ(fate_->calls(), Calls{});
    start_agent();
    EXPECT_EQ(state(), "forgotten") << "a restart must not change it";
    EXPECT_EQ(fate_->calls(), Calls{});
    EXPECT_TRUE(host_->agent().obey("db", order));
    EXPECT_EQ(fate_->phase(), order == Order::kResume ? Phase::kRunning : Phase::kGone);
    host_.reset();
  }
}

TEST_F(SourceHandover, AnUnreadableRecordDoesNotKeepOthersFromBeingSettled) {
  fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
  const auto records = *HandoverRecords::open(directory_.path(), kBoot);
  ASSERT_TRUE(records.write({7, "db", "there", address_, 11}));
  std::ofstream(directory_.path() + "/handover/0000000000000008.json") << "{";
  peer_.outcome = v1::Outcome::OWNED;
  start_agent();
  EXPECT_TRUE(becomes(Phase::kGone));
}

TEST_F(SourceHandover, AnOldRecordDoesNotEndAGuestThatRunsHere) {
  peer_.outcome = v1::Outcome::OWNED;
  ASSERT_TRUE(HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_}));
  start_agent();
  EXPECT_TRUE(host_->handovers().read_all().records.empty());
  EXPECT_TRUE(host_->registry().claim("db", ClaimPurpose::kMove, "there"));
  EXPECT_EQ(fate_->calls(), Calls{});
}

TEST_F(SourceHandover, AGuestThatDoesNotAnswerIsAskedAboutOnceItDoes) {
  fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
  fate_->answer_new_agents(false);
  peer_.outcome = v1::Outcome::NEVER_OWNED;
  ASSERT_TRUE(
      HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_, 11}));
  start_agent();
  EXPECT_EQ(state(), "silent");
  EXPECT_EQ(host_->handovers().read_all().records.size(), 1U);
  EXPECT_EQ(peer_.questions, 0) << "what it is cannot be known";
  fate_->answer_new_agents(true);
  EXPECT_TRUE(becomes(Phase::kRunning)) << "it would run nowhere";
  EXPECT_TRUE(becomes_true([&] { return state() == "running"; }));
  EXPECT_TRUE(becomes_true([&] { return host_->handovers().read_all().records.empty(); }));
}

// It may run: nobody may take its host for empty, or the guest for one that is missing.
TEST_F(SourceHandover, AGuestThatDoesNotAnswerIsHereAllTheSame) {
  fate_->answer_new_agents(false);
  start_agent();
  EXPECT_EQ(state(), "silent");
  EXPECT_EQ(host_->registry().used_bytes(), kFakeBytes);
  const auto claim = host_->registry().claim("db", ClaimPurpose::kStop);
  ASSERT_FALSE(claim);
  EXPECT_EQ(claim.error().kind, ErrorKind::kBusy);
  EXPECT_NE(claim.error().message.find("does not answer"), std::string::npos)
      << claim.error().message;
  EXPECT_FALSE(host_->registry().refuse_more("here is about to reboot"));
  EXPECT_EQ(host_->registry()
                .create("db", kFakeBytes, "",
                        [] { return fail(ErrorKind::kFailed, "a second one was made"); })
                .error()
                .kind,
            ErrorKind::kBusy);
  fate_->answer_new_agents(true);
  EXPECT_TRUE(becomes_true([&] { return state() == "running"; }));
  EXPECT_TRUE(host_->registry().claim("db", ClaimPurpose::kMove, "there"));
  EXPECT_EQ(fate_->calls(), Calls{});
}

TEST_F(SourceHandover, AGuestThatNeverAnswersAndEndsIsForgotten) {
  fate_->answer_new_agents(false);
  ASSERT_TRUE(HandoverRecords::open(directory_.path(), kBoot)->write({7, "db", "there", address_}));
  start_agent();
  EXPECT_EQ(state(), "silent");
  fate_->die();
  EXPECT_TRUE(becomes_true([&] { return state() == "none"; }));
  EXPECT_TRUE(host_->handovers().read_all().records.empty());
  EXPECT_TRUE(host_->registry().refuse_more("here is about to reboot"));
}

TEST_F(SourceHandover, ARestartedAgentTakesBackWhatWasNeverCommitted) {
  fate_ = std::make_shared<FakeFate>(Phase::kHandedOver);
  start_agent();
  EXPECT_TRUE(becomes(Phase::kRunning));
  EXPECT_EQ(fate_->calls(), Calls{"cancel"});
  EXPECT_EQ(peer_.questions, 0);
}

TEST_F(SourceHandover, AGuestThatDiesOnItsWayIsForgotten) {
  start_agent();
  peer_.on_commit = [&] { ADD_FAILURE() << "a dead guest was committed"; };
  fate_->fail_at("pause", Phase::kGone);
  EXPECT_EQ(migrate().status(), "failed");
  fate_->die();
  EXPECT_TRUE(becomes_true([&] { return host_->registry().list().empty(); }));
}

}  // namespace
}  // namespace sluice::agent::test
