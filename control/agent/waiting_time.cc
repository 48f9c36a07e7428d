#include "control/agent/waiting_time.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

namespace sluice::agent {
namespace {

constexpr std::uint64_t kWantedNsMin = 500'000'000;

// Threads that have ended take their time with them.
std::uint64_t grown(std::uint64_t before, std::uint64_t now) {
  return now > before ? now - before : 0;
}

}  // namespace

std::optional<CoreTime> core_time_of(pid_t pid) {
  std::error_code error;
  CoreTime sum;
  bool counted = false;
  const std::filesystem::directory_iterator threads("/proc/" + std::to_string(pid) + "/task",
                                                    error);
  if (error) return std::nullopt;
  for (auto at = begin(threads); at != end(threads); at.increment(error)) {
    if (error) break;
    std::ifstream file(at->path() / "schedstat");
    CoreTime thread;
    if (!(file >> thread.ran_ns >> thread.waited_ns)) continue;
    sum.ran_ns += thread.ran_ns;
    sum.waited_ns += thread.waited_ns;
    counted = true;
  }
  if (!counted) return std::nullopt;
  return sum;
}

void WaitedShare::note(Time now, std::map<pid_t, CoreTime> times) {
  notes_.push_back({now, std::move(times)});
  while (notes_.size() > 2 && notes_.front().at + kWindow < now) notes_.pop_front();
}

std::optional<double> WaitedShare::share() const {
  std::uint64_t ran_ns = 0;
  std::uint64_t waited_ns = 0;
  for (std::size_t i = 1; i < notes_.size(); ++i) {
    for (const auto& [pid, now] : notes_[i].times) {
      const auto before = notes_[i - 1].times.find(pid);
      if (before == notes_[i - 1].times.end()) continue;
      ran_ns += grown(before->second.ran_ns, now.ran_ns);
      waited_ns += grown(before->second.waited_ns, now.waited_ns);
    }
  }
  if (ran_ns + waited_ns < kWantedNsMin) return std::nullopt;
  return static_cast<double>(waited_ns) / static_cast<double>(ran_ns + waited_ns);
}

}  // namespace sluice::agent
