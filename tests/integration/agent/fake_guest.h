// A guest made of nothing but its phases, to see what a handover does to it in every case.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "drivers/guest/guest.h"

namespace sluice::agent::test {

inline constexpr std::uint64_t kFakeBytes = 4UL << 20;

// What outlives the guest object and is seen by the test. Any thread.
class FakeFate {
 public:
  explicit FakeFate(guest::Phase phase, bool has_content = false)
      : phase_(phase), has_content_(has_content), death_fd_(eventfd(0, EFD_CLOEXEC)) {}
  ~FakeFate() { close(death_fd_); }
  FakeFate(const FakeFate&) = delete;
  FakeFate& operator=(const FakeFate&) = delete;

  // The next calls of this name fail; the guest is in `phase` afterwards.
  void fail_at(std::string call, guest::Phase phase, ErrorKind kind = ErrorKind::kFailed,
               int times = 1) {
    const std::lock_guard lock(mutex_);
    failing_kind_ = kind;
    failing_times_ = times;
    failing_call_ = std::move(call);
    failing_phase_ = phase;
  }
  // The next call of this name finds no memory.
  void throw_at(std::string call) {
    const std::lock_guard lock(mutex_);
    throwing_call_ = std::move(call);
  }
  void die() {
    {
      const std::lock_guard lock(mutex_);
      phase_ = guest::Phase::kGone;
    }
    eventfd_write(death_fd_, 1);
  }
  // From now on the guest does not say how it is.
  void fall_silent() {
    const std::lock_guard lock(mutex_);
    silent_ = true;
  }
  void speak_again() {
    {
      const std::lock_guard lock(mutex_);
      silent_ = false;
    }
    changed_.notify_all();
  }
  // Whether an agent that starts anew hears from the guest.
  void answer_new_agents(bool answers) { answers_new_agents_ = answers; }
  [[nodiscard]] bool answers_new_agents() const { return answers_new_agents_; }
  void keep_for(std::uint64_t session) { kept_for_ = session; }
  [[nodiscard]] std::uint64_t kept_for() const { return kept_for_; }
  // Returns once somebody waits for a silent guest.
  void await_question() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return asked_; });
  }
  void answer() {
    std::unique_lock lock(mutex_);
    asked_ = silent_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !silent_; });
  }
  // Whether some of the guest's memory is populated.
  [[nodiscard]] bool has_content() const { return has_content_; }
  [[nodiscard]] guest::Phase phase() const {
    const std::lock_guard lock(mutex_);
    return phase_;
  }
  // Names of the calls that changed something, in order.
  [[nodiscard]] std::vector<std::string> calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  [[nodiscard]] bool called(const std::string& call) const {
    const auto all = calls();
    return std::find(all.begin(), all.end(), call) != all.end();
  }
  [[nodiscard]] int death_fd() const { return death_fd_; }

  [[nodiscard]] Expected<void> call(const std::string& name, guest::Phase next) {
    const std::lock_guard lock(mutex_);
    calls_.push_back(name);
    if (name == throwing_call_) throw std::bad_alloc();
    if (name == failing_call_ && failing_times_ > 0) {
      phase_ = failing_phase_;
      --failing_times_;
      return fail(failing_kind_, name + " was told to fail");
    }
    phase_ = next;
    return {};
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> answers_new_agents_{true};
  std::atomic<std::uint64_t> kept_for_{0};
  bool silent_ = false;
  bool asked_ = false;  // while silent
  guest::Phase phase_;
  const bool has_content_;
  const int death_fd_;
  std::string throwing_call_;
  std::string failing_call_;
  int failing_times_ = 0;
  ErrorKind failing_kind_ = ErrorKind::kFailed;
  guest::Phase failing_phase_ = guest::Phase::kGone;
  std::vector<std::string> calls_;
};

inline guest::Description fake_description(const std::string& name) {
  guest::Description description;
  description.definition.name = name;
  description.definition.driver = "fake";
  description.definition.memory_bytes = kFakeBytes;
  return description;
}

class FakeGuest final : public guest::Guest {
 public:
  FakeGuest(const std::string& name, std::shared_ptr<FakeFate> fate)
      : description_(fake_description(name)),
        fate_(std::move(fate)),
        fd_(memfd_create("sluice-fake", MFD_CLOEXEC)) {
    if (ftruncate(fd_, kFakeBytes) != 0) std::abort();
    address_ = mmap(nullptr, kFakeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (fate_->has_content()) *static_cast<char*>(address_) = 1;
  }
  ~FakeGuest() override {
    munmap(address_, kFakeBytes);
    close(fd_);
  }
  FakeGuest(const FakeGuest&) = delete;
  FakeGuest& operator=(const FakeGuest&) = delete;

  const guest::Description& description() const override { return description_; }
  guest::Memory memory() const override {
    return {fd_, 0, kFakeBytes, getpid(), reinterpret_cast<std::uint64_t>(address_)};
  }
  guest::Phase phase() override {
    fate_->answer();
    return fate_->phase();
  }
  bool alive() const override { return fate_->phase() != guest::Phase::kGone; }
  pid_t pid() const override { return getpid(); }
  int death_fd() const override { return fate_->death_fd(); }

  Expected<void> check_movable() override { return {}; }
  Expected<bool> has_untracked_writes() override { return false; }
  Expected<TimeNs> pause_for_switchover() override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const auto at = static_cast<TimeNs>(now.tv_sec) * kSecondNs + static_cast<TimeNs>(now.tv_nsec);
    return fate_->call("pause", guest::Phase::kPaused).map([&] { return at; });
  }
  Expected<std::size_t> save_state(std::span<std::byte> /*out*/) override {
    return fate_->call("save", guest::Phase::kHandedOver).map([] { return std::size_t{0}; });
  }
  Expected<void> cancel_handover() override {
    return fate_->call("cancel", guest::Phase::kRunning);
  }
  Expected<void> destroy() override { return fate_->call("destroy", guest::Phase::kGone); }
  Expected<void> load_state(std::span<const std::byte> /*state*/) override {
    return fate_->call("load", guest::Phase::kIncoming);
  }
  Expected<void> keep_after_agent_exit(std::uint64_t session) override {
    fate_->keep_for(session);
    return fate_->call("keep", guest::Phase::kIncoming);
  }
  std::uint64_t kept_for() const override { return fate_->kept_for(); }
  Expected<void> resume() override { return fate_->call("resume", guest::Phase::kRunning); }
  void announce() override { (void)fate_->call("announce", guest::Phase::kRunning); }

 private:
  guest::Description description_;
  std::shared_ptr<FakeFate> fate_;
  int fd_;
  void* address_;
};

// Hands out guests whose fate the test has named before.
class FakeDriver final : public guest::Driver {
 public:
  std::shared_ptr<FakeFate> next;                                        // of the next twin
  std::vector<std::pair<std::string, std::shared_ptr<FakeFate>>> found;  // by rediscover()

  Expected<std::unique_ptr<guest::Guest>> start(const guest::Definition& definition) override {
    return make(definition.name);
  }
  Expected<std::unique_ptr<guest::Guest>> prepare_incoming(
      const guest::Description& description) override {
    return make(description.definition.name);
  }
  Expected<std::unique_ptr<guest::Guest>> adopt(const std::string& /*qmp_socket*/) override {
    return fail(ErrorKind::kUnsupported, "fake guests have no monitor");
  }
  guest::SurvivingGuests rediscover() override {
    guest::SurvivingGuests survivors;
    for (const auto& [name, fate] : found) {
      auto guest = find_again(name);
      if (guest) {
        survivors.guests.push_back(std::move(*guest));
      } else {
        survivors.silent.push_back({name, kFakeBytes, getpid(), guest.error().message});
      }
    }
    return survivors;
  }
  Expected<std::unique_ptr<guest::Guest>> find_again(const std::string& name) override {
    for (const auto& [known, fate] : found) {
      if (known != name || fate->phase() == guest::Phase::kGone) continue;
      if (!fate->answers_new_agents()) return fail(ErrorKind::kUnreachable, "it says nothing");
      return std::unique_ptr<guest::Guest>(std::make_unique<FakeGuest>(name, fate));
    }
    return fail(ErrorKind::kNotFound, "nothing is left of guest " + name);
  }

 private:
  Expected<std::unique_ptr<guest::Guest>> make(const std::string& name) {
    return std::unique_ptr<guest::Guest>(std::make_unique<FakeGuest>(name, next));
  }
};

}  // namespace sluice::agent::test
