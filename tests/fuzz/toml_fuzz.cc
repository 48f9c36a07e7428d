// Files that people write (agent, controller, command line, guest, patch plan, inventory), each
// read by every parser: what is wrong is said, and what is accepted keeps what the parsers promise.
#include <string>
#include <string_view>

#include "control/agent/config.h"
#include "control/cli/config.h"
#include "control/controller/config.h"
#include "control/model/inventory.h"
#include "control/patch/plan.h"
#include "drivers/guest/definition.h"
#include "tests/fuzz/fuzz.h"

namespace sluice {
namespace {

using fuzz::accepted;
using fuzz::require;

const std::string source_name = "/etc/f.toml";

void check_agent(std::string_view text) {
  const auto config = agent::parse_config(text, source_name);
  if (accepted(config)) {
    require(!config->host.empty() && config->run_dir.front() == '/', "an agent has a place");
    require(config->data_plane.queues >= 1, "an agent has queues");
  }
}

void check_controller(std::string_view text) {
  const auto config = controller::parse_config(text, source_name);
  if (accepted(config)) {
    require(!config->name.empty() && !config->hosts.empty(), "a controller has hosts");
    require(!config->listen.empty(), "a controller can be asked");
  }
}

void check_command_line(const std::string& text) {
  const auto config = cli::parse_config(text, source_name);
  if (accepted(config)) {
    require(!config->hosts.empty(), "there are hosts to ask");
    for (const auto& host : config->hosts) {
      require(!host.address.empty(), "a host has an address");
    }
  }
}

void check_definition(std::string_view text) {
  const auto definition = guest::parse_definition(text, source_name);
  if (accepted(definition)) {
    require(guest::is_valid_guest_name(definition->name), "a guest has a name");
    require(definition->memory_bytes > 0 && definition->memory_bytes % kExtentBytes == 0,
            "a guest has whole extents");
    require(definition->driver == "qemu" || definition->driver == "memory", "a guest has a driver");
  }
}

void check_plan(const std::string& text) {
  const auto plan = patch::parse_plan(text, source_name);
  if (accepted(plan)) {
    require(!plan->name.empty() && (!plan->hosts.empty() || plan->selector), "a plan is for hosts");
    require(plan->refill_percent.back() == 100, "a refill ends with all guests");
    require(plan->goodput_ratio_min >= 0 && plan->goodput_ratio_min <= 1, "a ratio is one");
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const std::string text(reinterpret_cast<const char*>(data), size);
  check_agent(text);
  check_controller(text);
  check_command_line(text);
  check_definition(text);
  check_plan(text);
  (void)accepted(model::parse_inventory(text, source_name));
  return 0;
}
