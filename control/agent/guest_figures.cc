#include "control/agent/guest_figures.h"

#include <algorithm>

namespace sluice::agent {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kMigration = "migration";
constexpr const char* kSampling = "sampling";
// Older than any agent keeps figures; more could not be counted back from now.
constexpr std::uint64_t kAgeMaxS = 30UL * 86'400;

}  // namespace

v1::GuestFigures to_proto(const GuestFigures& figures) {
  v1::GuestFigures out;
  out.set_dirty_bytes_per_second(figures.dirtying.bytes_per_second);
  out.set_working_set_bytes(figures.dirtying.working_set_bytes);
  out.set_working_set_ms(figures.dirtying.working_set_ms);
  out.set_populated_bytes(figures.populated_bytes);
  out.set_source(figures.source == FiguresSource::kMigration ? kMigration : kSampling);
  const auto age =
      std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - figures.measured);
  out.set_age_s(static_cast<std::uint64_t>(std::max<std::int64_t>(age.count(), 0)));
  return out;
}

GuestFigures from_proto(const v1::GuestFigures& figures) {
  GuestFigures out;
  out.dirtying = {figures.dirty_bytes_per_second(), figures.working_set_bytes(),
                  figures.working_set_ms()};
  out.populated_bytes = figures.populated_bytes();
  out.source = figures.source() == kSampling ? FiguresSource::kSampling : FiguresSource::kMigration;
  out.measured = Clock::now() - std::chrono::seconds(std::min(figures.age_s(), kAgeMaxS));
  return out;
}

}  // namespace sluice::agent
