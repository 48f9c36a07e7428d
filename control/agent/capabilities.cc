#include "control/agent/capabilities.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sluice::agent {
namespace {

// Tracing guests and making their userfaultfd; seeing their memory's file; packet sockets, their
// locked rings and their interface's flags.
constexpr int kNeeded[] = {CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE, CAP_NET_RAW, CAP_NET_ADMIN,
                           CAP_IPC_LOCK};

}  // namespace

Expected<void> keep_needed_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> present{};
  if (syscall(SYS_capget, &header, present.data()) != 0)
    return fail(ErrorKind::kFailed, fmt::format("capget: {}", std::strerror(errno)));
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> kept{};
  for (const int capability : kNeeded) {
    auto& word = kept.at(CAP_TO_INDEX(capability));
    word.permitted |= CAP_TO_MASK(capability);
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    kept.at(i).permitted &= present.at(i).permitted;
    kept.at(i).effective = kept.at(i).permitted;
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
      syscall(SYS_capset, &header, kept.data()) != 0) {
    return fail(ErrorKind::kFailed,
                fmt::format("capabilities cannot be given up: {}", std::strerror(errno)));
  }
  return {};
}

}  // namespace sluice::agent
