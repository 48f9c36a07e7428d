// Obstacles that a small real QEMU cannot show: VFIO hardware, a vhost-user back end, a QEMU of
// another version. The others are tested with a real QEMU in tests/integration/guest.
#include "drivers/guest/qemu/movability.h"

#include <functional>
#include <gtest/gtest.h>
#include <map>

#include "tests/unit/guest/scripted_server.h"

namespace sluice::guest::qemu {
namespace {

using Answers = std::map<std::string, Json>;

Answers movable_guest() {
  Json capabilities = Json::array();
  for (const char* name : {"x-ignore-shared", "pause-before-switchover", "events"})
    capabilities.push_back({{"capability", name}, {"state", false}});
  return {{"query-status", {{"status", "running"}, {"running", true}}},
          {"query-migrate", Json::object()},
          {"query-migrate-capabilities", capabilities},
          {"query-memdev", {{{"id", "sluice-ram"}, {"size", 1U << 21U}, {"share", true}}}},
          {"qom-get", "memory-backend-memfd"},
          {"qom-list", Json::array()},
          {"human-monitor-command", " \\ n0: index=0,type=user,net=10.0.2.0\r\n"}};
}

// A QEMU that answers each command always the same.
std::function<void(int)> qemu_that_says(const Answers& answers) {
  return [answers](int fd) {
    test::say(fd, test::kGreeting);
    for (std::string line = test::read_line(fd); !line.empty(); line = test::read_line(fd)) {
      const Json command = Json::parse(line);
      const auto answer = answers.find(command["execute"].get<std::string>());
      const Json value = answer == answers.end() ? Json::object() : answer->second;
      test::say(fd, Json{{"return", value}, {"id", command["id"]}}.dump() + "\r\n");
    }
  };
}

Expected<void> check(const Answers& answers, const std::string& version = "7.2.22") {
  const test::ScriptedServer server(qemu_that_says(answers));
  auto client = server.connect();
  if (!client) return tl::unexpected(client.error());
  Description description;
  description.definition.name = "web";
  description.qemu_version = version;
  auto result = check_guest_movable(**client, description);
  client->reset();
  return result;
}

void expect_refused(const Answers& answers, const std::string& reason,
                    const std::string& version = "7.2.22") {
  const auto result = check(answers, version);
  ASSERT_FALSE(result) << reason;
  EXPECT_EQ(result.error().kind, ErrorKind::kUnsupported);
  EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
  EXPECT_NE(result.error().message.find("web"), std::string::npos) << result.error().message;
}

TEST(Movability, AcceptsAnOrdinaryGuest) {
  const auto result = check(movable_guest());
  EXPECT_TRUE(result) << result.error().message;
}

TEST(Movability, NamesDevicesWhoseWritesAreUnseen) {
  for (const char* type : {"vfio-pci", "vhost-user-fs-pci", "vhost-user-blk-pci",
                           "vhost-vdpa-device-pci", "vhost-scsi-pci"}) {
    Answers answers = movable_guest();
    answers["qom-list"] = {{{"name", "type"}, {"type", "string"}},
                           {{"name", "dev0"}, {"type", std::string("child<") + type + ">"}}};
    expect_refused(answers, type);
  }
}

TEST(Movability, NamesNetworkBackEndsWhoseWritesAreUnseen) {
  for (const char* type : {"vhost-user", "vhost-vdpa"}) {
    Answers answers = movable_guest();
    answers["human-monitor-command"] = std::string(" \\ n0: index=0,type=") + type + "\r\n";
    expect_refused(answers, type);
  }
}

TEST(Movability, NamesWhatBlocksQemuItself) {
  Answers answers = movable_guest();
  answers["query-migrate"] = {
      {"blocked-reasons", {"the disk 'd' does not support live migration"}}};
  expect_refused(answers, "the disk 'd'");
  answers = movable_guest();
  answers["query-migrate-capabilities"] = Json::array();
  expect_refused(answers, "x-ignore-shared");
}

TEST(Movability, From8Point1OnRamMustBeANamedFile) {
  expect_refused(movable_guest(), "memory-backend-file", "8.1.0");
  Answers answers = movable_guest();
  answers["qom-get"] = "memory-backend-file";
  EXPECT_TRUE(check(answers, "10.0.2"));
  EXPECT_TRUE(check(movable_guest(), "8.0.5"));
}

TEST(Movability, RepliesOfAnotherShapeDoNotPass) {
  Answers answers = movable_guest();
  answers["query-memdev"] = 5;
  EXPECT_FALSE(check(answers));
  answers["query-memdev"] = {{{"id", 5}, {"size", "x"}, {"share", "yes"}}};
  EXPECT_FALSE(check(answers));
  answers = movable_guest();
  answers["query-status"] = Json::array();
  EXPECT_FALSE(check(answers));
  answers = movable_guest();
  answers["qom-list"] = 5;
  EXPECT_FALSE(check(answers));
  answers = movable_guest();
  answers["query-migrate"] = {{"blocked-reasons", 3}};
  EXPECT_TRUE(check(answers));
}

Expected<bool> ask_for_direct_io(const Json& nodes) {
  const test::ScriptedServer server(qemu_that_says({{"query-named-block-nodes", nodes}}));
  auto client = server.connect();
  if (!client) return tl::unexpected(client.error());
  auto result = uses_direct_io(**client, "web");
  client->reset();
  return result;
}

Json block_node(const char* driver, bool direct) {
  return {{"drv", driver},
          {"node-name", "#block123"},
          {"cache", {{"writeback", true}, {"direct", direct}, {"no-flush", false}}}};
}

TEST(DirectIo, IsFoundInAnyBlockNode) {
  EXPECT_EQ(ask_for_direct_io(Json::array()), false);
  EXPECT_EQ(ask_for_direct_io(Json::array({block_node("qcow2", false), block_node("file", false)})),
            false);
  EXPECT_EQ(ask_for_direct_io(Json::array({block_node("qcow2", false), block_node("file", true)})),
            true);
  EXPECT_EQ(ask_for_direct_io(Json::array({block_node("raw", false), block_node("nvme", false)})),
            true);
  EXPECT_EQ(ask_for_direct_io(Json::array({block_node("virtio-blk-vhost-vdpa", false)})), true);
}

TEST(DirectIo, IsNotRuledOutByARepliesShape) {
  EXPECT_FALSE(ask_for_direct_io(5)) << "an error, not 'no'";
  EXPECT_EQ(ask_for_direct_io(Json::array({5, {{"cache", 5}}, {{"cache", {{"direct", "x"}}}}})),
            false);
}

Expected<std::uint32_t> ask_for_cpu_level(const Json& kvm, const std::string& cpu) {
  const test::ScriptedServer server(qemu_that_says({{"query-kvm", kvm}}));
  auto client = server.connect();
  if (!client) return tl::unexpected(client.error());
  auto result = query_cpu_level(**client, {"-cpu", cpu}, 4);
  client->reset();
  return result;
}

TEST(CpuLevel, CountsWhereQemuSaysThatKvmRunsTheGuest) {
  const Json kvm = {{"enabled", true}, {"present", true}};
  const Json tcg = {{"enabled", false}, {"present", true}};
  EXPECT_EQ(ask_for_cpu_level(kvm, "host"), 4U) << "though no argument names an accelerator";
  EXPECT_EQ(ask_for_cpu_level(kvm, "Haswell"), 3U);
  EXPECT_EQ(ask_for_cpu_level(tcg, "Haswell"), 0U);
  EXPECT_EQ(ask_for_cpu_level(tcg, "max"), 0U);
  for (const Json& odd : {Json(5), Json::object(), Json{{"enabled", "yes"}}})
    EXPECT_EQ(ask_for_cpu_level(odd, "Haswell"), 0U);
}

TEST(QemuVersionText, IsFoundAndCompared) {
  const QemuVersion version =
      parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)");
  EXPECT_EQ(to_text(version), "7.2.22");
  EXPECT_TRUE(version.at_least(7, 2));
  EXPECT_TRUE(version.at_least(6, 9));
  EXPECT_FALSE(version.at_least(7, 3));
  EXPECT_FALSE(version.at_least(8, 0));
  EXPECT_EQ(to_text(parse_version("no version")), "0.0.0");
}

}  // namespace
}  // namespace sluice::guest::qemu
