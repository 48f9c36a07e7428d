// State machines as tables: what is not in the table is illegal. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <optional>

namespace sluice::model {

template <typename State, typename Event>
struct Transition {
  State from;
  Event event;
  State to;
};

// The state after `event`; nothing if the event is illegal there.
template <typename State, typename Event, std::size_t N>
[[nodiscard]] std::optional<State> find(const std::array<Transition<State, Event>, N>& table,
                                        State state, Event event) {
  for (const auto& transition : table) {
    if (transition.from == state && transition.event == event) return transition.to;
  }
  return std::nullopt;
}

}  // namespace sluice::model
