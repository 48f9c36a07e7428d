#include "control/planner/patch_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "control/planner/occupancy.h"
#include "control/planner/placement.h"

namespace sluice::planner {
namespace {

std::uint64_t usable_bytes(const Host& host) { return host.memory_bytes - host.reserve_bytes; }

// The state between two waves.
class PatchRun {
 public:
  PatchRun(const Cluster& cluster, const std::vector<HostId>& hosts, const PatchOptions& options)
      : cluster_(cluster),
        options_(options),
        waiting_(hosts),
        unpatched_(cluster.hosts.size(), false),
        guests_on_(cluster.hosts.size()) {
    for (const HostId host : hosts) unpatched_[host] = true;
    list_guests();
    for (const HostId host : hosts) plan_.guests += guests_on_[host].size();
  }

  Expected<PatchPlan> run() {
    while (!waiting_.empty()) {
      const std::vector<HostId> hosts = choose_wave();
      if (!hosts.empty()) {
        if (auto done = add_wave(hosts); !done) return tl::unexpected(done.error());
      }
      if (!waiting_.empty()) continue;
      waiting_ = std::exchange(set_aside_, {});
      // There may be room for them now that others were patched.
      if (plan_.waves.size() == waves_tried_) skip_waiting();
      waves_tried_ = plan_.waves.size();
    }
    for (HostId host = 0; host < cluster_.hosts.size(); ++host) {
      if (guests_on_[host].empty() && !cluster_.hosts[host].maintenance)
        plan_.left_empty.push_back(host);
    }
    return std::move(plan_);
  }

 private:
  void list_guests() {
    for (auto& guests : guests_on_) guests.clear();
    for (GuestId guest = 0; guest < cluster_.guests.size(); ++guest)
      guests_on_[cluster_.guests[guest].host].push_back(guest);
  }

  // It runs on its new host's from then on.
  void note_qemu(const Move& move) {
    Guest& guest = cluster_.guests[move.guest];
    const std::uint32_t series = cluster_.hosts[move.to].qemu_series;
    if (guest.qemu_series != 0 && series != 0) guest.qemu_series = series;
  }

  [[nodiscard]] std::uint64_t guest_bytes(HostId host) const {
    std::uint64_t bytes = 0;
    for (const GuestId guest : guests_on_[host])
      bytes += cluster_.guests[guest].memory_bytes + cluster_.hosts[host].guest_overhead_bytes;
    return bytes;
  }

  [[nodiscard]] PlacementOptions placement_options(bool to_unpatched) const {
    PlacementOptions options{.move_time = options_.plan.move_time,
                             .closed = closed(to_unpatched),
                             .rank_of_host = {},
                             .to_open = {}};
    for (const bool unpatched : unpatched_) options.rank_of_host.push_back(unpatched ? 1 : 0);
    return options;
  }

  [[nodiscard]] std::vector<bool> closed(bool to_unpatched) const {
    std::vector<bool> closed = options_.plan.closed;
    closed.resize(cluster_.hosts.size(), false);
    for (HostId host = 0; host < closed.size(); ++host)
      closed[host] = closed[host] || (unpatched_[host] && !to_unpatched);
    return closed;
  }

  // The next hosts: as many as patched ones can take in; if not even one fits there, those that
  // also use unpatched ones.
  std::vector<HostId> choose_wave() {
    // Those with the least to move first: in the first wave their guests are the ones that move
    // twice.
    std::stable_sort(waiting_.begin(), waiting_.end(),
                     [&](HostId a, HostId b) { return guest_bytes(a) < guest_bytes(b); });
    to_unpatched_ = false;
    std::vector<HostId> hosts = largest_wave(waiting_.size());
    if (!hosts.empty()) return hosts;
    to_unpatched_ = true;
    const std::size_t count = affordable();
    if (count == 0) return {};
    hosts = largest_wave(count);
    if (hosts.empty()) hosts = {waiting_.front()};
    return hosts;
  }

  // How many of the waiting hosts, in order, can be emptied within what is left of the extra moves;
  // at least one, unless none is left. Those that cannot be emptied at all are set aside.
  std::size_t affordable() {
    const double allowed = options_.extra_moves_share_max * static_cast<double>(plan_.guests);
    double extra = static_cast<double>(extra_moves_);
    std::size_t count = 0;
    while (count < waiting_.size()) {
      const HostId host = waiting_[count];
      if (!place_alone(host).unplaced.empty()) {
        set_aside_.push_back(host);
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(count));
        continue;
      }
      extra += static_cast<double>(guests_on_[host].size());
      if (count > 0 && extra > allowed) break;
      ++count;
    }
    return count;
  }

  [[nodiscard]] Placement place_alone(HostId host) const {
    PlacementOptions placement_options = this->placement_options(true);
    placement_options.closed[host] = true;
    return place_guests(cluster_, {host}, placement_options);
  }

  // Drops hosts whose guests find no place until the others' all do.
  std::vector<HostId> largest_wave(std::size_t count_max) {
    if (options_.hosts_at_once_max > 0)
      count_max = std::min<std::size_t>(count_max, options_.hosts_at_once_max);
    std::vector<HostId> hosts = within_room(count_max);
    while (!hosts.empty()) {
      PlacementOptions placement_options = this->placement_options(to_unpatched_);
      for (const HostId host : hosts) placement_options.closed[host] = true;
      const Placement placement = place_guests(cluster_, hosts, placement_options);
      if (placement.unplaced.empty()) return hosts;
      drop_worst(hosts, placement.unplaced);
    }
    return hosts;
  }

  // The first of the waiting hosts whose guests fit the open ones in sum.
  [[nodiscard]] std::vector<HostId> within_room(std::size_t count_max) const {
    const Occupancy occupancy(cluster_);
    const std::vector<bool> shut = closed(to_unpatched_);
    std::int64_t room_bytes = 0;
    for (HostId host = 0; host < cluster_.hosts.size(); ++host) {
      if (!shut[host] && !cluster_.hosts[host].maintenance)
        room_bytes += std::max<std::int64_t>(occupancy.free_memory_bytes(host), 0);
    }
    std::vector<HostId> hosts;
    for (const HostId host : waiting_) {
      if (hosts.size() >= count_max) break;
      room_bytes -= static_cast<std::int64_t>(guest_bytes(host));
      // An unpatched host that is emptied itself offers no room.
      if (!shut[host]) room_bytes -= std::max<std::int64_t>(occupancy.free_memory_bytes(host), 0);
      if (room_bytes < 0) break;
      hosts.push_back(host);
    }
    return hosts;
  }

  // Drops the hosts with the most unplaced memory, until what they would have moved makes up for
  // it.
  void drop_worst(std::vector<HostId>& hosts, const std::vector<GuestId>& unplaced) const {
    std::map<HostId, std::uint64_t> lacking;
    std::uint64_t lacking_bytes = 0;
    for (const GuestId guest : unplaced) {
      lacking[cluster_.guests[guest].host] += cluster_.guests[guest].memory_bytes;
      lacking_bytes += cluster_.guests[guest].memory_bytes;
    }
    std::vector<HostId> worst;
    worst.reserve(lacking.size());
    for (const auto& [host, bytes] : lacking) worst.push_back(host);
    std::stable_sort(worst.begin(), worst.end(),
                     [&](HostId a, HostId b) { return lacking[a] > lacking[b]; });
    std::uint64_t gained_bytes = 0;
    for (const HostId host : worst) {
      hosts.erase(std::find(hosts.begin(), hosts.end(), host));
      gained_bytes += guest_bytes(host);
      if (gained_bytes >= lacking_bytes) break;
    }
  }

  Expected<void> add_wave(const std::vector<HostId>& hosts) {
    PlanOptions options = options_.plan;
    const PlacementOptions placement = placement_options(to_unpatched_);
    options.closed = placement.closed;
    options.rank_of_host = placement.rank_of_host;
    options.search.seed += plan_.waves.size();
    auto drain = plan_drain(cluster_, hosts, options);
    if (!drain) return tl::unexpected(drain.error());
    if (!drain->complete()) {
      // Placed, but no order gets them all through; without these hosts the run goes on.
      plan_.obstacles.insert(plan_.obstacles.end(), drain->obstacles.begin(),
                             drain->obstacles.end());
      for (const HostId host : hosts) skip(host);
      return {};
    }
    PatchWave wave{.hosts = hosts,
                   .moves = std::move(drain->moves),
                   .start_ms = plan_.total_ms,
                   .drain_ms = drain->makespan_ms,
                   .end_ms = 0};
    wave.end_ms = wave.start_ms + wave.drain_ms + options_.patch_ms;
    plan_.total_ms = wave.end_ms;
    for (const Move& move : wave.moves) {
      cluster_.guests[move.guest].host = move.to;
      cluster_.guests[move.guest].numa_node = move.to_numa_node;
      note_qemu(move);
      plan_.bytes += move.bytes_per_second > 0 ? cluster_.guests[move.guest].populated_bytes : 0;
      extra_moves_ += unpatched_[move.to] ? 1 : 0;
    }
    plan_.moves += wave.moves.size();
    for (const HostId host : hosts) {
      unpatched_[host] = false;
      waiting_.erase(std::find(waiting_.begin(), waiting_.end(), host));
    }
    list_guests();
    plan_.waves.push_back(std::move(wave));
    return {};
  }

  void skip(HostId host) {
    plan_.skipped.push_back(host);
    unpatched_[host] = false;  // it stays as it is and may take guests in
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), host));
  }

  // Not one of the waiting hosts can be emptied: says of each why.
  void skip_waiting() {
    for (const HostId host : waiting_) {
      const Placement placement = place_alone(host);
      plan_.obstacles.insert(plan_.obstacles.end(), placement.obstacles.begin(),
                             placement.obstacles.end());
    }
    while (!waiting_.empty()) skip(waiting_.front());
  }

  Cluster cluster_;  // as it is after the waves so far
  const PatchOptions& options_;
  std::vector<HostId> waiting_;
  std::vector<HostId> set_aside_;  // waiting hosts that could not be emptied when it was tried
  std::size_t waves_tried_ = 0;    // there were so many when all that waited had been tried
  std::vector<bool> unpatched_;
  std::vector<std::vector<GuestId>> guests_on_;
  bool to_unpatched_ = false;
  std::uint64_t extra_moves_ = 0;
  PatchPlan plan_;
};

// How many of `hosts` can be empty at once so that the others hold all guests: the smallest hosts
// first.
std::size_t empty_at_once(const Cluster& cluster, const std::vector<HostId>& hosts) {
  std::uint64_t needed_bytes = 0;
  for (const Guest& guest : cluster.guests)
    needed_bytes += guest.memory_bytes + cluster.hosts[guest.host].guest_overhead_bytes;
  std::uint64_t usable = 0;
  for (const Host& host : cluster.hosts) usable += usable_bytes(host);
  std::vector<std::uint64_t> sizes;
  sizes.reserve(hosts.size());
  for (const HostId host : hosts) sizes.push_back(usable_bytes(cluster.hosts[host]));
  std::sort(sizes.begin(), sizes.end());
  std::size_t count = 0;
  for (const std::uint64_t size : sizes) {
    if (usable < needed_bytes + size) break;
    usable -= size;
    ++count;
  }
  return count;
}

}  // namespace

Expected<PatchPlan> plan_patch(const Cluster& cluster, const std::vector<HostId>& hosts,
                               const PatchOptions& options) {
  if (auto valid = validate(cluster); !valid) return tl::unexpected(valid.error());
  std::vector<bool> named(cluster.hosts.size(), false);
  for (const HostId host : hosts) {
    if (host >= cluster.hosts.size() || named[host])
      return fail(ErrorKind::kInvalid, "a host to patch does not exist or is named twice");
    named[host] = true;
  }
  auto plan = PatchRun(cluster, hosts, options).run();
  if (!plan) return plan;
  std::vector<HostId> patched;
  for (const PatchWave& wave : plan->waves)
    patched.insert(patched.end(), wave.hosts.begin(), wave.hosts.end());
  plan->bound = patch_bound(cluster, patched, options);
  return plan;
}

Bound patch_bound(const Cluster& cluster, const std::vector<HostId>& hosts,
                  const PatchOptions& options) {
  if (hosts.empty()) return {};
  std::size_t at_once = std::max<std::size_t>(empty_at_once(cluster, hosts), 1);
  if (options.hosts_at_once_max > 0)
    at_once = std::min<std::size_t>(at_once, options.hosts_at_once_max);
  const std::size_t rounds = (hosts.size() + at_once - 1) / at_once;
  std::uint64_t first_ms = std::numeric_limits<std::uint64_t>::max();
  for (const HostId host : hosts)
    first_ms = std::min(first_ms, drain_bound(cluster, {host}, options.plan.move_time).ms);
  return {rounds * options.patch_ms + first_ms, "at most " + std::to_string(at_once) +
                                                    (at_once == 1 ? " host" : " hosts") +
                                                    " empty at once: " + std::to_string(rounds) +
                                                    " rounds of patching after a first drain"};
}

}  // namespace sluice::planner
