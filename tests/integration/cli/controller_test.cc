// Every command for drains and patch runs against a controller that answers over a real socket.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <unistd.h>
#include <utility>

#include "control/cli/command_line.h"
#include "tests/integration/cli/fake_agent.h"
#include "tests/integration/cli/fake_controller.h"
#include "tests/integration/test_pki.h"

namespace sluice::cli {
namespace {

using nlohmann::json;

class ControllerTest : public testing::Test {
 protected:
  ControllerTest() { configure("controller = \"" + controller_.address() + "\"\n"); }
  ~ControllerTest() override {
    h1_.stop();
    controller_.stop();
    std::filesystem::remove_all(directory_);
  }

  void configure(const std::string& top) {
    std::ofstream(config_) << top << "[hosts]\nh1 = \"" << h1_.address()
                           << "\"\n[security]\nca = \"" << security_.ca << "\"\ncertificate = \""
                           << security_.certificate << "\"\nkey = \"" << security_.key << "\"\n";
  }
  std::string write(const std::string& name, const std::string& text) {
    std::string path = directory_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  int sluice(const std::vector<std::string>& arguments) {
    out_.str("");
    err_.str("");
    std::vector<std::string> all = {"--config", config_};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run(all, Terminal{.out = out_, .err = err_, .interrupts = interrupts_, .live = live_},
               [](const char*) -> const char* { return nullptr; }, {});
  }
  json document() {
    const std::string text = out_.str();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    return json::parse(text);
  }
  void expect_output(const std::vector<std::string>& words) {
    for (const std::string& word : words)
      EXPECT_NE(out_.str().find(word), std::string::npos) << word << " in " << out_.str();
  }
  void expect_error(const std::vector<std::string>& words) {
    const std::string text = err_.str();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    for (const std::string& word : words)
      EXPECT_NE(text.find(word), std::string::npos) << word << " in " << text;
  }

  static std::string make_directory() {
    std::string path = std::filesystem::temp_directory_path() /
                       ("sluice-cli-controller-test-" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
    return path;
  }

  const std::string directory_ = make_directory();
  const std::string config_ = directory_ + "/sluice.toml";
  sluice::test::TestPki pki_{directory_ + "/pki"};
  const security::SecurityConfig security_ = pki_.config("ann", security::Role::kOperator);
  const std::shared_ptr<const security::Credentials> credentials_ =
      pki_.credentials("controller", security::Role::kController);
  FakeAgent h1_{"h1", directory_, *pki_.credentials("h1")};
  FakeController controller_{directory_, *credentials_};
  std::ostringstream out_;
  std::ostringstream err_;
  Interrupts interrupts_;
  bool live_ = false;
};

const std::vector<std::vector<std::string>> controller_commands = {
    {"drain", "h1"},     {"drain", "h1", "--dry-run"}, {"cordon", "h1"},  {"uncordon", "h1"},
    {"patch", "status"}, {"patch", "pause"},           {"patch", "list"}, {"patch", "report", "7"}};

TEST_F(ControllerTest, WithoutOneConfiguredEveryCommandSaysHow) {
  configure("");
  for (const auto& command : controller_commands) {
    EXPECT_EQ(sluice(command), 2);
    expect_error({config_, "names no controller", "controller = "});
  }
  EXPECT_EQ(sluice({"hosts"}), 0);
  EXPECT_EQ(out_.str().find("IN SERVICE"), std::string::npos);
}

TEST_F(ControllerTest, ASilentOneIsNamed) {
  controller_.stop();
  for (const auto& command : controller_commands) {
    EXPECT_EQ(sluice(command), 1);
    expect_error({"the controller controller at unix:", "does not answer"});
  }
  EXPECT_EQ(sluice({"hosts"}), 0);
  expect_output({"8.0 GiB"});
  expect_error({"does not answer"});
}

TEST_F(ControllerTest, OneOfAnotherNameIsRefused) {
  configure("controller = \"" + controller_.address() + "\"\ncontroller_name = \"c9\"\n");
  EXPECT_EQ(sluice({"patch", "list"}), 1);
  expect_error({"c9"});
}

TEST_F(ControllerTest, UsageErrorsAskNobody) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"drain"}, "HOST"},
      {{"drain", "h1", "--dry-run", "--watch"}, "--watch"},
      {{"patch", "run"}, "FILE"},
      {{"patch", "plan"}, "--inventory"},
      {{"patch", "plan", "p.toml", "--seed", "3"}, "--inventory"},
  };
  for (const auto& [arguments, word] : cases) {
    EXPECT_EQ(sluice(arguments), 2);
    expect_error({word});
  }
  EXPECT_EQ(controller_.started.plan_toml(), "");
}

TEST_F(ControllerTest, DrainRunsAPlanOfOneHostAndWaits) {
  EXPECT_EQ(sluice({"drain", "h1"}), 0);
  EXPECT_EQ(controller_.started.plan_toml(),
            "name = \"drain h1\"\nhosts = [\"h1\"]\ndrain_only = true\nparallel = 1\n");
  EXPECT_EQ(controller_.asked_run, "7");
  EXPECT_TRUE(out_.str().starts_with("run 7, drain h1: done")) << out_.str();
  EXPECT_EQ(err_.str(), "");
  EXPECT_EQ(sluice({"--json", "drain", "h1"}), 0);
  EXPECT_EQ(document()["status"], "done");
}

TEST_F(ControllerTest, WatchPrintsEachChangeOnce) {
  EXPECT_EQ(sluice({"drain", "h1", "--watch"}), 0);
  expect_output({"h1: draining", "db: h1 -> h2\n",
                 "db: h1 -> h2, done in 1.2 s, stood still for 12.4 ms", "h1: done"});
  const auto first = out_.str().find("h1: draining");
  EXPECT_EQ(out_.str().find("h1: draining", first + 1), std::string::npos);
  EXPECT_EQ(sluice({"--json", "drain", "h1", "--watch"}), 0);
  std::istringstream stream(out_.str());
  std::vector<json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0]["event"], "status");
  EXPECT_EQ(lines[0]["tasks"][0]["state"], "under way");
  EXPECT_EQ(lines[3]["status"], "done");
}

TEST_F(ControllerTest, OnATerminalTheViewIsRewritten) {
  live_ = true;
  EXPECT_EQ(sluice({"drain", "h1"}), 0);
  expect_output({"\x1b[4A\r\x1b[J"});  // headline, table of one host, one move
}

TEST_F(ControllerTest, DryRunPrintsMovesAndBoundAndStartsNothing) {
  EXPECT_EQ(sluice({"drain", "h1", "--dry-run"}), 0);
  expect_output({"db", "2.0 GiB", "3.2 s to 5.0 s", "shut down, and started on other hosts: old\n",
                 "estimate 4.5 s (4.2 s to 6.0 s), lower bound 4.0 s (the link of h1)",
                 "which opens Sat 2026-11-21 22:00 Europe/Berlin\n"});
  EXPECT_EQ(controller_.started.plan_toml(), "");
  EXPECT_EQ(sluice({"--json", "drain", "h1", "--dry-run"}), 0);
  EXPECT_EQ(document()["hosts"][0]["moves"][0]["end_s"], 4.5);
  EXPECT_EQ(document()["hosts"][0]["moves"][0]["high_s"], 5);
  EXPECT_EQ(document()["hosts"][0]["estimate_low_s"], 4.2);
  const std::string plan = write("plan.toml", "name = \"p\"\n");
  controller_.drain_only = false;
  EXPECT_EQ(sluice({"patch", "plan", plan}), 0);
  expect_output({"shut down until it is back: old\n", "the whole run: estimate 4.5 s",
                 "lower bound 4.0 s, 1 host out of service at once\n",
                 "to its canary's end 5 min 0 s (as in run r3, of 4 hosts)\n"});
  EXPECT_EQ(controller_.previewed.plan_toml(), "name = \"p\"\n");
  EXPECT_EQ(controller_.previewed.file_name(), plan);
}

TEST_F(ControllerTest, ARefusalIsOneLineAndStatusOne) {
  controller_.refusal = {grpc::StatusCode::RESOURCE_EXHAUSTED, "h1: 3 GiB are missing on h2"};
  for (const auto& command : controller_commands) {
    EXPECT_EQ(sluice(command), 1);
    expect_error({"3 GiB are missing on h2"});
  }
}

TEST_F(ControllerTest, ARunThatFailedOrPausedIsStatusOne) {
  controller_.run.mutable_hosts(0)->set_state("skipped");
  controller_.run.mutable_hosts(0)->set_failure("no room for db");
  EXPECT_EQ(sluice({"drain", "h1"}), 1);
  expect_error({"run 7", "h1: no room for db"});
  controller_.run.set_state("paused");
  EXPECT_EQ(sluice({"drain", "h1"}), 1);
  expect_error({"paused", "sluice patch resume 7"});
}

TEST_F(ControllerTest, ARunThatLeftSomethingBehindIsStatusOne) {
  controller_.run.mutable_hosts(0)->set_failure("hook unsilence failed for h1: exit status 7");
  EXPECT_EQ(sluice({"drain", "h1"}), 1);
  expect_error({"h1: hook unsilence failed for h1: exit status 7"});
}

TEST_F(ControllerTest, CtrlCLeavesTheRunAloneAndSaysHowToGoOn) {
  controller_.script = [this](FakeController::StatusWriter& writer) {
    while (!interrupts_.raise()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    v1::RunStatus running = controller_.run;
    running.set_state("running");
    while (writer.Write(running)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return grpc::Status::CANCELLED;
  };
  EXPECT_EQ(sluice({"drain", "h1"}), 3);
  expect_error({"run 7 goes on", "sluice patch status 7 --watch", "sluice patch abort 7"});
  EXPECT_EQ(sluice({"--json", "drain", "h1"}), 3);
  EXPECT_EQ(document()["status"], "unknown");
}

// The controller has the question, and may have done what it asks for.
TEST_F(ControllerTest, AChangeWhoseAnswerIsLostIsStatusThree) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> changes = {
      {{"cordon", "h1"}, "sluice hosts"},
      {{"uncordon", "h1"}, "sluice hosts"},
      {{"drain", "h1"}, "sluice patch list"},
      {{"patch", "pause"}, "sluice patch status"},
      {{"patch", "resume", "7"}, "sluice patch status 7"},
      {{"patch", "abort", "7"}, "sluice patch status 7"}};
  for (const grpc::Status& lost :
       {grpc::Status(grpc::StatusCode::UNAVAILABLE, "keepalive watchdog timeout"),
        grpc::Status(grpc::StatusCode::UNAVAILABLE, "Transport closed"),
        grpc::Status(grpc::StatusCode::CANCELLED, "CANCELLED"),
        grpc::Status(grpc::StatusCode::INTERNAL, "RST_STREAM")}) {
    controller_.refusal = lost;
    for (const auto& [command, question] : changes) {
      EXPECT_EQ(sluice(command), 3) << lost.error_message();
      expect_error({"it is not known whether", "ask with: " + question + "\n"});
    }
    EXPECT_EQ(sluice({"patch", "status"}), 1) << "it changes nothing";
  }
  controller_.refusal = grpc::Status::OK;
  controller_.silent = true;
  EXPECT_EQ(sluice({"cordon", "h1"}), 3);
  expect_error({"it is not known whether h1 is cordoned", "does not answer"});
}

TEST_F(ControllerTest, AWatchThatIsRefusedSaysNothingOfTheRun) {
  controller_.script = [](FakeController::StatusWriter&) {
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "the certificate has expired");
  };
  EXPECT_EQ(sluice({"drain", "h1"}), 3);
  expect_error({"the certificate has expired", "sluice patch status 7 --watch"});
}

TEST_F(ControllerTest, AWatchOutlivesTheController) {
  std::thread killer;
  bool killed = false;
  controller_.script = [&](FakeController::StatusWriter& writer) {
    v1::RunStatus status = controller_.run;
    if (std::exchange(killed, true)) {
      writer.Write(status);
      return grpc::Status::OK;
    }
    status.set_state("running");
    writer.Write(status);
    killer = std::thread([this] {
      controller_.stop();
      controller_.start();
    });
    while (writer.Write(status)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return grpc::Status::CANCELLED;
  };
  EXPECT_EQ(sluice({"drain", "h1"}), 0) << err_.str();
  killer.join();
  EXPECT_TRUE(out_.str().starts_with("run 7, drain h1: done")) << out_.str();
}

TEST_F(ControllerTest, CordonsAndSaysSoAmongTheHosts) {
  EXPECT_EQ(sluice({"cordon", "h1"}), 0);
  expect_output({"h1 is cordoned"});
  EXPECT_EQ(sluice({"hosts"}), 0);
  expect_output({"IN SERVICE", "cordoned"});
  EXPECT_EQ(sluice({"--json", "hosts"}), 0);
  EXPECT_EQ(document()["hosts"][0]["cordoned_by"], "operator");
  controller_.cluster.mutable_hosts(0)->set_reachable(false);
  EXPECT_EQ(sluice({"hosts"}), 0);
  expect_output({"not heard by the controller"});
  controller_.cluster.clear_hosts();
  EXPECT_EQ(sluice({"--json", "uncordon", "h1"}), 0);
  EXPECT_EQ(document()["cordoned_by"], "");
}

TEST_F(ControllerTest, PatchRunStartsAndDoesNotWait) {
  write("canary.toml", "name = \"canary\"\ndriver = \"memory\"\n");
  const std::string plan = write("plan.toml",
                                 "name = \"p\"\n[canary]\nguest_file = \"canary.toml\"  # beside\n"
                                 "[soak]\nseconds = 1\n");
  EXPECT_EQ(sluice({"patch", "run", plan}), 0);
  EXPECT_EQ(controller_.started.plan_toml(),
            "name = \"p\"\n[canary]\ndefinition = \"name = \\\"canary\\\"\\ndriver = "
            "\\\"memory\\\"\\n\"  # beside\n[soak]\nseconds = 1\n");
  EXPECT_EQ(controller_.started.file_name(), plan);
  expect_output({"run 7", "sluice patch status 7 --watch"});
  EXPECT_EQ(controller_.asked_run, "");
  EXPECT_EQ(sluice({"patch", "run", plan, "--watch"}), 0);
  EXPECT_EQ(controller_.asked_run, "7");
}

TEST_F(ControllerTest, ABadPlanFileReachesNobody) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"name = \n", "plan.toml:1:"},
      {"[canary]\nguest_file = 3\n", "plan.toml:2:"},
      {"[canary]\nguest_file = \"none.toml\"\n", "none.toml"},
      {"[canary]\nguest_file = \"plan.toml\"\ndefinition = \"x\"\n", "keep one"},
  };
  for (const auto& [text, word] : cases) {
    EXPECT_EQ(sluice({"patch", "run", write("plan.toml", text)}), 1);
    expect_error({word});
  }
  EXPECT_EQ(sluice({"patch", "run", directory_ + "/missing.toml"}), 1);
  expect_error({"missing.toml"});
  EXPECT_EQ(controller_.started.file_name(), "");
}

TEST_F(ControllerTest, StatusControlReportAndList) {
  EXPECT_EQ(sluice({"patch", "status"}), 0);
  EXPECT_EQ(controller_.asked_run, "");
  expect_output({"run 7, drain h1: done", "GUESTS  BEFORE", "0       3"});
  EXPECT_EQ(sluice({"patch", "status", "7", "--all"}), 0);
  EXPECT_EQ(sluice({"patch", "status", "7", "--all", "--watch"}), 2);
  EXPECT_EQ(sluice({"patch", "status", "7", "--watch"}), 0);
  EXPECT_EQ(controller_.asked_run, "7");
  EXPECT_EQ(sluice({"patch", "abort", "7"}), 0);
  EXPECT_EQ(controller_.commanded.command(), v1::CommandRunRequest::ABORT);
  EXPECT_EQ(controller_.commanded.run(), "7");
  EXPECT_EQ(sluice({"patch", "pause"}), 0);
  EXPECT_EQ(controller_.commanded.command(), v1::CommandRunRequest::PAUSE);
  EXPECT_EQ(sluice({"patch", "resume"}), 0);
  EXPECT_EQ(controller_.commanded.command(), v1::CommandRunRequest::RESUME);
  EXPECT_EQ(sluice({"patch", "report", "7"}), 0);
  EXPECT_EQ(out_.str(), "# Run 7\n");
  EXPECT_EQ(sluice({"--json", "patch", "report"}), 0);
  EXPECT_EQ(document()["run"], "7");
  EXPECT_EQ(sluice({"patch", "list"}), 0);
  expect_output({"2023-11-14 22:13:20Z", "drain h1"});
  EXPECT_EQ(sluice({"--json", "patch", "list"}), 0);
  EXPECT_EQ(document()["runs"][0]["run"], "7");
}

}  // namespace
}  // namespace sluice::cli
