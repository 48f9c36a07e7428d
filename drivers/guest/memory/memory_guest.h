// A guest made of memory inside the agent: for benchmarks, tests and trying Sluice out without a
// hypervisor.
//
// Its RAM is a memfd full of incompressible pages that a thread rewrites at a set rate; every page
// can be checked against what must be in it. It dies with the agent, so there is nothing to
// rediscover.
#pragma once

#include <atomic>
#include <memory>

#include "drivers/guest/guest.h"
#include "drivers/guest/memory/contents.h"
#include "drivers/guest/memory/writer.h"

namespace sluice::guest {

class MemoryGuest final : public Guest {
 public:
  // A running guest, its RAM filled from `seed`. Errors: kInvalid (size or pattern), kNoCapacity.
  [[nodiscard]] static Expected<std::unique_ptr<MemoryGuest>> start(const Definition& definition,
                                                                    std::uint64_t seed);
  // A paused twin whose RAM is populated with zeros. Errors as start().
  [[nodiscard]] static Expected<std::unique_ptr<MemoryGuest>> prepare_incoming(
      const Description& description);

  ~MemoryGuest() override;
  MemoryGuest(const MemoryGuest&) = delete;
  MemoryGuest& operator=(const MemoryGuest&) = delete;

  [[nodiscard]] const Description& description() const override { return description_; }
  [[nodiscard]] Memory memory() const override;
  [[nodiscard]] Phase phase() override { return phase_; }
  [[nodiscard]] bool alive() const override { return phase_ != Phase::kGone; }
  [[nodiscard]] pid_t pid() const override;
  [[nodiscard]] int death_fd() const override { return -1; }

  [[nodiscard]] Expected<void> check_movable() override;
  [[nodiscard]] Expected<bool> has_untracked_writes() override { return false; }
  [[nodiscard]] Expected<TimeNs> pause_for_switchover() override;
  [[nodiscard]] Expected<std::size_t> save_state(std::span<std::byte> out) override;
  [[nodiscard]] Expected<void> cancel_handover() override;
  [[nodiscard]] Expected<void> destroy() override;

  [[nodiscard]] Expected<void> load_state(std::span<const std::byte> state) override;
  [[nodiscard]] Expected<void> keep_after_agent_exit(std::uint64_t /*session*/) override {
    return {};
  }
  [[nodiscard]] std::uint64_t kept_for() const override { return 0; }
  [[nodiscard]] Expected<void> resume() override;
  void announce() override {}

  // Compares every page with what the guest's writes must have left there; the writer stands still
  // meanwhile. kFailed for a twin without its state and for a guest that is gone.
  [[nodiscard]] Expected<memory::VerifyResult> verify();

 private:
  struct Mapping;

  MemoryGuest(Description description, std::unique_ptr<Mapping> mapping, memory::Pattern pattern);
  [[nodiscard]] static Expected<std::unique_ptr<MemoryGuest>> make(const Description& description);
  [[nodiscard]] Expected<void> require(Phase phase, const char* action);

  Description description_;
  std::unique_ptr<Mapping> mapping_;
  memory::Contents contents_;
  memory::Writer writer_;  // last: its thread uses all of the above
  std::atomic<Phase> phase_{Phase::kIncoming};
  bool state_loaded_ = false;
};

// MemoryGuest::verify() for a caller that has any guest; kUnsupported if it is not a memory guest.
[[nodiscard]] Expected<memory::VerifyResult> verify_guest(Guest& guest);

}  // namespace sluice::guest
