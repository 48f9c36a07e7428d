// Rehearses a patch run of a whole cluster in virtual time: the real state machine, journal and
// planner; simulated agents whose migrations take as long as the planner predicts.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fstream>
#include <numeric>
#include <sstream>

#include "control/model/inventory.h"
#include "control/planner/duration.h"
#include "control/planner/patch_plan.h"
#include "control/store/sqlite_journal.h"
#include "tests/patch/simulated_cluster.h"

namespace sluice::patch::sim {
namespace {

struct Arguments {
  std::string inventory;
  std::string placement = "rolling";
  std::uint32_t parallel = 0;
  std::uint32_t patch_minutes = 10;
  std::uint32_t soak_s = 60;
  double moves_max = 2.0;  // a guest
};

std::string plan_text(const planner::Cluster& cluster, const Arguments& arguments) {
  std::vector<std::string> hosts;
  hosts.reserve(cluster.hosts.size());
  for (const auto& host : cluster.hosts) hosts.push_back('"' + host.name + '"');
  return fmt::format(R"(
name = "rehearsal"
hosts = [{}]
parallel = {}
[hooks]
patch = "patch"
rollback = "rollback"
version = "version"
[expect]
version = "2"
[refill]
placement = "{}"
[soak]
seconds = {}
)",
                     fmt::join(hosts, ", "), arguments.parallel, arguments.placement,
                     arguments.soak_s);
}

GuestPolicy policy_of(const planner::Guest& guest) {
  switch (guest.policy) {
    case planner::Policy::kQuick:
      return GuestPolicy::kQuick;
    case planner::Policy::kShutdown:
      return GuestPolicy::kShutdown;
    case planner::Policy::kNever:
      return GuestPolicy::kNever;
    case planner::Policy::kLive:
      break;
  }
  return GuestPolicy::kLive;
}

Cluster simulated(const planner::Cluster& cluster, const planner::MoveTime& move_time,
                  const Arguments& arguments) {
  std::map<std::string, const planner::Guest*> guests;
  for (const auto& guest : cluster.guests) guests[guest.name] = &guest;
  std::map<std::string, planner::HostId> hosts;
  for (planner::HostId id = 0; id < cluster.hosts.size(); ++id) hosts[cluster.hosts[id].name] = id;
  Durations durations;
  durations.hook_ms["patch"] = TimeMs{arguments.patch_minutes} * 60'000 - kRebootMs;
  durations.migration_ms = [guests, hosts, move_time, &cluster](const Intent& intent) -> TimeMs {
    std::uint64_t rate = cluster.session_bytes_per_second;
    for (const auto link : planner::path(cluster, hosts.at(intent.from), hosts.at(intent.to))) {
      const auto capacity = cluster.links[link].bytes_per_second;
      rate = rate == 0 ? capacity : std::min(rate, capacity);
    }
    return static_cast<TimeMs>(move_time(*guests.at(intent.guest), rate));
  };
  Cluster simulated({}, durations);
  for (const auto& host : cluster.hosts) {
    simulated.hosts[host.name] = {};
    simulated.hosts[host.name].memory_gib = (host.memory_bytes - host.reserve_bytes) >> 30;
  }
  for (const auto& guest : cluster.guests) {
    simulated.guests[guest.name] = {cluster.hosts[guest.host].name, guest.memory_bytes >> 30,
                                    policy_of(guest)};
  }
  return simulated;
}

class OneController final : public Actions {
 public:
  OneController(Cluster& cluster, std::uint64_t epoch) : cluster_(cluster), epoch_(epoch) {}
  void begin(const Run& run, const Intent& intent, bool again) override {
    cluster_.begin(epoch_, run, intent, again);
  }

 private:
  Cluster& cluster_;
  std::uint64_t epoch_;
};

Expected<void> run_to_end(Driver& driver, Cluster& cluster, const PlannedMover& mover) {
  std::vector<Outcome> heard;
  cluster.listen([&heard](const Outcome& outcome) { heard.push_back(outcome); });
  constexpr TimeMs kLookAroundMs = 5'000;
  constexpr TimeMs kWeekMs = TimeMs{7} * 24 * 3'600'000;
  const TimeMs limit_ms = cluster.now_ms() + kWeekMs;
  while (!is_final(driver.run().state()) && driver.run().state() != RunState::kPaused) {
    if (auto stepped = driver.step(cluster.facts(), mover); !stepped) return stepped;
    cluster.note_marks(driver.run());
    // All that happens at once is heard together, and nothing for a while is one look around.
    const TimeMs began_ms = cluster.now_ms();
    do {
      if (!cluster.advance(limit_ms)) return fail(ErrorKind::kFailed, "it never ends");
    } while (cluster.more_at_once() ||
             (heard.empty() && cluster.now_ms() < began_ms + kLookAroundMs));
    for (const auto& outcome : std::exchange(heard, {})) {
      if (auto done = driver.finish(outcome, cluster.now_ms()); !done) return done;
    }
  }
  return {};
}

std::string span(std::uint64_t ms) {
  return fmt::format("{} h {:02} min {:02} s", ms / 3'600'000, ms / 60'000 % 60, ms / 1000 % 60);
}

Expected<void> print(const Run& run, const Cluster& cluster, const planner::Cluster& view,
                     const planner::MoveTime& move_time, const Arguments& arguments) {
  std::uint64_t moves = 0;
  for (const auto& [guest, times] : cluster.migrations) moves += times;
  std::vector<planner::HostId> hosts(view.hosts.size());
  std::iota(hosts.begin(), hosts.end(), 0U);
  planner::PatchOptions options;
  options.plan.move_time = move_time;
  options.patch_ms = std::uint64_t{arguments.patch_minutes} * 60'000;
  options.hosts_at_once_max = arguments.parallel;
  const auto bound = planner::patch_bound(view, hosts, options);
  std::size_t failed = 0;
  for (const auto& name : run.plan().hosts)
    failed += run.host(name).state == HostState::kDone ? 0 : 1;
  fmt::print("{} hosts, {} guests, refill {}: the run is {}, {} hosts did not go well\n",
             view.hosts.size(), view.guests.size(), arguments.placement, to_string(run.state()),
             failed);
  fmt::print("took         {}\n",
             span(static_cast<std::uint64_t>(run.ended_ms() - run.begun_ms())));
  fmt::print("lower bound  {}: {}\n", span(bound.ms), bound.reason);
  const double moves_a_guest = static_cast<double>(moves) /
                               static_cast<double>(std::max<std::size_t>(view.guests.size(), 1));
  fmt::print("moves        {}, {:.3f} a guest\n", moves, moves_a_guest);
  for (const auto& violation : cluster.violations) fmt::print("violated: {}\n", violation);
  if (run.state() != RunState::kDone || failed != 0 || !cluster.violations.empty())
    return fail(ErrorKind::kFailed, "not every host is patched: " + run.reason());
  if (moves_a_guest > arguments.moves_max)
    return fail(ErrorKind::kFailed, "that is more moves than --moves-max allows");
  return {};
}

Expected<void> rehearse(const Arguments& arguments) {
  std::ifstream file(arguments.inventory);
  std::ostringstream text;
  text << file.rdbuf();
  const auto view = model::parse_inventory(text.str(), arguments.inventory);
  if (!view) return tl::unexpected<Error>(view.error());
  const planner::DurationModel durations;
  const planner::MoveTime move_time = [&](const planner::Guest& guest, std::uint64_t rate) {
    return durations.estimate(guest, rate).ms;
  };
  Cluster cluster = simulated(*view, move_time, arguments);
  const PlannedMover mover(*view, move_time);

  const std::string path =
      std::filesystem::temp_directory_path() / fmt::format("sluice-rehearsal-{}.db", getpid());
  Expected<void> end;
  {
    const auto journal = store::SqliteJournal::open(path);
    if (!journal) return tl::unexpected<Error>(journal.error());
    const auto epoch = (*journal)->take_lease("rehearsal", cluster.now_ms(), 1000);
    if (!epoch) return tl::unexpected<Error>(epoch.error());
    OneController actions(cluster, *epoch);
    auto driver = Driver::create(**journal, *epoch, "r1", Created{plan_text(*view, arguments)},
                                 actions, cluster.now_ms());
    if (!driver) return tl::unexpected<Error>(driver.error());
    end = run_to_end(*driver, cluster, mover);
    if (end) end = print(driver->run(), cluster, *view, move_time, arguments);
  }
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
  return end;
}

}  // namespace
}  // namespace sluice::patch::sim

int main(int argc, char** argv) try {
  sluice::patch::sim::Arguments arguments;
  CLI::App app{"Rehearses patching the cluster of an inventory file in virtual time"};
  app.add_option("--inventory", arguments.inventory, "As for sluice patch plan --inventory")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--placement", arguments.placement, "home or rolling")->capture_default_str();
  app.add_option("--parallel", arguments.parallel, "As in a plan file")->capture_default_str();
  app.add_option("--patch-minutes", arguments.patch_minutes,
                 "From empty to back, a minute of reboot included")
      ->check(CLI::Range(2, 10'000))
      ->capture_default_str();
  app.add_option("--soak-seconds", arguments.soak_s, "As in a plan file")->capture_default_str();
  app.add_option("--moves-max", arguments.moves_max, "a guest; exit status 1 above it")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto rehearsed = sluice::patch::sim::rehearse(arguments);
  if (rehearsed) return 0;
  fmt::print(stderr, "rehearse: {}\n", rehearsed.error().message);
  return 1;
} catch (const std::exception& failure) {
  fmt::print(stderr, "rehearse: {}\n", failure.what());
  return 1;
}
