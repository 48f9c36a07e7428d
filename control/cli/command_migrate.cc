// migrate
#include <fmt/format.h>
#include <optional>

#include "control/cli/commands.h"
#include "control/cli/json_output.h"
#include "control/cli/render_progress.h"
#include "control/cli/render_summary.h"

namespace sluice::cli {
namespace {

// Prints what comes while the migration runs, in the form that was asked for.
class Updates {
 public:
  Updates(const Terminal& terminal, bool watch) : terminal_(terminal), watch_(watch) {
    if (!terminal.json && (watch || terminal.live)) view_.emplace(terminal);
  }

  void show(const v1::MigrateUpdate& update) {
    if (update.has_plan()) downtime_limit_us_ = update.plan().downtime_limit_us();
    if (view_) view_->show(update);
    if (!terminal_.json || !watch_) return;
    if (update.has_plan()) terminal_.out << to_json(update.plan()).dump() << std::endl;
    if (update.has_progress()) terminal_.out << to_json(update.progress()).dump() << std::endl;
  }

  void end() { view_.reset(); }
  [[nodiscard]] std::uint64_t downtime_limit_us() const { return downtime_limit_us_; }

 private:
  const Terminal& terminal_;
  const bool watch_;
  std::optional<ProgressView> view_;
  std::uint64_t downtime_limit_us_ = 0;
};

int report(const Terminal& terminal, const v1::MigrateSummary& summary,
           std::uint64_t downtime_limit_us) {
  if (terminal.json) {
    terminal.out << to_json(summary).dump() << std::endl;
  } else {
    terminal.out << render_summary(summary, downtime_limit_us) << std::flush;
  }
  if (summary.status() == "completed") return kExitDone;
  terminal.err << "sluice: " << summary.error() << std::endl;
  return summary.status() == "unknown" ? kExitUnknown : kExitFailed;
}

int detached(const Terminal& terminal, const std::string& guest) {
  terminal.err << fmt::format(
                      "sluice: {} goes on moving; follow it with: sluice migrate {} --watch", guest,
                      guest)
               << std::endl;
  return kExitUnknown;
}

}  // namespace

int migrate(Fleet& fleet, const Terminal& terminal, const MigrateOptions& options) {
  const v1::MigrateRequest& request = options.request;
  const bool follow = request.to().empty();
  if (!follow) {
    if (const auto to = fleet.host(request.to()); !to) return terminal.fail(to.error());
  }
  const auto found = fleet.find(request.guest());
  if (!found) return terminal.fail(found.error());
  AgentClient& source = *found->agent;
  if (!follow && source.host() == request.to()) {
    return terminal.fail({ErrorKind::kInvalid, fmt::format("{} is on {} already; nothing was moved",
                                                           request.guest(), request.to())});
  }
  if (!follow && found->info.state() == "moving") {
    return terminal.fail(
        {ErrorKind::kBusy,
         fmt::format("{0} is moving already, to {1}; follow it with: sluice migrate {0} --watch",
                     request.guest(), found->info.moving_to())});
  }

  Updates updates(terminal, options.watch);
  const auto show = [&updates](const v1::MigrateUpdate& update) { updates.show(update); };
  auto summary = follow ? source.watch(request.guest(), show, &terminal.interrupts)
                        : source.migrate(request, show, &terminal.interrupts);
  updates.end();
  if (!summary) return terminal.fail(summary.error());
  if (!*summary) return detached(terminal, request.guest());
  return report(terminal, **summary, updates.downtime_limit_us());
}

}  // namespace sluice::cli
