// The guests of this host by name: who may touch one, how much memory they take, and which have
// exited.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "control/agent/guest_figures.h"
#include "dataplane/base/expected.h"
#include "drivers/base/file_descriptor.h"
#include "drivers/guest/guest.h"

namespace sluice::agent {

struct GuestView {
  std::string name;
  std::string driver;
  std::string state;  // as GuestInfo.state of the protocol
  std::uint64_t memory_bytes = 0;
  std::string moving_to;
  pid_t pid = 0;
  std::string machine_type;
  std::string definition_toml;  // what would start it again
  std::uint32_t cpu_level = 0;  // as of guest::Description
  bool cpu_level_from_host = false;
  std::string qemu_version;
  std::string qemu_binary;
  std::optional<GuestFigures> figures;
};

// A guest's memory for whoever only reads it: it stays valid when the guest moves or ends.
struct LentMemory {
  FileDescriptor file;
  guest::Memory memory;  // memory_fd is `file`
};

class GuestRegistry;

// kForgotten: an operator must say what is to become of it; see model::SourceState. kSilent: its
// QEMU has not answered since this agent began. kLook: the registry asks how the guest is; other
// claims wait for that instead of failing.
enum class ClaimPurpose : std::uint8_t {
  kMove = 1,
  kIncoming,
  kStop,
  kInspect,
  kForgotten,
  kSilent,
  kLook
};

// The right to be the one thread that calls a guest; given back by its destruction. Outlived by the
// registry.
class GuestClaim {
 public:
  GuestClaim() = default;
  GuestClaim(GuestClaim&& other) noexcept { *this = std::move(other); }
  GuestClaim& operator=(GuestClaim&& other) noexcept;
  GuestClaim(const GuestClaim&) = delete;
  GuestClaim& operator=(const GuestClaim&) = delete;
  ~GuestClaim() { release(); }

  [[nodiscard]] bool valid() const { return registry_ != nullptr; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] guest::Guest& guest() const { return *guest_; }

  // Called once, from the registry's own thread, when the guest's process exits; it must not block
  // and must not give the claim back. At once if it has exited already.
  void on_exit(std::function<void()> callback);
  // What others are told that the claim is for; `peer` as for GuestRegistry::claim().
  void set_purpose(ClaimPurpose purpose, const std::string& peer = {});
  // Ends the guest's process and forgets it; the claim is invalid afterwards. After an error, which
  // is destroy()'s, the guest is there still and so is the claim.
  [[nodiscard]] Expected<void> destroy();
  void release();

 private:
  friend class GuestRegistry;
  GuestClaim(GuestRegistry* registry, std::string name, guest::Guest* guest)
      : registry_(registry), name_(std::move(name)), guest_(guest) {}

  GuestRegistry* registry_ = nullptr;
  std::string name_;
  guest::Guest* guest_ = nullptr;
};

// Any thread.
class GuestRegistry {
 public:
  // `capacity_bytes` is what this host offers to guests.
  GuestRegistry(std::string host, std::uint64_t capacity_bytes);
  ~GuestRegistry();
  GuestRegistry(const GuestRegistry&) = delete;
  GuestRegistry& operator=(const GuestRegistry&) = delete;

  // Makes a guest under a name nobody else can take meanwhile, with `bytes` set aside. kBusy if the
  // name is taken, kNoCapacity with need and have. `incoming` says from which host a twin comes;
  // its claim is of purpose kIncoming.
  using Maker = std::function<Expected<std::unique_ptr<guest::Guest>>()>;
  [[nodiscard]] Expected<GuestClaim> create(const std::string& name, std::uint64_t bytes,
                                            const std::string& incoming_from, const Maker& make);
  // A guest that was there before this agent. kBusy if the name is taken.
  [[nodiscard]] Expected<void> add(std::unique_ptr<guest::Guest> guest);
  // One that was there before and does not answer: listed as "silent", busy for everybody. kBusy if
  // the name is taken.
  [[nodiscard]] Expected<void> add_silent(const guest::SilentGuest& silent);
  // It answers: `guest` takes its place, and nobody else has it yet.
  [[nodiscard]] GuestClaim end_silence(std::unique_ptr<guest::Guest> guest);
  // It has gone.
  void forget_silent(const std::string& name) { forget(name); }

  // Takes no more guests: create() and add() are refused (kBusy) and say why, as "h1 is about to
  // reboot". kBusy, and nothing changes, while there are any.
  [[nodiscard]] Expected<void> refuse_more(const std::string& why);
  void accept_again();

  // kNotFound if there is no such guest here, kBusy while someone else holds it. Waits while list()
  // asks the guest, so a second at most. `peer` is the other host of a move.
  [[nodiscard]] Expected<GuestClaim> claim(const std::string& name, ClaimPurpose purpose,
                                           const std::string& peer = {});

  // Asks each guest that nobody has claimed how it is; those that have not answered after a second
  // are listed as last seen. Only claims of the guest that is asked wait for the answer.
  [[nodiscard]] std::vector<GuestView> list();
  // As last seen, without asking anybody: those that run, and that nobody has claimed but to look.
  [[nodiscard]] std::vector<GuestView> at_rest() const;
  // A guest is on its way to or from this host.
  [[nodiscard]] bool anybody_moves() const;
  // Nothing if somebody has claimed the guest, it is gone, or its memory is not shared. Waits as
  // claim() does.
  [[nodiscard]] std::optional<LentMemory> lend_memory(const std::string& name);
  // Kept until newer ones come or the guest goes; those of guests that are not here are dropped.
  void note_figures(const std::string& name, const GuestFigures& figures);
  [[nodiscard]] std::optional<GuestFigures> figures_of(const std::string& name) const;
  [[nodiscard]] bool has(const std::string& name) const;
  [[nodiscard]] std::size_t count() const;
  [[nodiscard]] std::uint64_t capacity_bytes() const { return capacity_bytes_; }
  [[nodiscard]] std::uint64_t used_bytes() const;

 private:
  friend class GuestClaim;
  using Clock = std::chrono::steady_clock;
  struct Entry {
    std::unique_ptr<guest::Guest> guest;  // null while it is being made, or silent
    GuestView view;                       // as last seen, but for its figures
    std::optional<GuestFigures> figures;
    bool claimed = false;
    ClaimPurpose purpose = ClaimPurpose::kInspect;
    std::string peer;
    bool exited = false;
    std::function<void()> on_exit;
  };

  [[nodiscard]] Expected<void> check_accepts(const std::string& name) const;
  [[nodiscard]] Expected<void> reserve(const std::string& name, std::uint64_t bytes,
                                       const std::string& incoming_from);
  [[nodiscard]] std::uint64_t used_bytes_locked() const;
  [[nodiscard]] std::string busy_text(const Entry& entry) const;
  [[nodiscard]] static bool is_looked_at(const Entry& entry) {
    return entry.claimed && entry.purpose == ClaimPurpose::kLook;
  }
  void look_at_unclaimed(Clock::time_point deadline);
  // A claim for looking, invalid if the guest has gone or someone else holds it.
  [[nodiscard]] GuestClaim claim_to_look(const std::string& name);
  void release(const std::string& name);
  [[nodiscard]] std::unique_ptr<guest::Guest> take(const std::string& name);
  void put_back(const std::string& name, std::unique_ptr<guest::Guest> guest);
  void forget(const std::string& name);
  void watch(const std::stop_token& stop);
  void note_exit(const std::string& name);
  void wake_watcher() const;

  const std::string host_;
  const std::uint64_t capacity_bytes_;
  mutable std::mutex mutex_;        // held for moments: never while a guest is asked
  std::condition_variable looked_;  // a claim for looking has ended
  std::map<std::string, Entry> guests_;
  std::string refusal_;  // why it takes no more guests; empty: it does
  int wake_fd_;
  std::jthread watcher_;
};

// What the kernel says could be allocated without swapping.
[[nodiscard]] std::uint64_t available_memory_bytes();
[[nodiscard]] std::uint64_t total_memory_bytes();

}  // namespace sluice::agent
