// The source's end of one migration's control stream to the destination's agent.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control/agent/records.h"
#include "control/proto/sluice.pb.h"
#include "control/security/credentials.h"
#include "dataplane/base/expected.h"
#include "dataplane/base/units.h"

namespace sluice::agent {

class PeerStream {
 public:
  struct Reply {
    v1::DestinationMessage message;
    TimeNs arrived_ns = 0;  // CLOCK_MONOTONIC
  };

  // Connects within model::kConnectTimeout, else kUnreachable; kPermission if certificates are why
  // not. `on_broken` is called at most once, from the stream's own thread, when the destination
  // reports a failure or the stream ends.
  [[nodiscard]] static Expected<std::unique_ptr<PeerStream>> open(
      const std::string& host, const std::string& address, const security::Credentials& credentials,
      std::function<void(const Error&)> on_broken);
  // Ends the stream; the destination sees that.
  ~PeerStream();
  PeerStream(const PeerStream&) = delete;
  PeerStream& operator=(const PeerStream&) = delete;

  // One thread sends and waits.
  [[nodiscard]] Expected<void> send(const v1::SourceMessage& message);
  // The next message, which must be of this kind. Fails as soon as the stream is broken or
  // interrupted.
  [[nodiscard]] Expected<Reply> await(v1::DestinationMessage::MessageCase kind, TimeNs deadline_ns);
  // Why the stream is broken or interrupted, if it is known to be.
  [[nodiscard]] std::optional<Error> failure() const;
  // Waits until the destination has ended the stream, which it does once nothing is left of its
  // twin.
  void await_end(TimeNs deadline_ns);
  // Any thread: the present and later waits fail with `error`.
  void interrupt(const Error& error);

 private:
  struct Impl;
  explicit PeerStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

enum class OutcomeAnswer : std::uint8_t {
  kNeverOwned = 1,
  kUndecided,
  kOwned,
  kForgotten,  // it does not know the session, but has lost its records since it began: it may have
               // run the guest
};

// Asks the destination's agent what became of a session; kUnreachable if it does not answer within
// three seconds, kPermission if one of both does not believe the other, kInvalid if another host
// answers at its address: its ignorance means nothing.
[[nodiscard]] Expected<OutcomeAnswer> ask_outcome(const HandoverRecord& record,
                                                  const security::Credentials& credentials);

}  // namespace sluice::agent
