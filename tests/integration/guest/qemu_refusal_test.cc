// What a real QEMU guest is refused, and adoption of guests that no agent started.
#include <chrono>
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <unistd.h>

#include "drivers/guest/qemu/process.h"
#include "drivers/guest/qemu/qmp_client.h"
#include "tests/integration/guest/tiny_guest.h"

namespace sluice::guest::qemu::test {
namespace {

class QemuRefusal : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(host_.run_dir + "/guests"); }

  void TearDown() override {
    guest_.reset();
    if (foreign_) foreign_->kill();
  }

  void expect_nothing_left() const {
    EXPECT_TRUE(std::filesystem::is_empty(host_.run_dir + "/guests"));
  }

  void expect_refused(const Expected<std::unique_ptr<Guest>>& result, ErrorKind kind,
                      const std::string& reason) {
    ASSERT_FALSE(result) << reason;
    EXPECT_EQ(result.error().kind, kind) << result.error().message;
    EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
    expect_nothing_left();
  }

  // A QEMU started by hand with RAM as `ram` says and two monitors: one to adopt it by, one for the
  // test.
  void adopt_foreign(const std::vector<std::string>& ram) {
    const auto binary = find_executable("qemu-system-x86_64");
    ASSERT_TRUE(binary);
    std::vector<std::string> argv = {*binary};
    const Definition tiny = busy_guest(scratch_, "pc");
    argv.insert(argv.end(), tiny.qemu_args.begin(), tiny.qemu_args.end());
    argv.insert(argv.end(), ram.begin(), ram.end());
    const std::string socket = scratch_.path() + "/foreign.sock";
    argv.insert(argv.end(), {"-name", "foreign", "-display", "none", "-qmp",
                             "unix:" + socket + ",server=on,wait=off", "-qmp",
                             "unix:" + socket + "2,server=on,wait=off"});
    auto process = Process::spawn({argv, -1, {}});
    ASSERT_TRUE(process);
    foreign_.emplace(std::move(*process));
    auto monitor = QmpClient::connect(socket + "2", "foreign", 20 * kSecondNs, foreign_->pidfd());
    ASSERT_TRUE(monitor) << monitor.error().message;
    monitor_ = std::move(*monitor);
    auto guest = driver_->adopt(socket);
    ASSERT_TRUE(guest) << guest.error().message;
    guest_ = std::move(*guest);
    EXPECT_EQ(guest_->description().definition.name, "foreign");
    EXPECT_TRUE(guest_->description().adopted);
    EXPECT_EQ(guest_->pid(), foreign_->pid());
  }

  void expect_not_movable(const std::string& reason) {
    const auto movable = guest_->check_movable();
    ASSERT_FALSE(movable) << reason;
    EXPECT_EQ(movable.error().kind, ErrorKind::kUnsupported);
    EXPECT_NE(movable.error().message.find(reason), std::string::npos) << movable.error().message;
  }

  const std::vector<std::string> shared_ram_ = {
      "-m",       "64M",
      "-machine", "memory-backend=ram0",
      "-object",  "memory-backend-memfd,id=ram0,size=64M,share=on"};
  ScratchDirectory scratch_;
  HostContext host_ = scratch_.host("h1");
  std::unique_ptr<Driver> driver_ = make_qemu_driver(host_);
  std::optional<Process> foreign_;
  std::unique_ptr<QmpClient> monitor_;
  std::unique_ptr<Guest> guest_;
};

TEST_F(QemuRefusal, ArgumentThatTheAgentOwns) {
  Definition definition = busy_guest(scratch_, "pc");
  definition.qemu_args.insert(definition.qemu_args.end(), {"-m", "1G"});
  expect_refused(driver_->start(definition), ErrorKind::kInvalid, "-m 1G");
}

TEST_F(QemuRefusal, MissingBinary) {
  Definition definition = busy_guest(scratch_, "pc");
  definition.qemu_binary = "qemu-system-none";
  expect_refused(driver_->start(definition), ErrorKind::kUnsupported, "qemu-system-none");
  Description description;
  description.definition = definition;
  expect_refused(driver_->prepare_incoming(description), ErrorKind::kUnsupported,
                 "qemu-system-none");
}

TEST_F(QemuRefusal, ProgramThatIsNoQemu) {
  for (const char* program : {"/bin/sh", "sh", "/usr/bin/../bin/env"}) {
    Definition definition = busy_guest(scratch_, "pc");
    definition.qemu_binary = program;
    definition.qemu_args = {"-c", "touch " + scratch_.path() + "/ran"};
    expect_refused(driver_->start(definition), ErrorKind::kPermission, "[qemu] binaries");
    Description description;
    description.definition = definition;
    expect_refused(driver_->prepare_incoming(description), ErrorKind::kPermission,
                   "[qemu] binaries");
  }
  EXPECT_FALSE(std::filesystem::exists(scratch_.path() + "/ran"));
}

TEST_F(QemuRefusal, ArrivalThatRunsPrograms) {
  Description description;
  description.definition = busy_guest(scratch_, "pc");
  description.definition.qemu_args.insert(description.definition.qemu_args.end(),
                                          {"-netdev", "tap,id=n,script=/tmp/x"});
  description.ram_backend_id = "sluice-ram";
  description.qemu_version = "7.2.0";
  description.machine_type = "no-such-machine";
  expect_refused(driver_->prepare_incoming(description), ErrorKind::kPermission,
                 "-netdev tap,id=n,script=/tmp/x");
  auto host = scratch_.host("h1");
  host.qemu.arrivals_may_run_programs = true;
  expect_refused(make_qemu_driver(host)->prepare_incoming(description), ErrorKind::kUnsupported,
                 "no-such-machine");
}

TEST_F(QemuRefusal, WhatQemuItselfRefusesIsReportedInItsWords) {
  Definition definition = busy_guest(scratch_, "pc");
  definition.qemu_args.insert(definition.qemu_args.end(), {"-device", "no-such-device"});
  expect_refused(driver_->start(definition), ErrorKind::kUnreachable, "no-such-device");
}

TEST_F(QemuRefusal, MachineTypeThatIsNotOffered) {
  Description description;
  description.definition = busy_guest(scratch_, "q35");
  description.ram_backend_id = "sluice-ram";
  description.qemu_version = "7.2.0";
  description.machine_type = "pc-q35-99.0";
  expect_refused(driver_->prepare_incoming(description), ErrorKind::kUnsupported, "pc-q35-99.0");
}

TEST_F(QemuRefusal, OlderQemuIsNamedWithBothVersions) {
  Description description;
  description.definition = busy_guest(scratch_, "q35");
  description.ram_backend_id = "sluice-ram";
  description.qemu_version = "99.1.3";
  description.machine_type = "q35";
  expect_refused(driver_->prepare_incoming(description), ErrorKind::kUnsupported, "99.1.3");
}

TEST_F(QemuRefusal, SecondGuestOfAName) {
  auto guest = driver_->start(busy_guest(scratch_, "microvm"));
  ASSERT_TRUE(guest) << guest.error().message;
  const auto second = driver_->start(busy_guest(scratch_, "microvm"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(counts_on(**guest)) << "the first one must not suffer";
  EXPECT_TRUE((*guest)->destroy());
}

TEST_F(QemuRefusal, BalloonOnlyWithFreePageReporting) {
  for (const bool reporting : {false, true}) {
    Definition definition = busy_guest(scratch_, "q35");
    definition.qemu_args.insert(definition.qemu_args.end(),
                                {"-device", std::string("virtio-balloon-pci,id=b0") +
                                                (reporting ? ",free-page-reporting=on" : "")});
    auto guest = driver_->start(definition);
    ASSERT_TRUE(guest) << guest.error().message;
    guest_ = std::move(*guest);
    if (reporting) {
      expect_not_movable("free-page-reporting");
    } else {
      EXPECT_TRUE(guest_->check_movable());
    }
    EXPECT_TRUE(guest_->destroy());
  }
}

TEST_F(QemuRefusal, AdoptedGuestWithoutSharedRam) {
  ASSERT_NO_FATAL_FAILURE(adopt_foreign({"-m", "64M"}));
  expect_not_movable("not shared");
  EXPECT_EQ(guest_->memory().memory_fd, -1);
}

TEST_F(QemuRefusal, AdoptedGuestWithPrivateRam) {
  ASSERT_NO_FATAL_FAILURE(adopt_foreign({"-m", "64M", "-machine", "memory-backend=ram0", "-object",
                                         "memory-backend-ram,id=ram0,size=64M"}));
  expect_not_movable("not shared");
}

TEST_F(QemuRefusal, AdoptedGuestWithTwoRamBackends) {
  std::vector<std::string> ram = shared_ram_;
  ram.insert(ram.end(), {"-object", "memory-backend-ram,id=extra,size=2M"});
  ASSERT_NO_FATAL_FAILURE(adopt_foreign(ram));
  expect_not_movable("2 RAM backends");
}

TEST_F(QemuRefusal, AdoptedGuestWithAnArgumentThatIsNotUtf8) {
  const auto binary = find_executable("qemu-system-x86_64");
  ASSERT_TRUE(binary);
  const std::string socket = scratch_.path() + "/foreign.sock";
  auto process = Process::spawn(
      {{*binary, "-machine", "pc", "-m", "64M", "-display", "none", "-serial",
        "file:" + scratch_.path() + "/caf\xE9", "-qmp", "unix:" + socket + ",server=on,wait=off"},
       -1,
       {}});
  ASSERT_TRUE(process);
  foreign_.emplace(std::move(*process));
  // The file is there a moment before QEMU listens.
  for (int i = 0; i < 1000 && !QmpClient::may_be_listened_to(socket); ++i) usleep(5000);
  expect_refused(driver_->adopt(socket), ErrorKind::kUnsupported, "not UTF-8");
}

TEST_F(QemuRefusal, AdoptionOfAGuestThatMayRunElsewhere) {
  const auto binary = find_executable("qemu-system-x86_64");
  ASSERT_TRUE(binary);
  const std::string socket = scratch_.path() + "/foreign.sock";
  auto process = Process::spawn({{*binary, "-machine", "pc", "-m", "64M", "-S", "-display", "none",
                                  "-qmp", "unix:" + socket + ",server=on,wait=off"},
                                 -1,
                                 {}});
  ASSERT_TRUE(process);
  foreign_.emplace(std::move(*process));
  // The file is there a moment before QEMU listens.
  for (int i = 0; i < 1000 && !QmpClient::may_be_listened_to(socket); ++i) usleep(5000);
  expect_refused(driver_->adopt(socket), ErrorKind::kUnsupported, "prelaunch");
}

TEST_F(QemuRefusal, GuestPausedByItsUser) {
  ASSERT_NO_FATAL_FAILURE(adopt_foreign(shared_ram_));
  EXPECT_EQ(guest_->phase(), Phase::kRunning);
  ASSERT_TRUE(monitor_->execute("stop"));
  EXPECT_EQ(guest_->phase(), Phase::kPaused);
  expect_not_movable("paused");
}

TEST_F(QemuRefusal, AdoptedGuestWithSharedRamMoves) {
  ASSERT_NO_FATAL_FAILURE(adopt_foreign(shared_ram_));
  ASSERT_TRUE(guest_->check_movable());
  ASSERT_TRUE(counts_on(*guest_));
  auto twin = make_qemu_driver(scratch_.host("h2"))->prepare_incoming(guest_->description());
  ASSERT_TRUE(twin) << twin.error().message;
  ASSERT_TRUE(guest_->pause_for_switchover());
  copy_memory(*guest_, **twin);
  std::vector<std::byte> state(32U << 20U);
  const auto size = guest_->save_state(state);
  ASSERT_TRUE(size) << size.error().message;
  const auto loaded = (*twin)->load_state(std::span(state).first(*size));
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_TRUE((*twin)->keep_after_agent_exit(7));
  ASSERT_TRUE((*twin)->resume());
  EXPECT_TRUE(counts_on(**twin));
  EXPECT_TRUE(guest_->destroy());
  EXPECT_FALSE(foreign_->alive());
  expect_nothing_left();
  EXPECT_TRUE((*twin)->destroy());
}

TEST_F(QemuRefusal, DeadQemuIsGone) {
  ASSERT_NO_FATAL_FAILURE(adopt_foreign(shared_ram_));
  foreign_->kill();
  EXPECT_EQ(guest_->phase(), Phase::kGone);
  EXPECT_FALSE(guest_->check_movable());
  EXPECT_FALSE(guest_->pause_for_switchover());
  EXPECT_TRUE(guest_->destroy());
  expect_nothing_left();
}

}  // namespace
}  // namespace sluice::guest::qemu::test
