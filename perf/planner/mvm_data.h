// Reads BtrPlace's JSON as the mVM experiments published it (Kherbache, Madelaine, Hermenier:
// "Scheduling Live Migrations for Fast, Adaptable and Energy-Efficient Relocation Operations", UCC
// 2015): plans that were executed, with the measurements, and larger instances without a plan.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "control/planner/model.h"
#include "control/planner/planner.h"

namespace sluice::perf {

struct Instance {
  std::string name;
  planner::Cluster cluster;
  std::vector<planner::Destination> destinations;
};

// A measured migration.
struct Run {
  planner::GuestId guest = planner::kNone;
  std::uint64_t bytes_per_second = 0;
  std::uint64_t measured_ms = 0;
};

struct PublishedPlan {
  Instance instance;
  std::vector<planner::Move> moves;  // as published
  std::vector<Run> runs;             // of all repetitions
};

// (populated bytes, bytes per second) → ms: how long the published plans say that a migration
// takes. Two plans that disagree are an error.
using PlannedDurations = std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t>;

// DIR/plans/random.N.json and DIR/runs/R/micro_random.N.csv, in order of N. Throws
// std::runtime_error that names the file.
[[nodiscard]] std::vector<PublishedPlan> read_plans(const std::string& directory,
                                                    PlannedDurations& durations);

// DIR/large/SCENARIO/xK/*.json.gz, in order of the path. Throws std::runtime_error that names the
// file.
[[nodiscard]] std::vector<Instance> read_instances(const std::string& directory);

}  // namespace sluice::perf
