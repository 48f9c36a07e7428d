// What a host does for others that probe the path to it.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <thread>

#include "control/agent/peer_service.h"
#include "drivers/base/secret.h"
#include "tests/integration/agent/fake_host.h"

namespace sluice::agent::test {
namespace {

// One that others probe.
class Probed {
 public:
  explicit Probed(std::chrono::milliseconds answers_time_max)
      : service_(host_.agent().context(), answers_time_max) {}
  [[nodiscard]] v1::Peer::Stub& peer() { return *peer_; }

 private:
  TemporaryDirectory directory_;
  FakeHost host_{directory_.path(), "unix:/nobody"};
  PeerService service_;
  const std::unique_ptr<grpc::Server> server_ =
      grpc::ServerBuilder().RegisterService(&service_).BuildAndStart();
  const std::unique_ptr<v1::Peer::Stub> peer_ = v1::Peer::NewStub(server_->InProcessChannel({}));
};

// A host that probes, and never says that it has seen enough unless it is told to.
class Prober {
 public:
  Prober(Probed& probed, std::string from)
      : from_(std::move(from)), stream_(probed.peer().AnswerProbes(&context_)) {}

  // Whether its probes are expected.
  [[nodiscard]] bool announce() {
    static std::uint64_t sessions = 0x5e55;
    const auto& info = SharedDataPlane::get().data_plane->info();
    v1::ProbesAnnounced announced;
    announced.set_session(++sessions);
    announced.set_from(from_);
    announced.set_to("here");
    *announced.mutable_source() = describe_endpoint(info);
    announced.set_mtu(static_cast<std::uint32_t>(info.mtu));
    announced.set_secret(std::string(Secret::kBytes, 's'));
    v1::ProbesExpected expected;
    return stream_->Write(announced) && stream_->Read(&expected);
  }
  grpc::Status end() {
    stream_->WritesDone();
    return stream_->Finish();
  }
  // Returns when the other side ends it.
  grpc::Status await_end() {
    v1::ProbesExpected none;
    while (stream_->Read(&none)) {
    }
    return stream_->Finish();
  }

 private:
  const std::string from_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::ProbesAnnounced, v1::ProbesExpected>> stream_;
};

// Flows that arrivals may have of a worker.
std::size_t free_flows() {
  auto& slots = SharedDataPlane::get().data_plane->flow_slots();
  std::size_t taken = 0;
  while (slots.claim(0, dpdk::FlowRole::kReceive)) ++taken;
  for (std::size_t i = 0; i < taken; ++i) slots.release(0, dpdk::FlowRole::kReceive);
  return taken;
}

TEST(ProbesOfOthers, LeaveRoomForMigrations) {
  Probed probed(kAnswersTimeMax);
  Prober first(probed, "h1");
  Prober second(probed, "h1");
  Prober third(probed, "h2");
  Prober fourth(probed, "h3");
  for (auto* const prober : {&first, &second, &third, &fourth}) EXPECT_TRUE(prober->announce());
  EXPECT_GE(free_flows(), engine::kFlowsMax / 2);
  Prober greedy(probed, "h1");
  std::thread waiting([&] { EXPECT_FALSE(greedy.announce()); });
  Prober one_too_many(probed, "h4");
  EXPECT_FALSE(one_too_many.announce());
  waiting.join();
  for (auto* const refused : {&greedy, &one_too_many}) {
    const auto why = refused->end();
    EXPECT_EQ(why.error_code(), grpc::StatusCode::ABORTED);
    EXPECT_NE(why.error_message().find("under way"), std::string::npos) << why.error_message();
  }
  EXPECT_TRUE(third.end().ok());
  Prober late(probed, "h4");
  EXPECT_TRUE(late.announce());
  for (auto* const prober : {&first, &second, &fourth, &late}) EXPECT_TRUE(prober->end().ok());
  EXPECT_EQ(free_flows(), engine::kFlowsMax);
}

TEST(ProbesOfOthers, EndWhenTheirTimeIsOver) {
  Probed probed(std::chrono::milliseconds(300));
  Prober announced(probed, "h1");
  EXPECT_TRUE(announced.announce());
  Prober silent(probed, "h2");
  EXPECT_EQ(announced.await_end().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(silent.await_end().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(becomes_true([] { return free_flows() == engine::kFlowsMax; }));
}

}  // namespace
}  // namespace sluice::agent::test
