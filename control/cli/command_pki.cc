// pki init, pki host, pki client
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/cli/commands.h"

namespace sluice::cli {
namespace {

int report(const Terminal& terminal, const Expected<security::CertificateFiles>& files) {
  if (!files) return terminal.fail(files.error());
  if (terminal.json) {
    const nlohmann::json document = {{"certificate", files->certificate}, {"key", files->key}};
    terminal.out << document.dump() << std::endl;
  } else {
    terminal.out << fmt::format("{} and its key {}", files->certificate, files->key) << std::endl;
  }
  return kExitDone;
}

}  // namespace

int make_authority(const Terminal& terminal, const PkiOptions& options) {
  return report(terminal, security::make_authority(options.directory, options.force));
}

int make_certificate(const Terminal& terminal, const PkiOptions& options) {
  return report(terminal,
                security::make_certificate(options.directory, options.request, options.force));
}

}  // namespace sluice::cli
