// Keeps a run, its journal and what is done for it in step. The same code drives runs in the
// controller and in the simulator. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "control/patch/run.h"
#include "control/store/journal.h"
#include "dataplane/base/expected.h"

namespace sluice::patch {

// Does what intents say; ends are told to Driver::finish().
class Actions {
 public:
  Actions() = default;
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  virtual ~Actions() = default;

  // `again`: a controller before this one may have begun it. Then it is taken up where it stands:
  // a migration that has happened is done, a hook that has begun is waited for and never begun a
  // second time (unless it is idempotent), a host whose boot id is not the intent's any more is
  // not rebooted. Does not block.
  virtual void begin(const Run& run, const Intent& intent, bool again) = 0;
};

// Applies to a run that is new what the journal has of it.
[[nodiscard]] Expected<void> replay(store::Journal& journal, Run& run);

class Driver {
 public:
  // A new run in state DRAFT, which step() starts. `epoch` is the controller's lease.
  [[nodiscard]] static Expected<Driver> create(store::Journal& journal, std::uint64_t epoch,
                                               const std::string& id, const Created& created,
                                               Actions& actions, TimeMs now_ms);
  // One from the journal; what was in doubt is taken up again, unless its plan is unreadable().
  [[nodiscard]] static Expected<Driver> resume(store::Journal& journal, std::uint64_t epoch,
                                               const std::string& id, Actions& actions);

  // Decides until nothing follows. After an error of the journal nothing more may be done with this
  // driver but resume() another: what was not written was not decided.
  [[nodiscard]] Expected<void> step(const Facts& facts, const Mover& mover);
  // What became of an intent.
  [[nodiscard]] Expected<void> finish(const Outcome& outcome, TimeMs now_ms);
  // An operator's word: kPause, kResume, kAbort; `by` as in RunStep. kInvalid where it is illegal;
  // after any other error as step().
  [[nodiscard]] Expected<void> command(RunEvent event, const std::string& reason,
                                       const std::string& by, TimeMs now_ms);

  // An operator has mended a host that is in quarantine: it is in service again, and counts against
  // the disruption budget no more. kInvalid where it is not in quarantine; after any other error as
  // step().
  [[nodiscard]] Expected<void> mended(const std::string& host, const std::string& by,
                                      TimeMs now_ms);

  [[nodiscard]] const Run& run() const { return *run_; }

 private:
  Driver(store::Journal& journal, std::uint64_t epoch, const std::string& id, Actions& actions)
      : journal_(&journal), epoch_(epoch), actions_(&actions), run_(std::make_unique<Run>(id)) {}

  [[nodiscard]] Expected<void> record(const Record& record);

  store::Journal* journal_;
  std::uint64_t epoch_;
  Actions* actions_;
  std::unique_ptr<Run> run_;
  Patience patience_;
};

}  // namespace sluice::patch
