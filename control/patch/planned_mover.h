// Asks the planner which moves to start now. Each answer is the beginning of a whole plan that
// empties what is to be emptied from where everything is at this moment, so that nothing that
// happens in between makes it wrong. Pure; any thread.
#pragma once

#include "control/patch/run.h"
#include "control/planner/planner.h"

namespace sluice::patch {

class PlannedMover final : public Mover {
 public:
  // `cluster`: hosts, links, groups and guests as they are known, by the names that Facts has;
  // where guests are is taken from the facts of each query. Valid (planner::validate()).
  PlannedMover(planner::Cluster cluster, planner::MoveTime move_time)
      : cluster_(std::move(cluster)), move_time_(std::move(move_time)) {}

  // The whole plan that a proposal is the beginning of, to empty what `query` names, and the
  // cluster that it speaks of. Errors: see planner::plan_drain().
  struct Drain {
    planner::Cluster cluster;
    planner::Plan plan;
  };
  [[nodiscard]] Expected<Drain> plan_drain(const MoveQuery& query) const;

  [[nodiscard]] MoveAnswer propose(const MoveQuery& query) const override;
  [[nodiscard]] bool has_room(const MoveQuery& query) const override;
  [[nodiscard]] std::string target_for(const std::string& guest,
                                       const MoveQuery& query) const override;

 private:
  class Proposal;

  planner::Cluster cluster_;
  planner::MoveTime move_time_;
};

}  // namespace sluice::patch
