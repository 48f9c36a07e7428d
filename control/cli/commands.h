// What the command line can do. Every command prints its result and returns the exit status.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/cli/fleet.h"
#include "control/cli/terminal.h"
#include "control/proto/sluice.pb.h"
#include "control/security/pki.h"

namespace sluice::cli {

int list_hosts(Fleet& fleet, const Terminal& terminal);
int list_guests(Fleet& fleet, const Terminal& terminal);

int start_guest(Fleet& fleet, const Terminal& terminal, const std::string& file,
                const std::string& on);
int resume_guest(Fleet& fleet, const Terminal& terminal, const std::string& guest,
                 bool destination_is_gone);
int stop_guest(Fleet& fleet, const Terminal& terminal, const std::string& guest,
               bool destination_is_gone);
int adopt_guest(Fleet& fleet, const Terminal& terminal, const std::string& qmp_socket,
                const std::string& on);

struct DoctorOptions {
  std::string on;    // empty: every host
  std::string peer;  // to and from whom paths are checked; empty: none
};
// kExitFailed if a host does not answer, or a path carries less than its ends are configured for.
int examine(Fleet& fleet, const Terminal& terminal, const DoctorOptions& options);

struct MigrateOptions {
  v1::MigrateRequest request;  // without `to`: follow a migration that is under way
  bool watch = false;
};
int migrate(Fleet& fleet, const Terminal& terminal, const MigrateOptions& options);

struct BenchOptions {
  std::string from;
  std::string to;
  std::uint64_t memory_bytes = 0;  // a multiple of 2 MiB
  std::uint64_t dirty_bytes_per_second = 0;
  std::string pattern = "uniform";
  double seconds = 10;  // it starts no further move after that; at least one is made
  v1::ProofMode proof = v1::PROOF_MODE_SENT;
  bool plaintext = false;
};
int bench(Fleet& fleet, const Terminal& terminal, const BenchOptions& options);

// Certificates are made here, without asking anybody.
struct PkiOptions {
  std::string directory = "/etc/sluice/pki";
  security::CertificateRequest request;
  bool force = false;
};
int make_authority(const Terminal& terminal, const PkiOptions& options);
int make_certificate(const Terminal& terminal, const PkiOptions& options);

struct PatchPlanOptions {
  std::string inventory;           // a file, see docs/patching.md
  std::vector<std::string> hosts;  // empty: all of them
  std::uint64_t patch_ms = 600'000;
  std::uint32_t hosts_at_once = 0;  // 0: as many as there is room for
  std::uint64_t seed = 1;
};
// Touches nothing and asks nobody: the inventory is all it knows.
int plan_patch(const Terminal& terminal, const PatchPlanOptions& options);

// What the controller does.
int mark_host(Fleet& fleet, const Terminal& terminal, const std::string& host, bool cordon);

struct DrainOptions {
  std::string host;
  bool dry_run = false;
  bool watch = false;
};
// Waits for its end.
int drain(Fleet& fleet, const Terminal& terminal, const DrainOptions& options);

int preview_patch(Fleet& fleet, const Terminal& terminal, const std::string& file);
// Starts the run; waits for its end only to watch it.
int run_patch(Fleet& fleet, const Terminal& terminal, const std::string& file, bool watch);
// An empty `run` is the latest.
// `all`: also the tasks that are done.
int show_run(Fleet& fleet, const Terminal& terminal, const std::string& run, bool watch, bool all);
int command_run(Fleet& fleet, const Terminal& terminal, const std::string& run,
                v1::CommandRunRequest::Command command);
int report_run(Fleet& fleet, const Terminal& terminal, const std::string& run);
int list_runs(Fleet& fleet, const Terminal& terminal);

}  // namespace sluice::cli
