// What runs and the planner are told of the cluster.
#include <chrono>
#include <set>

#include "control/controller/controller.h"

namespace sluice::controller {

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
  const auto placed = place_guests(hosts);
  for (auto& [name, host] : facts.hosts) host.copies = copies_on(hosts, name, placed);
  for (const auto& [name, guest] : placed) {
    const auto policy = config_.policies.find(name);
    if (guest.state() == "moving") moving.push_back({name, guest.host(), guest.moving_to(), ""});
    auto& out = facts.guests[name];
    out.host = guest.host();
    out.cpu_level = guest.cpu_level();
    out.cpu_level_from_host = guest.cpu_level_from_host();
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

}  // namespace sluice::controller
