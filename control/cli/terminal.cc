#include "control/cli/terminal.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace sluice::cli {

int exit_status(const Error& error) {
  return error.kind == ErrorKind::kUnknownOutcome ? kExitUnknown : kExitFailed;
}

int Terminal::fail(const Error& error) const {
  err << "sluice: " << error.message << std::endl;
  const int status = exit_status(error);
  if (json) {
    const nlohmann::ordered_json document = {
        {"status", status == kExitUnknown ? "unknown" : "failed"}, {"error", error.message}};
    out << document.dump() << std::endl;
  }
  return status;
}

}  // namespace sluice::cli
