// Agents that are killed at the worst moments: what dies with them, and what a new agent finds.
#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/guest/qemu/process.h"
#include "drivers/guest/qemu/record.h"
#include "tests/integration/guest/tiny_guest.h"

namespace sluice::guest::qemu::test {
namespace {

constexpr TimeNs kPatienceNs = 20 * kSecondNs;

class QemuRestart : public testing::Test {
 protected:
  struct Agent {
    std::unique_ptr<Driver> driver1;
    std::unique_ptr<Driver> driver2;
    std::unique_ptr<Guest> source;
    std::unique_ptr<Guest> twin;
    std::vector<std::byte> state = std::vector<std::byte>(32U << 20U);
    std::size_t state_bytes = 0;

    [[nodiscard]] bool pause() const {
      if (!source->pause_for_switchover()) return false;
      copy_memory(*source, *twin);
      return true;
    }
    [[nodiscard]] bool save() {
      const auto size = source->save_state(state);
      state_bytes = size.value_or(0);
      return size.has_value();
    }
    [[nodiscard]] bool load() {
      return twin->load_state(std::span(state).first(state_bytes)).has_value();
    }
  };

  // Runs an agent in a process of its own that starts a guest on h1 and its twin on h2, does `work`
  // and is then killed.
  void run_and_kill_agent(const std::function<bool(Agent&)>& work) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const pid_t child = fork();
    if (child == 0) {
      Agent agent{make_qemu_driver(host1_), make_qemu_driver(host2_), nullptr, nullptr};
      auto source = agent.driver1->start(busy_guest(scratch_, "pc"));
      if (source) agent.source = std::move(*source);
      auto twin = agent.source ? agent.driver2->prepare_incoming(agent.source->description())
                               : fail(ErrorKind::kFailed, "no source");
      if (twin) agent.twin = std::move(*twin);
      std::array<pid_t, 2> pids{};
      if (agent.twin && counts_on(*agent.source) && work(agent))
        pids = {agent.source->pid(), agent.twin->pid()};
      if (write(ends[1], pids.data(), sizeof(pids)) != sizeof(pids)) _exit(1);
      while (true) pause();
    }
    close(ends[1]);
    std::array<pid_t, 2> pids{};
    const auto count = read(ends[0], pids.data(), sizeof(pids));
    close(ends[0]);
    if (count == sizeof(pids) && pids[0] != 0) {
      source_.emplace(Process::open(pids[0], 0).value());
      twin_.emplace(Process::open(pids[1], 0).value());
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    ASSERT_TRUE(source_) << "the agent did not get to where it was to be killed";
  }

  std::unique_ptr<Guest> rediscover_one(const HostContext& host) {
    auto found = make_qemu_driver(host)->rediscover();
    EXPECT_EQ(found.guests.size(), 1U);
    EXPECT_TRUE(found.silent.empty());
    return found.guests.empty() ? nullptr : std::move(found.guests.front());
  }

  static void expect_nobody(const HostContext& host) {
    const auto found = make_qemu_driver(host)->rediscover();
    EXPECT_TRUE(found.guests.empty());
    EXPECT_TRUE(found.silent.empty());
  }

  void TearDown() override {
    if (source_) source_->kill();
    if (twin_) twin_->kill();
  }

  ScratchDirectory scratch_;
  HostContext host1_ = scratch_.host("h1");
  HostContext host2_ = scratch_.host("h2");
  std::optional<Process> source_;
  std::optional<Process> twin_;
};

TEST_F(QemuRestart, TwinDiesWithItsAgentAndTheSourceRunsOn) {
  ASSERT_NO_FATAL_FAILURE(run_and_kill_agent([](Agent&) { return true; }));
  EXPECT_TRUE(twin_->wait_exit(kPatienceNs));
  expect_nobody(host2_);
  for (int i = 0; i < 1000 && !std::filesystem::is_empty(host2_.run_dir + "/guests"); ++i)
    usleep(5000);
  EXPECT_TRUE(std::filesystem::is_empty(host2_.run_dir + "/guests"));

  const auto guest = rediscover_one(host1_);
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->pid(), source_->pid());
  EXPECT_EQ(guest->phase(), Phase::kRunning);
  EXPECT_TRUE(counts_on(*guest));
  EXPECT_TRUE(guest->check_movable());
  EXPECT_TRUE(guest->destroy());
  EXPECT_TRUE(std::filesystem::is_empty(host1_.run_dir + "/guests"));
}

TEST_F(QemuRestart, SourceThatWasPausedRunsAgain) {
  ASSERT_NO_FATAL_FAILURE(run_and_kill_agent([](Agent& agent) { return agent.pause(); }));
  const auto guest = rediscover_one(host1_);
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->phase(), Phase::kRunning);
  EXPECT_TRUE(counts_on(*guest));
  EXPECT_TRUE(guest->destroy());
}

TEST_F(QemuRestart, SourceWhoseStateWasSavedStaysPausedUntilItIsTakenBack) {
  ASSERT_NO_FATAL_FAILURE(
      run_and_kill_agent([](Agent& agent) { return agent.pause() && agent.save(); }));
  const auto guest = rediscover_one(host1_);
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->phase(), Phase::kHandedOver);
  const std::uint32_t count = counter_of(*guest);
  usleep(50'000);
  EXPECT_EQ(counter_of(*guest), count);
  ASSERT_TRUE(guest->cancel_handover());
  EXPECT_EQ(guest->phase(), Phase::kRunning);
  EXPECT_TRUE(counts_on(*guest));
  EXPECT_TRUE(guest->destroy());
}

TEST_F(QemuRestart, TwinThatWasKeptWaitsForTheNextAgent) {
  ASSERT_NO_FATAL_FAILURE(run_and_kill_agent([](Agent& agent) {
    return agent.pause() && agent.save() && agent.load() &&
           agent.twin->keep_after_agent_exit(7).has_value();
  }));
  EXPECT_FALSE(twin_->wait_exit(200 * kMillisecondNs));
  const auto twin = rediscover_one(host2_);
  ASSERT_TRUE(twin);
  EXPECT_EQ(twin->phase(), Phase::kIncoming);
  EXPECT_EQ(twin->kept_for(), 7U);
  const auto resumed = twin->resume();
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_EQ(twin->phase(), Phase::kRunning);
  EXPECT_TRUE(twin->resume()) << "whoever does not know tells it again";
  EXPECT_TRUE(counts_on(*twin));
  EXPECT_TRUE(twin->destroy());
}

// The warden that this process started last.
std::optional<Process> find_warden() {
  const std::string self = "/proc/" + std::to_string(getpid());
  std::ifstream children(self + "/task/" + std::to_string(getpid()) + "/children");
  for (pid_t pid = 0; children >> pid;) {
    std::string name;
    std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> name;
    if (name == "sluice-warden") return Process::open(pid, 0).value();
  }
  return std::nullopt;
}

TEST_F(QemuRestart, TwinWhoseWardenHasDiedIsNotKept) {
  auto source = make_qemu_driver(host1_)->start(busy_guest(scratch_, "microvm"));
  ASSERT_TRUE(source) << source.error().message;
  source_.emplace(Process::open((*source)->pid(), 0).value());
  auto twin = make_qemu_driver(host2_)->prepare_incoming((*source)->description());
  ASSERT_TRUE(twin) << twin.error().message;
  twin_.emplace(Process::open((*twin)->pid(), 0).value());
  std::optional<Process> warden;
  for (int i = 0; i < 1000 && !(warden = find_warden()); ++i) usleep(5000);
  ASSERT_TRUE(warden);
  warden->kill();
  EXPECT_FALSE((*twin)->keep_after_agent_exit(7));
  EXPECT_FALSE((*twin)->resume());
  twin->reset();
  EXPECT_FALSE(twin_->alive());
  EXPECT_TRUE(std::filesystem::is_empty(host2_.run_dir + "/guests"));
  EXPECT_TRUE((*source)->destroy());
}

TEST_F(QemuRestart, LeftoversAreEndedAndStaleDirectoriesRemoved) {
  // As if the warden had been killed too, or the agent had died before it knew the process number.
  for (const RecordedPhase phase : {RecordedPhase::kIncoming, RecordedPhase::kStarting}) {
    auto guest = make_qemu_driver(host1_)->start(busy_guest(scratch_, "microvm"));
    ASSERT_TRUE(guest) << guest.error().message;
    const std::string directory = guest_directory(host1_, (*guest)->description().definition.name);
    auto process = Process::open((*guest)->pid(), 0);
    guest->reset();
    Record record = read_record(directory).value();
    record.phase = phase;
    if (phase == RecordedPhase::kStarting) record.pid = 0;
    if (phase == RecordedPhase::kStarting) record.start_time = 0;
    ASSERT_TRUE(write_record(directory, record));
    std::filesystem::create_directories(host1_.run_dir + "/guests/died-early");
    expect_nobody(host1_);
    EXPECT_TRUE(process->wait_exit(kPatienceNs));
    EXPECT_TRUE(std::filesystem::is_empty(host1_.run_dir + "/guests"));
  }
}

TEST_F(QemuRestart, AGuestThatTcgRunsNeedsNoCpuLevelWhateverItsArgumentsOffer) {
  Definition definition = busy_guest(scratch_, "pc");  // -accel tcg
  definition.qemu_args.insert(definition.qemu_args.end(), {"-accel", "kvm", "-cpu", "Westmere"});
  const auto started = make_qemu_driver(host1_)->start(definition);
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_EQ((*started)->description().cpu_level, 0U);
  EXPECT_TRUE((*started)->destroy());
}

TEST_F(QemuRestart, CpuLevelThatAnEarlierAgentDidNotRecordIsFoundOut) {
  Definition definition = busy_guest(scratch_, "pc");
  std::replace(definition.qemu_args.begin(), definition.qemu_args.end(), std::string("tcg"),
               std::string("kvm"));
  definition.qemu_args.insert(definition.qemu_args.end(), {"-cpu", "Westmere"});
  auto started = make_qemu_driver(host1_)->start(definition);
  if (!started) GTEST_SKIP() << "no KVM here: " << started.error().message;
  EXPECT_EQ((*started)->description().cpu_level, 2U);
  const std::string directory = guest_directory(host1_, definition.name);
  source_.emplace(Process::open((*started)->pid(), 0).value());
  started->reset();
  auto record = read_record(directory);
  ASSERT_TRUE(record);
  record->description.cpu_level = 0;
  ASSERT_TRUE(write_record(directory, *record));
  const auto found = rediscover_one(host1_);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->description().cpu_level, 2U);
  EXPECT_EQ(read_record(directory)->description.cpu_level, 2U);
}

TEST_F(QemuRestart, NumberOfADeadGuestUsedAgainIsNotTakenForIt) {
  auto guest = make_qemu_driver(host1_)->start(busy_guest(scratch_, "microvm"));
  ASSERT_TRUE(guest);
  const std::string directory = guest_directory(host1_, (*guest)->description().definition.name);
  Record record = read_record(directory).value();
  record.start_time += 1;
  ASSERT_TRUE(write_record(directory, record));
  expect_nobody(host1_);
  EXPECT_TRUE((*guest)->alive());
  EXPECT_TRUE((*guest)->destroy());
}

TEST_F(QemuRestart, AGuestThatDoesNotAnswerIsSilentUntilItDoes) {
  auto started = make_qemu_driver(host1_)->start(busy_guest(scratch_, "microvm"));
  ASSERT_TRUE(started) << started.error().message;
  const Definition definition = (*started)->description().definition;
  source_.emplace(Process::open((*started)->pid(), 0).value());
  started->reset();  // as when its agent dies
  kill(source_->pid(), SIGSTOP);
  const auto driver = make_qemu_driver(host1_);
  const auto found = driver->rediscover();
  EXPECT_TRUE(found.guests.empty());
  ASSERT_EQ(found.silent.size(), 1U);
  EXPECT_EQ(found.silent[0].name, definition.name);
  EXPECT_EQ(found.silent[0].memory_bytes, definition.memory_bytes);
  EXPECT_EQ(found.silent[0].pid, source_->pid());
  // More often than a listening socket queues connections.
  for (int i = 0; i < 3; ++i) {
    const auto again = driver->find_again(definition.name);
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().kind, ErrorKind::kNotFound);
  }
  kill(source_->pid(), SIGCONT);
  auto guest = driver->find_again(definition.name);
  for (int i = 0; i < 100 && !guest; ++i) {
    usleep(100'000);
    guest = driver->find_again(definition.name);
  }
  ASSERT_TRUE(guest) << guest.error().message;
  EXPECT_TRUE(counts_on(**guest));
  EXPECT_TRUE((*guest)->destroy());
  EXPECT_EQ(driver->find_again(definition.name).error().kind, ErrorKind::kNotFound);
}

TEST_F(QemuRestart, AGuestWhoseRecordCannotBeReadIsSilentUntilItCan) {
  auto started = make_qemu_driver(host1_)->start(busy_guest(scratch_, "microvm"));
  ASSERT_TRUE(started) << started.error().message;
  const std::string name = (*started)->description().definition.name;
  const std::string directory = guest_directory(host1_, name);
  source_.emplace(Process::open((*started)->pid(), 0).value());
  started->reset();
  const std::string record = directory + "/guest.json";
  std::filesystem::rename(record, record + ".kept");
  const auto driver = make_qemu_driver(host1_);
  for (const bool damaged : {false, true}) {
    if (damaged) std::ofstream(record) << "{";
    const auto found = driver->rediscover();
    EXPECT_TRUE(found.guests.empty());
    ASSERT_EQ(found.silent.size(), 1U) << "damaged: " << damaged;
    EXPECT_EQ(found.silent[0].name, name);
    EXPECT_NE(found.silent[0].reason.find(record), std::string::npos) << found.silent[0].reason;
    EXPECT_TRUE(source_->alive());
  }
  std::filesystem::rename(record + ".kept", record);
  const auto guest = driver->find_again(name);
  ASSERT_TRUE(guest) << guest.error().message;
  EXPECT_TRUE((*guest)->destroy());
}

}  // namespace
}  // namespace sluice::guest::qemu::test
