// Where the guests of hosts to empty go. Pure; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "control/planner/job.h"
#include "control/planner/model.h"

namespace sluice::planner {

struct PlacementOptions {
  MoveTime move_time;
  std::vector<bool> closed;  // by host: never a destination; the hosts to empty are closed
  std::vector<std::uint8_t> rank_of_host;  // by host: lower first; empty: all alike
  std::vector<std::string> to_open;        // as in PlanOptions
  std::uint32_t attempts_max = 10;
};

struct Placement {
  std::vector<Job> jobs;
  std::vector<GuestId> unplaced;
  std::vector<std::string> obstacles;  // why they have no place, a line each
  // Of these as in planner.h's Plan.
  std::map<GuestId, std::string> obstacle_of;
  std::string shortage;
};

// Largest guests first, each to the host that is free soonest to receive it; guests that found no
// room go first in the next of a few attempts. What is tied together goes together.
[[nodiscard]] Placement place_guests(const Cluster& cluster, const std::vector<HostId>& hosts,
                                     const PlacementOptions& options);

}  // namespace sluice::planner
