// Whether frames as large as configured arrive at another host, found out by a session that has no
// guest: its probes go the way that pages would.
#pragma once

#include <chrono>
#include <string>

#include "control/agent/context.h"
#include "control/agent/migration_destination.h"
#include "control/proto/sluice.pb.h"
#include "dataplane/base/expected.h"

namespace sluice::agent {

// Longer than a check takes at its longest: then its ends let go of it, the source first.
inline constexpr std::chrono::seconds kCheckTimeMax{20};
inline constexpr std::chrono::seconds kAnswersTimeMax{25};

// From here to `to`. Takes a second or two where frames vanish. kNotFound: this agent knows no such
// host; kUnreachable: its agent does not answer, or no frame of any size arrives; kBusy: as
// ProbeTurns says, here or there; kNoCapacity.
[[nodiscard]] Expected<v1::PathReport> check_path(AgentContext& agent, const std::string& to);

// The other end of one check.
class ProbeLink {
 public:
  virtual ~ProbeLink() = default;
  // Tells the source that its probes are expected, and returns when it has seen enough or is gone.
  virtual void expect(const v1::ProbesExpected& expected) = 0;
  // As SourceLink::speaks_for().
  [[nodiscard]] virtual Expected<void> speaks_for(const std::string& host) const = 0;
};
// kBusy: as ProbeTurns says.
[[nodiscard]] Expected<void> answer_probes(AgentContext& agent, const v1::ProbesAnnounced& request,
                                           ProbeLink& source);

}  // namespace sluice::agent
