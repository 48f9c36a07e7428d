// Brings the data plane's events to the session that waits for them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/engine/commands.h"

namespace sluice::agent {

// The events of one session. Any thread may push or interrupt; one thread waits.
class SessionEvents {
 public:
  // `guest` is whose session it is, for errors.
  explicit SessionEvents(std::string guest) : guest_(std::move(guest)) {}

  void push(const engine::Event& event);
  // Makes the present and every later wait fail with `error`; the first one counts.
  void interrupt(Error error);
  [[nodiscard]] std::optional<Error> interruption() const;

  // The next `count` events of this kind, those that came early included, in order of arrival.
  // Fails when interrupted, when a flow reports that its tracker failed or missed a write or
  // that its peer is silent, or with kUnreachable at `deadline_ns` (CLOCK_MONOTONIC; 0: never).
  [[nodiscard]] Expected<std::vector<engine::Event>> await(engine::EventKind kind,
                                                           std::size_t count, TimeNs deadline_ns);
  // As await(), whatever was reported or interrupted: for taking flows back after a failure.
  [[nodiscard]] Expected<std::vector<engine::Event>> await_regardless(engine::EventKind kind,
                                                                      std::size_t count,
                                                                      TimeNs deadline_ns);

 private:
  [[nodiscard]] Expected<std::vector<engine::Event>> wait(engine::EventKind kind, std::size_t count,
                                                          TimeNs deadline_ns, bool regardless);
  [[nodiscard]] std::size_t count_of(engine::EventKind kind) const;

  const std::string guest_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<engine::Event> events_;  // bounded by the protocol: a handful a flow
  std::optional<Error> failure_;
};

// Any thread.
class EventRouter {
 public:
  // For the data plane's dispatcher. Events of sessions that nobody waits for are dropped.
  void deliver(const engine::Event& event);

  // Events of `session` go to the returned queue until it is destroyed. Null while another one has
  // them: a peer chooses its sessions' numbers, and must not choose one that is in use here.
  [[nodiscard]] std::shared_ptr<SessionEvents> open(std::uint64_t session, std::string guest);

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::weak_ptr<SessionEvents>> sessions_;
};

}  // namespace sluice::agent
