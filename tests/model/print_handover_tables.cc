// Prints the tables of control/model/handover.h, a transition a line: "source 1 1 2" is from,
// event, to.
#include <cstdio>

#include "control/model/handover.h"

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

int main() {
  using namespace sluice::model;
  print<SourceState, SourceEvent>("source");
  print<DestinationState, DestinationEvent>("destination");
  return 0;
}
