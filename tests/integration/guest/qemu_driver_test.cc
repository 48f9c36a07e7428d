// Whole moves of tiny guests between two run directories, with a real QEMU on both sides.
#include <cerrno>
#include <cstdio>
#include <gtest/gtest.h>
#include <memory>
#include <sys/wait.h>
#include <vector>

#include "drivers/base/clock.h"
#include "tests/integration/guest/tiny_guest.h"

namespace sluice::guest::qemu::test {
namespace {

struct Stages {
  TimeNs stopped_ns = 0;
  TimeNs paused_ns = 0;
  TimeNs saved_ns = 0;
  TimeNs loaded_ns = 0;
  TimeNs kept_ns = 0;
  TimeNs resumed_ns = 0;
};

class QemuMove : public testing::Test {
 protected:
  void SetUp() override {
    source_driver_ = make_qemu_driver(source_host_);
    destination_driver_ = make_qemu_driver(destination_host_);
  }

  void start(const Definition& definition) {
    auto guest = source_driver_->start(definition);
    ASSERT_TRUE(guest) << guest.error().message;
    source_ = std::move(*guest);
    ASSERT_TRUE(counts_on(*source_));
  }

  void prepare() {
    auto twin = destination_driver_->prepare_incoming(source_->description());
    ASSERT_TRUE(twin) << twin.error().message;
    twin_ = std::move(*twin);
    EXPECT_EQ(twin_->phase(), Phase::kIncoming);
  }

  void pause_and_copy(Stages& stages) {
    const auto movable = source_->check_movable();
    ASSERT_TRUE(movable) << movable.error().message;
    // Both sides populated beforehand, as pre-copy would have done.
    copy_memory(*source_, *twin_);
    const auto stopped = source_->pause_for_switchover();
    ASSERT_TRUE(stopped) << stopped.error().message;
    stages.stopped_ns = *stopped;
    stages.paused_ns = monotonic_now_ns();
    copy_memory(*source_, *twin_);
  }

  void save_and_load(Stages& stages) {
    const TimeNs begin_ns = monotonic_now_ns();
    const auto size = source_->save_state(state_);
    ASSERT_TRUE(size) << size.error().message;
    EXPECT_EQ(source_->phase(), Phase::kHandedOver);
    stages.saved_ns = monotonic_now_ns() - begin_ns;
    const auto loaded = twin_->load_state(std::span(state_).first(*size));
    ASSERT_TRUE(loaded) << loaded.error().message;
    stages.loaded_ns = monotonic_now_ns() - begin_ns - stages.saved_ns;
  }

  void keep_and_resume(Stages& stages) {
    TimeNs begin_ns = monotonic_now_ns();
    const auto kept = twin_->keep_after_agent_exit(7);
    ASSERT_TRUE(kept) << kept.error().message;
    stages.kept_ns = monotonic_now_ns() - begin_ns;
    begin_ns = monotonic_now_ns();
    const auto resumed = twin_->resume();
    ASSERT_TRUE(resumed) << resumed.error().message;
    stages.resumed_ns = monotonic_now_ns() - begin_ns;
  }

  void move() {
    Stages stages;
    ASSERT_NO_FATAL_FAILURE(prepare());
    ASSERT_NO_FATAL_FAILURE(pause_and_copy(stages));
    const std::uint32_t count_at_stop = counter_of(*source_);
    EXPECT_EQ(counter_of(*twin_), count_at_stop);
    ASSERT_NO_FATAL_FAILURE(save_and_load(stages));
    EXPECT_EQ(counter_of(*twin_), count_at_stop) << "the twin ran before it was resumed";
    ASSERT_NO_FATAL_FAILURE(keep_and_resume(stages));
    EXPECT_EQ(twin_->phase(), Phase::kRunning);
    EXPECT_TRUE(counts_on(*twin_));
    EXPECT_EQ(counter_of(*source_), count_at_stop)
        << "the source ran after its state was given away";
    twin_->announce();
    const auto destroyed = source_->destroy();
    ASSERT_TRUE(destroyed) << destroyed.error().message;
    EXPECT_EQ(source_->phase(), Phase::kGone);
    EXPECT_TRUE(std::filesystem::is_empty(source_host_.run_dir + "/guests"));
    std::printf(
        "%s: stop to pre-switchover %.2f ms, save %.2f ms, load %.2f ms, keep %.2f ms, resume %.2f "
        "ms\n",
        twin_->description().machine_type.c_str(),
        static_cast<double>(stages.paused_ns - stages.stopped_ns) / 1e6,
        static_cast<double>(stages.saved_ns) / 1e6, static_cast<double>(stages.loaded_ns) / 1e6,
        static_cast<double>(stages.kept_ns) / 1e6, static_cast<double>(stages.resumed_ns) / 1e6);
  }

  void TearDown() override {
    for (Guest* guest : {source_.get(), twin_.get()}) {
      if (guest != nullptr && guest->alive()) {
        EXPECT_TRUE(guest->destroy());
      }
    }
    source_.reset();
    twin_.reset();
    // Neither a process nor the exit status of one is left behind.
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
  }

  ScratchDirectory scratch_;
  HostContext source_host_ = scratch_.host("h1");
  HostContext destination_host_ = scratch_.host("h2");
  std::unique_ptr<Driver> source_driver_;
  std::unique_ptr<Driver> destination_driver_;
  std::unique_ptr<Guest> source_;
  std::unique_ptr<Guest> twin_;
  std::vector<std::byte> state_ = std::vector<std::byte>(32U << 20U);
};

class QemuMoveOfMachine : public QemuMove, public testing::WithParamInterface<const char*> {};

TEST_P(QemuMoveOfMachine, GoesOnAtTheDestination) {
  start(busy_guest(scratch_, GetParam()));
  if (!HasFatalFailure()) move();
}

INSTANTIATE_TEST_SUITE_P(Machines, QemuMoveOfMachine, testing::Values("pc", "q35", "microvm"));

TEST_F(QemuMove, IdleGuestWithADiskOnPc) {
  start(idle_guest(scratch_, "pc"));
  if (!HasFatalFailure()) move();
}

TEST_F(QemuMove, ThereAndBackAgain) {
  // Without a display, as guests of a server are: 17 MiB less in the state stream.
  Definition definition = idle_guest(scratch_, "q35");
  definition.qemu_args.insert(definition.qemu_args.end(), {"-vga", "none"});
  start(definition);
  for (int round = 0; round < 3 && !HasFatalFailure(); ++round) {
    move();
    std::swap(source_, twin_);
    std::swap(source_driver_, destination_driver_);
    std::swap(source_host_, destination_host_);
  }
}

TEST_F(QemuMove, MachineTypeIsResolvedToItsVersion) {
  start(busy_guest(scratch_, "q35"));
  EXPECT_TRUE(source_->description().machine_type.starts_with("pc-q35-"))
      << source_->description().machine_type;
}

TEST_F(QemuMove, CancelAfterThePauseRunsOn) {
  start(busy_guest(scratch_, "pc"));
  ASSERT_FALSE(HasFatalFailure());
  Stages stages;
  ASSERT_NO_FATAL_FAILURE(prepare());
  ASSERT_NO_FATAL_FAILURE(pause_and_copy(stages));
  const auto cancelled = source_->cancel_handover();
  ASSERT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_EQ(source_->phase(), Phase::kRunning);
  EXPECT_TRUE(counts_on(*source_));
  // And it can be moved afterwards.
  ASSERT_TRUE(twin_->destroy());
  move();
}

TEST_F(QemuMove, CancelAfterTheStateWasSavedRunsOn) {
  start(idle_guest(scratch_, "pc"));
  ASSERT_FALSE(HasFatalFailure());
  Stages stages;
  ASSERT_NO_FATAL_FAILURE(prepare());
  ASSERT_NO_FATAL_FAILURE(pause_and_copy(stages));
  ASSERT_NO_FATAL_FAILURE(save_and_load(stages));
  ASSERT_TRUE(twin_->destroy());
  const auto cancelled = source_->cancel_handover();
  ASSERT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_EQ(source_->phase(), Phase::kRunning);
  EXPECT_TRUE(counts_on(*source_));
  move();
}

TEST_F(QemuMove, StateThatDoesNotFitIsNamedAndTheGuestRunsOn) {
  start(busy_guest(scratch_, "microvm"));
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_TRUE(source_->pause_for_switchover());
  const auto saved = source_->save_state(std::span(state_).first(1000));
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().kind, ErrorKind::kNoCapacity);
  ASSERT_TRUE(source_->cancel_handover());
  EXPECT_TRUE(counts_on(*source_));
}

TEST_F(QemuMove, DamagedStateIsAnErrorWithQemusReason) {
  start(busy_guest(scratch_, "microvm"));
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_NO_FATAL_FAILURE(prepare());
  std::fill(state_.begin(), state_.end(), std::byte{0x5A});
  const auto loaded = twin_->load_state(state_);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("load of migration failed"), std::string::npos)
      << loaded.error().message;
  EXPECT_TRUE(counts_on(*source_));
}

// A killed process is there for as long as the kernel takes its memory apart.
TEST_F(QemuMove, ATwinKilledJustBeforeItIsToldToRunCertainlyNeverRan) {
  Stages stages;
  start(busy_guest(scratch_, "microvm"));
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_NO_FATAL_FAILURE(prepare());
  ASSERT_NO_FATAL_FAILURE(pause_and_copy(stages));
  ASSERT_NO_FATAL_FAILURE(save_and_load(stages));
  ASSERT_TRUE(twin_->keep_after_agent_exit(7));
  kill(twin_->pid(), SIGKILL);
  const auto resumed = twin_->resume();
  ASSERT_FALSE(resumed);
  EXPECT_NE(resumed.error().kind, ErrorKind::kUnreachable) << resumed.error().message;
}

TEST_F(QemuMove, ResumeIsRefusedBeforeTheTwinIsKept) {
  start(busy_guest(scratch_, "microvm"));
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_NO_FATAL_FAILURE(prepare());
  EXPECT_FALSE(twin_->resume());
  EXPECT_FALSE(twin_->pause_for_switchover());
  EXPECT_FALSE(source_->load_state(state_));
}

}  // namespace
}  // namespace sluice::guest::qemu::test
