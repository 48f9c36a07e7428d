#include "control/planner/list_scheduler.h"

#include <algorithm>

namespace sluice::planner {

ListScheduler::ListScheduler(const Cluster& cluster, const std::vector<Job>& jobs,
                             const std::vector<Job>& under_way)
    : cluster_(cluster),
      jobs_(jobs),
      under_way_(under_way),
      occupancy_(cluster),
      groups_of_job_(jobs.size() + under_way.size()),
      ms_per_rate_(cluster.links.size()),
      total_load_ms_(cluster.links.size(), 0),
      free_rate_(cluster.links.size()),
      moving_(cluster.groups.size(), 0),
      parked_(cluster.links.size() + cluster.hosts.size() + cluster.groups.size() + jobs.size()),
      stage_(jobs.size(), Stage::kWaiting) {
  for (LinkId link = 0; link < cluster.links.size(); ++link) {
    ms_per_rate_[link] = 1.0 / static_cast<double>(cluster.links[link].bytes_per_second);
    free_rate_[link] = cluster.links[link].bytes_per_second;
  }
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    for (const LinkId link : jobs[i].links) {
      if (total_load_ms_[link] == 0) used_links_.push_back(link);
      total_load_ms_[link] += static_cast<double>(jobs[i].duration_ms) *
                              static_cast<double>(jobs[i].bytes_per_second) * ms_per_rate_[link];
    }
  }
  for (std::size_t i = 0; i < groups_of_job_.size(); ++i) {
    const Job& job = i < jobs.size() ? jobs[i] : under_way[i - jobs.size()];
    auto& groups = groups_of_job_[i];
    for (const Job::Passenger& passenger : job.passengers) {
      for (const GroupId group : cluster.guests[passenger.guest].groups) {
        if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
      }
    }
  }
  waiting_load_ms_ = total_load_ms_;
}

ListScheduler::Resource ListScheduler::host_resource(HostId host) const {
  return static_cast<Resource>(cluster_.links.size() + host);
}

ListScheduler::Resource ListScheduler::group_resource(GroupId group) const {
  return static_cast<Resource>(cluster_.links.size() + cluster_.hosts.size() + group);
}

ListScheduler::Resource ListScheduler::job_resource(std::uint32_t job) const {
  return static_cast<Resource>(cluster_.links.size() + cluster_.hosts.size() +
                               cluster_.groups.size() + job);
}

void ListScheduler::reset() {
  for (const LinkId link : used_links_) {
    waiting_load_ms_[link] = total_load_ms_[link];
    free_rate_[link] = cluster_.links[link].bytes_per_second;
  }
  for (const auto& groups : groups_of_job_) {
    for (const GroupId group : groups) moving_[group] = 0;
  }
  for (const Resource resource : parked_resources_) parked_[resource].clear();
  parked_resources_.clear();
  endings_.clear();
  std::fill(stage_.begin(), stage_.end(), Stage::kWaiting);
  schedule_.start_ms.assign(jobs_.size(), 0);
  schedule_.stuck.clear();
  schedule_.makespan_ms = 0;
}

// Puts everybody back where the cluster has them. Room only adds up, so the order does not matter.
void ListScheduler::rewind() {
  for (std::uint32_t job = 0; job < jobs_.size(); ++job) {
    if (stage_[job] != Stage::kDone) continue;
    for (const Job::Passenger& passenger : jobs_[job].passengers) {
      occupancy_.leave(passenger.guest, jobs_[job].to, passenger.to_node, jobs_[job].from);
      occupancy_.arrive(passenger.guest, jobs_[job].to, jobs_[job].from, passenger.from_node);
    }
  }
}

void ListScheduler::arrive(const Job& job) {
  for (const Job::Passenger& passenger : job.passengers)
    occupancy_.arrive(passenger.guest, job.from, job.to, passenger.to_node);
}

void ListScheduler::depart(const Job& job) {
  for (const Job::Passenger& passenger : job.passengers)
    occupancy_.leave(passenger.guest, job.from, passenger.from_node, job.to);
}

// What keeps a job from starting now; kNone: nothing.
ListScheduler::Resource ListScheduler::blocker(std::uint32_t index) {
  const Job& job = jobs_[index];
  for (const LinkId link : job.links) {
    if (free_rate_[link] < job.bytes_per_second) return link;
  }
  if (job.after != kNone && stage_[job.after] != Stage::kDone) return job_resource(job.after);
  for (const GroupId group : groups_of_job_[index]) {
    const std::uint32_t limit = cluster_.groups[group].moving_max;
    if (limit > 0 && moving_[group] >= limit) return group_resource(group);
  }
  return room_blocker(index);
}

ListScheduler::Resource ListScheduler::room_blocker(std::uint32_t index) {
  const Job& job = jobs_[index];
  Resource found = kNone;
  std::size_t boarded = 0;
  for (const Job::Passenger& passenger : job.passengers) {
    const GroupId apart = occupancy_.kept_apart(passenger.guest, job.from, job.to);
    if (!occupancy_.has_memory(passenger.guest, job.to, passenger.to_node)) {
      found = host_resource(job.to);
    } else if (apart != kNone) {
      found = group_resource(apart);
    }
    if (found != kNone || job.passengers.size() == 1) break;
    // The next one must find room beside this one.
    occupancy_.arrive(passenger.guest, job.from, job.to, passenger.to_node);
    ++boarded;
  }
  for (; boarded > 0; --boarded) {
    const Job::Passenger& passenger = job.passengers[boarded - 1];
    occupancy_.leave(passenger.guest, job.to, passenger.to_node, job.from);
  }
  return found;
}

void ListScheduler::start(std::uint32_t index, std::uint64_t now_ms) {
  const Job& job = jobs_[index];
  arrive(job);
  for (const LinkId link : job.links) {
    free_rate_[link] -= job.bytes_per_second;
    waiting_load_ms_[link] -= static_cast<double>(job.duration_ms) *
                              static_cast<double>(job.bytes_per_second) * ms_per_rate_[link];
  }
  for (const GroupId group : groups_of_job_[index]) ++moving_[group];
  stage_[index] = Stage::kMoving;
  schedule_.start_ms[index] = now_ms;
  await_end(index, now_ms + job.duration_ms);
}

void ListScheduler::await_end(std::uint32_t index, std::uint64_t time_ms) {
  endings_.push_back({time_ms, index});
  std::push_heap(endings_.begin(), endings_.end(),
                 [](const Ending& a, const Ending& b) { return a.time_ms > b.time_ms; });
}

// The cluster has their guests at their destinations already.
void ListScheduler::start_under_way() {
  for (std::uint32_t i = 0; i < under_way_.size(); ++i) {
    const Job& job = under_way_[i];
    const auto index = static_cast<std::uint32_t>(jobs_.size()) + i;
    for (const Job::Passenger& passenger : job.passengers)
      occupancy_.arrive(passenger.guest, job.to, job.from, passenger.from_node);
    for (const LinkId link : job.links) free_rate_[link] -= job.bytes_per_second;
    for (const GroupId group : groups_of_job_[index]) ++moving_[group];
    await_end(index, job.duration_ms);
  }
}

void ListScheduler::end(std::uint32_t index) {
  const bool planned = index < jobs_.size();
  const Job& job = planned ? jobs_[index] : under_way_[index - jobs_.size()];
  depart(job);
  if (planned) stage_[index] = Stage::kDone;
  for (const LinkId link : job.links) {
    free_rate_[link] += job.bytes_per_second;
    release(link);
  }
  for (const GroupId group : groups_of_job_[index]) {
    --moving_[group];
    release(group_resource(group));
  }
  release(host_resource(job.from));
  if (planned) release(job_resource(index));
}

void ListScheduler::release(Resource resource) {
  auto& waiting = parked_[resource];
  ready_.insert(ready_.end(), waiting.begin(), waiting.end());
  waiting.clear();
}

double ListScheduler::preference_of(std::uint32_t index, const Preference& preference) const {
  double most = 0;
  double sum = 0;
  for (const LinkId link : jobs_[index].links) {
    most = std::max(most, waiting_load_ms_[link]);
    sum += waiting_load_ms_[link];
  }
  return (most + preference.sum_weight * sum +
          preference.duration_weight * static_cast<double>(jobs_[index].duration_ms)) *
         preference.factor[index];
}

void ListScheduler::start_ready(const Preference& preference, std::uint64_t now_ms) {
  ordered_.clear();
  for (const std::uint32_t job : ready_)
    ordered_.emplace_back(-preference_of(job, preference), job);
  ready_.clear();
  std::sort(ordered_.begin(), ordered_.end());
  for (const auto& [negated, job] : ordered_) {
    const Resource resource = blocker(job);
    if (resource == kNone) {
      start(job, now_ms);
      continue;
    }
    if (parked_[resource].empty()) parked_resources_.push_back(resource);
    parked_[resource].push_back(job);
  }
}

Schedule ListScheduler::build(const Preference& preference) {
  reset();
  start_under_way();
  ready_.clear();
  const auto timers = static_cast<std::uint32_t>(jobs_.size() + under_way_.size());
  for (std::uint32_t job = 0; job < jobs_.size(); ++job) {
    if (jobs_[job].not_before_ms > 0) {
      await_end(timers + job, jobs_[job].not_before_ms);
    } else {
      ready_.push_back(job);
    }
  }
  start_ready(preference, 0);
  while (!endings_.empty()) {
    const std::uint64_t now_ms = endings_.front().time_ms;
    while (!endings_.empty() && endings_.front().time_ms == now_ms) {
      std::pop_heap(endings_.begin(), endings_.end(),
                    [](const Ending& a, const Ending& b) { return a.time_ms > b.time_ms; });
      const std::uint32_t job = endings_.back().job;
      endings_.pop_back();
      if (job >= timers) {
        ready_.push_back(job - timers);
        continue;
      }
      end(job);
      if (job < jobs_.size()) schedule_.makespan_ms = now_ms;
    }
    start_ready(preference, now_ms);
  }
  for (std::uint32_t job = 0; job < jobs_.size(); ++job) {
    if (stage_[job] == Stage::kWaiting) schedule_.stuck.push_back(job);
  }
  rewind();
  return schedule_;
}

}  // namespace sluice::planner
