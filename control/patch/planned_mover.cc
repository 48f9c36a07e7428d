#include "control/patch/planned_mover.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <numeric>

#include "control/planner/occupancy.h"
#include "control/planner/placement.h"

namespace sluice::patch {
namespace {

using planner::GuestId;
using planner::HostId;

// Enough for a good beginning; the rest of the plan is made anew each time.
constexpr std::uint32_t kSchedulesMax = 40;

}  // namespace

// One propose(): the planner's cluster as it stands, with what is under way.
class PlannedMover::Proposal {
 public:
  Proposal(const MoveQuery& query, planner::Cluster cluster, const planner::MoveTime& move_time)
      : query_(query), cluster_(std::move(cluster)), down_(cluster_.groups.size()) {
    options_.search.schedules_max = kSchedulesMax;
    options_.move_time = move_time;
    cluster_.qemu_series_meant = query.qemu_meant;
    for (HostId host = 0; host < cluster_.hosts.size(); ++host) {
      const std::string& name = cluster_.hosts[host].name;
      host_of_[name] = host;
      const auto rank = query.rank.find(name);
      options_.rank_of_host.push_back(
          static_cast<std::uint8_t>(rank == query.rank.end() ? TargetRank::kOther : rank->second));
      const auto arrivals = query.arrivals_max.find(name);
      arrivals_max_.push_back(arrivals == query.arrivals_max.end() ? cluster_.guests.size()
                                                                   : arrivals->second);
      options_.closed.push_back(query.closed.count(name) != 0);
      options_.to_open.push_back(query.emptying.count(name) != 0 ? "" : to_open(name));
      const auto facts = query.facts->hosts.find(name);
      reachable_.push_back(facts != query.facts->hosts.end() && facts->second.reachable);
    }
    place_guests();
    spare_groups();
  }

  // The first host, by rank, that a plan for this one move reaches.
  std::string target_for(const std::string& name) {
    const auto guest = std::find_if(cluster_.guests.begin(), cluster_.guests.end(),
                                    [&](const auto& other) { return other.name == name; });
    if (guest == cluster_.guests.end()) return {};
    // One that is down is not moved but starts there, on that host's CPU.
    const bool runs = query_.facts->guests.count(name) != 0;
    guest->policy = runs ? planner::Policy::kLive : planner::Policy::kShutdown;
    const auto id = static_cast<GuestId>(guest - cluster_.guests.begin());
    std::vector<HostId> hosts(cluster_.hosts.size());
    std::iota(hosts.begin(), hosts.end(), 0U);
    std::stable_sort(hosts.begin(), hosts.end(), [&](HostId a, HostId b) {
      return options_.rank_of_host[a] < options_.rank_of_host[b];
    });
    planner::Occupancy now(cluster_);
    for (const planner::UnderWay& move : options_.under_way)
      now.arrive(move.guest, cluster_.guests[move.guest].host, move.from, planner::kNone);
    for (const HostId host : hosts) {
      if (host == guest->host || options_.closed[host] || !now.fits(id, guest->host, host))
        continue;
      const auto plan = planner::plan_moves(cluster_, {{id, host}}, options_);
      if (plan && plan->complete()) return cluster_.hosts[host].name;
    }
    return {};
  }

  bool has_room() {
    const std::vector<HostId> hosts = hosts_to_empty();
    planner::PlacementOptions placement{.move_time = options_.move_time,
                                        .closed = options_.closed,
                                        .rank_of_host = options_.rank_of_host,
                                        .to_open = {}};
    for (const HostId host : hosts) placement.closed[host] = true;
    // What is short of memory in sum needs no search.
    std::int64_t room_bytes = 0;
    const planner::Occupancy occupancy(cluster_);
    for (HostId host = 0; host < cluster_.hosts.size(); ++host) {
      if (!placement.closed[host] && !cluster_.hosts[host].maintenance)
        room_bytes += std::max<std::int64_t>(occupancy.free_memory_bytes(host), 0);
    }
    for (const GuestId guest : leaving(hosts))
      room_bytes -= static_cast<std::int64_t>(cluster_.guests[guest].memory_bytes);
    return room_bytes >= 0 && planner::place_guests(cluster_, hosts, placement).unplaced.empty();
  }

  Expected<Drain> drain() {
    auto plan = planner::plan_drain(cluster_, hosts_to_empty(), options_);
    if (!plan) return tl::unexpected<Error>(plan.error());
    return Drain{std::move(cluster_), std::move(*plan)};
  }

  MoveAnswer answer() {
    bring_home();
    empty_hosts();
    return std::move(answer_);
  }

 private:
  // Of a host that runs have closed themselves, nothing: they open it again.
  [[nodiscard]] std::string to_open(const std::string& name) const {
    const auto found = query_.facts->hosts.find(name);
    if (found == query_.facts->hosts.end()) return {};
    const HostFacts& facts = found->second;
    if (facts.quarantined) return fmt::format("mend and uncordon {}", name);
    if (!facts.reachable) return fmt::format("let the agent of {} answer", name);
    return facts.cordoned_by == "operator" ? fmt::format("uncordon {}", name) : "";
  }

  // Where the facts say; those that move are at their destination and count where they come from
  // too. Those that rest on a host that is emptied leave it by other means.
  void place_guests() {
    std::map<std::string, std::pair<const Move*, bool>> moving;
    for (const Move& move : query_.under_way_unwatched) moving[move.guest] = {&move, false};
    for (const Move& move : query_.under_way) moving[move.guest] = {&move, true};
    std::vector<planner::Guest> placed;
    placed.reserve(cluster_.guests.size());
    for (planner::Guest& guest : cluster_.guests) {
      const auto facts = query_.facts->guests.find(guest.name);
      const bool runs = facts != query_.facts->guests.end();
      const auto down = query_.down.find(guest.name);
      if (!runs && down == query_.down.end()) continue;
      const std::string& place = runs ? facts->second.host : down->second.host;
      const auto at = host_of_.find(place);
      if (at == host_of_.end()) continue;
      if (!runs && (down->second.starting || down->second.returning)) count(guest, down_);
      guest.host = at->second;
      guest.policy = runs && facts->second.policy == GuestPolicy::kQuick ? planner::Policy::kQuick
                                                                         : planner::Policy::kLive;
      const auto move = moving.find(guest.name);
      const auto to = move == moving.end() ? host_of_.end() : host_of_.find(move->second.first->to);
      if (to != host_of_.end() && to->second != guest.host) {
        const auto id = static_cast<GuestId>(placed.size());
        options_.under_way.push_back({id, guest.host, move->second.second});
        guest.host = to->second;
        guest.policy = planner::Policy::kNever;
      } else if (query_.resting.count(guest.name) != 0) {
        if (query_.emptying.count(place) != 0) {
          reserve(guest, guest.host);
          continue;
        }
        guest.policy = planner::Policy::kNever;
      }
      const auto later = query_.later_ms.find(guest.name);
      options_.not_before_ms.push_back(
          later == query_.later_ms.end() ? 0 : static_cast<std::uint64_t>(later->second));
      placed.push_back(std::move(guest));
    }
    cluster_.guests = std::move(placed);
  }

  // Members that are down leave the others less of their group's budget. Where they leave nothing
  // the others come later, and nobody waits for them.
  void spare_groups() {
    constexpr std::uint64_t kLaterMs = 60'000;
    for (planner::GroupId group = 0; group < down_.size(); ++group) {
      std::uint32_t& limit = cluster_.groups[group].moving_max;
      if (limit == 0 || down_[group] < limit) {
        limit -= std::min(limit, std::exchange(down_[group], 0));
        continue;
      }
      for (GuestId guest = 0; guest < cluster_.guests.size(); ++guest) {
        const auto& groups = cluster_.guests[guest].groups;
        if (std::find(groups.begin(), groups.end(), group) == groups.end()) continue;
        options_.not_before_ms[guest] = std::max(options_.not_before_ms[guest], kLaterMs);
      }
    }
  }

  // On a host that is filled beyond what the operator keeps free, no more than there is.
  void reserve(const planner::Guest& guest, HostId host) {
    planner::Host& at = cluster_.hosts[host];
    const std::uint64_t bytes = guest.memory_bytes + at.guest_overhead_bytes;
    at.reserve_bytes += std::min(bytes, at.memory_bytes - at.reserve_bytes);
  }

  static void count(const planner::Guest& guest, std::vector<std::uint32_t>& by_group) {
    for (const planner::GroupId group : guest.groups) ++by_group[group];
  }

  // To a plan a convoy is one move, since its guests go one after the other. Here each begins when
  // its group's budget lets it, and those behind follow it to where it went.
  [[nodiscard]] bool is_over_budget(const planner::Guest& guest,
                                    const std::vector<std::uint32_t>& moving) const {
    return std::any_of(guest.groups.begin(), guest.groups.end(), [&](planner::GroupId group) {
      const std::uint32_t limit = cluster_.groups[group].moving_max;
      return limit > 0 && moving[group] >= limit;
    });
  }

  // Starts what the plan starts first. Guests that are tied together and go the same way begin
  // together, as far as budgets go.
  void start(const planner::Plan& plan, const std::string& reason) {
    const auto component = planner::components(cluster_);
    std::set<std::tuple<std::uint32_t, HostId, HostId>> begun;
    std::vector<std::uint32_t> moving = down_;
    for (const planner::UnderWay& move : options_.under_way)
      count(cluster_.guests[move.guest], moving);
    for (const planner::Move& move : plan.moves) {
      const std::tuple way(component[move.guest], move.from, move.to);
      const bool convoy = begun.count(way) != 0;
      const planner::Guest& guest = cluster_.guests[move.guest];
      if (!convoy && (move.start_ms != 0 || arrivals_max_[move.to] == 0)) continue;
      if (is_over_budget(guest, moving)) continue;
      begun.insert(way);
      count(guest, moving);
      arrivals_max_[move.to] -= std::min<std::size_t>(arrivals_max_[move.to], 1);
      const std::string& from = cluster_.hosts[move.from].name;
      const std::string& to = cluster_.hosts[move.to].name;
      answer_.start.push_back(
          {guest.name, from, to, reason, static_cast<double>(move.end_ms - move.start_ms) / 1000});
      started_.push_back(move);
    }
  }

  void bring_home() {
    const auto component = planner::components(cluster_);
    std::map<std::pair<std::uint32_t, HostId>, HostId> home_of;  // component and place: home
    for (GuestId guest = 0; guest < cluster_.guests.size(); ++guest) {
      const auto home = query_.homecoming.find(cluster_.guests[guest].name);
      const bool may_leave = cluster_.guests[guest].policy != planner::Policy::kNever &&
                             reachable_[cluster_.guests[guest].host];
      if (home == query_.homecoming.end() || !may_leave) continue;
      home_of[{component[guest], cluster_.guests[guest].host}] = host_of_.at(home->second);
    }
    std::vector<planner::Destination> destinations;
    for (GuestId guest = 0; guest < cluster_.guests.size(); ++guest) {
      const auto found = home_of.find({component[guest], cluster_.guests[guest].host});
      if (found != home_of.end() && found->second != cluster_.guests[guest].host)
        destinations.push_back({guest, found->second});
    }
    if (destinations.empty()) return;
    planner::PlanOptions options = options_;
    // They are out of service for all others, also on their way.
    options.no_stop = std::exchange(options.closed, {});
    // What a home has that was newer all the time, or that the plan means, is meant.
    planner::Cluster homeward = cluster_;
    homeward.qemu_series_meant = std::numeric_limits<std::uint32_t>::max();
    const auto plan = planner::plan_moves(homeward, destinations, options);
    if (!plan) return explain_all(destinations, plan.error().message);
    start(*plan, "home again");
    std::vector<GuestId> wanted;
    wanted.reserve(destinations.size());
    for (const auto& destination : destinations) wanted.push_back(destination.guest);
    explain(wanted, *plan);
    // What begins now has its room before anybody else is placed.
    for (const planner::Move& move : std::exchange(started_, {})) {
      options_.under_way.push_back({move.guest, move.from});
      cluster_.guests[move.guest].host = move.to;
      cluster_.guests[move.guest].policy = planner::Policy::kNever;
    }
  }

  [[nodiscard]] std::vector<HostId> hosts_to_empty() const {
    std::vector<HostId> hosts;
    for (const auto& name : query_.emptying) {
      if (const auto host = host_of_.find(name); host != host_of_.end())
        hosts.push_back(host->second);
    }
    return hosts;
  }

  [[nodiscard]] std::vector<GuestId> leaving(const std::vector<HostId>& hosts) const {
    std::vector<GuestId> leaving;
    for (GuestId guest = 0; guest < cluster_.guests.size(); ++guest) {
      const planner::Guest& about = cluster_.guests[guest];
      const bool leaves = std::find(hosts.begin(), hosts.end(), about.host) != hosts.end();
      if (leaves && about.policy != planner::Policy::kNever) leaving.push_back(guest);
    }
    return leaving;
  }

  void empty_hosts() {
    const std::vector<HostId> hosts = hosts_to_empty();
    const std::vector<GuestId> leaving = this->leaving(hosts);
    if (leaving.empty()) return;
    auto plan = planner::plan_drain(cluster_, hosts, options_);
    if (!plan) {
      for (const GuestId guest : leaving)
        answer_.stuck[cluster_.guests[guest].name] = plan.error().message;
      return;
    }
    explain(leaving, *plan);
    if (some_must_wait(*plan)) plan = planner::plan_drain(cluster_, hosts, meanwhile(*plan));
    if (!plan) return;
    start(*plan, fmt::format("{} moves planned in {:.1f} s, bound {:.1f} s", plan->moves.size(),
                             static_cast<double>(plan->makespan_ms) / 1000,
                             static_cast<double>(plan->bound.ms) / 1000));
  }

  // A host that the plan needs takes nobody in just now.
  [[nodiscard]] bool some_must_wait(const planner::Plan& plan) const {
    return std::any_of(plan.moves.begin(), plan.moves.end(),
                       [&](const planner::Move& move) { return arrivals_max_[move.to] == 0; });
  }

  // The plan's other targets: who waits for a better place is not moved to a worse one.
  [[nodiscard]] planner::PlanOptions meanwhile(const planner::Plan& plan) const {
    planner::PlanOptions options = options_;
    options.closed.assign(cluster_.hosts.size(), true);
    for (const planner::Move& move : plan.moves)
      options.closed[move.to] = arrivals_max_[move.to] == 0;
    return options;
  }

  void explain_all(const std::vector<planner::Destination>& destinations, const std::string& why) {
    for (const auto& destination : destinations)
      answer_.stuck[cluster_.guests[destination.guest].name] = why;
  }

  // Those that the plan has no move for, each with the planner's line about it.
  void explain(const std::vector<GuestId>& wanted, const planner::Plan& plan) {
    std::vector<bool> moves(cluster_.guests.size(), false);
    for (const auto& move : plan.moves) moves[move.guest] = true;
    for (const GuestId guest : wanted) {
      if (moves[guest]) continue;
      std::string& why = answer_.stuck[cluster_.guests[guest].name];
      if (!plan.shortage.empty()) why = plan.shortage + "; ";
      why += plan.obstacle_of.at(guest);
    }
  }

  const MoveQuery& query_;
  planner::Cluster cluster_;
  std::vector<std::uint32_t> down_;  // by group that can spare nobody else: members down for now
  planner::PlanOptions options_;
  std::map<std::string, HostId> host_of_;
  std::vector<std::size_t> arrivals_max_;  // by host
  std::vector<bool> reachable_;            // by host
  std::vector<planner::Move> started_;
  MoveAnswer answer_;
};

Expected<PlannedMover::Drain> PlannedMover::plan_drain(const MoveQuery& query) const {
  return Proposal(query, cluster_, move_time_).drain();
}

std::string PlannedMover::target_for(const std::string& guest, const MoveQuery& query) const {
  return Proposal(query, cluster_, move_time_).target_for(guest);
}

bool PlannedMover::has_room(const MoveQuery& query) const {
  return Proposal(query, cluster_, move_time_).has_room();
}

MoveAnswer PlannedMover::propose(const MoveQuery& query) const {
  return Proposal(query, cluster_, move_time_).answer();
}

}  // namespace sluice::patch
