#include "control/planner/schedule.h"

#include <algorithm>
#include <tuple>

#include "control/planner/list_scheduler.h"
#include "dataplane/base/random.h"

namespace sluice::planner {
namespace {

// Fewer stuck jobs first, then the makespan, then how much is finished late: the last one leads the
// search across plateaus on which many jobs end together.
struct Score {
  std::size_t stuck = 0;
  std::uint64_t makespan_ms = 0;
  std::uint64_t lateness_ms = 0;

  bool operator<(const Score& other) const {
    return std::tie(stuck, makespan_ms, lateness_ms) <
           std::tie(other.stuck, other.makespan_ms, other.lateness_ms);
  }
};

class Search {
 public:
  Search(const Cluster& cluster, const std::vector<Job>& jobs, const SearchOptions& options,
         const std::vector<Job>& under_way)
      : jobs_(jobs),
        options_(options),
        scheduler_(cluster, jobs, under_way),
        bound_ms_(lower_bound(cluster, jobs).ms),
        random_(options.seed) {}

  Schedule run() {
    best_score_.stuck = jobs_.size() + 1;
    Preference preference{.factor = std::vector<double>(jobs_.size(), 1.0)};
    try_preference(preference);
    // A third of the budget on fresh orders, the rest on changing good ones a little.
    const std::uint32_t fresh = 1 + options_.schedules_max / 3;
    while (!finished() && best_.schedules_tried < fresh) try_preference(fresh_preference());
    while (!finished()) climb();
    return std::move(best_);
  }

 private:
  [[nodiscard]] bool finished() const {
    return (best_score_.stuck == 0 && best_score_.makespan_ms <= bound_ms_) ||
           best_.schedules_tried >= options_.schedules_max ||
           (options_.out_of_time && options_.out_of_time());
  }

  [[nodiscard]] double uniform() { return static_cast<double>(random_.next() >> 11) * 0x1.0p-53; }

  Preference fresh_preference() {
    constexpr double kSumWeights[] = {0, 0, 0.1, 0.5, 2};
    constexpr double kDurationWeights[] = {0, 0, 0.1, 1};
    constexpr double kSpreads[] = {0.03, 0.1, 0.3, 0.9};
    Preference preference;
    preference.sum_weight = kSumWeights[random_.below(5)];
    preference.duration_weight = kDurationWeights[random_.below(4)];
    const double spread = kSpreads[random_.below(4)];
    preference.factor.resize(jobs_.size());
    for (double& factor : preference.factor) factor = 1.0 + spread * (2 * uniform() - 1);
    return preference;
  }

  Score try_preference(const Preference& preference) {
    Schedule schedule = scheduler_.build(preference);
    Score score{schedule.stuck.size(), schedule.makespan_ms, 0};
    for (std::size_t job = 0; job < jobs_.size(); ++job) {
      const std::uint64_t end_ms = schedule.start_ms[job] + jobs_[job].duration_ms;
      if (end_ms > bound_ms_) score.lateness_ms += end_ms - bound_ms_;
    }
    const std::uint32_t tried = best_.schedules_tried + 1;
    last_start_ms_ = schedule.start_ms;
    if (score < best_score_) {
      best_score_ = score;
      best_preference_ = preference;
      best_ = std::move(schedule);
    }
    best_.schedules_tried = tried;
    return score;
  }

  // From the best order so far: change the preference of a few jobs, mostly of those that end last,
  // and keep the change unless it does harm. After many changes without gain, start over from the
  // best.
  void climb() {
    Preference current = best_preference_;
    Score current_score = best_score_;
    std::vector<std::uint64_t> start_ms = best_.start_ms;
    const std::uint32_t patience = 60 + static_cast<std::uint32_t>(random_.below(200));
    for (std::uint32_t stale = 0; stale < patience && !finished(); ++stale) {
      Preference changed = current;
      const std::size_t changes = 1 + random_.below(1 + jobs_.size() / 50);
      for (std::size_t i = 0; i < changes; ++i) {
        std::size_t job = random_.below(jobs_.size());
        // The later of two is more likely to matter, and sooner is where it should be.
        const std::size_t other = random_.below(jobs_.size());
        const bool later =
            start_ms[other] + jobs_[other].duration_ms > start_ms[job] + jobs_[job].duration_ms;
        if (later) job = other;
        changed.factor[job] *= 0.7 + 0.9 * uniform();
      }
      const Score score = try_preference(changed);
      if (current_score < score) continue;
      if (score < current_score) stale = 0;
      current = std::move(changed);
      current_score = score;
      start_ms = last_start_ms_;
    }
  }

  const std::vector<Job>& jobs_;
  const SearchOptions& options_;
  ListScheduler scheduler_;
  std::uint64_t bound_ms_;
  Random random_;
  Schedule best_;
  Score best_score_;
  Preference best_preference_;
  std::vector<std::uint64_t> last_start_ms_;
};

}  // namespace

Schedule schedule_jobs(const Cluster& cluster, const std::vector<Job>& jobs,
                       const SearchOptions& options, const std::vector<Job>& under_way) {
  if (jobs.empty()) return {};
  return Search(cluster, jobs, options, under_way).run();
}

std::vector<Move> moves_of(const std::vector<Job>& jobs, const Schedule& schedule) {
  std::vector<bool> stuck(jobs.size(), false);
  for (const std::uint32_t job : schedule.stuck) stuck[job] = true;
  std::vector<Move> moves;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (stuck[i]) continue;
    std::uint64_t start_ms = schedule.start_ms[i];
    for (const Job::Passenger& passenger : jobs[i].passengers) {
      const std::uint64_t end_ms = start_ms + passenger.duration_ms;
      moves.push_back({.guest = passenger.guest,
                       .from = jobs[i].from,
                       .to = jobs[i].to,
                       .to_numa_node = passenger.to_node,
                       .bytes_per_second = jobs[i].bytes_per_second,
                       .start_ms = start_ms,
                       .end_ms = end_ms});
      start_ms = end_ms;
    }
  }
  std::stable_sort(moves.begin(), moves.end(),
                   [](const Move& a, const Move& b) { return a.start_ms < b.start_ms; });
  return moves;
}

}  // namespace sluice::planner
