// How long a whole run takes, from its beginning to its end, if all goes well. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "control/patch/plan.h"
#include "control/patch/planned_mover.h"
#include "control/patch/record.h"
#include "control/patch/run.h"

namespace sluice::controller {

// Of a host, from its patch's beginning to its canary's end.
struct PatchTime {
  patch::Estimate estimate;
  std::string from;  // how it is known, for people
};

// What an earlier run says of it.
struct MeasuredPatch {
  std::string run;
  std::vector<double> seconds;  // of each host that went so far
};

// By the plan's own word, or else by what was measured, or else a guess.
[[nodiscard]] PatchTime patch_time(const patch::Plan& plan, const MeasuredPatch& measured);

// Whether what one measured says something of the other: they do the same to a host.
[[nodiscard]] bool patches_alike(const patch::Plan& plan, const patch::Plan& other);

struct HostForecast {
  patch::Estimate drain;
  std::size_t guests = 0;
};

struct AtOnce {
  std::uint32_t hosts = 1;   // out of service
  std::uint32_t drains = 1;  // that do not keep each other waiting, on the links into other hosts
};

// As the plan says or, if it leaves that open, as many of its first hosts as there is room for now.
// `hosts` are what is forecast of the plan's, in their order.
[[nodiscard]] AtOnce at_once(const patch::Plan& plan, const patch::Facts& facts,
                             const patch::PlannedMover& mover,
                             const std::vector<HostForecast>& hosts);

// From `wall_ms` on: drains, patches, gates, ways home and soaks, with the waits for links, for the
// window and for earlier waves. Hooks other than the patch's count for nothing, and so do attempts
// that fail.
[[nodiscard]] patch::Estimate forecast(const patch::Plan& plan, patch::TimeMs wall_ms,
                                       const AtOnce& at_once, const PatchTime& patching,
                                       const std::vector<HostForecast>& hosts);

// Between the steps of a refill of so many guests: wherever one lets more of them come.
[[nodiscard]] double gates_seconds(const patch::Plan& plan, std::size_t guests);

}  // namespace sluice::controller
