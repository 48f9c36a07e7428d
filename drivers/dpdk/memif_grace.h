// Keeps a memif's shared memory mapped for as long as a worker may be reading it.
//
// When a memif's peer dies, DPDK's driver unmaps the rings from the EAL's interrupt thread at once,
// while a worker may be in the middle of a burst: a segmentation fault in this process because
// another one died. The driver marks itself disconnected before it unmaps, so it is enough to delay
// the unmapping until each worker has left the driver once. munmap() of this process is therefore
// ours: for the interrupt thread it waits first, for everybody else it is the system call.
#pragma once

#include <functional>

namespace sluice::dpdk {

// `wait` is called on the interrupt thread before it unmaps anything; empty: never. Set while no
// worker runs.
void set_unmap_grace(std::function<void()> wait);

}  // namespace sluice::dpdk
