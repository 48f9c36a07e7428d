#include "drivers/dpdk/memif_grace.h"

#include <atomic>
#include <rte_interrupts.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace sluice::dpdk {
namespace {

std::function<void()> grace;
std::atomic<bool> grace_set{false};

}  // namespace

void set_unmap_grace(std::function<void()> wait) {
  grace_set.store(false);
  grace = std::move(wait);
  grace_set.store(grace != nullptr, std::memory_order_release);
}

}  // namespace sluice::dpdk

// Replaces libc's for this executable and the libraries it loads.
extern "C" int munmap(void* address, size_t bytes) noexcept {
  if (sluice::dpdk::grace_set.load(std::memory_order_acquire) && rte_thread_is_intr() == 1) {
    sluice::dpdk::grace();
  }
  return static_cast<int>(syscall(SYS_munmap, address, bytes));
}
