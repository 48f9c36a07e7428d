// A client of QEMU's machine protocol (QMP) on a unix socket: commands with deadlines, and events
// stamped on arrival. One thread at a time. See qemu.org/docs: interop/qmp-spec.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "dataplane/base/expected.h"
#include "dataplane/base/units.h"
#include "drivers/base/file_descriptor.h"

namespace sluice::guest::qemu {

using Json = nlohmann::json;

struct QmpEvent {
  std::string name;
  Json data;               // an object; empty if the event carries nothing
  TimeNs received_ns = 0;  // CLOCK_MONOTONIC, when its bytes were read
};

// A descriptor that is served while the client waits for QEMU, because QEMU may be waiting for it
// in turn: the migration stream is one. `on_ready` returns false when it wants to be called no
// more.
struct SideChannel {
  int fd = -1;
  short poll_events = 0;
  std::function<bool()> on_ready;
};

class QmpClient {
 public:
  static constexpr TimeNs kCommandTimeoutNs = 10 * kSecondNs;

  // Connects, reads the greeting and enters command mode. `guest` is used in error texts. With a
  // `death_fd` (a pidfd of a QEMU that may still be starting) it tries until the socket is there,
  // the process has gone or the time is up.
  [[nodiscard]] static Expected<std::unique_ptr<QmpClient>> connect(const std::string& socket_path,
                                                                    const std::string& guest,
                                                                    TimeNs timeout_ns,
                                                                    int death_fd = -1);
  // The same on a socket that is connected already; `what` says in an error what was waited for.
  [[nodiscard]] static Expected<std::unique_ptr<QmpClient>> open(FileDescriptor socket,
                                                                 const std::string& guest,
                                                                 TimeNs deadline_ns,
                                                                 std::string_view what);

  // False if there is certainly no QEMU with this socket.
  [[nodiscard]] static bool may_be_listened_to(const std::string& socket_path);

  // The process that listens on the socket.
  [[nodiscard]] pid_t peer_pid() const;

  // Sends a command; `pass_fd` travels with it as SCM_RIGHTS (for getfd). Returns the number to
  // wait for.
  [[nodiscard]] Expected<std::uint64_t> send(const std::string& command,
                                             const Json& arguments = Json::object(),
                                             int pass_fd = -1);
  // The command's "return" value. kUnreachable at once if QEMU has gone or when the time is up,
  // kFailed with QEMU's own words if it refuses.
  [[nodiscard]] Expected<Json> await_reply(std::uint64_t id, TimeNs timeout_ns = kCommandTimeoutNs);
  [[nodiscard]] Expected<Json> execute(const std::string& command,
                                       const Json& arguments = Json::object(), int pass_fd = -1);

  // Whether QEMU has yet to answer a command whose time ran out; does not wait.
  [[nodiscard]] bool owes_reply();

  // The first event, queued or to come, that `wanted` accepts; it and those before it leave the
  // queue. `what` says in an error what was waited for.
  [[nodiscard]] Expected<QmpEvent> wait_event(const std::function<bool(const QmpEvent&)>& wanted,
                                              TimeNs deadline_ns, std::string_view what);
  // Serves the side channel alone until it is finished.
  [[nodiscard]] Expected<void> finish_side_channel(TimeNs deadline_ns, std::string_view what);
  // Events that lie in the queue belong to the past.
  void forget_events() { events_.clear(); }

  void set_side_channel(SideChannel channel) { side_channel_ = std::move(channel); }
  void clear_side_channel() { side_channel_ = {}; }

 private:
  QmpClient(FileDescriptor socket, std::string guest)
      : socket_(std::move(socket)), guest_(std::move(guest)) {}

  [[nodiscard]] Expected<void> wait_for_input(TimeNs deadline_ns, std::string_view what);
  [[nodiscard]] Expected<void> read_messages();
  [[nodiscard]] Expected<void> take_message(std::string_view line, TimeNs received_ns);
  [[nodiscard]] tl::unexpected<Error> gone() const;

  FileDescriptor socket_;
  std::string guest_;
  std::string input_;  // bytes of a message that is not complete yet
  bool greeted_ = false;
  std::uint64_t last_id_ = 0;
  std::uint64_t last_answered_id_ = 0;
  std::deque<QmpEvent> events_;  // bounded; the oldest go first
  Json replies_ = Json::array();
  SideChannel side_channel_;
};

}  // namespace sluice::guest::qemu
