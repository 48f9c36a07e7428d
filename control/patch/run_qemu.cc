// Patches that bring a newer QEMU: guests go to it for good, since no older one takes them back.
#include <algorithm>
#include <fmt/format.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

// How many have the plan's QEMU or a newer one already, and are no hosts of the plan.
std::size_t others_with_it(const Plan& plan, const Facts& facts) {
  std::size_t others = 0;
  for (const auto& [name, host] : facts.hosts) {
    const bool its_own = std::find(plan.hosts.begin(), plan.hosts.end(), name) != plan.hosts.end();
    const bool in_service = host.reachable && !host.quarantined && host.cordoned_by.empty();
    if (!its_own && in_service && host.qemu_series >= plan.expected_qemu) ++others;
  }
  return others;
}

// The oldest that a host of the plan has; 0: of none it is known.
std::uint32_t oldest(const Plan& plan, const Facts& facts) {
  std::uint32_t series = 0;
  for (const auto& name : plan.hosts) {
    const auto host = facts.hosts.find(name);
    if (host == facts.hosts.end() || host->second.qemu_series == 0) continue;
    series = series == 0 ? host->second.qemu_series : std::min(series, host->second.qemu_series);
  }
  return series;
}

}  // namespace

std::string lost_by_newer_qemu(const Plan& plan, const Facts& facts) {
  const std::uint32_t from = oldest(plan, facts);
  if (plan.expected_qemu == 0 || from == 0 || from >= plan.expected_qemu) return {};
  const std::string to = qemu_text(plan.expected_qemu);
  std::string text =
      fmt::format("guests that come to QEMU {} do not go back to {}", to, qemu_text(from));
  if (plan.drain_only) return text;
  text += fmt::format(
      ": a host that fails when it has some is emptied into hosts with {} alone, and rolled back "
      "only after that",
      to);
  const bool some_have_it =
      std::any_of(facts.hosts.begin(), facts.hosts.end(),
                  [&](const auto& host) { return host.second.qemu_series >= plan.expected_qemu; });
  if (some_have_it) return text;
  return text + fmt::format(
                    "; until a second host has it, the first one, {}, would end in quarantine "
                    "with its guests running",
                    plan.hosts.front());
}

Expected<void> admit_qemu(const Plan& plan, const Facts& facts) {
  if (plan.expected_qemu == 0 || plan.drain_only) return {};
  const std::string wanted = qemu_text(plan.expected_qemu);
  for (const auto& name : plan.hosts) {
    const std::uint32_t now = facts.hosts.at(name).qemu_series;
    if (now <= plan.expected_qemu) continue;
    return fail(ErrorKind::kInvalid,
                fmt::format("{}: {} has QEMU {}, and the plan expects {}, which takes none of its "
                            "guests back; expect {} or leave {} out",
                            plan.name, name, qemu_text(now), wanted, qemu_text(now), name));
  }
  if (plan.hosts.size() + others_with_it(plan, facts) > 1) return {};
  return fail(ErrorKind::kInvalid,
              fmt::format("{}: no host but {} would have QEMU {}, so that its guests could go "
                          "nowhere from there; add another host to the plan",
                          plan.name, plan.hosts.front(), wanted));
}

std::string Run::unexpected_qemu(const Decision& decision, const std::string& name) const {
  const std::uint32_t before = hosts_.at(name).baseline->qemu_series;
  const std::uint32_t now = decision.host(name)->qemu_series;
  if (plan_.expected_qemu != 0) {
    if (now == plan_.expected_qemu) return {};
    return fmt::format("its QEMU is {}, expected {}", qemu_text(now),
                       qemu_text(plan_.expected_qemu));
  }
  if (now == before || now == 0 || before == 0) return {};
  return fmt::format(
      "its QEMU is {}, it was {}: {}", qemu_text(now), qemu_text(before),
      now < before ? "guests that ran on it cannot come home"
                   : fmt::format("guests that come could not go back to hosts with {}; if that is "
                                 "meant, the plan must say expect.qemu = \"{}\"",
                                 qemu_text(before), qemu_text(now)));
}

bool Run::is_first_with_its_qemu(const Decision& decision, const std::string& name) const {
  if (plan_.expected_qemu == 0) return false;
  return std::none_of(
      decision.facts.hosts.begin(), decision.facts.hosts.end(), [&](const auto& other) {
        return other.first != name && other.second.qemu_series >= plan_.expected_qemu &&
               is_ours(decision, other.first);
      });
}

}  // namespace sluice::patch
