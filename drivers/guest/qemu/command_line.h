// QEMU's command line: what the agent adds to a user's arguments, what it refuses there, and what
// it takes out of the command line of a guest that it adopts. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/guest/guest.h"

namespace sluice::guest::qemu {

// The id of the RAM backend of guests that an agent started; it is also the RAM block's name in
// QEMU's stream.
inline constexpr std::string_view kRamBackendId = "sluice-ram";

// kInvalid names the first argument that an agent owns (RAM size and backend, QMP, -incoming, ...)
// or that cannot be repeated on another host (an inherited descriptor), and says what to do
// instead.
[[nodiscard]] Expected<void> check_user_args(const std::vector<std::string>& args);

// The first option that lets QEMU run another program or load code, or that opens to the network a
// monitor from which that can be done, as "-netdev tap,script=/x"; nothing if there is none.
// Options that read or write files are not among them.
[[nodiscard]] std::optional<std::string> program_option(const std::vector<std::string>& args);

// Whether a host that runs these binaries, absolute paths with * for any part of a file's name,
// runs the one at `path`, which is resolved.
[[nodiscard]] bool is_allowed_binary(const std::string& path,
                                     const std::vector<std::string>& allowed);

struct LaunchPlan {
  std::string binary_path;
  std::string ram_backend_id{kRamBackendId};
  std::string machine_type;  // empty: as the user's arguments say
  std::string qmp_socket;
  int ram_fd = -1;  // the number QEMU sees
  bool incoming = false;
};

// The whole argument vector, program first. The user's arguments keep their order: device addresses
// depend on it.
[[nodiscard]] std::vector<std::string> build_argv(const Definition& definition,
                                                  const LaunchPlan& plan);

// The values of -machine and -M among a user's arguments, separated by commas as QEMU merges them.
[[nodiscard]] std::string machine_argument(const std::vector<std::string>& args);

// The value of -cpu among them; the last one counts, as in QEMU. Empty without one.
[[nodiscard]] std::string cpu_argument(const std::vector<std::string>& args);

// A running QEMU's arguments (without the program) minus what the agent adds itself for a twin.
// kUnsupported names what a twin could not be given.
[[nodiscard]] Expected<std::vector<std::string>> strip_owned_args(
    const std::vector<std::string>& args);

}  // namespace sluice::guest::qemu
