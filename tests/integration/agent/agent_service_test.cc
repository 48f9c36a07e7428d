// Whom an agent obeys, and what it refuses once it is about to reboot.
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <future>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "control/agent/service.h"
#include "control/client/agent_client.h"
#include "tests/integration/agent/fake_host.h"

namespace sluice::agent::test {
namespace {

class AgentServiceTest : public testing::Test {
 protected:
  AgentServiceTest() {
    std::filesystem::create_directories(directory_.path() + "/hooks");
    EXPECT_TRUE(hooks::HookRunner::prepare(directory_.path() + "/state"));
    host_.driver().next = fate_;
  }

  void write_hook(const std::string& body) const {
    const std::string path = directory_.path() + "/hooks/patch";
    std::ofstream(path) << "#!/bin/sh\n" << body;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  grpc::Status run_hook(const std::string& key) {
    grpc::ServerContext context;
    v1::RunHookRequest request;
    request.set_key(key);
    request.set_name("patch");
    request.set_timeout_s(60);
    v1::HookResult result;
    return service_.RunHook(&context, &request, &result);
  }
  grpc::Status reboot() {
    grpc::ServerContext context;
    v1::RebootRequest request;
    request.set_boot_id(kBoot);
    v1::RebootResult result;
    auto status = service_.Reboot(&context, &request, &result);
    EXPECT_EQ(result.begun(), status.ok());
    return status;
  }
  std::vector<std::string> remarks() {
    grpc::ClientContext context;
    v1::HostInfo info;
    EXPECT_TRUE(agent_->GetHost(&context, {}, &info).ok());
    const auto& of_data_plane = SharedDataPlane::get().data_plane->info().remarks;
    return {info.remarks().begin() + static_cast<int>(of_data_plane.size()), info.remarks().end()};
  }
  Expected<GuestClaim> bring(const std::string& guest) {
    return host_.registry().create(guest, kFakeBytes, "there", [this] {
      return Expected<std::unique_ptr<guest::Guest>>(std::make_unique<FakeGuest>("db", fate_));
    });
  }

  TemporaryDirectory directory_;
  std::shared_ptr<FakeFate> fate_ = std::make_shared<FakeFate>(guest::Phase::kRunning);
  FakeHost host_{directory_.path(), "unix:/nobody"};
  AgentService service_{host_.agent(), kBoot, {}};
  const std::unique_ptr<grpc::Server> server_ =
      grpc::ServerBuilder().RegisterService(&service_).BuildAndStart();
  const std::unique_ptr<v1::Agent::Stub> agent_ = v1::Agent::NewStub(server_->InProcessChannel({}));
};

TEST_F(AgentServiceTest, AHostThatIsAboutToRebootTakesNoGuestsAndRunsNoHooks) {
  write_hook("true\n");
  ASSERT_TRUE(run_hook("r1-1").ok());
  ASSERT_TRUE(reboot().ok());
  const auto refused = bring("db");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_EQ(refused.error().message, "here is about to reboot: it takes no guest db");
  EXPECT_EQ(run_hook("r1-2").error_message(), "here is about to reboot; hook patch was not run");
  // Whoever has not heard that it has begun asks again.
  EXPECT_TRUE(reboot().ok());
}

// Else anybody who may stop a guest could fence off the controller that leads, for ever.
TEST_F(AgentServiceTest, AnEpochCountsFromAControllersCertificateAlone) {
  auto& pki = SharedDataPlane::get().pki;
  const std::string address = "unix:" + directory_.path() + "/agent.sock";
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, pki.credentials("h1")->for_server([](const std::string&) {}));
  builder.RegisterService(&service_);
  const auto server = builder.BuildAndStart();
  ASSERT_TRUE(server);
  const auto refusal = [&](security::Role role, std::uint64_t epoch,
                           const std::string& instance = "") {
    const auto credentials = pki.credentials(fmt::format("c{}", static_cast<int>(role)), role);
    client::AgentClient client({"h1", address}, *credentials,
                               model::ControllerIdentity{"aa", epoch, {}, instance});
    return client.stop_guest("nobody").error();
  };
  const Error error = refusal(security::Role::kOperator, 9);
  EXPECT_EQ(error.kind, ErrorKind::kPermission);
  EXPECT_NE(error.message.find("only a controller's certificate"), std::string::npos)
      << error.message;
  EXPECT_EQ(refusal(security::Role::kController, 3).kind, ErrorKind::kNotFound)
      << "nobody has fenced it off";
  EXPECT_NE(refusal(security::Role::kController, 2).message.find("epoch 3 has taken over"),
            std::string::npos);
  EXPECT_EQ(refusal(security::Role::kController, 4, "1a").kind, ErrorKind::kNotFound);
  EXPECT_NE(refusal(security::Role::kController, 4, "2b").message.find("of the same epoch 4"),
            std::string::npos);
  grpc::ClientContext context;
  v1::HostInfo info;
  ASSERT_TRUE(agent_->GetHost(&context, {}, &info).ok());
  EXPECT_EQ(info.controller_instance(), "1a");
}

// It may be all that is left of it.
TEST_F(AgentServiceTest, AGuestThatWaitsForAnOperatorIsEndedAtNoControllersWord) {
  TemporaryDirectory directory;
  const auto fate = std::make_shared<FakeFate>(guest::Phase::kHandedOver);
  std::filesystem::create_directories(directory.path() + "/handover");
  std::ofstream(directory.path() + "/handover/0000000000000007.json") << R"({"guest": "d)";
  FakeHost host(directory.path(), "unix:/nobody", {{"db", fate}});
  EXPECT_TRUE(hooks::HookRunner::prepare(directory.path() + "/state"));
  AgentService service(host.agent(), kBoot, {});
  auto& pki = SharedDataPlane::get().pki;
  const std::string address = "unix:" + directory.path() + "/agent.sock";
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, pki.credentials("h1")->for_server([](const std::string&) {}));
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  ASSERT_TRUE(server);
  const auto credentials = pki.credentials("c1", security::Role::kController);
  client::AgentClient controller({"h1", address}, *credentials, model::ControllerIdentity{"", 1});
  const auto refused = controller.stop_guest("db");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_NE(refused.error().message.find("see sluice guest resume and sluice guest stop"),
            std::string::npos)
      << refused.error().message;
  EXPECT_EQ(fate->phase(), guest::Phase::kHandedOver);
  const auto as_operator = pki.credentials("anna", security::Role::kOperator);
  EXPECT_TRUE(client::AgentClient({"h1", address}, *as_operator).stop_guest("db"));
  EXPECT_EQ(fate->phase(), guest::Phase::kGone);
}

// Begins with an order when it was given up, as an agent that stood still.
class LateService final : public v1::Agent::Service {
 public:
  explicit LateService(AgentService& service) : service_(service) {}
  grpc::Status StartGuest(grpc::ServerContext* call, const v1::StartGuestRequest* request,
                          v1::GuestInfo* reply) override {
    EXPECT_TRUE(becomes_true([&] { return call->IsCancelled(); }));
    return note(service_.StartGuest(call, request, reply));
  }
  grpc::Status Migrate(grpc::ServerContext* call, const v1::MigrateRequest* request,
                       grpc::ServerWriter<v1::MigrateUpdate>* writer) override {
    EXPECT_TRUE(becomes_true([&] { return call->IsCancelled(); }));
    return note(service_.Migrate(call, request, writer));
  }
  std::promise<grpc::Status> ended;

 private:
  grpc::Status note(const grpc::Status& status) {
    ended.set_value(status);
    return status;
  }
  AgentService& service_;
};

TEST_F(AgentServiceTest, AnOrderThatWasGivenUpIsNotBegun) {
  ASSERT_TRUE(bring("db"));
  for (const bool moves : {false, true}) {
    LateService late(service_);
    const auto server = grpc::ServerBuilder().RegisterService(&late).BuildAndStart();
    const auto agent = v1::Agent::NewStub(server->InProcessChannel({}));
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    if (moves) {
      v1::MigrateRequest request;
      request.set_guest("db");
      request.set_to("there");
      EXPECT_FALSE(agent->Migrate(&call, request)->Finish().ok());
    } else {
      v1::StartGuestRequest request;
      request.set_definition_toml("name = 'web'\ndriver = 'memory'\nmemory = '4M'\n");
      v1::GuestInfo info;
      EXPECT_FALSE(agent->StartGuest(&call, request, &info).ok());
    }
    EXPECT_EQ(late.ended.get_future().get().error_code(), grpc::StatusCode::CANCELLED);
    server->Shutdown();
  }
  EXPECT_FALSE(host_.registry().has("web"));
}

TEST_F(AgentServiceTest, AHostWithGuestsIsNotRebootedAndTakesMore) {
  const auto guest = bring("db");
  ASSERT_TRUE(guest) << guest.error().message;
  EXPECT_EQ(reboot().error_code(), grpc::StatusCode::ABORTED);
  EXPECT_TRUE(bring("web"));
}

TEST_F(AgentServiceTest, AHostThatRunsAHookIsNotRebooted) {
  const std::string go = directory_.path() + "/go";
  write_hook("touch " + go + ".begun\nwhile [ ! -e " + go + " ]; do sleep 0.02; done\n");
  grpc::Status ended;
  std::thread hook([&] { ended = run_hook("r1-1"); });
  EXPECT_TRUE(becomes_true([&] { return std::filesystem::exists(go + ".begun"); }));
  EXPECT_EQ(reboot().error_message(),
            "here is running a hook, which a reboot would end; wait for it");
  std::ofstream(go) << "go";
  hook.join();
  EXPECT_TRUE(ended.ok()) << ended.error_message();
  EXPECT_TRUE(reboot().ok());
}

TEST_F(AgentServiceTest, AnAgentThatEndsWaitsForNoHook) {
  const std::string go = directory_.path() + "/go";
  write_hook("touch " + go + ".begun\nwhile [ ! -e " + go + " ]; do sleep 0.02; done\n");
  grpc::Status ended;
  std::thread hook([&] { ended = run_hook("r1-1"); });
  EXPECT_TRUE(becomes_true([&] { return std::filesystem::exists(go + ".begun"); }));
  service_.stop();
  hook.join();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::UNAVAILABLE) << "asked again, it is found";
  std::ofstream(go) << "go";
  const std::string its_end = directory_.path() + "/state/r1-1.exit";
  EXPECT_TRUE(becomes_true([&] { return std::filesystem::exists(its_end); })) << "left running";
}

TEST_F(AgentServiceTest, AHostWhoseRebootFailsTakesGuestsAndHooksAgain) {
  write_hook("true\n");
  host_.config().reboot_command = {"/bin/sh", "-c", "exit 3"};
  const auto failed = reboot();
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(failed.error_message(),
            "here was not rebooted: its reboot_command /bin/sh ended with exit status 3; run it by "
            "hand to see why");
  EXPECT_EQ(remarks(), std::vector{failed.error_message()});
  EXPECT_TRUE(run_hook("r1-1").ok());
  {
    const auto guest = bring("db");
    EXPECT_TRUE(guest) << guest.error().message;
  }
  ASSERT_TRUE(host_.registry().claim("db", ClaimPurpose::kStop)->destroy());
  host_.config().reboot_command = {"/bin/true"};
  EXPECT_TRUE(reboot().ok());
  EXPECT_FALSE(bring("db"));
  EXPECT_TRUE(remarks().empty());
}

TEST_F(AgentServiceTest, AHostWhoseRebootFailsLateTakesGuestsAgain) {
  const std::string go = directory_.path() + "/go";
  host_.config().reboot_command = {"/bin/sh", "-c",
                                   "while [ ! -e " + go + " ]; do sleep 0.02; done; exit 1"};
  ASSERT_TRUE(reboot().ok()) << "a command that is still at work has begun";
  EXPECT_FALSE(bring("db"));
  std::ofstream(go) << "go";
  EXPECT_TRUE(becomes_true([&] { return remarks().size() == 1; }));
  EXPECT_TRUE(bring("db"));
}

TEST_F(AgentServiceTest, AHostWhoseRebootCannotBeStartedTakesGuestsAgain) {
  host_.config().reboot_command = {"/nowhere/reboot"};
  const auto failed = reboot();
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(failed.error_message().find("/nowhere/reboot cannot be started"), std::string::npos);
  EXPECT_TRUE(bring("db"));
}

// As everything does in a shutdown.
TEST_F(AgentServiceTest, ARebootWhoseCommandIsKilledIsComing) {
  host_.config().reboot_command = {"/bin/sh", "-c", "kill -TERM $$"};
  ASSERT_TRUE(reboot().ok());
  EXPECT_FALSE(bring("db"));
}

TEST_F(AgentServiceTest, ARebootThatDoesNotComeIsNamedAndStillRefusesGuests) {
  Rebooter rebooter(host_.config(), host_.registry());
  const auto asked = Rebooter::Clock::now();
  EXPECT_EQ(rebooter.remark(asked), std::nullopt);
  ASSERT_TRUE(rebooter.begin());
  EXPECT_EQ(rebooter.remark(asked + Rebooter::kOverdue - std::chrono::minutes(1)), std::nullopt);
  EXPECT_EQ(rebooter.remark(asked + Rebooter::kOverdue + std::chrono::minutes(1)),
            "was told to reboot 15 min ago, is still up and takes neither guests nor hooks: reboot "
            "it, or restart its agent if it is to stay up");
  EXPECT_FALSE(bring("db"));
}

}  // namespace
}  // namespace sluice::agent::test
