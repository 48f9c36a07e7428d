// One patch run of four hosts with two guests each, from its beginning to its end, through the
// deaths of its controllers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/store/journal.h"
#include "tests/patch/simulated_cluster.h"

namespace sluice::patch::sim {

inline constexpr const char* kPlan = R"(
name = "advisory-17"
hosts = ["h1", "h2", "h3", "h4"]
[hooks]
silence = { name = "silence", on = "controller" }
patch = "patch"
rollback = "rollback"
version = "version"
unsilence = { name = "unsilence", on = "controller" }
[expect]
version = "2"
kernel = "6.1"
[canary]
definition = "name = 'canary'"
[soak]
seconds = 5
)";
inline constexpr TimeMs kLeaseMs = 10'000;
inline constexpr TimeMs kHourMs = 3'600'000;
inline constexpr TimeMs kPauseMs = 1'000'000;  // longer than a reboot may take

// When a controller dies: at its record of that number, which is written (nothing follows from it
// any more) or lost (what was being done goes on, and nobody knows what became of it).
struct Death {
  std::uint64_t record = UINT64_MAX;
  bool written = true;
};

class ClusterActions final : public Actions {
 public:
  ClusterActions(Cluster& cluster, std::uint64_t epoch) : cluster_(cluster), epoch_(epoch) {}
  void begin(const Run& run, const Intent& intent, bool again) override;
  int refused = 0;

 private:
  Cluster& cluster_;
  std::uint64_t epoch_;
};

struct Scenario {
  Faults faults;
  Durations durations{};
  std::string plan = kPlan;
  std::map<std::string, GuestPolicy> policies;
  std::optional<std::size_t> abort_after;  // so many records, and before anything else is decided
  std::optional<std::size_t> pause_after;  // so many records, for kPauseMs
  TimeMs away_ms = 0;                      // between two controllers
  std::optional<Cluster> cluster{};        // instead of the usual one
  std::uint64_t memory_gib = 32;           // of each host; a guest has 4
  std::vector<std::set<std::string>> apart{};  // guests that are never on one host
  // What somebody does by hand, asked after every step of the run.
  std::function<void(const Run& run, Cluster& cluster)> by_hand{};
  std::function<void(Facts& facts)> known{};  // what else is, each time that it is looked
  std::function<bool(Driver& driver, Cluster& cluster)> commands{};  // true: it has said something
};

[[nodiscard]] Scenario rolling();
// A guest of which nobody can say where it runs.
[[nodiscard]] Scenario with_a_lost_guest();

// As a controller sees a host whose agent does not answer.
void fall_silent(HostFacts& host, TimeMs silent_ms);

// What is the same however often the controller was killed.
struct End {
  std::string text;
  std::string left_over{};  // of all hosts
  std::uint64_t records = 0;
  std::set<RunState> aborted_run_in{};     // states of the run, and of its hosts, in which it was
  std::set<HostState> aborted_hosts_in{};  // aborted
  Cluster cluster;
};

// Where a journal may be; of this process alone.
[[nodiscard]] std::string journal_path();
[[nodiscard]] std::string home_of(const std::string& guest);
// How the run and its hosts stand.
[[nodiscard]] std::string describe(const Run& run, const Cluster& cluster);
[[nodiscard]] Cluster make_cluster(const Scenario& scenario);
// One controller after the other dies as `deaths` say; the next lives until the run ends or rests.
[[nodiscard]] End run_to_end(const Scenario& scenario, std::vector<Death> deaths = {});
// Beginnings of lines of the end's description, as "h1 done".
void expect_hosts(const End& end, const std::vector<std::string>& lines);

}  // namespace sluice::patch::sim
