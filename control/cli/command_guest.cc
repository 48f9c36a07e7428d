// guest start, guest stop, guest resume, guest adopt
#include <fmt/format.h>
#include <fstream>
#include <sstream>

#include "control/cli/commands.h"
#include "control/cli/json_output.h"
#include "control/cli/quantity.h"

namespace sluice::cli {
namespace {

int report(const Terminal& terminal, const Expected<v1::GuestInfo>& guest, const char* what) {
  if (!guest) return terminal.fail(guest.error());
  if (terminal.json) {
    terminal.out << to_json(*guest).dump() << std::endl;
  } else {
    terminal.out << fmt::format("{} {} {} ({})", guest->name(), what, guest->host(),
                                format_bytes(guest->memory_bytes()))
                 << std::endl;
  }
  return kExitDone;
}

}  // namespace

int start_guest(Fleet& fleet, const Terminal& terminal, const std::string& file,
                const std::string& on) {
  const auto agent = fleet.host(on);
  if (!agent) return terminal.fail(agent.error());
  std::ifstream stream(file);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) {
    return terminal.fail(
        {ErrorKind::kNotFound, "guest file " + file + " cannot be read or is empty"});
  }
  return report(terminal, (*agent)->start_guest(text.str(), file), "runs on");
}

int resume_guest(Fleet& fleet, const Terminal& terminal, const std::string& guest,
                 bool destination_is_gone) {
  const auto found = fleet.find(guest);
  if (!found) return terminal.fail(found.error());
  return report(terminal, found->agent->resume_guest(guest, destination_is_gone), "runs again on");
}

int stop_guest(Fleet& fleet, const Terminal& terminal, const std::string& guest,
               bool destination_is_gone) {
  const auto found = fleet.find(guest);
  if (!found) return terminal.fail(found.error());
  return report(terminal, found->agent->stop_guest(guest, destination_is_gone), "was stopped on");
}

int adopt_guest(Fleet& fleet, const Terminal& terminal, const std::string& qmp_socket,
                const std::string& on) {
  const auto agent = fleet.host(on);
  if (!agent) return terminal.fail(agent.error());
  return report(terminal, (*agent)->adopt_guest(qmp_socket), "was adopted on");
}

}  // namespace sluice::cli
