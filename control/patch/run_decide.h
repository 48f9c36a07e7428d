// One decide() in the making, and what admission shares with it; private to run_*.cc and admit.cc.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/patch/run.h"
#include "control/planner/model.h"

namespace sluice::patch {

// It may answer again in a moment.
inline bool is_silent_for_now(const HostFacts& host) {
  return !host.reachable && host.silent_ms <= kSilenceMsMax;
}

// Of a host whose QEMU may not be known.
inline std::string qemu_text(std::uint32_t series) {
  return series == 0 ? "not known" : planner::qemu_series_text(series);
}

// What HostFacts::copies says of a host, for an operator.
struct Copy {
  std::string text;
  bool stays = false;  // until somebody does something about it
};
[[nodiscard]] std::optional<Copy> copy_on(const Facts& facts, const std::string& host);

// Kept out of service until somebody has looked at it.
inline bool is_quarantined(const HostRun& host) {
  return host.state == HostState::kQuarantined && !host.mended;
}

// It has its patch, or may have it, and has not shown yet that it does well with it.
bool is_unproven(const HostRun& host);

// Who will be started on its host again keeps its place there.
void add_down(MoveQuery& query, std::map<std::string, Down> down);

struct Run::Decision {
  const Facts& facts;
  const Mover& mover;
  Patience& patience;
  std::uint64_t next_id;
  std::map<std::string, std::vector<std::string>> guests_by_host{};  // canaries left out
  std::vector<Record> records{};

  template <typename Body>
  void add(Body body) {
    records.push_back({facts.now_ms, std::move(body)});
  }
  void step(const std::string& host, HostEvent event, std::string reason = {}) {
    add(HostStep{host, event, std::move(reason)});
  }
  void fail(const std::string& host, std::string reason) {
    step(host, HostEvent::kFailure, std::move(reason));
  }
  // `intent` with its id.
  void intend(Intent intent) {
    intent.id = next_id++;
    add(std::move(intent));
  }
  [[nodiscard]] const HostFacts* host(const std::string& name) const {
    const auto found = facts.hosts.find(name);
    return found == facts.hosts.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const std::vector<std::string>& guests_on(const std::string& name) const {
    static const std::vector<std::string> kNone;
    const auto found = guests_by_host.find(name);
    return found == guests_by_host.end() ? kNone : found->second;
  }
  [[nodiscard]] bool silent_for(const std::string& name, TimeMs limit_ms) const {
    const HostFacts* found = host(name);
    return found == nullptr || (!found->reachable && found->silent_ms > limit_ms);
  }
  [[nodiscard]] bool reachable(const std::string& name) const {
    const HostFacts* found = host(name);
    return found != nullptr && found->reachable;
  }
};

}  // namespace sluice::patch
