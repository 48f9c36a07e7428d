// Runs of random clusters with random faults, deaths of controllers, and operators who do what they
// like: what always holds.
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <random>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

struct Options {
  std::uint64_t seed = std::random_device()();
  std::uint64_t runs = 300;
} options;

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  // From 0 to `below`, exclusive.
  std::size_t number(std::size_t below) { return random_() % below; }
  bool chance(std::size_t percent) { return number(100) < percent; }
  template <typename Map>
  std::string key(const Map& map) {
    return std::next(map.begin(), static_cast<std::ptrdiff_t>(number(map.size())))->first;
  }

 private:
  std::mt19937_64 random_;
};

// What people do meanwhile, and what follows of it.
struct Hands {
  explicit Hands(std::uint64_t seed) : dice(seed) {}
  Dice dice;
  // Agents that say nothing for a moment, and until when one did; none: all answer.
  std::optional<Dice> silences{};
  TimeMs silent_until_ms = 0;
  std::set<std::string> failed{};  // hosts that were seen to
  int deeds = 0;
  std::set<std::string> guests;  // that must be somewhere
  std::vector<std::string> broken;
};

Cluster random_cluster(Dice& dice, Faults faults) {
  Cluster cluster(std::move(faults));
  const std::size_t hosts = 3 + dice.number(4);
  for (std::size_t h = 1; h <= hosts; ++h)
    cluster.hosts[fmt::format("h{}", h)] = {.memory_gib = 10 + 2 * dice.number(8)};
  std::size_t next_guest = 1;
  for (const auto& [host, about] : cluster.hosts) {
    for (std::size_t count = dice.number(4); count > 0; --count) {
      SimGuest guest{host, 1 + dice.number(3)};
      if (dice.chance(20)) guest.policy = GuestPolicy::kQuick;
      if (dice.chance(20)) guest.policy = GuestPolicy::kShutdown;
      cluster.guests[fmt::format("g{}", next_guest++)] = guest;
    }
  }
  if (!dice.chance(50) || cluster.guests.empty()) return cluster;
  cluster.groups = {{"apart", planner::Rule::kApartHosts, 1, 0}};
  std::set<std::string> taken;
  for (const auto& [name, guest] : cluster.guests) {
    if (dice.chance(40) && taken.insert(guest.host).second) cluster.groups_of[name] = {0};
  }
  return cluster;
}

// Two levels; some guests start with their host's, some need the older one.
void mix_cpus(Dice& dice, Cluster& cluster) {
  for (auto& [name, host] : cluster.hosts) host.cpu_level = dice.chance(50) ? 4 : 3;
  for (auto& [name, guest] : cluster.guests) {
    guest.cpu_level_from_host = dice.chance(40);
    if (guest.cpu_level_from_host) guest.cpu_level = cluster.hosts.at(guest.host).cpu_level;
    if (!guest.cpu_level_from_host && dice.chance(50)) guest.cpu_level = 3;
  }
}

Faults random_faults(Dice& dice) {
  Faults faults;
  const auto host = [&] { return fmt::format("h{}", 1 + dice.number(4)); };
  for (std::string* at :
       {&faults.bad_version_on, &faults.never_returns, &faults.bad_canary_on,
        &faults.slow_after_patch, &faults.patch_hook_fails_on, &faults.rollback_fails_on}) {
    if (dice.chance(15)) *at = host();
  }
  for (auto* failures :
       {&faults.migration_failures, &faults.start_failures, &faults.stop_failures}) {
    for (int g = 1; g <= 12; ++g) {
      if (dice.chance(8))
        (*failures)[fmt::format("g{}", g)] = static_cast<std::uint32_t>(1 + dice.number(6));
    }
  }
  if (dice.chance(20)) faults.stop_failures["canary-r1-" + host()] = dice.chance(50) ? 3 : 100;
  return faults;
}

std::string random_plan(Dice& dice, const Cluster& cluster) {
  std::vector<std::string> hosts;
  for (const auto& [name, host] : cluster.hosts) {
    if (dice.chance(85)) hosts.push_back('"' + name + '"');
  }
  if (hosts.empty()) hosts.emplace_back("\"h1\"");
  std::string plan = kPlan;
  const auto at = plan.find("hosts = ");
  plan.replace(at, plan.find('\n', at) - at, fmt::format("hosts = [{}]", fmt::join(hosts, ", ")));
  if (dice.chance(30))
    plan.erase(plan.find("[canary]"), plan.find("[soak]") - plan.find("[canary]"));
  if (dice.chance(20)) plan.erase(plan.find("rollback ="), 22);
  return fmt::format("parallel = {}\nfailures = {}\n", dice.number(3), dice.number(3)) + plan +
         fmt::format("[refill]\nplacement = \"{}\"\n", dice.chance(50) ? "home" : "rolling");
}

void start_or_stop_something(Hands& hands, Cluster& cluster) {
  Dice& dice = hands.dice;
  if (dice.chance(50)) {
    const std::string host = dice.key(cluster.hosts);
    if (!cluster.hosts.at(host).up || cluster.free_gib(host) < 1) return;
    const std::string name = fmt::format("g{}", 100 + ++hands.deeds);
    cluster.guests[name] = {host, 1, dice.chance(25) ? GuestPolicy::kNever : GuestPolicy::kLive};
    hands.guests.insert(name);
    cluster.started_by_hand.insert(name);
  } else if (!cluster.guests.empty()) {
    const std::string name = dice.key(cluster.guests);
    if (cluster.is_moving(name) || name.starts_with("canary")) return;
    ++hands.deeds;
    cluster.guests.erase(name);
    hands.guests.erase(name);
  }
}

void note(Hands& hands, bool holds, const std::string& what) {
  if (!holds) hands.broken.push_back(what);
}

void look(Hands& hands, const Run& run, const Cluster& cluster) {
  for (const auto& name : hands.guests) {
    note(hands, cluster.guests.count(name) + cluster.stopped.count(name) == 1,
         name + " is lost or there twice");
  }
  for (const auto& [hook, times] : cluster.hook_runs) note(hands, times == 1, hook + " ran again");
  for (const auto& violation : cluster.violations) hands.broken.push_back(violation);
  for (const auto& name : run.plan().hosts) {
    const std::string& failure = run.host(name).failure;
    if (failure.empty() || !hands.failed.insert(name).second) continue;
    const bool of_room = failure.find("fits no host") != std::string::npos ||
                         failure.find("no other host has room") != std::string::npos;
    note(hands, !of_room || cluster.now_ms() >= hands.silent_until_ms + 30'000,
         name + " failed for want of room while an agent was silent for a moment: " + failure);
  }
  if (!is_final(run.state())) return;
  note(hands, !run.reason().empty(), "it has ended without a reason");
  for (const auto& name : run.plan().hosts) {
    const HostRun& host = run.host(name);
    note(hands, is_final(host.state) && !host.cordoned_here, name + " is cordoned at the end");
    note(hands, host.quarantined == (host.state == HostState::kQuarantined && !host.mended),
         name + " is in quarantine or not");
  }
}

// Who is down, or a canary that still runs, is told.
void look_at_end(Hands& hands, const End& end) {
  for (const auto& [name, guest] : end.cluster.stopped) {
    if (hands.guests.count(name) != 0 && !name.starts_with("canary")) {
      note(hands, end.left_over.find(name + " is down") != std::string::npos,
           name + " is forgotten");
    }
  }
  for (const auto& [name, guest] : end.cluster.guests) {
    if (name.starts_with("canary")) {
      note(hands, end.left_over.find(name) != std::string::npos, name + " is left behind");
    }
  }
}

void fall_silent(Hands& hands, Cluster& cluster) {
  if (!hands.silences || !hands.silences->chance(2)) return;
  const std::string host = hands.silences->key(cluster.hosts);
  const SimHost& about = cluster.hosts.at(host);
  if (!about.up || about.deaf_until_ms > cluster.now_ms()) return;
  const auto lasts_ms = static_cast<TimeMs>(1'000 * (2 + hands.silences->number(24)));
  cluster.deafen(host, lasts_ms);
  hands.silent_until_ms = std::max(hands.silent_until_ms, cluster.now_ms() + lasts_ms);
}

bool say_something(Hands& hands, Driver& driver, const Cluster& cluster) {
  const RunState state = driver.run().state();
  Dice& dice = hands.dice;
  const bool rests = state == RunState::kPaused && driver.run().at_rest(cluster.facts());
  if (rests && hands.deeds < 8 && dice.chance(70)) {
    ++hands.deeds;
    for (const auto& name : driver.run().plan().hosts) {
      const bool quarantined = driver.run().host(name).quarantined;
      if (!quarantined || !dice.chance(50)) continue;
      // Its controller may die of it.
      if (!driver.mended(name, "", cluster.now_ms())) return true;
    }
    const auto event = dice.chance(70) ? RunEvent::kResume : RunEvent::kAbort;
    return driver.command(event, "told to", "", cluster.now_ms()).has_value();
  }
  if (!dice.chance(1) || hands.deeds >= 8) return false;
  const auto event = dice.chance(30) ? RunEvent::kAbort : RunEvent::kPause;
  if (!next(state, event)) return false;
  ++hands.deeds;
  return driver.command(event, "told to", "", cluster.now_ms()).has_value();
}

void run_of(std::uint64_t seed, bool with_silences, bool with_mixed_cpus) {
  Dice dice(seed);
  Scenario scenario;
  scenario.cluster = random_cluster(dice, random_faults(dice));
  if (Dice cpus(seed + 3); with_mixed_cpus) mix_cpus(cpus, *scenario.cluster);
  scenario.plan = random_plan(dice, *scenario.cluster);
  const auto hands = std::make_shared<Hands>(seed + 1);
  for (const auto& [name, guest] : scenario.cluster->guests) hands->guests.insert(name);
  if (with_silences) hands->silences.emplace(seed + 2);
  scenario.by_hand = [hands](const patch::Run& run, Cluster& cluster) {
    // Before anything happens that the run cannot have known when it decided.
    look(*hands, run, cluster);
    if (hands->dice.chance(2) && hands->deeds < 6) start_or_stop_something(*hands, cluster);
    fall_silent(*hands, cluster);
  };
  scenario.commands = [hands](Driver& driver, const Cluster& cluster) {
    return say_something(*hands, driver, cluster);
  };
  std::vector<Death> deaths;
  for (std::size_t count = dice.number(4); count > 0; --count)
    deaths.push_back({1 + dice.number(60), dice.chance(50)});
  const End end = run_to_end(scenario, deaths);
  look_at_end(*hands, end);
  if (hands->broken.empty() && !testing::Test::HasFailure()) return;
  FAIL() << "--seed=" << seed
         << " --runs=1: " << (hands->broken.empty() ? "" : hands->broken.front()) << "\n"
         << scenario.plan << "\n"
         << end.text << end.left_over;
}

TEST(RandomRuns, KeepWhatTheyPromise) {
  for (std::uint64_t run = 0; run < options.runs && !HasFailure(); ++run)
    run_of(options.seed + run, (options.seed + run) % 2 == 0, (options.seed + run) % 3 == 0);
}

// A guest that went to and fro between two hosts that each took it for its own, and one that was
// started where another of its group had come meanwhile.
TEST(RandomRuns, OfSeedsThatFoundSomething) {
  for (const std::uint64_t seed : {287U, 1025U, 2140U}) {
    run_of(seed, /*with_silences=*/false, /*with_mixed_cpus=*/false);
  }
}

}  // namespace
}  // namespace sluice::patch::sim

// --seed=N and --runs=N: runs of seeds N, N + 1, …
int main(int argc, char** argv) {
  using sluice::patch::sim::options;
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto equals = word.find('=');
    const std::string key = word.substr(0, equals);
    if ((key != "--seed" && key != "--runs") || equals == std::string::npos) {
      fmt::print(stderr, "random_run_test: {} is unknown; there are --seed=N and --runs=N\n", word);
      return 2;
    }
    std::from_chars(word.data() + equals + 1, word.data() + word.size(),
                    key == "--seed" ? options.seed : options.runs);
  }
  fmt::print("random_run_test --seed={} --runs={}\n", options.seed, options.runs);
  return RUN_ALL_TESTS();
}
