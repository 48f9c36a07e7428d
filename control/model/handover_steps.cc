#include "control/model/handover_steps.h"

namespace sluice::model {
namespace {

using S = SourceEvent;
using D = DestinationEvent;

template <typename State, typename Event>
bool is_taken(Event event) {
  for (int state = 1; state < static_cast<int>(State::kCount); ++state) {
    if (next(static_cast<State>(state), event)) return true;
  }
  return false;
}

template <typename State, typename Event>
void append_steps(std::vector<std::string>& steps) {
  for (int number = 1; number < static_cast<int>(Event::kCount); ++number) {
    const auto event = static_cast<Event>(number);
    if (is_taken<State>(event)) steps.push_back(step_name(event));
  }
}

}  // namespace

std::string step_name(SourceEvent event) { return std::string("source-") + to_string(event); }

std::string step_name(DestinationEvent event) {
  return std::string("destination-") + to_string(event);
}

std::string step_name(HandoverStep step) {
  switch (step) {
    case HandoverStep::kSourcePrepareSent:
      return "source-prepare-sent";
    case HandoverStep::kSourceStateSent:
      return "source-state-sent";
    case HandoverStep::kSourceBeforeRecord:
      return "source-before-record";
    case HandoverStep::kSourceCommitSent:
      return "source-commit-sent";
    case HandoverStep::kDestinationReceived:
      return "destination-received";
    case HandoverStep::kDestinationCommitHeard:
      return "destination-commit-heard";
    case HandoverStep::kDestinationRunningSaid:
      return "destination-running-said";
    case HandoverStep::kCount:
      break;
  }
  return "?";
}

std::vector<std::string> handover_steps() {
  std::vector<std::string> steps;
  append_steps<SourceState, S>(steps);
  append_steps<DestinationState, D>(steps);
  for (int number = 1; number < static_cast<int>(HandoverStep::kCount); ++number)
    steps.push_back(step_name(static_cast<HandoverStep>(number)));
  return steps;
}

}  // namespace sluice::model
