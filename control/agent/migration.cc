#include "control/agent/migration.h"

namespace sluice::agent {

void Migration::publish(const v1::MigratePlan& plan) {
  {
    const std::lock_guard lock(mutex_);
    plan_ = plan;
  }
  changed_.notify_all();
}

void Migration::publish(const v1::MigrateProgress& progress) {
  {
    const std::lock_guard lock(mutex_);
    progress_ = progress;
    ++progress_number_;
  }
  changed_.notify_all();
}

void Migration::finish(const v1::MigrateSummary& summary) {
  {
    const std::lock_guard lock(mutex_);
    summary_ = summary;
  }
  changed_.notify_all();
}

bool Migration::finished() const {
  const std::lock_guard lock(mutex_);
  return summary_.has_value();
}

void Migration::wait_finished() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return summary_.has_value(); });
}

void Migration::follow(const std::function<bool(const v1::MigrateUpdate&)>& deliver) const {
  bool plan_delivered = false;
  std::uint64_t delivered_number = 0;
  while (true) {
    v1::MigrateUpdate update;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        return summary_ || (plan_ && !plan_delivered) || progress_number_ != delivered_number;
      });
      if (plan_ && !plan_delivered) {
        *update.mutable_plan() = *plan_;
        plan_delivered = true;
      } else if (summary_) {
        *update.mutable_summary() = *summary_;
      } else {
        *update.mutable_progress() = *progress_;
        delivered_number = progress_number_;
      }
    }
    if (!deliver(update) || update.has_summary()) return;
  }
}

}  // namespace sluice::agent
