// One migration away from this host as others see it: its plan, its progress, its end. It goes on
// whether anybody watches or not.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "control/proto/sluice.pb.h"

namespace sluice::agent {

// Any thread.
class Migration {
 public:
  void publish(const v1::MigratePlan& plan);
  void publish(const v1::MigrateProgress& progress);
  // The end; nothing may be published after it.
  void finish(const v1::MigrateSummary& summary);
  [[nodiscard]] bool finished() const;
  void wait_finished() const;

  // Gives `deliver` the plan, the present progress and then what follows, up to the summary. A
  // watcher that is slow misses progress, never the plan or the summary. Returns when all is
  // delivered or `deliver` returns false.
  void follow(const std::function<bool(const v1::MigrateUpdate&)>& deliver) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::optional<v1::MigratePlan> plan_;
  std::optional<v1::MigrateProgress> progress_;
  std::optional<v1::MigrateSummary> summary_;
  std::uint64_t progress_number_ = 0;
};

}  // namespace sluice::agent
