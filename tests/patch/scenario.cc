#include "tests/patch/scenario.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "control/store/sqlite_journal.h"

namespace sluice::patch::sim {
namespace {

// Accepts records until the process is gone.
class MortalJournal final : public store::Journal {
 public:
  MortalJournal(store::Journal& inner, Death death) : inner_(inner), death_(death) {}
  Expected<Identity> identity() override { return inner_.identity(); }
  Expected<std::string> keep(const std::string& name, const std::string& value) override {
    return inner_.keep(name, value);
  }
  Expected<std::string> kept(const std::string& name) override { return inner_.kept(name); }
  Expected<std::uint64_t> take_lease(const std::string& holder, TimeMs now_ms,
                                     TimeMs ttl_ms) override {
    return inner_.take_lease(holder, now_ms, ttl_ms);
  }
  Expected<void> renew_lease(std::uint64_t epoch, TimeMs now_ms, TimeMs ttl_ms) override {
    return inner_.renew_lease(epoch, now_ms, ttl_ms);
  }
  void drop_lease(std::uint64_t epoch) override { inner_.drop_lease(epoch); }
  Expected<void> append(std::uint64_t epoch, const std::string& run,
                        const std::string& body) override {
    if (dead_) return fail(ErrorKind::kFailed, "killed");
    const bool dies = --death_.record == 0;
    dead_ = dies;
    if (dies && !death_.written) return fail(ErrorKind::kFailed, "killed");
    if (auto appended = inner_.append(epoch, run, body); !appended) return appended;
    if (dies) return fail(ErrorKind::kFailed, "killed");
    return {};
  }
  Expected<std::vector<store::Entry>> read(const std::string& run) override {
    return inner_.read(run);
  }
  Expected<std::vector<std::string>> runs() override { return inner_.runs(); }

 private:
  store::Journal& inner_;
  Death death_;
  bool dead_ = false;
};

// Nobody is sent to a host that a person must look at first.
void expect_sound(const Run& run, const Intent& intent) {
  const std::string& to = intent.to.empty() ? intent.host : intent.to;
  const auto& hosts = run.plan().hosts;
  const bool brings = intent.kind == ActionKind::kMigrate || intent.kind == ActionKind::kStartGuest;
  if (!brings || std::find(hosts.begin(), hosts.end(), to) == hosts.end()) return;
  const HostRun& host = run.host(to);
  EXPECT_TRUE(host.state != HostState::kQuarantined || host.mended)
      << intent.purpose << " to " << to << ", which is in quarantine";
}

// No guest moves but off a host that must be empty, or home to a patched one.
void expect_needed(const Run& run, const Intent& intent) {
  if (intent.kind != ActionKind::kMigrate || intent.guest == run.canary_name(intent.host)) return;
  const bool rolling = run.plan().placement == Placement::kRolling;
  const auto& hosts = run.plan().hosts;
  const bool takes_part = std::find(hosts.begin(), hosts.end(), intent.from) != hosts.end();
  const HostState from = takes_part ? run.host(intent.from).state : HostState::kDone;
  const bool leaves = from == HostState::kDraining || from == HostState::kRedrain;
  const bool returns = !leaves && !rolling && run.host(intent.to).state == HostState::kRefill;
  EXPECT_TRUE(leaves || returns) << intent.guest << " from " << intent.from << ", which is "
                                 << to_string(from);
}

// No more guests than its step's share are on a host that is to be proven, and no more hosts than
// the plan allows are to be proven at once.
void expect_contained(const Run& run, const Cluster& cluster) {
  const bool rolling = run.plan().placement == Placement::kRolling;
  std::uint32_t unproven = 0;
  for (const auto& name : run.plan().hosts) {
    const HostRun& host = run.host(name);
    const auto guests = static_cast<std::size_t>(
        std::count_if(cluster.guests.begin(), cluster.guests.end(), [&](const auto& guest) {
          return guest.second.host == name && !guest.first.starts_with("canary") &&
                 cluster.started_by_hand.count(guest.first) == 0;
        }));
    switch (host.state) {
      case HostState::kPatching:
      case HostState::kRebooting:
      case HostState::kVerifying:
      case HostState::kCanary:
        ++unproven;
        EXPECT_EQ(guests, 0U) << name << " is " << to_string(host.state);
        break;
      case HostState::kRefill: {
        ++unproven;
        const auto& percent = run.plan().refill_percent;
        if (host.refill_step + 1 < percent.size()) {
          std::size_t had = host.baseline->guests.size();
          for (const auto& other : run.plan().hosts) {
            const auto& baseline = run.host(other).baseline;
            if (rolling && host.baseline->guests.empty() && baseline)
              had = std::max(had, baseline->guests.size());
          }
          EXPECT_LE(guests, (had * percent[host.refill_step] + 99) / 100)
              << name << " in step " << host.refill_step;
        }
        break;
      }
      case HostState::kSoak:
        ++unproven;
        break;
      default:
        break;
    }
  }
  if (run.plan().parallel != 0) {
    EXPECT_LE(unproven, run.plan().parallel);
  }
}

// The monitoring that was silenced for a host is told how it ended, whatever happened.
void expect_unsilenced(const Run& run, const Cluster& cluster) {
  if (!run.plan().unsilence) return;
  for (const auto& name : run.plan().hosts) {
    const HostState state = run.host(name).state;
    if (!is_final(state) || cluster.hook_runs.count("silence@" + name) == 0) continue;
    EXPECT_EQ(cluster.hook_runs.count("unsilence@" + name), 1U)
        << name << " is " << to_string(state) << " and its monitoring still silent";
  }
}

std::size_t records_of(store::Journal& journal) {
  const auto entries = journal.read("r1");
  return entries ? entries->size() : 0;
}

// One controller's life: until the run ends (true) or it is killed.
bool live(store::SqliteJournal& durable, Cluster& cluster, const Scenario& scenario, Death death,
          End* end) {
  MortalJournal journal(durable, death);
  const auto epoch = journal.take_lease("controller", cluster.now_ms(), kLeaseMs);
  EXPECT_TRUE(epoch);
  ClusterActions actions(cluster, *epoch);
  std::vector<Outcome> heard;
  cluster.listen([&heard](const Outcome& outcome) { heard.push_back(outcome); });

  const bool fresh = records_of(durable) == 0;
  auto driver = fresh ? Driver::create(journal, *epoch, "r1", Created{scenario.plan}, actions,
                                       cluster.now_ms())
                      : Driver::resume(journal, *epoch, "r1", actions);
  if (!driver) return false;
  const TimeMs limit_ms = cluster.now_ms() + 4 * kHourMs;
  std::optional<TimeMs> resume_ms;
  while (true) {
    if (scenario.abort_after && records_of(durable) >= *scenario.abort_after &&
        next(driver->run().state(), RunEvent::kAbort)) {
      end->aborted_run_in.insert(driver->run().state());
      for (const auto& host : driver->run().plan().hosts)
        end->aborted_hosts_in.insert(driver->run().host(host).state);
      if (!driver->command(RunEvent::kAbort, "told to", "", cluster.now_ms())) return false;
    }
    Facts facts = cluster.facts();
    if (scenario.known) scenario.known(facts);
    if (!driver->step(facts, make_mover(cluster))) return false;
    cluster.note_marks(driver->run());
    if (scenario.by_hand) scenario.by_hand(driver->run(), cluster);
    if (scenario.commands && scenario.commands(*driver, cluster)) continue;
    expect_contained(driver->run(), cluster);
    const RunState after = driver->run().state();
    if (scenario.pause_after && !resume_ms && next(after, RunEvent::kPause) &&
        records_of(durable) >= *scenario.pause_after) {
      resume_ms = cluster.now_ms() + kPauseMs;
      if (!driver->command(RunEvent::kPause, "told to", "", cluster.now_ms())) return false;
      continue;
    }
    const bool waits = resume_ms && *resume_ms != 0;
    if (waits && cluster.now_ms() >= *resume_ms) {
      resume_ms = 0;
      if (after == RunState::kPaused &&
          !driver->command(RunEvent::kResume, "told to", "", cluster.now_ms()))
        return false;
      continue;
    }
    const bool idle =
        after == RunState::kPaused && driver->run().at_rest(cluster.facts()) && !waits;
    if (is_final(after) || idle) {
      expect_unsilenced(driver->run(), cluster);
      end->text = describe(driver->run(), cluster);
      for (const auto& host : driver->run().plan().hosts)
        end->left_over += driver->run().left_over(host, cluster.facts());
      return true;
    }
    if (!cluster.advance(limit_ms)) {
      ADD_FAILURE() << "nothing happens any more:\n" << describe(driver->run(), cluster);
      return true;
    }
    for (const auto& outcome : std::exchange(heard, {})) {
      // Two controllers may have asked for the same thing; only the first answer counts.
      if (driver->run().task(outcome.id).outcome != nullptr) continue;
      if (!driver->finish(outcome, cluster.now_ms())) return false;
    }
  }
}

}  // namespace

// Which of the others took a guest that cannot go home may depend on the moment.
std::string describe(const Run& run, const Cluster& cluster) {
  std::string text = fmt::format("run {}\n", to_string(run.state()));
  if (is_final(run.state())) text += "because " + run.reason() + "\n";
  for (const auto& name : run.plan().hosts) {
    const HostRun& host = run.host(name);
    const SimHost& real = cluster.hosts.at(name);
    text += fmt::format("{} {} version {} up {} cordoned {} quarantined {} {}\n", name,
                        to_string(host.state), real.version, real.up, host.cordoned_here,
                        host.quarantined, host.failure);
  }
  std::uint32_t moves = 0;
  for (const auto& [name, guest] : cluster.guests) {
    if (name.starts_with("canary")) {
      text += name + "\n";
      continue;
    }
    // Of a rolling refill, who goes where may depend on the moment too; see expect_needed().
    if (run.plan().placement == Placement::kRolling) {
      text += name + "\n";
      moves += cluster.migrations.count(name) != 0 ? cluster.migrations.at(name) : 0;
      continue;
    }
    text += fmt::format("{} {} moved {}\n", name, guest.host == home_of(name) ? "home" : "away",
                        cluster.migrations.count(name) != 0 ? cluster.migrations.at(name) : 0);
  }
  if (run.plan().placement == Placement::kRolling) text += fmt::format("{} moves\n", moves);
  for (const auto& [hook, times] : cluster.hook_runs) text += fmt::format("{} x{}\n", hook, times);
  for (const auto& [host, times] : cluster.reboots)
    text += fmt::format("reboot {} x{}\n", host, times);
  return text;
}

void ClusterActions::begin(const Run& run, const Intent& intent, bool again) {
  if (!again) {
    expect_needed(run, intent);
    expect_sound(run, intent);
  }
  refused += cluster_.begin(epoch_, run, intent, again) ? 0 : 1;
}

// In memory where that is possible: thousands of records are synchronised here.
std::string journal_path() {
  const std::filesystem::path memory = "/dev/shm";
  const auto directory =
      std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
  return directory / fmt::format("sluice-journal-{}.db", getpid());
}

Scenario rolling() {
  Scenario scenario;
  scenario.plan += "[refill]\nplacement = \"rolling\"\n";
  return scenario;
}

std::string home_of(const std::string& guest) {
  return fmt::format("h{}", (std::stoi(guest.substr(1)) - 1) % 4 + 1);
}

Cluster make_cluster(const Scenario& scenario) {
  if (scenario.cluster) return *scenario.cluster;
  Cluster cluster(scenario.faults, scenario.durations);
  for (int h = 1; h <= 4; ++h)
    cluster.hosts[fmt::format("h{}", h)] = {.memory_gib = scenario.memory_gib};
  for (int g = 1; g <= 8; ++g) {
    const std::string name = fmt::format("g{}", g);
    cluster.guests[name] = {home_of(name), 4};
    if (const auto policy = scenario.policies.find(name); policy != scenario.policies.end())
      cluster.guests[name].policy = policy->second;
  }
  for (const auto& members : scenario.apart) {
    for (const auto& name : members)
      cluster.groups_of[name].push_back(static_cast<planner::GroupId>(cluster.groups.size()));
    cluster.groups.push_back(
        {fmt::format("apart-{}", cluster.groups.size()), planner::Rule::kApartHosts, 1, 0});
  }
  return cluster;
}

End run_to_end(const Scenario& scenario, std::vector<Death> deaths) {
  const std::string path = journal_path();
  End end{"", "", 0, {}, {}, make_cluster(scenario)};
  {
    auto durable = store::SqliteJournal::open(path);
    EXPECT_TRUE(durable) << durable.error().message;

    deaths.push_back({});
    for (const Death& death : deaths) {
      if (live(**durable, end.cluster, scenario, death, &end)) break;
      end.cluster.listen({});
      const TimeMs back_ms = end.cluster.now_ms() + scenario.away_ms;
      while (end.cluster.now_ms() < back_ms) end.cluster.advance(back_ms);
    }
    EXPECT_FALSE(end.text.empty());
    end.records = records_of(**durable);
  }
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
  EXPECT_TRUE(end.cluster.violations.empty()) << end.cluster.violations.front();
  return end;
}

void expect_hosts(const End& end, const std::vector<std::string>& lines) {
  for (const auto& line : lines)
    EXPECT_NE(end.text.find(line), std::string::npos) << line << " in\n" << end.text;
}

void fall_silent(HostFacts& host, TimeMs silent_ms) {
  host.reachable = false;
  host.silent_ms = silent_ms;
}

Scenario with_a_lost_guest() {
  Scenario scenario;
  scenario.faults.lost_on = "drain:g1";
  return scenario;
}

}  // namespace sluice::patch::sim
