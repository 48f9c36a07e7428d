// patch run, status, pause, resume, abort, report, list, and plan for a plan file
#include <fmt/format.h>

#include "control/cli/commands.h"
#include "control/cli/follow_run.h"
#include "control/cli/json_output.h"
#include "control/cli/plan_document.h"
#include "control/cli/render_run.h"

namespace sluice::cli {
namespace {

int print(const Terminal& terminal, const v1::RunStatus& run, Tasks tasks) {
  if (terminal.json) {
    terminal.out << to_json(run).dump() << std::endl;
  } else {
    terminal.out << render_run(run, tasks) << std::flush;
  }
  return kExitDone;
}

}  // namespace

int preview_patch(Fleet& fleet, const Terminal& terminal, const std::string& file) {
  const auto plan = read_plan(file);
  if (!plan) return terminal.fail(plan.error());
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  return preview(**controller, terminal, *plan, file);
}

int run_patch(Fleet& fleet, const Terminal& terminal, const std::string& file, bool watch) {
  const auto plan = read_plan(file);
  if (!plan) return terminal.fail(plan.error());
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const auto run = (*controller)->start_run(*plan, file);
  if (!run) return terminal.fail(run.error());
  if (watch) return follow_run(**controller, terminal, run->run(), true);
  print(terminal, *run, Tasks::kUnderWay);
  if (!terminal.json) {
    terminal.out << fmt::format("follow it with: sluice patch status {} --watch", run->run())
                 << std::endl;
  }
  return kExitDone;
}

int show_run(Fleet& fleet, const Terminal& terminal, const std::string& run, bool watch, bool all) {
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const auto status = (*controller)->get_run(run);
  if (!status) return terminal.fail(status.error());
  if (watch) return follow_run(**controller, terminal, status->run(), true);
  return print(terminal, *status, all ? Tasks::kAll : Tasks::kNotDone);
}

int command_run(Fleet& fleet, const Terminal& terminal, const std::string& run,
                v1::CommandRunRequest::Command command) {
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const auto status = (*controller)->command_run(run, command);
  if (!status) return terminal.fail(status.error());
  return print(terminal, *status, Tasks::kUnderWay);
}

int report_run(Fleet& fleet, const Terminal& terminal, const std::string& run) {
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const auto report = (*controller)->get_report(run);
  if (!report) return terminal.fail(report.error());
  std::string text = terminal.json ? report->json() : report->markdown();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  terminal.out << text << std::endl;
  return kExitDone;
}

int list_runs(Fleet& fleet, const Terminal& terminal) {
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const auto runs = (*controller)->list_runs();
  if (!runs) return terminal.fail(runs.error());
  if (terminal.json) {
    Json list = Json::array();
    for (const v1::RunStatus& run : runs->runs()) list.push_back(to_json(run));
    terminal.out << Json{{"runs", list}}.dump() << std::endl;
  } else {
    terminal.out << render_runs(*runs) << std::flush;
  }
  return kExitDone;
}

}  // namespace sluice::cli
