#include "control/controller/controller.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>
#include <spdlog/spdlog.h>

#include "control/controller/estimate.h"
#include "control/controller/preview.h"
#include "control/controller/report.h"
#include "control/controller/run_view.h"
#include "control/controller/zone_file.h"

namespace sluice::controller {
namespace {

using patch::RunEvent;

constexpr std::int64_t kLookAroundMs = 2'000;
constexpr std::chrono::milliseconds kTick{200};
// The run's id under which operators' own marks are journaled.
constexpr const char* kClusterJournal = "";
constexpr const char* kOperator = "operator";

// Its hooks are begun once for a key as long as the directory that remembers them is the same.
Expected<void> share_state(const Config& config, store::Journal& journal) {
  const auto own = hooks::HookRunner::identify(config.state_dir);
  if (!own) return tl::unexpected<Error>(own.error());
  const auto first = journal.keep("state_dir", *own);
  if (!first) return tl::unexpected<Error>(first.error());
  if (*first == *own) return {};
  return fail(
      ErrorKind::kInvalid,
      fmt::format("state_dir {} is not the directory in which controllers of the journal {} "
                  "keep what their hooks have done (its file .id says {}, theirs {}); name "
                  "that one, or, if it is lost, let the journal begin anew by "
                  "sluice-controller --adopt-agents",
                  config.state_dir, config.journal, *own, *first));
}

}  // namespace

Expected<std::unique_ptr<Controller>> Controller::start(const Config& config,
                                                        const security::Credentials& credentials,
                                                        store::Journal& journal,
                                                        const std::stop_token& stop,
                                                        OnFatal on_fatal) {
  if (auto shared = share_state(config, journal); !shared)
    return tl::unexpected<Error>(shared.error());
  patch::TimeMs taken_ms = wall_clock_ms();
  const auto lease_ms = LeaseTimes{}.length.count();
  auto epoch = journal.take_lease(config.name, taken_ms, lease_ms);
  if (!epoch && epoch.error().kind == ErrorKind::kBusy)
    spdlog::info("standing by: {}", epoch.error().message);
  while (!epoch && epoch.error().kind == ErrorKind::kBusy) {
    if (stop.stop_requested()) return fail(ErrorKind::kFailed, "ended while standing by");
    std::this_thread::sleep_for(kTick);
    taken_ms = wall_clock_ms();
    epoch = journal.take_lease(config.name, taken_ms, lease_ms);
  }
  if (!epoch) return tl::unexpected<Error>(epoch.error());
  // Not before: somebody may have given it another one while this controller stood by.
  auto identity = journal.identity();
  if (!identity) return tl::unexpected<Error>(identity.error());
  spdlog::info("controller {} leads with epoch {}", config.name, *epoch);
  std::unique_ptr<Controller> controller(
      new Controller(config, credentials, journal,
                     {std::move(identity->id), *epoch, std::move(identity->replaced)}, taken_ms,
                     std::move(on_fatal)));
  if (auto restored = controller->decide([&] { return controller->restore(); }); !restored)
    return tl::unexpected<Error>(restored.error());
  return controller;
}

Controller::Controller(const Config& config, const security::Credentials& credentials,
                       store::Journal& journal, model::ControllerIdentity self,
                       patch::TimeMs lease_taken_ms, OnFatal on_fatal)
    : config_(config),
      journal_(journal),
      self_(std::move(self)),
      on_fatal_(std::move(on_fatal)),
      inventory_(config, credentials, self_),
      executor_(
          config, credentials, self_, inventory_,
          [this](const std::string& run, const patch::Outcome& outcome) {
            post([this, run, outcome] { finish(run, outcome); });
          },
          [this](const std::string& message) { fatal(message); }),
      lease_(journal, self_.epoch, lease_taken_ms,
             [this](const std::string& message) { fatal(message); }),
      thread_([this](const std::stop_token& stop) { loop(stop); }) {}

void Controller::resign() {
  thread_.request_stop();
  thread_.join();
  lease_.stop();
  journal_.drop_lease(self_.epoch);
}

patch::TimeMs Controller::now_ms() const {
  return watching_since_ms_ + std::chrono::duration_cast<std::chrono::milliseconds>(
                                  inventory_.clock().now() - watching_since_)
                                  .count();
}

void Controller::watch_from(patch::TimeMs at_ms) {
  watching_since_ms_ = std::max(at_ms, wall_clock_ms());
  stood_still_ = inventory_.clock().stood_still();
  watching_since_ = inventory_.clock().now();
  looked_around_ms_ = watching_since_ms_;
}

void Controller::fatal(const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_) return;
    failed_ = true;
  }
  on_fatal_(message);
}

// ---- the deciding thread ----

void Controller::post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  work_.push_back(std::move(work));
  wake_.notify_one();
}

void Controller::ask_all_hosts() {
  std::vector<std::string> names;
  for (const auto& host : config_.hosts) names.push_back(host.name);
  inventory_.refresh(names);
}

void Controller::begin_anew() {
  const auto stood_still = inventory_.clock().stood_still() - stood_still_;
  spdlog::warn("this controller stood still for {} s: hosts have all their time to answer again",
               std::chrono::duration_cast<std::chrono::seconds>(stood_still).count());
  watch_from(now_ms());
  ask_all_hosts();
}

void Controller::loop(const std::stop_token& stop) {
  watch_from(0);
  while (!stop.stop_requested()) {
    std::deque<std::function<void()>> work;
    {
      std::unique_lock lock(mutex_);
      // Work waits while the lease may be somebody else's.
      wake_.wait_for(lock, stop, kTick, [&] { return !work_.empty() && lease_.held(); });
      if (failed_ || !lease_.held()) continue;
      work.swap(work_);
    }
    if (inventory_.clock().stood_still() != stood_still_) begin_anew();
    for (const auto& item : work) item();
    look_around();
    step_runs();
  }
}

// The journal may be an old copy, whose lease nobody contests.
void Controller::look_around() {
  if (now_ms() < looked_around_ms_ + kLookAroundMs) return;
  looked_around_ms_ = now_ms();
  if (auto obeyed = is_obeyed(); !obeyed) fatal(obeyed.error().message);
}

Expected<void> Controller::is_obeyed() const {
  for (const auto& [name, host] : inventory_.hosts()) {
    const std::string& journal = host.info.controller_journal();
    if (!journal.empty() && journal != self_.journal) {
      return fail(
          ErrorKind::kPermission,
          fmt::format("{} obeys the controllers of the journal {} (epoch {}), and {} is {}: "
                      "if those lead, or may yet, this one must not (a standby needs their "
                      "journal); only if they are gone for good, take their hosts over by "
                      "sluice-controller --adopt-agents, then start it again",
                      name, journal, host.info.controller_epoch(), config_.journal, self_.journal));
    }
    if (host.info.controller_epoch() <= self_.epoch) continue;
    return fail(
        ErrorKind::kPermission,
        fmt::format("{} obeys a controller of epoch {}, and this one has epoch {}: another one has "
                    "taken over, or {} is a copy from a backup, and then it takes its hosts by "
                    "sluice-controller --adopt-agents",
                    name, host.info.controller_epoch(), self_.epoch, config_.journal));
  }
  return {};
}

void Controller::step_runs() {
  const auto active = [](const auto& driver) { return !patch::is_final(driver->run().state()); };
  if (std::none_of(drivers_.begin(), drivers_.end(), active)) return;
  const Hosts hosts = inventory_.hosts();
  if (!may_decide_on(hosts, std::chrono::milliseconds(now_ms() - watching_since_ms_))) return;
  const patch::PlannedMover planned_mover = mover(hosts);
  for (const auto& driver : drivers_) {
    if (!active(driver)) continue;
    const auto stepped = driver->step(facts(hosts, driver->run().id()), planned_mover);
    if (!stepped) return fatal(stepped.error().message);
    note_marks(driver->run());
    if (!active(driver)) {
      spdlog::info("run {} is {}: {}", driver->run().id(), patch::to_string(driver->run().state()),
                   driver->run().reason());
    }
  }
}

void Controller::finish(const std::string& run, const patch::Outcome& outcome) {
  const auto found = find(run);
  if (!found) return;
  const auto task = (*found)->run().task(outcome.id);
  if (task.outcome != nullptr) return;
  if (!outcome.ok)
    spdlog::warn("{} {}: {} failed: {}", run, outcome.id, task.intent->purpose, outcome.detail);
  const auto finished = (*found)->finish(outcome, now_ms());
  if (!finished) return fatal(finished.error().message);
  learn(*task.intent, outcome, make_cluster(inventory_.hosts(), config_), durations_);
}

v1::RunStatus Controller::status_of(const patch::Run& run) const {
  const Hosts hosts = inventory_.hosts();
  const patch::Facts known = facts(hosts, run.id());
  auto status = to_status(run, known, executor_.waiting(run.id()));
  if (auto left = estimate_left(run, known, make_cluster(hosts, config_), durations_))
    *status.mutable_left() = std::move(*left);
  return status;
}

// The one place where marks, a run's or an operator's, come to something.
void Controller::apply_mark(const patch::MarkStep& step, const std::string& by) {
  Mark& mark = marks_[step.host];
  switch (step.mark) {
    case patch::Mark::kCordon:
      mark.cordoned_by = by;
      break;
    case patch::Mark::kUncordon:
      mark.cordoned_by.clear();
      if (by == kOperator) mark.quarantined = false;
      break;
    case patch::Mark::kQuarantine:
      mark.quarantined = true;
      break;
    case patch::Mark::kMended:
      mark = {};
      break;
    default:
      break;
  }
  inventory_.set_out_of_service(step.host, mark.quarantined           ? std::string("in quarantine")
                                           : mark.cordoned_by.empty() ? std::string()
                                           : mark.cordoned_by == kOperator
                                               ? std::string("cordoned by an operator")
                                               : "cordoned by run " + mark.cordoned_by);
}

// Those that the run has made since.
void Controller::note_marks(const patch::Run& run) {
  std::size_t& noted = marks_noted_[run.id()];
  for (; noted < run.marks().size(); ++noted) apply_mark(run.marks()[noted], run.id());
}

// In the order in which the marks were made, over all runs.
Expected<void> Controller::restore() {
  std::map<std::uint64_t, std::pair<std::string, patch::MarkStep>> marks;
  std::map<std::string, patch::TimeMs> newest_ms;  // run: its newest record
  const auto collect = [&](const std::string& run, const std::string& by) -> Expected<void> {
    const auto entries = journal_.read(run);
    if (!entries) return tl::unexpected<Error>(entries.error());
    for (const auto& entry : *entries) {
      const auto record = patch::decode(entry.body);
      if (!record) return tl::unexpected<Error>(record.error());
      newest_ms[run] = std::max(newest_ms[run], record->at_ms);
      if (const auto* mark = std::get_if<patch::MarkStep>(&record->body))
        marks[entry.sequence] = {by, *mark};
    }
    return {};
  };
  const auto runs = journal_.runs();
  if (!runs) return tl::unexpected<Error>(runs.error());
  for (const auto& run : *runs) {
    if (auto collected = collect(run, run); !collected) return collected;
  }
  if (auto collected = collect(kClusterJournal, kOperator); !collected) return collected;
  for (const auto& [sequence, mark] : marks) apply_mark(mark.second, mark.first);
  // Before anything is taken up again, every host has been asked once.
  ask_all_hosts();
  if (auto obeyed = is_obeyed(); !obeyed) return obeyed;
  inventory_.watch();
  patch::TimeMs began_ms = 0;
  for (const auto& run : *runs) {
    auto driver = patch::Driver::resume(journal_, self_.epoch, run, executor_);
    if (!driver) return tl::unexpected<Error>(driver.error());
    if (const auto& why = driver->run().unreadable(); !why.empty())
      spdlog::warn("run {} ({}): {}", run, patch::to_string(driver->run().state()), why);
    marks_noted_[run] = driver->run().marks().size();
    learn_again(driver->run());
    // Somebody may have set the wall clock back since.
    if (!patch::is_final(driver->run().state())) began_ms = std::max(began_ms, newest_ms[run]);
    drivers_.push_back(std::make_unique<patch::Driver>(std::move(*driver)));
  }
  watch_from(began_ms);
  return {};
}

// From the journal, as if guests had been then what they are now.
void Controller::learn_again(const patch::Run& run) {
  const planner::Cluster cluster = make_cluster(inventory_.hosts(), config_);
  for (std::uint64_t id = 1; id <= run.intents(); ++id) {
    const auto task = run.task(id);
    if (task.outcome != nullptr) learn(*task.intent, *task.outcome, cluster, durations_);
  }
}

patch::Facts Controller::facts(const Hosts& hosts, const std::string& run) const {
  patch::Facts facts;
  facts.now_ms = now_ms();
  facts.wall_ahead_ms = wall_clock_ms() - facts.now_ms;
  facts.watching_since_ms = watching_since_ms_;
  for (const auto& [name, host] : hosts) {
    auto& out = facts.hosts[name];
    out.reachable = host.reachable;
    out.silent_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(inventory_.clock().now() - host.heard)
            .count();
    out.link_bits_per_second = host.info.link_bits_per_second();
    out.boot_id = host.info.boot_id();
    out.kernel = host.info.kernel();
    out.cpu_level = host.info.cpu_level();
    out.told_out_of_service = host.told_out_of_service;
    for (const auto& guest : host.guests) {
      if (host.reachable && guest.state() == "incoming") out.incoming.insert(guest.name());
    }
    out.qemu_series = planner::parse_qemu_series(host.info.qemu_version()).value_or(0);
    if (host.info.has_waited_share()) out.waited_share = host.info.waited_share();
    out.hooks = {host.info.hooks().begin(), host.info.hooks().end()};
    if (const auto mark = marks_.find(name); mark != marks_.end()) {
      out.cordoned_by = mark->second.cordoned_by;
      out.quarantined = mark->second.quarantined;
    }
  }
  std::vector<patch::Move> moving;
  std::set<std::string> shutting_down;
  for (const auto& driver : drivers_) {
    const patch::Plan& plan = driver->run().plan();
    if (patch::is_final(driver->run().state()) || !plan.shut_down_guests) continue;
    shutting_down.insert(plan.hosts.begin(), plan.hosts.end());
  }
  for (const auto& [name, guest] : place_guests(hosts)) {
    const auto policy = config_.policies.find(name);
    if (guest.state() == "moving") moving.push_back({name, guest.host(), guest.moving_to(), ""});
    auto& out = facts.guests[name];
    out.host = guest.host();
    out.cpu_level = guest.cpu_level();
    if (policy != config_.policies.end()) out.policy = policy->second;
    if (out.policy == patch::GuestPolicy::kShutdown || shutting_down.count(out.host) != 0) {
      const auto& definitions = *hosts.at(out.host).definitions;
      if (const auto known = definitions.find(name); known != definitions.end())
        out.definition = known->second;
    }
  }
  std::vector<const patch::Run*> runs;
  for (const auto& driver : drivers_) runs.push_back(&driver->run());
  patch::note_moves(facts, run, runs, moving);
  return facts;
}

planner::Cluster Controller::cluster_of(const Hosts& hosts) const {
  std::vector<patch::DownGuest> down;
  for (const auto& driver : drivers_) {
    if (patch::is_final(driver->run().state())) continue;
    for (auto& guest : driver->run().down_guests()) down.push_back(std::move(guest));
  }
  return make_cluster(hosts, config_, down);
}

Controller::Moment Controller::now() const {
  const Hosts hosts = inventory_.hosts();
  return {facts(hosts, ""), cluster_of(hosts), durations_};
}

patch::PlannedMover Controller::mover(const Hosts& hosts) const {
  return {cluster_of(hosts), [this](const planner::Guest& guest, std::uint64_t bytes_per_second) {
            return durations_.estimate(guest, bytes_per_second).ms;
          }};
}

Expected<patch::Driver*> Controller::find(const std::string& run, Unnamed unnamed) {
  std::vector<RunName> names;
  for (const auto& driver : drivers_) {
    const patch::Run& known = driver->run();
    names.push_back({known.id(), known.plan().name, patch::is_final(known.state())});
  }
  const auto chosen = choose_run(names, run, unnamed);
  if (!chosen) return tl::unexpected<Error>(chosen.error());
  return std::find_if(drivers_.begin(), drivers_.end(),
                      [&](const auto& driver) { return driver->run().id() == *chosen; })
      ->get();
}

// Any thread.
Expected<std::pair<patch::Plan, patch::Resolution>> Controller::read_plan(
    const std::string& plan_toml, const std::string& source) const {
  auto plan = patch::parse_plan(plan_toml, source);
  if (!plan) return tl::unexpected<Error>(plan.error());
  std::map<std::string, patch::Labels> labels = config_.labels;
  for (const auto& host : config_.hosts) labels.try_emplace(host.name);
  auto waves = patch::choose_hosts(*plan, labels);
  if (!waves) return tl::unexpected<Error>(waves.error());
  patch::Resolution resolution{std::move(*waves), ""};
  if (plan->window.zone_name != patch::kUtc) {
    auto rule = read_zone_rule(plan->window.zone_name);
    if (!rule)
      return fail(rule.error().kind, fmt::format("{}: {}", plan->name, rule.error().message));
    resolution.zone_rule = std::move(*rule);
  }
  if (auto resolved = patch::resolve(*plan, resolution); !resolved)
    return tl::unexpected<Error>(resolved.error());
  return std::pair{std::move(*plan), std::move(resolution)};
}

Expected<void> Controller::refuse_busy_hosts(const patch::Plan& plan) const {
  for (const auto& driver : drivers_) {
    const patch::Run& run = driver->run();
    if (patch::is_final(run.state())) continue;
    for (const auto& host : plan.hosts) {
      const auto& hosts = run.plan().hosts;
      if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) continue;
      return fail(
          ErrorKind::kBusy,
          fmt::format("{}: {} is part of run {} ({}), which is {}; abort it or wait", plan.name,
                      host, run.id(), run.plan().name, patch::to_string(run.state())));
    }
  }
  return {};
}

Expected<Controller::Checked> Controller::check_plan(const std::string& plan_toml,
                                                     const std::string& source) {
  auto read = read_plan(plan_toml, source);
  if (!read) return tl::unexpected<Error>(read.error());
  auto& [plan, resolution] = *read;
  // A hook that was put there a moment ago is there. A silent host keeps nobody but the caller
  // waiting.
  inventory_.refresh(plan.hosts);
  auto moment = decide([this, &plan = plan]() -> Expected<Moment> {
    if (auto free = refuse_busy_hosts(plan); !free) return tl::unexpected<Error>(free.error());
    return now();
  });
  if (!moment) return tl::unexpected<Error>(moment.error());
  moment->facts.controller_hooks = hooks::HookRunner(config_.hooks_dir, config_.state_dir).names();
  const auto move_time = [&](const planner::Guest& guest, std::uint64_t bytes_per_second) {
    return moment->durations.estimate(guest, bytes_per_second).ms;
  };
  if (auto admitted =
          patch::admit(plan, moment->facts, patch::PlannedMover(moment->cluster, move_time));
      !admitted)
    return tl::unexpected<Error>(admitted.error());
  auto preview = make_preview(plan, moment->cluster, moment->facts, moment->durations);
  if (!preview) return tl::unexpected<Error>(preview.error());
  return Checked{std::move(plan), std::move(resolution), std::move(*preview)};
}

// ---- for the services ----

v1::ClusterInfo Controller::cluster() {
  return decide([this] {
    v1::ClusterInfo info;
    info.set_controller(config_.name);
    info.set_epoch(self_.epoch);
    const Hosts hosts = inventory_.hosts();
    const auto placed = place_guests(hosts);
    for (const auto& [name, host] : hosts) {
      auto& out = *info.add_hosts();
      out.set_name(name);
      out.set_reachable(host.reachable);
      out.set_boot_id(host.info.boot_id());
      out.set_kernel(host.info.kernel());
      out.set_memory_bytes(host.info.memory_bytes());
      out.set_memory_used_bytes(host.info.memory_used_bytes());
      out.set_link_bits_per_second(host.info.link_bits_per_second());
      out.set_cpu_level(host.info.cpu_level());
      out.set_package_version(host.info.package_version());
      out.set_qemu_version(host.info.qemu_version());
      for (const auto& hook : host.info.hooks()) out.add_hooks(hook);
      for (const auto& [guest, about] : placed) {
        if (about.host() == name) out.add_guests(guest);
      }
      if (const auto labels = config_.labels.find(name); labels != config_.labels.end())
        out.mutable_labels()->insert(labels->second.begin(), labels->second.end());
      out.set_cordoned_by(marks_[name].cordoned_by);
      out.set_quarantined(marks_[name].quarantined);
    }
    return info;
  });
}

Expected<void> Controller::set_mark(const std::string& host, patch::Mark mark,
                                    const std::string& by) {
  const auto known = inventory_.hosts();
  if (known.count(host) == 0) {
    return fail(ErrorKind::kNotFound,
                fmt::format("there is no host {}; `sluice hosts` lists them", host));
  }
  for (const auto& driver : drivers_) {
    const patch::Run& run = driver->run();
    const auto& hosts = run.plan().hosts;
    const bool takes_part = std::find(hosts.begin(), hosts.end(), host) != hosts.end();
    if (patch::is_final(run.state()) || !takes_part || run.host(host).mended) continue;
    if (mark == patch::Mark::kUncordon && run.host(host).state == patch::HostState::kQuarantined) {
      auto mended = driver->mended(host, by, now_ms());
      if (!mended) fatal(mended.error().message);
      note_marks(run);
      return mended;
    }
    return fail(ErrorKind::kBusy, fmt::format("{} is part of run {}, which is {}; abort it first",
                                              host, run.id(), patch::to_string(run.state())));
  }
  const patch::MarkStep step{host, mark, by};
  const patch::Record record{now_ms(), step};
  if (auto written = journal_.append(self_.epoch, kClusterJournal, patch::encode(record)); !written)
    return written;
  apply_mark(step, kOperator);
  return {};
}

Expected<void> Controller::cordon(const std::string& host, const std::string& by) {
  return decide([this, host, by] { return set_mark(host, patch::Mark::kCordon, by); });
}

Expected<void> Controller::uncordon(const std::string& host, const std::string& by) {
  return decide([this, host, by] { return set_mark(host, patch::Mark::kUncordon, by); });
}

Expected<v1::Preview> Controller::preview(const std::string& plan_toml, const std::string& source) {
  auto checked = check_plan(plan_toml, source);
  if (!checked) return tl::unexpected<Error>(checked.error());
  return std::move(checked->preview);
}

Expected<std::string> Controller::start_run(const std::string& plan_toml, const std::string& source,
                                            const std::string& by) {
  const auto checked = check_plan(plan_toml, source);
  if (!checked) return tl::unexpected<Error>(checked.error());
  return decide([&]() -> Expected<std::string> {
    // Another one may have come first meanwhile.
    if (auto free = refuse_busy_hosts(checked->plan); !free)
      return tl::unexpected<Error>(free.error());
    const std::string id = fmt::format("r{}", drivers_.size() + 1);
    const patch::Created created{plan_toml, by, checked->resolution,
                                 estimates_of(checked->preview)};
    auto driver = patch::Driver::create(journal_, self_.epoch, id, created, executor_, now_ms());
    if (!driver) return tl::unexpected<Error>(driver.error());
    drivers_.push_back(std::make_unique<patch::Driver>(std::move(*driver)));
    return id;
  });
}

Expected<std::string> Controller::command(const std::string& run, RunEvent event,
                                          const std::string& by) {
  return decide([this, run, event, by]() -> Expected<std::string> {
    const auto found = find(run, Unnamed::kActive);
    if (!found) return tl::unexpected<Error>(found.error());
    auto done = (*found)->command(event, "an operator asked for it", by, now_ms());
    // What was not written was not decided: this controller knows something else by now.
    if (!done && done.error().kind != ErrorKind::kInvalid) fatal(done.error().message);
    if (!done) return tl::unexpected<Error>(done.error());
    return (*found)->run().id();
  });
}

v1::RunList Controller::runs() {
  return decide([this] {
    v1::RunList list;
    const auto known = facts(inventory_.hosts(), "");
    for (const auto& driver : drivers_) {
      auto status = to_status(driver->run(), known, {});
      status.clear_hosts();
      status.clear_tasks();
      *list.add_runs() = std::move(status);
    }
    return list;
  });
}

Expected<v1::RunStatus> Controller::status(const std::string& run) {
  return decide([this, run]() -> Expected<v1::RunStatus> {
    const auto found = find(run);
    if (!found) return tl::unexpected<Error>(found.error());
    return status_of((*found)->run());
  });
}

Expected<v1::Report> Controller::report(const std::string& run) {
  return decide([this, run]() -> Expected<v1::Report> {
    const auto found = find(run);
    if (!found) return tl::unexpected<Error>(found.error());
    const auto entries = journal_.read((*found)->run().id());
    if (!entries) return tl::unexpected<Error>(entries.error());
    std::vector<patch::Record> records;
    for (const auto& entry : *entries) {
      auto record = patch::decode(entry.body);
      if (!record) return tl::unexpected<Error>(record.error());
      records.push_back(std::move(*record));
    }
    return make_report((*found)->run(), facts(inventory_.hosts(), run), records);
  });
}

}  // namespace sluice::controller
