// Controllers that die and runs that are aborted or paused, after each record of a run in turn: a
// sample of all that, or the whole of it. See main().
#include <charconv>
#include <cstring>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <random>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

struct Choice {
  bool whole = false;
  std::uint64_t seed = std::random_device()();
} choice;

// Chooses one in `of` of what it is asked about: for a seed always the same ones of a test's
// scenario, and others of each.
class Sample {
 public:
  Sample(std::uint64_t of, const Scenario& scenario) : of_(of), random_(seed_of(scenario)) {}
  bool take() { return choice.whole || random_() % of_ == 0; }

 private:
  static std::uint64_t seed_of(const Scenario& scenario) {
    const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
    return choice.seed ^ std::hash<std::string>()(test + scenario.plan);
  }

  std::uint64_t of_;
  std::mt19937_64 random_;
};

// The controller dies at a record, which is written or lost.
void sweep(const Scenario& scenario, std::uint64_t one_in = 4) {
  Sample sample(one_in, scenario);
  const End undisturbed = run_to_end(scenario);
  for (std::uint64_t record = 1; record <= undisturbed.records; ++record) {
    for (const bool written : {true, false}) {
      if (!sample.take()) continue;
      const End end = run_to_end(scenario, {{record, written}});
      ASSERT_EQ(end.text, undisturbed.text)
          << "killed at record " << record << (written ? "" : ", which was lost");
    }
  }
}

// And the next one at a record of its own.
void sweep_twice(const Scenario& scenario) {
  Sample sample(60, scenario);
  const End undisturbed = run_to_end(scenario);
  for (std::uint64_t first = 1; first <= undisturbed.records; ++first) {
    for (std::uint64_t second = 1; second <= undisturbed.records - first; ++second) {
      if (!sample.take()) continue;
      const bool written = (first + second) % 2 == 0;
      const End end = run_to_end(scenario, {{first, written}, {second, !written}});
      ASSERT_EQ(end.text, undisturbed.text)
          << "killed at record " << first << (written ? "" : ", which was lost")
          << ", and then at the next one's record " << second;
    }
  }
}

// Guests of each policy but never, and of groups that are kept apart.
Scenario mixed() {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown},
                       {"g2", GuestPolicy::kQuick},
                       {"g7", GuestPolicy::kShutdown},
                       {"g8", GuestPolicy::kQuick}};
  scenario.apart = {{"g1", "g2", "g3"}, {"g5", "g6"}};
  return scenario;
}

Scenario with_failures(Scenario scenario) {
  scenario.plan = "failures = 2\n" + scenario.plan;
  return scenario;
}

TEST(KillSweep, TheEndIsTheSameAfterAKillAtAnyRecord) { sweep({}); }

TEST(KillSweep, AlsoWhenAPatchIsRolledBack) {
  Scenario scenario;
  scenario.plan = "failures = 1\n" + scenario.plan;
  scenario.faults.slow_after_patch = "h2";
  sweep(scenario);
}

TEST(KillSweep, AlsoWhenAHostDoesNotComeBack) {
  Scenario scenario;
  scenario.plan = "failures = 1\nparallel = 2\n" + scenario.plan;
  scenario.faults.never_returns = "h3";
  sweep(scenario);
}

TEST(KillSweep, AlsoWhenNobodyKnowsWhereAGuestIs) {
  Scenario scenario = with_a_lost_guest();
  scenario.plan = "failures = 2\n" + scenario.plan;
  sweep(scenario);
}

TEST(KillSweep, AlsoWhenNobodyStartsAnotherForHours) {
  Scenario scenario;
  scenario.plan = "failures = 1\n" + scenario.plan;
  scenario.faults.slow_after_patch = "h2";
  scenario.away_ms = 2 * kHourMs;
  sweep(scenario);
}

TEST(KillSweep, AlsoOfARollingRefill) { sweep(rolling()); }

TEST(KillSweep, AlsoWhenARollingRefillIsRolledBack) {
  Scenario scenario = rolling();
  scenario.plan = "failures = 1\nparallel = 2\n" + scenario.plan;
  scenario.faults.slow_after_patch = "h2";
  sweep(scenario);
}

TEST(KillSweep, AlsoWithGroupsAndGuestsOfEachPolicy) { sweep(mixed()); }

TEST(KillSweep, AlsoWithAGuestThatIsNeverMoved) {
  Scenario scenario = with_failures(mixed());
  // It gets its policy when the run was admitted.
  scenario.by_hand = [](const patch::Run&, Cluster& cluster) {
    cluster.guests.at("g4").policy = GuestPolicy::kNever;
  };
  sweep(scenario);
}

TEST(KillSweep, AlsoWhenGuestsThatWereShutDownHaveNoHost) {
  Scenario scenario = with_failures(mixed());
  scenario.plan = "parallel = 2\n" + scenario.plan;
  scenario.faults.never_returns = "h1";
  sweep(scenario);
}

TEST(KillSweep, AlsoWhenNobodyHeardThatAGuestWasStopped) {
  Scenario scenario = with_failures({});
  // None moves: which of h1's guests have left it when it falls silent depends on the moment.
  scenario.plan = "shut_down_guests = true\n" + scenario.plan;
  scenario.faults.unheard_stop_of = "g1";
  sweep(scenario);
}

TEST(KillSweep, AlsoWhenTheNextControllerDiesToo) {
  sweep_twice(mixed());
  Scenario scenario = with_failures({});
  scenario.faults.slow_after_patch = "h2";
  sweep_twice(scenario);
}

TEST(TimeLimits, ALongPauseChangesNothing) {
  for (Scenario scenario : {Scenario{}, rolling()}) {
    scenario.plan = "failures = 1\n" + scenario.plan;
    scenario.faults.bad_version_on = "h2";
    const End whole = run_to_end(scenario);
    Sample sample(6, scenario);
    for (std::size_t records = 2; records < whole.records; ++records) {
      if (!sample.take()) continue;
      scenario.pause_after = records;
      const End end = run_to_end(scenario);
      ASSERT_EQ(end.text, whole.text) << "paused after record " << records;
    }
  }
}

struct Reached {
  std::set<RunState> runs;
  std::set<HostState> hosts;
};

// All but the lost one, of which nobody knows; an agent may be silent on a host that is well.
void expect_all_running(const End& end, const std::string& lost) {
  EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text;
  for (const auto& [name, guest] : end.cluster.guests) {
    if (guest.host.empty()) {
      EXPECT_EQ(name, lost) << end.text;
      continue;
    }
    EXPECT_TRUE(end.cluster.hosts.at(guest.host).up || end.cluster.reboots.count(guest.host) == 0)
        << name << " is on " << guest.host << ", which did not come back\n"
        << end.text;
  }
}

void expect_aborted_well(const End& end, const std::string& lost) {
  expect_all_running(end, lost);
  for (const auto& [name, host] : end.cluster.hosts) EXPECT_EQ(host.cordoned_by, "") << name;
  EXPECT_NE(end.text.find("run aborted"), std::string::npos) << end.text;
}

// By a controller that has just been started again, so that no state is passed by between two
// records of one decision; and by the one that has begun the run.
void abort_after_every_record(Scenario scenario, Reached& reached, const std::string& lost = "") {
  const End whole = run_to_end(scenario);
  Sample undisturbed(4, scenario);
  for (std::size_t records = 1; records < whole.records; ++records) {
    SCOPED_TRACE(fmt::format("aborted after record {}", records));
    scenario.abort_after = records;
    const End end = run_to_end(scenario, {{records, true}});
    reached.runs.insert(end.aborted_run_in.begin(), end.aborted_run_in.end());
    reached.hosts.insert(end.aborted_hosts_in.begin(), end.aborted_hosts_in.end());
    expect_aborted_well(end, lost);
    if (undisturbed.take()) {
      // It may have ended before anybody could say so: several records are of one decision.
      const End same = run_to_end(scenario);
      if (!same.aborted_run_in.empty()) expect_aborted_well(same, lost);
    }
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

TEST(Abort, LeavesEveryGuestRunningAndNoCordonInEveryState) {
  Reached reached;
  abort_after_every_record({}, reached);
  abort_after_every_record(rolling(), reached);
  abort_after_every_record(mixed(), reached);
  Scenario lost = with_failures(with_a_lost_guest());
  abort_after_every_record(lost, reached, "g1");
  Scenario bad = with_failures(mixed());
  bad.faults.slow_after_patch = "h2";
  bad.faults.never_returns = "h3";
  abort_after_every_record(bad, reached);
  Scenario stays;  // its run pauses
  stays.faults.migration_failures = {{"g1", 100}};
  abort_after_every_record(stays, reached);
  Scenario drain;
  drain.plan = "name = 'drain'\nhosts = ['h1', 'h2']\ndrain_only = true\n";
  abort_after_every_record(drain, reached);

  for (int state = 1; state < static_cast<int>(HostState::kCount); ++state) {
    EXPECT_TRUE(reached.hosts.count(static_cast<HostState>(state)))
        << "no host was " << to_string(static_cast<HostState>(state));
  }
  for (int state = 1; state < static_cast<int>(RunState::kCount); ++state) {
    const auto run = static_cast<RunState>(state);
    EXPECT_EQ(reached.runs.count(run) != 0, next(run, RunEvent::kAbort).has_value())
        << to_string(run);
  }
}

}  // namespace
}  // namespace sluice::patch::sim

// --whole: every death, at each record, written and lost, and every pair of deaths, instead of a
// sample. --seed=N: that sample.
int main(int argc, char** argv) {
  using sluice::patch::sim::choice;
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::string prefix = "--seed=";
    if (word == "--whole") {
      choice.whole = true;
    } else if (word.starts_with(prefix)) {
      std::from_chars(word.data() + prefix.size(), word.data() + word.size(), choice.seed);
    } else {
      fmt::print(stderr, "kill_sweep_test: {} is unknown; there are --whole and --seed=N\n", word);
      return 2;
    }
  }
  fmt::print("kill_sweep_test {}\n",
             choice.whole ? std::string("--whole") : fmt::format("--seed={}", choice.seed));
  return RUN_ALL_TESTS();
}
