// Cordons and quarantine: who made them, and what they come to.
#include <algorithm>
#include <fmt/format.h>

#include "control/controller/controller.h"

namespace sluice::controller {
namespace {

// The run's id under which operators' own marks are journaled.
constexpr const char* kClusterJournal = "";
constexpr const char* kOperator = "operator";

}  // namespace

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
Expected<std::map<std::string, patch::TimeMs>> Controller::restore_marks(
    const std::vector<std::string>& runs) {
  std::map<std::uint64_t, std::pair<std::string, patch::MarkStep>> marks;
  std::map<std::string, patch::TimeMs> newest_ms;
  const auto collect = [&](const std::string& run, const std::string& by) -> Expected<void> {
    const auto entries = journal_.read(run);
    if (!entries) return tl::unexpected<Error>(entries.error());
    newest_ms[run] = 0;
    for (const auto& entry : *entries) {
      const auto record = patch::decode(entry.body);
      if (!record) return tl::unexpected<Error>(record.error());
      newest_ms[run] = std::max(newest_ms[run], record->at_ms);
      if (const auto* mark = std::get_if<patch::MarkStep>(&record->body))
        marks[entry.sequence] = {by, *mark};
    }
    return {};
  };
  for (const auto& run : runs) {
    if (auto collected = collect(run, run); !collected)
      return tl::unexpected<Error>(collected.error());
  }
  if (auto collected = collect(kClusterJournal, kOperator); !collected)
    return tl::unexpected<Error>(collected.error());
  for (const auto& [sequence, mark] : marks) apply_mark(mark.second, mark.first);
  return newest_ms;
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

}  // namespace sluice::controller
