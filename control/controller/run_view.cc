#include "control/controller/run_view.h"

#include <algorithm>
#include <fmt/format.h>
#include <string>

namespace sluice::controller {
namespace {

const char* state_of(const patch::Task& task) {
  if (task.outcome == nullptr) return "under way";
  return task.outcome->ok ? "done" : "failed";
}

// All of what a hook has printed is in the journal and the report.
std::string detail_of(const patch::Task& task) {
  const std::string& detail = task.outcome->detail;
  if (task.intent->kind != patch::ActionKind::kHook) return detail;
  return task.outcome->ok ? detail.substr(0, detail.find('\n')) : patch::failure_line(detail);
}

}  // namespace

std::string remark_on(const patch::Run& run, const std::string& host, const patch::Facts& facts) {
  const std::string& failure = run.host(host).failure;
  const std::string left = run.left_over(host, facts);
  return failure.empty() || left.empty() ? failure + left : failure + "; " + left;
}

v1::RunStatus to_status(const patch::Run& run, const patch::Facts& facts,
                        const std::map<std::uint64_t, std::string>& waiting) {
  v1::RunStatus status;
  status.set_run(run.id());
  status.set_name(run.plan().name);
  status.set_state(std::string(patch::to_string(run.state())));
  status.set_reason(run.reason());
  status.set_drain_only(run.plan().drain_only);
  status.set_begun_ms(run.begun_ms());
  status.set_ended_ms(run.ended_ms());
  status.set_failures(run.failures());
  status.set_at_rest(run.at_rest(facts));
  status.set_begun_by(run.begun_by());
  status.set_waits_for(run.waits_for(facts.wall_ms()));
  for (const auto& name : run.plan().hosts) {
    const auto& host = run.host(name);
    auto& out = *status.add_hosts();
    out.set_host(name);
    out.set_state(std::string(patch::to_string(host.state)));
    out.set_since_ms(host.entered_ms);
    out.set_failure(remark_on(run, name, facts));
    out.set_waits_for(run.keeps(name, facts));
    if (host.baseline)
      out.set_guests_before(static_cast<std::uint32_t>(host.baseline->guests.size()));
    out.set_guests_now(static_cast<std::uint32_t>(
        std::count_if(facts.guests.begin(), facts.guests.end(),
                      [&](const auto& guest) { return guest.second.host == name; })));
  }
  for (std::uint64_t id = 1; id <= run.intents(); ++id) {
    const auto task = run.task(id);
    auto& out = *status.add_tasks();
    out.set_id(id);
    out.set_action(std::string(patch::to_string(task.intent->kind)));
    out.set_purpose(task.intent->purpose);
    out.set_host(task.intent->host);
    out.set_guest(task.intent->guest);
    out.set_from(task.intent->from);
    out.set_to(task.intent->to);
    out.set_state(state_of(task));
    out.set_attempt(task.intent->attempt);
    out.set_reason(task.intent->reason);
    out.set_expected_seconds(task.intent->expected_seconds);
    if (task.outcome == nullptr) {
      if (const auto text = waiting.find(id); text != waiting.end()) out.set_detail(text->second);
      continue;
    }
    out.set_detail(detail_of(task));
    out.set_seconds(task.outcome->seconds);
    out.set_downtime_ms(task.outcome->downtime_ms);
    out.set_goodput_gbps(task.outcome->goodput_gbps);
  }
  return status;
}

}  // namespace sluice::controller
