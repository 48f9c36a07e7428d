// Plans, runs and what people ask of them.
#include <algorithm>
#include <fmt/format.h>

#include "control/controller/controller.h"
#include "control/controller/estimate.h"
#include "control/controller/preview.h"
#include "control/controller/report.h"
#include "control/controller/report_stages.h"
#include "control/controller/run_view.h"
#include "control/controller/zone_file.h"

namespace sluice::controller {

v1::RunStatus Controller::status_of(const patch::Run& run) const {
  const Hosts hosts = inventory_.hosts();
  const patch::Facts known = facts(hosts, run.id());
  auto status = to_status(run, known, executor_.waiting(run.id()));
  if (auto left = estimate_left(run, known, make_cluster(hosts, config_), durations_))
    *status.mutable_left() = std::move(*left);
  return status;
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

// Of the latest run that says something of it.
Expected<MeasuredPatch> Controller::measured_patch(const patch::Plan& plan) {
  for (auto driver = drivers_.rbegin(); driver != drivers_.rend(); ++driver) {
    const patch::Run& run = (*driver)->run();
    if (!patches_alike(plan, run.plan())) continue;
    const auto records = records_of(run.id());
    if (!records) return tl::unexpected<Error>(records.error());
    if (auto seconds = patch_seconds(*records); !seconds.empty())
      return MeasuredPatch{run.id(), std::move(seconds)};
  }
  return MeasuredPatch{};
}

Expected<std::vector<patch::Record>> Controller::records_of(const std::string& run) {
  const auto entries = journal_.read(run);
  if (!entries) return tl::unexpected<Error>(entries.error());
  std::vector<patch::Record> records;
  for (const auto& entry : *entries) {
    auto record = patch::decode(entry.body);
    if (!record) return tl::unexpected<Error>(record.error());
    records.push_back(std::move(*record));
  }
  return records;
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
    auto now = this->now();
    auto measured = measured_patch(plan);
    if (!measured) return tl::unexpected<Error>(measured.error());
    now.measured = std::move(*measured);
    return now;
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
  auto preview =
      make_preview(plan, moment->cluster, moment->facts, moment->durations, moment->measured);
  if (!preview) return tl::unexpected<Error>(preview.error());
  return Checked{std::move(plan), std::move(resolution), std::move(*preview)};
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
    const patch::Created created{plan_toml, by, checked->resolution, estimates_of(checked->preview),
                                 whole_of(checked->preview)};
    auto driver = patch::Driver::create(journal_, self_.epoch, id, created, executor_, now_ms());
    // As in command(): the journal may have it all the same, and the next run would take its id.
    // Not where its disk is full.
    const bool is_known = driver || driver.error().kind == ErrorKind::kInvalid ||
                          driver.error().kind == ErrorKind::kNoCapacity;
    if (!is_known) fatal(driver.error().message);
    if (!driver) return tl::unexpected<Error>(driver.error());
    drivers_.push_back(std::make_unique<patch::Driver>(std::move(*driver)));
    return id;
  });
}

Expected<std::string> Controller::command(const std::string& run, patch::RunEvent event,
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
    const auto records = records_of((*found)->run().id());
    if (!records) return tl::unexpected<Error>(records.error());
    return make_report((*found)->run(), facts(inventory_.hosts(), run), *records);
  });
}

}  // namespace sluice::controller
