// cordon, uncordon, drain
#include <algorithm>
#include <fmt/format.h>

#include "control/cli/commands.h"
#include "control/cli/follow_run.h"
#include "control/cli/json_output.h"
#include "control/cli/plan_document.h"
#include "control/cli/render_run.h"

namespace sluice::cli {

int mark_host(Fleet& fleet, const Terminal& terminal, const std::string& host, bool cordon) {
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const auto cluster = cordon ? (*controller)->cordon(host) : (*controller)->uncordon(host);
  if (!cluster) return terminal.fail(cluster.error());
  const auto marked =
      std::find_if(cluster->hosts().begin(), cluster->hosts().end(),
                   [&](const v1::ClusterHost& each) { return each.name() == host; });
  if (terminal.json) {
    terminal.out << (marked == cluster->hosts().end() ? Json::object() : to_json(*marked)).dump()
                 << std::endl;
  } else {
    terminal.out << host
                 << (cordon ? " is cordoned: it takes no more guests" : " takes guests again")
                 << std::endl;
  }
  return kExitDone;
}

int drain(Fleet& fleet, const Terminal& terminal, const DrainOptions& options) {
  const auto controller = need_controller(fleet, terminal);
  if (!controller) return kExitUsage;
  const std::string plan = drain_plan(options.host);
  const std::string source = "drain " + options.host;
  if (options.dry_run) return preview(**controller, terminal, plan, source);
  const auto run = (*controller)->start_run(plan, source);
  if (!run) return terminal.fail(run.error());
  return follow_run(**controller, terminal, run->run(), options.watch);
}

}  // namespace sluice::cli
