#include "control/agent/guest_meter.h"

#include <algorithm>
#include <random>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <utility>

#include "control/agent/memory_sample.h"

namespace sluice::agent {
namespace {

constexpr std::chrono::seconds kLookInterval{1};
constexpr std::chrono::seconds kWaitingInterval{5};
// A guest that boots is not what it will be.
constexpr std::chrono::seconds kSettlingTime{30};

std::uint64_t new_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

GuestMeter::GuestMeter(GuestRegistry& registry, std::chrono::seconds interval)
    : registry_(registry),
      interval_(interval),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

std::optional<double> GuestMeter::waited_share() const {
  const std::lock_guard lock(mutex_);
  return waited_.share();
}

void GuestMeter::run(const std::stop_token& stop) {
  Clock::time_point noted{};
  while (!stop.stop_requested()) {
    if (Clock::now() >= noted + kWaitingInterval) {
      noted = Clock::now();
      note_waiting();
    }
    if (interval_.count() != 0) {
      if (const std::string guest = next_due(Clock::now()); !guest.empty()) sample(stop, guest);
    }
    std::unique_lock lock(mutex_);
    stopping_.wait_for(lock, stop, kLookInterval, [] { return false; });
  }
}

void GuestMeter::note_waiting() {
  CoreTimes times;
  for (const auto& guest : registry_.at_rest()) {
    // Memory guests are threads of this very process, beside its workers.
    if (guest.pid <= 0 || guest.pid == getpid()) continue;
    times.merge(core_times_of(guest.pid));
  }
  const std::lock_guard lock(mutex_);
  waited_.note(Clock::now(), std::move(times));
}

std::string GuestMeter::next_due(Clock::time_point now) {
  if (registry_.anybody_moves()) return {};
  std::map<std::string, Clock::time_point> present;
  std::string due;
  for (const auto& guest : registry_.at_rest()) {
    const auto known = tried_.find(guest.name);
    // New guests are as if they had been measured, so that they come to their turn half a minute
    // on.
    auto last = known != tried_.end() ? known->second
                                      : now - interval_ + std::min(interval_, kSettlingTime);
    present[guest.name] = last;
    if (guest.figures) last = std::max(last, guest.figures->measured);
    if (due.empty() && now - last >= interval_) due = guest.name;
  }
  tried_ = std::move(present);
  return due;
}

void GuestMeter::sample(const std::stop_token& stop, const std::string& guest) {
  tried_[guest] = Clock::now();
  const auto memory = registry_.lend_memory(guest);
  if (!memory) return;
  const auto began = Clock::now();
  const auto wait_until = [&](TimeNs period_ns) -> std::optional<TimeNs> {
    {
      std::unique_lock lock(mutex_);
      stopping_.wait_until(lock, stop, began + std::chrono::nanoseconds(period_ns),
                           [] { return false; });
    }
    if (stop.stop_requested() || registry_.anybody_moves()) return std::nullopt;
    return std::chrono::nanoseconds(Clock::now() - began).count();
  };
  const auto sampled = sample_memory(memory->memory, new_seed(), wait_until);
  if (!sampled) {
    spdlog::debug("guest {} was not measured: {}", guest, sampled.error().message);
    return;
  }
  registry_.note_figures(
      guest, {sampled->dirtying, sampled->populated_bytes, FiguresSource::kSampling, Clock::now()});
}

}  // namespace sluice::agent
