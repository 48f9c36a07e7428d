#include "control/agent/event_router.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <utility>

#include "dataplane/port/dirty_source.h"

namespace sluice::agent {
namespace {

const char* name_of(engine::EventKind kind) {
  switch (kind) {
    case engine::EventKind::kPathProbed:
      return "an answer to the probes of the path";
    case engine::EventKind::kPagesMarked:
      return "the marking of pages";
    case engine::EventKind::kIterationDone:
      return "the end of an iteration";
    case engine::EventKind::kFinalScanned:
      return "the final scan";
    case engine::EventKind::kSettled:
      return "the last acknowledgement";
    case engine::EventKind::kFolded:
      return "the folded hashes";
    case engine::EventKind::kStopped:
      return "the end of a flow";
    default:
      return "an event";
  }
}

std::optional<Error> failure_in(const engine::Event& event, const std::string& guest) {
  if (event.kind == engine::EventKind::kPeerSilent) {
    return Error{
        ErrorKind::kUnreachable,
        fmt::format(
            "no frame was acknowledged for {} s on flow {}; look at the data plane's link and MTU",
            engine::kPeerSilentNs / kSecondNs, event.flow)};
  }
  if (event.kind == engine::EventKind::kTrackerFailed) {
    const bool gone =
        static_cast<port::HarvestStatus>(event.value) == port::HarvestStatus::kTargetGone;
    return Error{ErrorKind::kFailed, gone ? "the guest's process has exited"
                                          : "dirty tracking failed: the kernel refused a scan"};
  }
  if (event.kind == engine::EventKind::kUnseenWrite) {
    // The guest's RAM comes first in the page space.
    return Error{
        ErrorKind::kFailed,
        fmt::format("the page at offset {:#x} of guest {}'s RAM was changed by a writer that dirty "
                    "tracking cannot see: a vhost-user, vDPA or VFIO device, or another process "
                    "that maps this memory; detach it before moving the guest",
                    event.value * kPageBytes, guest)};
  }
  return std::nullopt;
}

// The steady clock is CLOCK_MONOTONIC with libstdc++.
std::chrono::steady_clock::time_point time_point(TimeNs ns) {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(ns));
}

}  // namespace

void SessionEvents::push(const engine::Event& event) {
  {
    const std::lock_guard lock(mutex_);
    if (auto failure = failure_in(event, guest_)) {
      if (!failure_) failure_ = std::move(failure);
    } else {
      events_.push_back(event);
    }
  }
  changed_.notify_all();
}

void SessionEvents::interrupt(Error error) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(error);
  }
  changed_.notify_all();
}

std::optional<Error> SessionEvents::interruption() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

std::size_t SessionEvents::count_of(engine::EventKind kind) const {
  return static_cast<std::size_t>(std::count_if(
      events_.begin(), events_.end(), [&](const auto& event) { return event.kind == kind; }));
}

Expected<std::vector<engine::Event>> SessionEvents::wait(engine::EventKind kind, std::size_t count,
                                                         TimeNs deadline_ns, bool regardless) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return (failure_ && !regardless) || count_of(kind) >= count; };
  if (deadline_ns == 0) {
    changed_.wait(lock, ready);
  } else if (!changed_.wait_until(lock, time_point(deadline_ns), ready)) {
    return fail(ErrorKind::kUnreachable, fmt::format("waited in vain for {}", name_of(kind)));
  }
  if (failure_ && !regardless) return tl::unexpected<Error>(*failure_);
  std::vector<engine::Event> found;
  for (auto it = events_.begin(); it != events_.end() && found.size() < count;) {
    if (it->kind == kind) {
      found.push_back(*it);
      it = events_.erase(it);
    } else {
      ++it;
    }
  }
  return found;
}

Expected<std::vector<engine::Event>> SessionEvents::await(engine::EventKind kind, std::size_t count,
                                                          TimeNs deadline_ns) {
  return wait(kind, count, deadline_ns, false);
}

Expected<std::vector<engine::Event>> SessionEvents::await_regardless(engine::EventKind kind,
                                                                     std::size_t count,
                                                                     TimeNs deadline_ns) {
  return wait(kind, count, deadline_ns, true);
}

void EventRouter::deliver(const engine::Event& event) {
  std::shared_ptr<SessionEvents> session;
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(event.session);
    if (found != sessions_.end()) session = found->second.lock();
  }
  if (session) session->push(event);
}

std::shared_ptr<SessionEvents> EventRouter::open(std::uint64_t session, std::string guest) {
  auto events = std::make_shared<SessionEvents>(std::move(guest));
  const std::lock_guard lock(mutex_);
  std::erase_if(sessions_, [](const auto& entry) { return entry.second.expired(); });
  return sessions_.try_emplace(session, events).second ? events : nullptr;
}

}  // namespace sluice::agent
