#include "drivers/guest/qemu/record.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace sluice::guest::qemu {
namespace {

class RecordFile : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(directory_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_ = "/tmp/sluice-record-XXXXXX";
};

TEST_F(RecordFile, ComesBackAsWritten) {
  Record record;
  record.description.definition.name = "web";
  record.description.definition.driver = "qemu";
  record.description.definition.memory_bytes = 64U << 20U;
  record.description.definition.qemu_binary = "/usr/bin/qemu";
  record.description.definition.qemu_args = {"-append", "a \"b\"\n\xc3\xa9"};
  record.description.ram_backend_id = "ram0";
  record.description.machine_type = "pc-q35-7.2";
  record.description.qemu_version = "7.2.22";
  record.description.adopted = true;
  record.description.cpu_level = 3;
  record.pid = 4711;
  record.start_time = 123456789012ULL;
  record.session = 0xFEDCBA9876543210;
  record.qmp_socket = "/run/q.sock";
  for (const RecordedPhase phase :
       {RecordedPhase::kStarting, RecordedPhase::kRunning, RecordedPhase::kIncoming,
        RecordedPhase::kKept, RecordedPhase::kHandedOver}) {
    record.phase = phase;
    ASSERT_TRUE(write_record(directory_, record));
    const auto read = read_record(directory_);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->phase, phase);
    EXPECT_EQ(read->description.definition.qemu_args, record.description.definition.qemu_args);
    EXPECT_EQ(read->description.definition.memory_bytes,
              record.description.definition.memory_bytes);
    EXPECT_EQ(read->description.machine_type, "pc-q35-7.2");
    EXPECT_TRUE(read->description.adopted);
    EXPECT_EQ(read->description.cpu_level, 3U);
    EXPECT_EQ(read->pid, 4711);
    EXPECT_EQ(read->start_time, record.start_time);
    EXPECT_EQ(read->session, record.session);
    EXPECT_EQ(read->qmp_socket, record.qmp_socket);
  }
}

TEST_F(RecordFile, MissingDamagedAndForeignOnesAreToldApart) {
  EXPECT_EQ(read_record(directory_).error().kind, ErrorKind::kNotFound);
  for (const char* text :
       {"", "{", "[]", "{\"driver\":\"qemu\",\"name\":1}", "{\"driver\":\"memory\"}"}) {
    std::ofstream(directory_ + "/guest.json") << text;
    const auto read = read_record(directory_);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().kind, ErrorKind::kInvalid);
  }
}

TEST_F(RecordFile, AnUnknownPhaseIsDamage) {
  Record record;
  record.description.definition.driver = "qemu";
  ASSERT_TRUE(write_record(directory_, record));
  std::ifstream file(directory_ + "/guest.json");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  text.replace(text.find("starting"), 8, "drunning");
  std::ofstream(directory_ + "/guest.json") << text;
  EXPECT_FALSE(read_record(directory_));
}

}  // namespace
}  // namespace sluice::guest::qemu
