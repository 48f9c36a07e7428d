// What an agent has measured of a guest's memory, and how it is said to others.
#pragma once

#include <chrono>
#include <cstdint>

#include "control/model/dirtying.h"
#include "control/proto/sluice.pb.h"

namespace sluice::agent {

enum class FiguresSource : std::uint8_t {
  kMigration = 1,  // the last one saw it
  kSampling,       // pages were read at rest; see memory_sample.h
};

struct GuestFigures {
  model::Dirtying dirtying;
  std::uint64_t populated_bytes = 0;
  FiguresSource source = FiguresSource::kMigration;
  std::chrono::steady_clock::time_point measured = std::chrono::steady_clock::now();
};

[[nodiscard]] v1::GuestFigures to_proto(const GuestFigures& figures);
// Of another agent's guest that is to run here; nothing in it is trusted, but it decides nothing
// either. Its age is counted from now.
[[nodiscard]] GuestFigures from_proto(const v1::GuestFigures& figures);

}  // namespace sluice::agent
