#include "control/agent/waiting_time.h"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

namespace sluice::agent {
namespace {

constexpr std::uint64_t kWantedNsMin = 500'000'000;

}  // namespace

CoreTimes core_times_of(pid_t pid) {
  std::error_code error;
  CoreTimes times;
  const std::filesystem::directory_iterator threads("/proc/" + std::to_string(pid) + "/task",
                                                    error);
  if (error) return times;
  for (auto at = begin(threads); at != end(threads); at.increment(error)) {
    if (error) break;
    const std::string name = at->path().filename();
    pid_t thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    std::ifstream file(at->path() / "schedstat");
    CoreTime time;
    if (file >> time.ran_ns >> time.waited_ns) times[thread] = time;
  }
  return times;
}

void WaitedShare::note(Time now, CoreTimes times) {
  notes_.push_back({now, std::move(times)});
  while (notes_.size() > 2 && notes_.front().at + kWindow < now) notes_.pop_front();
}

std::optional<double> WaitedShare::share() const {
  std::uint64_t ran_ns = 0;
  std::uint64_t waited_ns = 0;
  for (std::size_t i = 1; i < notes_.size(); ++i) {
    for (const auto& [thread, now] : notes_[i].times) {
      const auto found = notes_[i - 1].times.find(thread);
      if (found == notes_[i - 1].times.end()) continue;
      const CoreTime& before = found->second;
      // A new thread has got the number of one that has ended.
      if (now.ran_ns < before.ran_ns || now.waited_ns < before.waited_ns) continue;
      ran_ns += now.ran_ns - before.ran_ns;
      waited_ns += now.waited_ns - before.waited_ns;
    }
  }
  if (ran_ns + waited_ns < kWantedNsMin) return std::nullopt;
  return static_cast<double>(waited_ns) / static_cast<double>(ran_ns + waited_ns);
}

}  // namespace sluice::agent
