// Every command against agents that answer over real sockets.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <latch>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <unistd.h>

#include "control/cli/command_line.h"
#include "control/client/agent_client.h"
#include "control/model/version.h"
#include "tests/integration/cli/fake_agent.h"
#include "tests/integration/test_pki.h"

namespace sluice::cli {
namespace {

using nlohmann::json;

class CliTest : public testing::Test {
 protected:
  CliTest() {
    std::ofstream(config_) << "[hosts]\nh1 = \"" << h1_.address() << "\"\nh2 = \"" << h2_.address()
                           << "\"\n[security]\nca = \"" << security_.ca << "\"\ncertificate = \""
                           << security_.certificate << "\"\nkey = \"" << security_.key << "\"\n";
    h1_.destination = &h2_;
    h2_.destination = &h1_;
  }
  ~CliTest() override {
    h1_.stop();
    h2_.stop();
    std::filesystem::remove_all(directory_);
  }

  int sluice(const std::vector<std::string>& arguments) {
    out_.str("");
    err_.str("");
    std::vector<std::string> all = {"--config", config_};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run(all, Terminal{.out = out_, .err = err_, .interrupts = interrupts_},
               [](const char*) -> const char* { return nullptr; }, {});
  }
  json document() {
    const std::string text = out_.str();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    return json::parse(text);
  }
  // What a person sees of a failure: one line that holds all `words`.
  void expect_error(const std::vector<std::string>& words) {
    const std::string text = err_.str();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    for (const std::string& word : words)
      EXPECT_NE(text.find(word), std::string::npos) << word << " in " << text;
  }

  static std::string make_directory() {
    std::string path =
        std::filesystem::temp_directory_path() / ("sluice-cli-test-" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
    return path;
  }

  const std::string directory_ = make_directory();
  const std::string config_ = directory_ + "/sluice.toml";
  sluice::test::TestPki pki_{directory_ + "/pki"};
  const security::SecurityConfig security_ = pki_.config("ann", security::Role::kOperator);
  FakeAgent h1_{"h1", directory_, *pki_.credentials("h1")};
  FakeAgent h2_{"h2", directory_, *pki_.credentials("h2")};
  std::ostringstream out_;
  std::ostringstream err_;
  Interrupts interrupts_;
};

TEST_F(CliTest, ChannelsThatConnectAtOnceAllPresentTheirCertificate) {
  constexpr int kChannels = 4;
  for (int round = 0; round < 100; ++round) {
    const auto credentials = security::Credentials::load(security_, "");
    ASSERT_TRUE(credentials) << credentials.error().message;
    std::latch all_there(kChannels);
    std::vector<std::future<Expected<v1::GuestList>>> answers;
    for (int i = 0; i < kChannels; ++i) {
      answers.push_back(std::async(std::launch::async, [&] {
        client::AgentClient agent({h1_.name(), h1_.address()}, **credentials);
        all_there.arrive_and_wait();
        return agent.list_guests();
      }));
    }
    for (auto& answer : answers) {
      const auto listed = answer.get();
      EXPECT_TRUE(listed) << listed.error().message;
    }
  }
}

TEST_F(CliTest, DoctorSaysWhatAgentsRemarkOfEveryHost) {
  EXPECT_EQ(sluice({"doctor"}), 0) << err_.str();
  EXPECT_EQ(out_.str(),
            "h1: memif:/run/x.sock (), , MTU 0, queues: 0\n  no hugepages\n"
            "h2: memif:/run/x.sock (), , MTU 0, queues: 0\n  no hugepages\n");
  h2_.stop();
  EXPECT_EQ(sluice({"doctor", "--on", "h1"}), 0) << "of the others nothing is asked";
  EXPECT_EQ(sluice({"doctor"}), 1);
  EXPECT_NE(out_.str().find("h2: host h2: its agent at"), std::string::npos) << out_.str();
}

TEST_F(CliTest, DoctorChecksThePathsBetweenTwoHostsBothWays) {
  h1_.paths["h2"] = "";
  h2_.paths["h1"] = "";
  EXPECT_EQ(sluice({"doctor", "--on", "h1", "--peer", "h2"}), 0) << err_.str();
  EXPECT_NE(out_.str().find("h1 -> h2: frames of 9000 arrive, as configured; round trip 0.15 ms\n"
                            "h2 -> h1: frames of 9000 arrive, as configured; round trip 0.15 ms\n"),
            std::string::npos)
      << out_.str();
  h1_.paths["h2"] =
      "configured 9000, largest frame that reaches h2 is 1500: check the switch ports";
  EXPECT_EQ(sluice({"doctor", "--on", "h1", "--peer", "h2"}), 1);
  EXPECT_NE(
      out_.str().find(
          "h1 -> h2: configured 9000, largest frame that reaches h2 is 1500: check the switch "
          "ports; round trip 0.15 ms\n  migrations go in frames of 1500 until every switch "
          "port on the way forwards 9000, which is 9018 with\n  Ethernet's header and a VLAN "
          "tag; if that is not to be had, set dataplane.mtu = 1500 on h1 or h2\n"),
      std::string::npos)
      << out_.str();
  h2_.paths.clear();
  EXPECT_EQ(sluice({"--json", "doctor", "--peer", "h2"}), 1);
  const json found = document();
  EXPECT_EQ(found["hosts"].size(), 2U);
  ASSERT_EQ(found["paths"].size(), 2U);
  EXPECT_EQ(found["paths"][0]["mtu"], 1500);
  EXPECT_EQ(found["paths"][0]["round_trip_ms"], 0.15);
  EXPECT_NE(found["paths"][1]["error"].get<std::string>().find("no frame of any size reaches h1"),
            std::string::npos);
}

TEST_F(CliTest, DoctorNamesAHostThatIsNotThere) {
  EXPECT_EQ(sluice({"doctor", "--on", "h7"}), 1);
  expect_error({"h7", "h1, h2"});
  EXPECT_EQ(sluice({"doctor", "--on", "h1", "--peer", "h7"}), 1);
  expect_error({"h7", "h1, h2"});
  EXPECT_EQ(sluice({"doctor", "--on", "h1", "--peer", "h1"}), 2);
  expect_error({"--peer", "another host"});
}

TEST_F(CliTest, Version) {
  EXPECT_EQ(sluice({"--version"}), 0);
  EXPECT_EQ(out_.str(),
            std::string("sluice ") + model::version() + " (" + model::revision() + ")\n");
}

TEST_F(CliTest, UsageErrorsAreOneLineAndStatusTwo) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "subcommand"},
      {{"teleport"}, "teleport"},
      {{"guest"}, "subcommand"},
      {{"guest", "start", "x.toml"}, "--on"},
      {{"migrate", "db"}, "--to"},
      {{"migrate", "db", "--to", "h2", "--downtime-limit", "soon"}, "soon"},
      {{"migrate", "db", "--to", "h2", "--downtime-limit", "50"}, "50ms"},
      {{"migrate", "db", "--to", "h2", "--mode", "fast"}, "fast"},
      {{"migrate", "db", "--to", "h2", "--max-iterations", "0"}, "--max-iterations"},
      {{"migrate", "db", "--watch", "--proof", "full"}, "--proof"},
      {{"bench", "--from", "h1", "--to", "h2"}, "--size"},
      {{"bench", "--from", "h1", "--to", "h2", "--size", "big"}, "big"},
      {{"bench", "--from", "h1", "--to", "h2", "--size", "3M"}, "2M"},
      {{"bench", "--from", "h1", "--to", "h2", "--size", "4M", "--dirty-rate", "x"}, "x"},
  };
  for (const auto& [arguments, word] : cases) {
    EXPECT_EQ(sluice(arguments), 2);
    expect_error({word});
  }
  EXPECT_TRUE(h1_.migrations.empty());
}

TEST_F(CliTest, ListsHostsAndGuests) {
  h1_.add_guest("db-1");
  h2_.add_guest("db-2");
  EXPECT_EQ(sluice({"hosts"}), 0);
  EXPECT_NE(out_.str().find("8.0 GiB"), std::string::npos);
  EXPECT_NE(out_.str().find("h1, h2: no hugepages"), std::string::npos);
  EXPECT_EQ(sluice({"--json", "hosts"}), 0);
  EXPECT_EQ(document()["hosts"][1]["name"], "h2");
  EXPECT_EQ(sluice({"guests"}), 0);
  EXPECT_NE(out_.str().find("db-2   h2    running"), std::string::npos) << out_.str();
  EXPECT_EQ(sluice({"guests", "--json"}), 0);
  EXPECT_EQ(document()["guests"].size(), 2U);
}

TEST_F(CliTest, ASilentHostIsNamedAndHidesNothingElse) {
  h1_.add_guest("db-1");
  h2_.stop();
  EXPECT_EQ(sluice({"--json", "guests"}), 0);
  EXPECT_EQ(document()["guests"][0]["name"], "db-1");
  EXPECT_EQ(document()["unreachable"][0]["host"], "h2");
  expect_error({"h2", "does not answer"});
  EXPECT_EQ(sluice({"migrate", "nobody", "--to", "h1"}), 1);
  expect_error({"nobody", "db-1", "h2"});
  h1_.stop();
  EXPECT_EQ(sluice({"guests"}), 1);
}

TEST_F(CliTest, StartsStopsAndAdopts) {
  const std::string file = directory_ + "/db.toml";
  std::ofstream(file) << "name = \"db\"\n";
  EXPECT_EQ(sluice({"guest", "start", file, "--on", "h2"}), 0);
  EXPECT_EQ(h2_.started.definition_toml(), "name = \"db\"\n");
  EXPECT_EQ(h2_.started.file_name(), file);
  EXPECT_EQ(sluice({"--json", "guest", "stop", "db"}), 0);
  EXPECT_EQ(document()["host"], "h2");
  EXPECT_FALSE(h2_.has_guest("db"));
  EXPECT_EQ(sluice({"guest", "adopt", "--on", "h1", "--qmp", "/run/x.qmp"}), 0);
  EXPECT_EQ(h1_.adopted, "/run/x.qmp");
}

TEST_F(CliTest, GuestErrorsAreOneLineAndStatusOne) {
  const std::string file = directory_ + "/bad.toml";
  std::ofstream(file) << "colour = \"red\"\n";
  EXPECT_EQ(sluice({"guest", "start", file, "--on", "h1"}), 1);
  expect_error({"bad.toml:1:1", "no name"});
  EXPECT_EQ(sluice({"guest", "start", directory_ + "/none.toml", "--on", "h1"}), 1);
  expect_error({"none.toml"});
  EXPECT_EQ(sluice({"guest", "start", file, "--on", "h9"}), 1);
  expect_error({"h9", "h1, h2"});
  EXPECT_EQ(sluice({"guest", "stop", "db"}), 1);
  expect_error({"db", "no guests"});
}

TEST_F(CliTest, MigratesWithTheOptionsGiven) {
  h1_.add_guest("db");
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h2", "--downtime-limit", "20ms", "--max-iterations",
                    "4", "--mode", "quick", "--proof", "full"}),
            0);
  ASSERT_EQ(h1_.migrations.size(), 1U);
  const v1::MigrateRequest& request = h1_.migrations[0];
  EXPECT_EQ(request.to(), "h2");
  EXPECT_EQ(request.downtime_limit_us(), 20'000U);
  EXPECT_EQ(request.max_iterations(), 4U);
  EXPECT_EQ(request.mode(), v1::MIGRATION_MODE_QUICK);
  EXPECT_EQ(request.proof(), v1::PROOF_MODE_FULL);
  EXPECT_TRUE(out_.str().starts_with("db moved from h1 to h2")) << out_.str();
  EXPECT_NE(out_.str().find("(limit 50.0 ms)"), std::string::npos);
  EXPECT_EQ(err_.str(), "");
}

TEST_F(CliTest, MigrateJsonIsOneDocumentAndWithWatchOneALine) {
  h1_.add_guest("db");
  EXPECT_EQ(sluice({"--json", "migrate", "db", "--to", "h2"}), 0);
  EXPECT_EQ(document()["status"], "completed");

  EXPECT_EQ(sluice({"--json", "migrate", "db", "--to", "h1", "--watch"}), 0);
  std::istringstream stream(out_.str());
  std::vector<json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_EQ(lines[0]["event"], "plan");
  EXPECT_EQ(lines[1]["phase"], "streaming");
  EXPECT_EQ(lines[3]["phase"], "final pass");
  EXPECT_EQ(lines[4]["status"], "completed");
  EXPECT_EQ(lines[4]["from"], "h2");
}

TEST_F(CliTest, WatchPrintsChangesOnly) {
  h1_.add_guest("db");
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h2", "--watch"}), 0);
  const std::string text = out_.str();
  const auto first = text.find("streaming, iteration 1");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(text.find("streaming, iteration 1", first + 1), std::string::npos);
  EXPECT_NE(text.find("final pass, iteration 2"), std::string::npos);
}

TEST_F(CliTest, RefusesWhatCannotBeMoved) {
  h1_.add_guest("db");
  h1_.add_guest("mover", "moving");
  h2_.add_guest("mover", "incoming");
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h1"}), 1);
  expect_error({"db", "h1"});
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h9"}), 1);
  expect_error({"h9", "h1, h2"});
  EXPECT_EQ(sluice({"migrate", "dp", "--to", "h2"}), 1);
  expect_error({"dp", "db"});
  EXPECT_EQ(sluice({"migrate", "mover", "--to", "h2"}), 1);
  expect_error({"moving", "sluice migrate mover --watch"});
  EXPECT_TRUE(h1_.migrations.empty());
  EXPECT_TRUE(h2_.migrations.empty());
}

TEST_F(CliTest, FollowsAMoveUnderWay) {
  h1_.add_guest("mover", "moving");
  h2_.add_guest("mover", "incoming");
  h1_.script = [](FakeAgent& agent, const v1::MigrateRequest& request,
                  FakeAgent::UpdateWriter& writer) {
    FakeAgent::send_progress(writer, "proving", 3);
    agent.send_summary(writer, request, "completed");
    return grpc::Status::OK;
  };
  EXPECT_EQ(sluice({"migrate", "mover", "--watch"}), 0);
  EXPECT_NE(out_.str().find("proving, iteration 3"), std::string::npos);
  EXPECT_TRUE(h1_.migrations.empty());
  h1_.script = nullptr;
  EXPECT_EQ(sluice({"migrate", "mover", "--watch"}), 1);
  expect_error({"mover is not moving"});
}

TEST_F(CliTest, SummaryThatFailedIsStatusOneAndUnknownIsThree) {
  h1_.add_guest("db");
  std::string status = "failed";
  h1_.script = [&status](FakeAgent& agent, const v1::MigrateRequest& request,
                         FakeAgent::UpdateWriter& writer) {
    agent.send_summary(writer, request, status, "h2 has no memory left");
    return grpc::Status::OK;
  };
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h2"}), 1);
  expect_error({"h2 has no memory left"});
  status = "unknown";
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h2"}), 3);
  EXPECT_NE(out_.str().find("start the agents of h1 and h2"), std::string::npos);
  EXPECT_EQ(sluice({"--json", "migrate", "db", "--to", "h2"}), 3);
  EXPECT_EQ(document()["status"], "unknown");
}

TEST_F(CliTest, ARefusalThatNamesAnUnreachablePeerIsNoUnknownOutcome) {
  h1_.add_guest("db");
  h1_.script = [](FakeAgent&, const v1::MigrateRequest&, FakeAgent::UpdateWriter&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "host h2 does not answer");
  };
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h2"}), 1);
  expect_error({"host h2 does not answer"});
}

TEST_F(CliTest, AnAgentLostInTheMiddleIsAnUnknownOutcome) {
  h1_.add_guest("db", "running");
  std::thread killer;
  h1_.script = [&killer](FakeAgent& agent, const v1::MigrateRequest&,
                         FakeAgent::UpdateWriter& writer) {
    agent.add_guest("db", "handed-over");
    killer = std::thread([&agent] { agent.stop(); });
    while (FakeAgent::send_progress(writer, "committing", 3))
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return grpc::Status::CANCELLED;
  };
  EXPECT_EQ(sluice({"--json", "migrate", "db", "--to", "h2"}), 3);
  killer.join();
  EXPECT_EQ(document()["status"], "unknown");
  expect_error({"not known", "sluice guests"});
}

TEST_F(CliTest, CtrlCLeavesTheMigrationAloneAndSaysHowToFollow) {
  h1_.add_guest("db");
  h1_.script = [this](FakeAgent&, const v1::MigrateRequest&, FakeAgent::UpdateWriter& writer) {
    while (!interrupts_.raise()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    while (FakeAgent::send_progress(writer, "streaming", 1))
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return grpc::Status::CANCELLED;
  };
  EXPECT_EQ(sluice({"migrate", "db", "--to", "h2"}), 3);
  expect_error({"db goes on moving", "sluice migrate db --watch"});
}

TEST_F(CliTest, BenchMovesVerifiesAndLeavesNothing) {
  h1_.verify_result.set_pages(1024);
  h2_.verify_result = h1_.verify_result;
  EXPECT_EQ(sluice({"--json", "bench", "--from", "h1", "--to", "h2", "--size", "4M", "--dirty-rate",
                    "1M", "--pattern", "hotset", "--time", "0", "--proof", "full"}),
            0);
  const json result = document();
  EXPECT_EQ(result["status"], "completed");
  EXPECT_EQ(result["moves"].size(), 1U);
  EXPECT_EQ(result["verify"]["pages"], 1024);
  EXPECT_EQ(
      h1_.started.definition_toml(),
      "name = \"" + result["guest"].get<std::string>() +
          "\"\ndriver = \"memory\"\nmemory = \"4194304\"\n[memory]\ndirty_rate = \"1048576\"\n"
          "pattern = \"hotset\"\n");
  EXPECT_EQ(h1_.migrations[0].proof(), v1::PROOF_MODE_FULL);
  EXPECT_EQ(h1_.guest_count() + h2_.guest_count(), 0U);
}

TEST_F(CliTest, BenchAlternatesAndPrintsATable) {
  EXPECT_EQ(sluice({"bench", "--from", "h1", "--to", "h2", "--size", "4M", "--time", "0.2"}), 0);
  EXPECT_GT(h1_.migrations.size(), 0U);
  EXPECT_GT(h2_.migrations.size(), 0U);
  EXPECT_LE(h1_.migrations.size() - h2_.migrations.size(), 1U);
  for (const char* const word : {"MEDIAN", "goodput", "downtime", "busy cores", "verified"})
    EXPECT_NE(out_.str().find(word), std::string::npos) << word;
  EXPECT_EQ(h1_.guest_count() + h2_.guest_count(), 0U);
}

TEST_F(CliTest, BenchFailsOnAMismatchAndCleansUpAfterAFailedMove) {
  h2_.verify_result.set_pages(1024);
  h2_.verify_result.set_mismatches(3);
  const std::vector<std::string> command = {"bench",  "--from", "h1",     "--to", "h2",
                                            "--size", "4M",     "--time", "0"};
  EXPECT_EQ(sluice(command), 1);
  expect_error({"3 of 1,024 pages are wrong"});
  EXPECT_EQ(h1_.guest_count() + h2_.guest_count(), 0U);

  h1_.script = [](FakeAgent& agent, const v1::MigrateRequest& request,
                  FakeAgent::UpdateWriter& writer) {
    agent.send_summary(writer, request, "failed", "the link went quiet");
    return grpc::Status::OK;
  };
  EXPECT_EQ(sluice(command), 1);
  expect_error({"move 1 from h1 to h2", "the link went quiet"});
  std::vector<std::string> as_json = command;
  as_json.emplace_back("--json");
  EXPECT_EQ(sluice(as_json), 1);
  EXPECT_EQ(document()["moves"][0]["status"], "failed");
  EXPECT_EQ(document()["goodput_gbps"]["max"], 0.0);
  EXPECT_EQ(h1_.guest_count() + h2_.guest_count(), 0U);
  EXPECT_EQ(sluice({"bench", "--from", "h1", "--to", "h1", "--size", "4M"}), 1);
  expect_error({"h1", "two hosts"});
}

TEST_F(CliTest, CtrlCEndsABenchAfterTheMoveUnderWay) {
  h1_.script = [this](FakeAgent& agent, const v1::MigrateRequest& request,
                      FakeAgent::UpdateWriter& writer) {
    EXPECT_TRUE(interrupts_.raise());
    agent.remove_guest(request.guest());
    h2_.add_guest(request.guest());
    agent.send_summary(writer, request, "completed");
    return grpc::Status::OK;
  };
  EXPECT_EQ(sluice({"bench", "--from", "h1", "--to", "h2", "--size", "4M", "--time", "1000"}), 1);
  EXPECT_EQ(h1_.migrations.size(), 1U);
  EXPECT_TRUE(h2_.migrations.empty());
  EXPECT_NE(err_.str().find("interrupted"), std::string::npos);
  EXPECT_EQ(h1_.guest_count() + h2_.guest_count(), 0U);
}

}  // namespace
}  // namespace sluice::cli
