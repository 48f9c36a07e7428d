// A patch run (or a drain, which is its first half) as a fold over its journal, and what to do
// next. Pure: what is observed and the time are passed in, so that the same code runs in the
// controller and in the simulator. One thread.
//
// The controller's loop: decide(), append each record to the journal, apply() it, and do what
// intents say; when an action ends, append and apply its outcome; decide() again. Records may be
// cut off after any one of them: a run folded from the rest goes on to the same end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/patch/plan.h"
#include "control/patch/record.h"
#include "control/patch/states.h"
#include "dataplane/base/expected.h"

namespace sluice::patch {

inline constexpr TimeMs kSecondMs = 1000;
// For so long an agent's silence is none: a host under load may miss a question or two.
inline constexpr TimeMs kSilenceMsMax = 30 * kSecondMs;

// How a guest leaves a host that is emptied.
enum class GuestPolicy : std::uint8_t {
  kLive = 1,
  kQuick,     // stopped, moved, resumed
  kShutdown,  // stopped here and started again when the host is back
  kNever,     // its host cannot be emptied
};

// Guests of the other policies stay where they are while they run.
[[nodiscard]] constexpr bool is_moved(GuestPolicy policy) {
  return policy == GuestPolicy::kLive || policy == GuestPolicy::kQuick;
}

struct GuestFacts {
  std::string host;  // where it runs, or was last seen
  GuestPolicy policy = GuestPolicy::kLive;
  std::string definition{};          // of one that may be shut down: what starts it again
  std::uint32_t cpu_level = 0;       // that hosts must have for it; 0: any will do
  bool cpu_level_from_host = false;  // as in planner::Guest
};

struct HostFacts {
  bool reachable = false;  // its agent answered when last asked
  TimeMs silent_ms = 0;    // since it last did
  std::string boot_id;
  std::string kernel;
  std::set<std::string> hooks;  // that its agent offers
  std::string cordoned_by;      // empty: nobody; "operator", or a run's id
  bool quarantined = false;
  // It was told so before it said which guests it has: people can have brought no others since.
  bool told_out_of_service = false;
  std::set<std::string> incoming;  // guests that somebody is bringing to it
  // Guest: the state of a copy that is there beside the guest, which is elsewhere; one that was
  // handed over also counts.
  std::map<std::string, std::string> copies{};
  bool returns_to_others = false;          // another run is about to give it back
  std::uint64_t link_bits_per_second = 0;  // for migrations; 0: not known
  std::uint32_t cpu_level = 0;             // 0: not known
  std::optional<double> waited_share{};    // as in Baseline
  std::uint32_t qemu_series = 0;           // as in planner::Host
};

struct Move {
  std::string guest;
  std::string from;
  std::string to;
  std::string reason;
  double expected_seconds = 0;  // 0: nobody says

  friend bool operator==(const Move&, const Move&) = default;
};

// Of a guest that does not run.
struct Down {
  std::string host;       // that has, or had, room for it
  bool starting = false;  // there, at this moment
  // That host will be in service again, or fail, before long, whatever becomes of others.
  bool returning = false;

  friend bool operator==(const Down&, const Down&) = default;
};

// What is known of the cluster. The guests' places are at least as new as the newest outcome that
// was applied.
struct Facts {
  // By a clock that nobody sets while this controller lives. Windows go by the wall clock, which is
  // ahead of it by so much.
  TimeMs now_ms = 0;
  TimeMs wall_ahead_ms = 0;
  [[nodiscard]] TimeMs wall_ms() const { return now_ms + wall_ahead_ms; }
  // When this controller began. Time in which nobody watched counts for no limit, gate or soak.
  TimeMs watching_since_ms = 0;
  // Since `at_ms`, as far as this controller was there.
  [[nodiscard]] TimeMs elapsed_ms(TimeMs at_ms) const {
    return now_ms - std::max(at_ms, watching_since_ms);
  }

  std::map<std::string, HostFacts> hosts;
  std::map<std::string, GuestFacts> guests;
  std::set<std::string> controller_hooks;
  // Under way beside this run's; see note_moves().
  std::vector<Move> moves_of_others;
  std::vector<Move> moves_by_hand;
  std::map<std::string, Down> down_of_others;  // by guest
  // Guests that other runs have moved, or will, and bring home; and their canaries, which they end.
  std::set<std::string> guests_of_others;
  std::set<std::string> canaries_of_others;
};

// For how long what would fail a host has been so. Kept beside the journal: a controller that
// begins anew waits anew.
class Patience {
 public:
  // True when `what` has been so for `limit_ms` of watching, without a break.
  bool is_over(const std::string& what, const Facts& facts, TimeMs limit_ms = kSilenceMsMax);
  // It is not so.
  void renew(const std::string& what) { since_ms_.erase(what); }

 private:
  std::map<std::string, TimeMs> since_ms_;
};

enum class TargetRank : std::uint8_t {
  kGivenBack = 1,  // guests came from there a moment ago, to a host that has failed
  kFilling,        // patched, and to be proven under load
  kPatched,
  kOther,
};

// What the planner is asked: which moves to start now.
struct MoveQuery {
  const Facts* facts = nullptr;
  std::set<std::string> emptying;                 // every guest there is to leave
  std::map<std::string, std::string> homecoming;  // guest: the host that it is to return to
  std::set<std::string> closed;                   // no target, but of a homecoming
  // Better targets before others; those that are not named come last.
  std::map<std::string, TargetRank> rank;
  // How many guests a host may take in now; those that are not named as many as there is room for.
  // Guests that wait for more are not stuck.
  std::map<std::string, std::size_t> arrivals_max;
  std::set<std::string> resting;  // guests that are not to be moved (any more)
  // Guests that are to be moved, but not begin before so long; others need not wait for them.
  std::map<std::string, TimeMs> later_ms;
  // Guests that do not run. They have their place, and those that are starting, or will before
  // long, count as moves do.
  std::map<std::string, Down> down;
  // Theirs and those of other runs, which end; and others, of which nobody knows when. All count at
  // both hosts and in their groups; for a link nobody waits on account of the latter.
  std::vector<Move> under_way;
  std::vector<Move> under_way_unwatched;
  std::uint32_t qemu_meant = 0;  // to so new a QEMU guests may go for good
};

struct MoveAnswer {
  std::vector<Move> start;
  std::map<std::string, std::string> stuck;  // guest: why it cannot be placed, and what would help
};

// Chooses moves. All constraints hold at every instant if its answers are followed.
class Mover {
 public:
  Mover() = default;
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;
  virtual ~Mover() = default;
  [[nodiscard]] virtual MoveAnswer propose(const MoveQuery& query) const = 0;
  // Every guest that is to leave has a place to go to.
  [[nodiscard]] virtual bool has_room(const MoveQuery& query) const = 0;
  // Another host that has room for `guest` now, of the best rank; empty: none has. `guest` runs, or
  // is one of query.down.
  [[nodiscard]] virtual std::string target_for(const std::string& guest,
                                               const MoveQuery& query) const = 0;
};

struct HostRun {
  HostState state = HostState::kPending;
  TimeMs entered_ms = 0;  // when it entered that state
  TimeMs gate_ms = 0;     // when the present step of the refill began
  std::uint32_t refill_step = 0;
  std::optional<Baseline> baseline;
  bool cordoned_here = false;  // by this run, and not yet taken back
  bool quarantined = false;
  bool mended = false;   // and an operator has taken it out of quarantine
  bool touched = false;  // it was cordoned, and perhaps silenced
  std::string failure;   // why it did not go well; empty: it did
};

struct Task {
  const Intent* intent = nullptr;
  const Outcome* outcome = nullptr;  // null: under way, or in doubt after a crash
  TimeMs ended_ms = 0;               // with an outcome
};

// One that the run has shut down, or tried to, and not started again.
struct DownGuest {
  std::string name;
  std::string host;             // where it ran
  std::string definition;       // the text of its guest file
  std::uint32_t cpu_level = 0;  // of these two what it had, as in planner::Guest
  bool cpu_level_from_host = false;
};

class Run {
 public:
  explicit Run(std::string id) : id_(std::move(id)) {}

  // Folds one record. kInvalid for one that cannot follow what was folded so far; nothing changes
  // then. The first must be Created.
  [[nodiscard]] Expected<void> apply(const Record& record);

  // What follows from what is known now; empty: nothing before the facts change or time passes.
  // Every prefix of the records may be applied alone. `patience` is the same one for all questions
  // of a controller.
  [[nodiscard]] std::vector<Record> decide(const Facts& facts, const Mover& mover,
                                           Patience& patience) const;

  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] RunState state() const { return state_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }  // of the last change
  // Why this version cannot read its plan; empty: it can. Such a run rests as it is, with the hosts
  // that its records name: nothing follows for it.
  [[nodiscard]] const std::string& unreadable() const { return unreadable_; }
  [[nodiscard]] const HostRun& host(const std::string& name) const { return hosts_.at(name); }
  [[nodiscard]] TimeMs begun_ms() const { return begun_ms_; }
  // The operator who asked for it; empty: nobody knows.
  [[nodiscard]] const std::string& begun_by() const { return begun_by_; }
  // What emptying each of its hosts was expected to take when it was asked for.
  [[nodiscard]] const std::map<std::string, Estimate>& estimates() const { return estimates_; }
  // The same of the whole run, from its beginning to its end; none of runs of earlier versions.
  [[nodiscard]] const std::optional<Estimate>& whole() const { return whole_; }
  // What keeps further hosts from beginning, for an operator; empty: nothing, or none is left.
  [[nodiscard]] std::string waits_for(TimeMs wall_ms) const;
  // What keeps a host where it is, for an operator, but for what the run has under way there;
  // empty: nothing.
  [[nodiscard]] std::string keeps(const std::string& name, const Facts& facts) const;
  [[nodiscard]] TimeMs ended_ms() const { return ended_ms_; }  // 0: it has not
  // How many intents there were; their ids count from 1.
  [[nodiscard]] std::uint64_t intents() const { return intents_.size(); }
  // Those without an outcome, to be taken up after a crash, in the order of their ids.
  [[nodiscard]] std::vector<const Intent*> open_intents() const;
  [[nodiscard]] Task task(std::uint64_t id) const;
  [[nodiscard]] std::vector<Move> moves_under_way() const;
  // In the order in which they were made.
  [[nodiscard]] const std::vector<MarkStep>& marks() const { return marks_; }
  // Nothing is under way: every host waits, for its turn or for an operator, or is in its final
  // state.
  [[nodiscard]] bool at_rest(const Facts& facts) const;
  // Hosts that did not go well so far.
  [[nodiscard]] std::uint32_t failures() const;
  // What the run has left behind of its work at a host, and the remedy, in one line; empty:
  // nothing.
  [[nodiscard]] std::string left_over(const std::string& name, const Facts& facts) const;
  [[nodiscard]] std::vector<DownGuest> down_guests() const;
  // The host will be in service again, or fail, before long, whatever becomes of others.
  [[nodiscard]] bool returns_by_itself(const std::string& host) const;
  // Those of them that it will start where they were, and those that are being started: by guest.
  [[nodiscard]] std::map<std::string, Down> awaited() const;
  // Guests whose home it is emptying, or has emptied, and that it will bring back there.
  [[nodiscard]] std::set<std::string> brings_home() const;
  // Its canaries that were started, and that it will end.
  [[nodiscard]] std::set<std::string> canaries_out() const;
  // The canary guest of a host.
  [[nodiscard]] std::string canary_name(const std::string& host) const;
  // What the hook of `intent` is told by its environment.
  [[nodiscard]] std::map<std::string, std::string> hook_environment(const Intent& intent) const;
  // The definition with which `intent`, a kStartGuest, starts its guest.
  [[nodiscard]] std::string definition_of(const Intent& intent) const;

 private:
  enum class TaskState : std::uint8_t { kNone = 1, kOpen, kOk, kFailed };
  // One decide() in the making; see run_decide.cc.
  struct Decision;

  // ---- folding ----
  void fold(const Created& created, TimeMs at_ms);
  Expected<void> fold(const RunStep& step);
  Expected<void> fold(const HostStep& step, TimeMs at_ms);
  Expected<void> fold(const Baseline& baseline);
  Expected<void> fold(const MarkStep& mark);
  Expected<void> fold(const RefillStep& step, TimeMs at_ms);
  Expected<void> fold(const Intent& intent);
  Expected<void> fold(const Outcome& outcome, TimeMs at_ms);
  Expected<void> fold(const Record& record);
  void add_host(const std::string& name, TimeMs at_ms);
  // The host of a record. kInvalid if the plan has none of that name.
  Expected<HostRun*> host_of(const std::string& name);

  // ---- asking ----
  [[nodiscard]] Task latest(const std::string& host, const std::string& purpose) const;
  [[nodiscard]] TaskState state_of(const std::string& host, const std::string& purpose) const;
  // As state_of(), but what `undone_by` came after does not count any more.
  [[nodiscard]] TaskState state_since(const std::string& host, const std::string& purpose,
                                      const std::string& undone_by) const;
  [[nodiscard]] bool has_open(const std::string& host) const;
  // Before the next attempt, of what has failed; 0: it is over.
  [[nodiscard]] static TimeMs pause_left_ms(const Facts& facts, const Task& before);
  // What follows of something that is tried until it goes well.
  struct Attempt {
    enum class Next : std::uint8_t { kBegin = 1, kWait, kGiveUp };
    Next next = Next::kBegin;
    std::uint32_t number = 1;
  };
  // After `before`, the last attempt (none: nothing was tried): it may be under way still, or the
  // pause after it.
  [[nodiscard]] static Attempt next_attempt(const Facts& facts, const Task& before,
                                            std::uint32_t attempts_max);
  [[nodiscard]] static bool is_given_up(const Task& last, std::uint32_t attempts_max);
  [[nodiscard]] bool is_canary(const std::string& guest) const;
  // Where its last move went is not known, and matters: a canary that was ended since does not.
  [[nodiscard]] bool is_lost(const std::string& guest) const;
  // Why nobody may take it for empty: a guest is, or may be, here of which nobody knows where it
  // runs. Empty: there is none.
  [[nodiscard]] std::string unsettled_at(const std::string& host) const;
  // Guests on their way to it.
  [[nodiscard]] std::size_t coming_to(const std::string& host) const;
  // A guest is on its way to it or being started there, whoever sent it, or another host's canary,
  // or another run's, is there that will be ended.
  [[nodiscard]] bool is_visited(const std::string& host, const Facts& facts) const;

  // ---- what keeps a host; see run_waits.cc ----
  [[nodiscard]] std::string keeps_pending() const;
  [[nodiscard]] std::string keeps_empty(const std::string& name, const Facts& facts) const;
  [[nodiscard]] std::string keeps_filling(const std::string& name, const Facts& facts) const;
  [[nodiscard]] std::string next_try(const std::string& name, const Facts& facts) const;
  [[nodiscard]] bool is_tried_again(const std::string& name, const std::string& purpose) const;
  // Since the reboot that it does not come back from so far.
  [[nodiscard]] std::string reboots(const std::string& name, const Facts& facts) const;

  // ---- refill; see run_refill.cc ----
  // Of the present step.
  enum class Filling : std::uint8_t { kWaits = 1, kFull, kNoMoreCome };
  [[nodiscard]] bool rolling() const { return plan_.placement == Placement::kRolling; }
  [[nodiscard]] bool is_out_of_service(const HostRun& host) const;
  // Not emptied further, and open for guests that must leave a host that has failed.
  [[nodiscard]] std::set<std::string> held() const;
  [[nodiscard]] bool may_patch(const std::string& name) const;
  // More hosts than the plan, or an operator who resumed the run, allows: it pauses.
  [[nodiscard]] bool has_failed_too_often() const;
  [[nodiscard]] bool more_may_come(const Decision& decision) const;
  [[nodiscard]] std::size_t share_of(const std::string& name, std::size_t step) const;
  [[nodiscard]] std::size_t share(std::size_t guests, std::size_t step) const;
  [[nodiscard]] bool is_ours(const Decision& decision, const std::string& name) const;
  void open_filling(const Decision& decision, MoveQuery& query) const;
  [[nodiscard]] Filling taken_in(const Decision& decision, const std::string& name) const;
  Filling brought_home(Decision& decision, const std::string& name) const;
  [[nodiscard]] bool is_last_step(const HostRun& host) const {
    return host.refill_step + 1 >= plan_.refill_percent.size();
  }
  // Guests that have come to it since it was done, and whose hook guest_after has not been begun.
  [[nodiscard]] std::vector<std::string> latecomers(const std::string& name,
                                                    const Facts& facts) const;
  void look_after_latecomers(Decision& decision, const std::string& name) const;
  [[nodiscard]] std::string not_looked_after(const std::string& name) const;
  // Its guests that nobody has brought home, since their host did not answer.
  [[nodiscard]] std::string stays_away(const std::string& name, const Facts& facts) const;

  // ---- what must not be worse than before; see run_regression.cc ----
  // That went well and were measured.
  [[nodiscard]] std::vector<Task> moves_away(const std::string& host) const;
  [[nodiscard]] std::vector<Task> moves_to_patched(const std::string& host) const;
  // Goodput of the moves to the patched host against that of the moves away from it before, median;
  // nothing without both.
  [[nodiscard]] std::optional<double> goodput_ratio(const std::string& host) const;
  // What is worse of the host's migrations since its patch, in one line; empty: nothing.
  [[nodiscard]] std::string regression(const std::string& host) const;
  [[nodiscard]] std::string downtime_regression(const std::vector<Task>& before,
                                                const std::vector<Task>& after) const;
  [[nodiscard]] std::string steal_regression(const Decision& decision,
                                             const std::string& name) const;
  // True when they are good; else waits, or fails the host.
  bool paths_good(Decision& decision, const std::string& name, const char* purpose) const;
  // They were checked before the patch, to whatever end.
  bool paths_known(Decision& decision, const std::string& name) const;
  // A guest whose home this is and whom its CPU is not good for any more; empty: none.
  [[nodiscard]] std::string shut_out_of(const Decision& decision, const std::string& name) const;

  // ---- canary; see run_canary.cc ----
  void canary(Decision& decision, const std::string& name) const;
  // Of its start and its moves: what comes next is the following one, nothing yet, or its end.
  enum class CanaryStep : std::uint8_t { kDone = 1, kUnderWay, kLast };
  CanaryStep canary_step(Decision& decision, const std::string& name, const char* purpose) const;
  bool canary_may_go(Decision& decision, const std::string& name, const Intent& move) const;
  [[nodiscard]] std::string canary_target(const Decision& decision, const std::string& name) const;
  [[nodiscard]] bool canary_is_over(const std::string& name) const;
  [[nodiscard]] bool canary_is_given_up(const std::string& name) const;
  void end_canary(Decision& decision, const std::string& name) const;
  [[nodiscard]] std::string canary_left_on(const std::string& name, const Facts& facts) const;

  // ---- the monitoring, which is told of the end; see run_unsilence.cc ----
  // It has been told, need not be, or nobody tries any more.
  [[nodiscard]] bool unsilence_is_over(const std::string& name) const;
  void end_silence(Decision& decision, const std::string& name) const;
  [[nodiscard]] std::string stays_silenced(const std::string& name) const;

  // ---- guests that are shut down; see run_restart.cc ----
  [[nodiscard]] bool is_to_be_shut_down(const GuestFacts& guest) const;
  [[nodiscard]] bool has_only_guests_to_shut_down(const std::string& host,
                                                  const Facts& facts) const;
  bool may_shut_down(Decision& decision, const std::string& name) const;
  bool run_elsewhere_once_down(Decision& decision, const std::string& name) const;
  bool shut_down(Decision& decision, const std::string& name, const std::string& guest) const;
  bool started_again(Decision& decision, const std::string& name, std::string& failure) const;
  // And not started again, by this run: those that run all the same are in the facts. Not those
  // that it left to an operator.
  [[nodiscard]] std::vector<std::string> shut_down_at(const std::string& host) const;
  [[nodiscard]] bool is_in_doubt(const std::string& host, const std::string& guest,
                                 const Facts& facts) const;
  [[nodiscard]] std::string doubt(const std::string& host, const std::string& guest) const;
  [[nodiscard]] bool may_run_somewhere(const Decision& decision, const std::string& host,
                                       const std::string& guest) const;
  [[nodiscard]] bool will_start_elsewhere(const std::string& host, const Facts& facts) const;
  void start_elsewhere(Decision& decision, const std::string& host) const;
  [[nodiscard]] std::string stays_down(const std::string& host, const Facts& facts) const;

  // ---- deciding, a stage of a host each; see run_decide.cc and run_stages.cc ----
  [[nodiscard]] std::vector<Record> decide_for(const Facts& facts, const Mover& mover,
                                               Patience& patience) const;
  [[nodiscard]] Facts with_guests_down(Facts facts) const;
  void decide_run(Decision& decision) const;
  void begin_hosts(Decision& decision) const;
  // The host that may begin now; empty: none.
  [[nodiscard]] std::string next_to_begin(const Decision& decision) const;
  [[nodiscard]] std::string first_pending() const;  // in the plan's order; empty: none
  // The host of a wave before that is not in service and has not failed; empty: there is none.
  [[nodiscard]] std::string wave_waits_for(const std::string& name) const;
  [[nodiscard]] bool patch_has_begun() const;  // of any host
  [[nodiscard]] bool few_move_twice(const Decision& decision,
                                    const std::set<std::string>& emptying) const;
  [[nodiscard]] bool cluster_can_do_without(const Decision& decision,
                                            const std::string& name) const;
  void decide_moves(Decision& decision) const;
  void fail_stuck(Decision& decision, const MoveQuery& query, const MoveAnswer& answer) const;
  // For guests of `host`, which has none for them now, without anybody's doing.
  [[nodiscard]] bool room_may_come(const Decision& decision, const std::string& host) const;
  void decide_host(Decision& decision, const std::string& name) const;
  void tidy(Decision& decision, const std::string& name) const;
  // It waits for the run to be resumed.
  [[nodiscard]] bool rests_paused(const std::string& host, const Facts& facts) const;
  // Nothing is under way there, and nothing will be.
  [[nodiscard]] bool is_tidied(const std::string& host, const Facts& facts) const;
  bool refuses_to_leave(Decision& decision, const std::string& name) const;
  void precheck(Decision& decision, const std::string& name) const;
  void cordoned(Decision& decision, const std::string& name) const;
  void draining(Decision& decision, const std::string& name) const;
  // The host is not empty for a copy of a guest that is elsewhere. One that does not go by itself
  // fails it.
  bool has_copies(Decision& decision, const std::string& name) const;
  [[nodiscard]] bool is_known_empty(const Decision& decision, const std::string& name) const;
  void undrain(Decision& decision, const std::string& name) const;
  void empty(Decision& decision, const std::string& name) const;
  void patching(Decision& decision, const std::string& name) const;
  void rebooting(Decision& decision, const std::string& name) const;
  void verifying(Decision& decision, const std::string& name) const;
  void refill(Decision& decision, const std::string& name) const;
  void soak(Decision& decision, const std::string& name) const;
  void rollback(Decision& decision, const std::string& name) const;
  void verify_old(Decision& decision, const std::string& name) const;
  [[nodiscard]] TimeMs reboot_timeout_ms() const { return TimeMs{plan_.reboot_timeout_s} * 1000; }
  // When the present step of its refill was full, so far.
  [[nodiscard]] TimeMs last_arrival_ms(const std::string& name) const;
  // Why the QEMU that it has now is not what the plan expects, or would trap its guests; empty: it
  // is. See run_qemu.cc.
  [[nodiscard]] std::string unexpected_qemu(const Decision& decision,
                                            const std::string& name) const;
  // No other host could take its canary, since none has so new a QEMU yet.
  [[nodiscard]] bool is_first_with_its_qemu(const Decision& decision,
                                            const std::string& name) const;
  void healthy_or_fail(Decision& decision, const std::string& name) const;
  bool hook_done(Decision& decision, const std::string& name, const std::optional<Hook>& hook,
                 const char* purpose) const;
  // As hook_done(), once for each of `guests`; `purpose` and the guest make the intent's.
  bool guest_hooks_done(Decision& decision, const std::string& name,
                        const std::optional<Hook>& hook, const char* purpose,
                        const std::vector<std::string>& guests) const;
  bool came_back(Decision& decision, const std::string& name, const char* purpose) const;
  // When the patch's hook began; the baseline's may be of an earlier boot.
  [[nodiscard]] const std::string& boot_id_before_patch(const std::string& name) const;
  // Without what is to be emptied or brought home.
  [[nodiscard]] MoveQuery query_for(const Decision& decision) const;
  [[nodiscard]] static bool is_seen_again(const Facts& facts, const Intent& move);
  [[nodiscard]] std::vector<std::string> home_guests(const std::string& name,
                                                     const Facts& facts) const;

  std::string id_;
  Plan plan_;
  std::string begun_by_;
  std::map<std::string, Estimate> estimates_;
  std::optional<Estimate> whole_;
  RunState state_ = RunState::kDraft;
  std::string reason_;
  std::string unreadable_;
  bool created_ = false;
  TimeMs begun_ms_ = 0;
  TimeMs ended_ms_ = 0;
  std::uint32_t failures_accepted_ = 0;  // when an operator resumed the run
  std::map<std::string, HostRun> hosts_;
  std::map<std::uint64_t, Intent> intents_;
  std::map<std::uint64_t, Outcome> outcomes_;
  std::map<std::uint64_t, TimeMs> ended_at_ms_;  // of outcomes
  std::vector<MarkStep> marks_;
  std::set<std::uint64_t> open_;    // intents without an outcome
  std::set<std::string> canaries_;  // names of guests
  // Guest: the host that it comes back to. Of two hosts that are patched at once the first that had
  // it, though the other one may have taken it in when it began.
  std::map<std::string, std::string> home_;
  std::map<std::string, std::uint64_t> unsettled_;  // guest: intent of its last move, or stop
  std::map<std::string, std::vector<std::uint64_t>> arrivals_;  // host: intents of moves to it
  std::map<std::pair<std::string, std::string>, std::uint64_t> latest_;  // host, purpose: intent
};

// Fills in what else is under way, as `run` (empty: none of them) sees it: the moves and starts of
// the others of `runs` and the hosts that these give back, and of `moving`, which is what agents
// say, those that are no run's.
void note_moves(Facts& facts, const std::string& run, const std::vector<const Run*>& runs,
                const std::vector<Move>& moving);

// What guests lose for good by the plan's newer QEMU, in a line for the operator who asks for it;
// empty: nothing.
[[nodiscard]] std::string lost_by_newer_qemu(const Plan& plan, const Facts& facts);
// Why guests that go to the plan's QEMU could not go on from there, or home; nothing if they can.
[[nodiscard]] Expected<void> admit_qemu(const Plan& plan, const Facts& facts);

// What a run of `plan` asks for as it empties `host`, from where everything is now.
[[nodiscard]] MoveQuery query_to_empty(const Plan& plan, const Facts& facts,
                                       const std::string& host);

// What would keep the plan from being run: hosts and hooks that do not exist, a window that is
// over, guests that must never move. One line that names the thing and the remedy.
[[nodiscard]] Expected<void> admit(const Plan& plan, const Facts& facts, const Mover& mover);

}  // namespace sluice::patch
