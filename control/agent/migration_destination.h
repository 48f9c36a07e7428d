// The destination's side of one migration, driven by the source's messages. The order of its steps
// is that of control/model/handover.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control/agent/context.h"
#include "control/agent/flows.h"
#include "control/agent/guest_registry.h"
#include "control/agent/session_memory.h"
#include "control/model/handover.h"
#include "control/proto/sluice.pb.h"

namespace sluice::agent {

// The source's end of the control stream. read() and write() may be called from two threads at
// once.
class SourceLink {
 public:
  virtual ~SourceLink() = default;
  // False when the stream has ended.
  [[nodiscard]] virtual bool read(v1::SourceMessage& message) = 0;
  virtual bool write(const v1::DestinationMessage& message) = 0;
  // kPermission unless the other end has proven to be this host's agent.
  [[nodiscard]] virtual Expected<void> speaks_for(const std::string& host) const = 0;
};

// kInvalid: a message meant for `wanted` has reached `here`.
[[nodiscard]] Error wrong_host(const std::string& wanted, const std::string& here);

class MigrationDestination {
 public:
  MigrationDestination(AgentContext& agent, SourceLink& source) : agent_(agent), source_(source) {}
  ~MigrationDestination();
  MigrationDestination(const MigrationDestination&) = delete;
  MigrationDestination& operator=(const MigrationDestination&) = delete;

  // Serves the stream to its end. At the return the guest is ours and runs, or nothing of it is
  // left here.
  void run();

 private:
  void serve();
  [[nodiscard]] Expected<void> handle(v1::SourceMessage& message);
  [[nodiscard]] Expected<void> prepare(const v1::Prepare& request);
  [[nodiscard]] Expected<void> make_twin(const v1::Prepare& request,
                                         const guest::Description& description);
  [[nodiscard]] Expected<void> receive(const v1::Prepare& request);
  [[nodiscard]] Expected<void> prove(const v1::Prove& request);
  [[nodiscard]] Expected<ExtentDigests> expected_digests(const v1::Prove& request) const;
  [[nodiscard]] Expected<void> load_state(const v1::LoadState& request);
  [[nodiscard]] Expected<void> commit(const v1::Commit& request);
  [[nodiscard]] Expected<void> resume_guest();

  [[nodiscard]] Expected<void> advance(model::DestinationEvent event);
  void reply(const v1::DestinationMessage& message);
  void report(const Error& error);
  void fail_session(const Error& error);
  void discard_twin(const std::string& reason);
  void finish();
  void end_session();

  AgentContext& agent_;
  SourceLink& source_;
  std::mutex write_mutex_;

  std::uint64_t session_ = 0;
  std::string from_;
  std::atomic<model::DestinationState> state_{model::DestinationState::kPreparing};
  GuestClaim guest_;
  std::shared_ptr<SessionEvents> events_;
  std::unique_ptr<SessionMemory> memory_;
  std::unique_ptr<ReceiveFlows> flows_;
  std::unique_ptr<Populator> populator_;
};

}  // namespace sluice::agent
