// Hosts, agents and guests on virtual time, as the patch run's driver sees them. An agent keeps
// what a real one keeps: hooks by their intent, migrations under way, the highest epoch. A
// controller may die at any moment; what it had begun goes on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/patch/driver.h"
#include "control/patch/planned_mover.h"

namespace sluice::patch::sim {

inline constexpr TimeMs kRebootMs = 60'000;
inline constexpr TimeMs kSilenceMs = 60'000;  // after which nobody is asked any more

// What goes wrong.
struct Faults {
  std::string bad_version_on{};            // the patch leaves the old version there
  std::string never_returns{};             // this host's agent does not come back after the reboot
  std::string bad_canary_on{};             // the canary does not start there
  std::string slow_after_patch{};          // migrations to it have half the goodput
  std::string stands_long_after_patch{};   // guests that move to it stand still ten times as long
  std::string lossy_after_patch{};         // a twentieth of the frames to it are lost
  std::string busy_after_patch{};          // its guests wait for cores
  std::string narrow_after_patch{};        // its switch port carries no jumbo frames any more
  std::string narrow_always{};             // and never did
  std::string narrow_for_good{};           // from its patch on, whatever is rolled back
  std::string other_kernel_after_patch{};  // it boots 6.2
  std::string other_kernel_for_good{};     // from its patch on, whatever is rolled back
  std::string older_cpu_after_patch{};     // its firmware takes features of the CPU away
  std::uint32_t qemu_of_patch = 0;         // hosts have this series after it; 0: as before
  std::string patch_hook_fails_on{};
  std::string patch_reboots{};        // the patch hook reboots this host
  std::string component_fails_for{};  // a guest, whose hooks fail
  std::string rollback_fails_on{};
  std::string rollback_undoes_nothing_on{};                   // and says that it went well
  std::uint32_t unsilence_failures = 0;                       // so many runs of it fail
  bool unsilence_not_begun = false;                           // since nobody could begin it
  std::map<std::string, std::uint32_t> migration_failures{};  // guest: so many attempts fail
  std::set<std::string> moves_back_failures{};  // guests that leave their host, and never return
  std::map<std::string, std::uint32_t> start_failures{};  // guest: the same of starting it again
  std::map<std::string, std::uint32_t> stop_failures{};   // the same of stopping it
  std::string waits_for_operator{};  // a guest that its agent stops at no controller's word
  // A guest whose host's agent stops it once and is silent for so long before it can say so.
  std::string unheard_stop_of{};
  // The same of starting one again: until it answers nobody knows of the guest.
  std::string unheard_start_of{};
  std::string unheard_reboot_of{};  // this host's agent is silent as long when it is told
  TimeMs unheard_ms = 100'000;
  // Purpose of a move in whose middle the agent of the host that it does not serve falls silent for
  // good: nobody can say what became of the guest.
  std::string lost_on{};
  std::string silent_after_first_move_from{};  // for good
};

// How long things take.
struct Durations {
  std::function<TimeMs(const Intent&)> migration_ms{};  // none: 4 s a GiB
  std::map<std::string, TimeMs> hook_ms{};              // by name; others take 2 s
};

struct SimHost {
  std::uint64_t memory_gib = 32;
  std::uint32_t boot = 1;
  std::string version = "1";
  std::string old_version{};
  bool patched = false;      // at its last boot
  bool was_patched = false;  // at one of its boots
  bool up = true;
  TimeMs down_since_ms = 0;  // while it is not up
  TimeMs deaf_until_ms = 0;  // its agent does not answer, and everything goes on
  std::uint64_t epoch = 0;
  std::string cordoned_by{};
  bool quarantined = false;
  std::uint32_t qemu_series = 0;
  std::uint32_t cpu_level = 4;
  std::map<std::string, std::string> copies{};  // as in HostFacts
};

struct SimGuest {
  std::string host;
  std::uint64_t memory_gib = 4;
  GuestPolicy policy = GuestPolicy::kLive;
  std::uint32_t cpu_level = 0;
  std::uint32_t qemu_series = 0;  // that it runs on; 0: none
  bool cpu_level_from_host = false;
};

// A move that has ended well, and whether its hosts had come back from their patch by then.
struct MoveSeen {
  std::string guest;
  std::string from;
  std::string to;
  bool from_patched = false;
  bool to_patched = false;
};

class Cluster {
 public:
  explicit Cluster(Faults faults = {}, Durations durations = {})
      : faults_(std::move(faults)), durations_(std::move(durations)) {}

  std::map<std::string, SimHost> hosts;
  std::map<std::string, SimGuest> guests;
  std::set<std::string> started_by_hand;
  TimeMs wall_ahead_ms = 0;
  std::map<std::string, SimGuest> stopped;  // guests that are down, where they were
  std::vector<planner::Group> groups;
  std::map<std::string, std::vector<planner::GroupId>> groups_of;  // guest

  [[nodiscard]] TimeMs now_ms() const { return now_ms_; }
  [[nodiscard]] Facts facts() const;
  // Who hears of ends, and watches, from now on; an earlier listener is deaf, as a dead controller
  // is.
  using Listener = std::function<void(const Outcome&)>;
  void listen(Listener listener);
  // Stands for the agents: what `epoch` asks for. False, and nothing happens, when a newer one was
  // seen.
  bool begin(std::uint64_t epoch, const Run& run, const Intent& intent, bool again);
  // Makes the run's marks on its hosts.
  void note_marks(const Run& run);
  // Its agent does not answer for so long, and everything goes on.
  void deafen(const std::string& host, TimeMs duration_ms);
  // Somebody migrates a guest, which takes so long.
  void move_by_hand(const std::string& guest, const std::string& to, TimeMs duration_ms);
  [[nodiscard]] bool is_moving(const std::string& guest) const { return moving_.count(guest) != 0; }
  // For guests that are there or on their way.
  [[nodiscard]] std::int64_t free_gib(const std::string& host) const;
  // Something else happens at this very moment.
  [[nodiscard]] bool more_at_once() const {
    return std::any_of(pending_.begin(), pending_.end(),
                       [this](const Pending& other) { return other.at_ms <= now_ms_; });
  }
  // To the next event; false when nothing will ever happen again before `limit_ms`.
  bool advance(TimeMs limit_ms);

  // ---- what really happened ----
  // Intent's purpose and host: how often its hook's command ran.
  std::map<std::string, std::uint32_t> hook_runs;
  std::map<std::string, std::map<std::string, std::string>> hook_environments;  // the last one's
  std::map<std::string, std::uint32_t> reboots;                                 // host
  std::map<std::string, std::uint32_t> migrations;         // guest: completed moves
  std::vector<MoveSeen> moves;                             // in the order in which they ended
  std::map<std::string, std::vector<TimeMs>> attempts_ms;  // guest: when its moves began
  std::vector<std::string> violations;

 private:
  struct Pending {
    TimeMs at_ms;
    std::uint64_t order;
    std::function<void()> happen;
  };
  void after(TimeMs delay_ms, std::function<void()> happen);
  void tell(Outcome outcome);
  [[nodiscard]] bool answers(const std::string& host) const;
  [[nodiscard]] TimeMs unanswered_ms(const Intent& intent) const;
  void migrate(const Intent& intent, const std::string& key);
  [[nodiscard]] std::uint32_t qemu_of(const SimHost& host) const;
  void silence(const std::string& host);
  void lose(const Intent& intent, const std::string& key);
  void stop_unheard(const Intent& intent, const std::string& key);
  void start_unheard(const Intent& intent, const std::string& key);
  void run_hook(const Intent& intent, const std::string& key);
  void reboot(const Intent& intent, const std::string& key);
  void check_room(const std::string& host);
  void check_cpu(const std::string& guest, std::uint32_t needed, const std::string& host);
  void note_start(const std::string& guest, const std::string& host);
  [[nodiscard]] std::uint32_t cpu_level_of(const std::string& host) const;
  [[nodiscard]] Outcome hook_result(const Intent& intent);

  Faults faults_;
  Durations durations_;
  TimeMs now_ms_ = 1'000'000;
  std::uint64_t order_ = 0;
  std::vector<Pending> pending_;
  Listener listener_;
  TimeMs watching_since_ms_ = 0;
  std::map<std::string, std::optional<Outcome>> begun_;  // intent's key: its outcome, once known
  std::map<std::string, std::string> moving_;            // guest: the key of its migration
  std::map<std::string, std::string> incoming_;          // guest: host that holds memory for it
  std::map<std::string, std::string> moved_by_hand_;     // guest: where to
  std::map<std::string, SimGuest> last_seen_;            // that their host was silent about since
  std::set<std::string> unseen_;                         // that it has had since it fell silent
};

// The planner's view of it: one link each way and host, 4 s a GiB.
[[nodiscard]] PlannedMover make_mover(const Cluster& cluster);

}  // namespace sluice::patch::sim
