// What root may do and the agent need not.
#pragma once

#include "dataplane/base/expected.h"

namespace sluice::agent {

// Gives up every capability but those that tracking guests and kernel ports need: the set in
// docs/security.md. To be called before threads are started, which inherit it. What this process
// has not is not missed.
//
// A program that it starts as root has all of them again, as hooks and the reboot command must;
// guests do not (drivers/guest/qemu/process.h).
[[nodiscard]] Expected<void> keep_needed_capabilities();

}  // namespace sluice::agent
