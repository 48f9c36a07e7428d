// Prints the tables of control/model/handover.h, a transition a line: "source 1 1 2" is from,
// event, to. With the argument "steps": the names of handover_steps.h instead.
#include <cstdio>
#include <string_view>

#include "control/model/handover.h"
#include "control/model/handover_steps.h"

namespace {

template <typename State, typename Event>
void print(const char* side) {
  for (int from = 1; from < static_cast<int>(State::kCount); ++from) {
    for (int event = 1; event < static_cast<int>(Event::kCount); ++event) {
      const auto to = sluice::model::next(static_cast<State>(from), static_cast<Event>(event));
      if (to) std::printf("%s %d %d %d\n", side, from, event, static_cast<int>(*to));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sluice::model;
  if (argc > 1 && std::string_view(argv[1]) == "steps") {
    for (const auto& step : handover_steps()) std::printf("%s\n", step.c_str());
    return 0;
  }
  print<SourceState, SourceEvent>("source");
  print<DestinationState, DestinationEvent>("destination");
  return 0;
}
