#include "control/controller/report_stages.h"

#include <algorithm>
#include <array>
#include <map>

#include "control/controller/forecast.h"

namespace sluice::controller {
namespace {

using patch::Estimate;
using patch::HostEvent;

void add(Estimate& sum, const Estimate& other) {
  sum.seconds += other.seconds;
  sum.low_seconds += other.low_seconds;
  sum.high_seconds += other.high_seconds;
  sum.bound_seconds += other.bound_seconds;
}

Estimate exactly(double seconds) { return {seconds, seconds, seconds, seconds}; }

std::optional<Estimate> of_drain(const patch::Run& run, const std::string& host) {
  const auto found = run.estimates().find(host);
  return found == run.estimates().end() ? std::nullopt : std::optional(found->second);
}

// They come as they went, with a gate wherever a step lets more of them come than the one before.
std::optional<Estimate> of_refill(const patch::Run& run, const std::string& host) {
  const patch::Plan& plan = run.plan();
  const auto& baseline = run.host(host).baseline;
  auto expected = of_drain(run, host);
  const bool comes_home = plan.placement == patch::Placement::kHome && !plan.shut_down_guests;
  if (!expected || !baseline || !comes_home) return std::nullopt;
  add(*expected, exactly(gates_seconds(plan, baseline->guests.size())));
  return expected;
}

std::optional<Estimate> of_soak(const patch::Run& run, const std::string&) {
  return exactly(run.plan().soak_s);
}

std::optional<Estimate> of_nothing(const patch::Run&, const std::string&) { return std::nullopt; }

struct Stage {
  const char* name;
  HostEvent begins;
  HostEvent ends;
  std::optional<Estimate> (*expected)(const patch::Run&, const std::string&);
};

constexpr Stage kPatched{"patched and proven", HostEvent::kPatchStarted, HostEvent::kCanaryPassed,
                         of_nothing};

constexpr std::array kStages = {
    Stage{"emptied", HostEvent::kDrainStarted, HostEvent::kDrained, of_drain}, kPatched,
    Stage{"filled again", HostEvent::kCanaryPassed, HostEvent::kRefilled, of_refill},
    Stage{"soak", HostEvent::kRefilled, HostEvent::kSoaked, of_soak}};

// How long each host was in the stage, of those that went through it; the first time counts.
std::map<std::string, double> seconds_in(const Stage& stage,
                                         const std::vector<patch::Record>& records) {
  std::map<std::string, patch::TimeMs> begun_ms;
  std::map<std::string, double> seconds;
  for (const auto& record : records) {
    const auto* const step = std::get_if<patch::HostStep>(&record.body);
    if (step == nullptr) continue;
    if (step->event == stage.begins) begun_ms.try_emplace(step->host, record.at_ms);
    const auto begun = begun_ms.find(step->host);
    if (step->event != stage.ends || begun == begun_ms.end()) continue;
    seconds.try_emplace(step->host, static_cast<double>(record.at_ms - begun->second) / 1000);
  }
  return seconds;
}

}  // namespace

std::vector<StageSum> stages_of(const patch::Run& run, const std::vector<patch::Record>& records) {
  std::vector<StageSum> sums;
  for (const Stage& stage : kStages) {
    StageSum sum{.name = stage.name, .expected = Estimate{}};
    for (const auto& [host, seconds] : seconds_in(stage, records)) {
      ++sum.hosts;
      sum.measured_seconds += seconds;
      const auto expected = stage.expected(run, host);
      if (!expected) sum.expected.reset();
      if (sum.expected) add(*sum.expected, *expected);
    }
    if (sum.hosts > 0) sums.push_back(std::move(sum));
  }
  return sums;
}

std::vector<double> patch_seconds(const std::vector<patch::Record>& records) {
  std::vector<double> seconds;
  for (const auto& [host, in_stage] : seconds_in(kPatched, records)) seconds.push_back(in_stage);
  return seconds;
}

StageSum sum_of_expected(const std::vector<StageSum>& stages) {
  StageSum all{.name = "what was expected, in all", .expected = Estimate{}};
  for (const StageSum& stage : stages) {
    if (!stage.expected) continue;
    all.hosts = std::max(all.hosts, stage.hosts);
    all.measured_seconds += stage.measured_seconds;
    add(*all.expected, *stage.expected);
  }
  return all;
}

}  // namespace sluice::controller
