// The planner: where the guests of the hosts to empty go, and in what order everything moves. Pure:
// time comes as durations, randomness as a seed. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "control/planner/job.h"
#include "control/planner/model.h"
#include "control/planner/schedule.h"
#include "dataplane/base/expected.h"

namespace sluice::planner {

// A move that has begun before the plan. In the cluster its guest is where it goes to.
struct UnderWay {
  GuestId guest = kNone;
  HostId from = kNone;
  bool on_links = true;  // false: nothing waits for a link because of it
};

struct PlanOptions {
  SearchOptions search;
  MoveTime move_time{};  // required
  // By host, optional: destinations of a lower rank are taken before any of a higher one.
  std::vector<std::uint8_t> rank_of_host{};
  // By host, optional: never a destination, beside the hosts to empty.
  std::vector<bool> closed{};
  // By guest, optional: no move of it begins before. Others go first meanwhile.
  std::vector<std::uint64_t> not_before_ms{};
  // By host, optional: no stop on the way to a destination either, though it may be one.
  std::vector<bool> no_stop{};
  // By host, optional: what would open a closed one to guests, for the line about one that would
  // fit there; empty: nothing should.
  std::vector<std::string> to_open{};
  // Each of them is taken to have begun just now. Until their ends they count at both hosts, in
  // their groups and on their links. Their guests are in none of the plan's moves if their policy
  // is kNever.
  std::vector<UnderWay> under_way{};
};

struct Plan {
  std::vector<Move> moves;  // in order of start
  std::uint64_t makespan_ms = 0;
  Bound bound;  // what no schedule of any plan for this task can beat
  std::uint32_t stops =
      0;  // guests that go by an intermediate host, because others wait for their room
  std::vector<std::string> obstacles;  // why the plan is not complete, a line each; empty: it is
  // Of each guest that the plan does not bring where it should: the line about it, also where
  // `obstacles` leaves it out for being one of many.
  std::map<GuestId, std::string> obstacle_of;
  std::string shortage;  // the one of them that is about the memory of all; empty: there is enough
  std::uint32_t schedules_tried = 0;

  [[nodiscard]] bool complete() const { return obstacles.empty(); }
};

// Empties `hosts`. Guests that cannot leave are named in `obstacles`; the others are planned all
// the same. Errors (kInvalid): see validate().
[[nodiscard]] Expected<Plan> plan_drain(const Cluster& cluster, const std::vector<HostId>& hosts,
                                        const PlanOptions& options);

struct Destination {
  GuestId guest = kNone;
  HostId to = kNone;
};

// Brings each guest to its destination, by an intermediate stop where guests wait for each other's
// room. Errors (kInvalid): see validate(); a guest that is named twice or is there already.
[[nodiscard]] Expected<Plan> plan_moves(const Cluster& cluster,
                                        const std::vector<Destination>& destinations,
                                        const PlanOptions& options);

// What nobody can beat who empties `hosts`, wherever the guests go: the memory that has to travel
// by each host's link, and by the links into the rest of the cluster all together; the longest
// single migration.
[[nodiscard]] Bound drain_bound(const Cluster& cluster, const std::vector<HostId>& hosts,
                                const MoveTime& move_time);

}  // namespace sluice::planner
