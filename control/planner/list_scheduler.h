// Builds one schedule from one order of preference; schedule.cc searches over such orders. Pure;
// one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "control/planner/job.h"
#include "control/planner/model.h"
#include "control/planner/occupancy.h"
#include "control/planner/schedule.h"

namespace sluice::planner {

// A job's preference is (load still to start on its most loaded link + sum_weight × that on all its
// links
// + duration_weight × its own duration) × factor[job]; the highest starts first.
struct Preference {
  double sum_weight = 0;
  double duration_weight = 0;
  std::vector<double> factor;
};

class ListScheduler {
 public:
  // `under_way`: see schedule_jobs().
  ListScheduler(const Cluster& cluster, const std::vector<Job>& jobs,
                const std::vector<Job>& under_way);

  // Starts each job as soon as its rules allow, never leaving room idle that a waiting job could
  // use.
  [[nodiscard]] Schedule build(const Preference& preference);

 private:
  // A job that cannot start is parked at one thing that keeps it from starting; it is looked at
  // again when that changes. Resources are numbered: links, then hosts, then groups, then jobs.
  using Resource = std::uint32_t;
  [[nodiscard]] Resource host_resource(HostId host) const;
  [[nodiscard]] Resource group_resource(GroupId group) const;
  [[nodiscard]] Resource job_resource(std::uint32_t job) const;

  void reset();
  void rewind();
  [[nodiscard]] Resource blocker(std::uint32_t job);
  [[nodiscard]] Resource room_blocker(std::uint32_t job);
  void start(std::uint32_t job, std::uint64_t now_ms);
  void start_under_way();
  void await_end(std::uint32_t job, std::uint64_t time_ms);
  // Also of those under way, whose numbers come after the jobs'.
  void end(std::uint32_t job);
  void release(Resource resource);
  void start_ready(const Preference& preference, std::uint64_t now_ms);
  [[nodiscard]] double preference_of(std::uint32_t job, const Preference& preference) const;
  void arrive(const Job& job);
  void depart(const Job& job);

  const Cluster& cluster_;
  const std::vector<Job>& jobs_;
  const std::vector<Job>& under_way_;
  Occupancy occupancy_;
  // Those that can keep it waiting; of those under way too, after the jobs.
  std::vector<std::vector<GroupId>> groups_of_job_;
  std::vector<double> ms_per_rate_;  // by link: 1 / its rate
  std::vector<LinkId> used_links_;
  std::vector<double> total_load_ms_;               // by link
  std::vector<double> waiting_load_ms_;             // by link: of jobs not started
  std::vector<std::uint64_t> free_rate_;            // by link
  std::vector<std::uint32_t> moving_;               // by group: jobs under way
  std::vector<std::vector<std::uint32_t>> parked_;  // by resource
  std::vector<Resource> parked_resources_;          // those that may have some, for reset()
  std::vector<std::uint32_t> ready_;
  std::vector<std::pair<double, std::uint32_t>> ordered_;
  struct Ending {
    std::uint64_t time_ms;
    // The jobs, then those under way, then the jobs again: of how long they may not begin.
    std::uint32_t job;
  };
  std::vector<Ending> endings_;  // a heap, earliest end first
  enum class Stage : std::uint8_t { kWaiting = 1, kMoving, kDone };
  std::vector<Stage> stage_;
  Schedule schedule_;
};

}  // namespace sluice::planner
