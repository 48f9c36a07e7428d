#include "control/cli/follow_run.h"

#include <algorithm>
#include <fmt/format.h>

#include "control/cli/json_output.h"
#include "control/cli/render_run.h"

namespace sluice::cli {
namespace {

int detached(const Terminal& terminal, const std::string& run) {
  return terminal.fail(
      {ErrorKind::kUnknownOutcome,
       fmt::format("run {0} goes on; follow it with: sluice patch status {0} --watch; "
                   "end it with: sluice patch abort {0}",
                   run)});
}

int report(const Terminal& terminal, const v1::RunStatus& run) {
  if (terminal.json) {
    terminal.out << to_json(run).dump() << std::endl;
  } else {
    terminal.out << render_run(run, Tasks::kUnderWay) << std::flush;
  }
  if (is_success(run)) return kExitDone;
  std::string line = render_run_headline(run);
  for (const v1::HostRunStatus& host : run.hosts()) {
    if (host.failure().empty()) continue;
    line += fmt::format("; {}: {}", host.host(), host.failure());
    break;
  }
  std::replace(line.begin(), line.end(), '\n', ' ');
  if (run.state() == "paused") {
    line += fmt::format(
        "; go on with: sluice patch resume {0}; end it with: sluice patch abort {0}", run.run());
  }
  terminal.err << "sluice: " << line << std::endl;
  return kExitFailed;
}

}  // namespace

std::optional<ControllerClient*> need_controller(Fleet& fleet, const Terminal& terminal) {
  if (fleet.controller() != nullptr) return fleet.controller();
  terminal.fail({ErrorKind::kNotFound,
                 fmt::format("{} names no controller; add a line controller = \"ADDRESS:PORT\" "
                             "before its first table",
                             fleet.config_path())});
  return std::nullopt;
}

int preview(ControllerClient& controller, const Terminal& terminal, const std::string& plan_toml,
            const std::string& source) {
  const auto answer = controller.get_preview(plan_toml, source);
  if (!answer) return terminal.fail(answer.error());
  if (terminal.json) {
    terminal.out << to_json(*answer).dump() << std::endl;
  } else {
    terminal.out << render_preview(*answer) << std::flush;
  }
  return kExitDone;
}

int follow_run(ControllerClient& controller, const Terminal& terminal, const std::string& run,
               bool watch) {
  std::optional<RunView> view;
  if (!terminal.json && (watch || terminal.live)) view.emplace(terminal);
  const ControllerClient::Watcher watcher{
      .on_status =
          [&](const v1::RunStatus& status) {
            if (view) view->show(status);
            if (terminal.json && watch) terminal.out << event_json(status).dump() << std::endl;
          },
      .on_silence =
          [&](const std::string& why) {
            terminal.err << fmt::format("sluice: {}; the run goes on when it is back, waiting", why)
                         << std::endl;
          }};
  const auto last = controller.watch_run(run, watcher, terminal.interrupts);
  view.reset();
  if (!last) return terminal.fail(last.error());
  if (!*last) return detached(terminal, run);
  return report(terminal, **last);
}

}  // namespace sluice::cli
