#include "drivers/dpdk/memif_grace.h"

#include <atomic>
#include <mutex>
#include <rte_interrupts.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace sluice::dpdk {
namespace {

std::mutex grace_mutex;  // whoever withdraws the grace waits for its use on the interrupt thread
std::function<void()> grace;
std::atomic<bool> grace_set{false};

void give_grace() {
  const std::lock_guard lock(grace_mutex);
  if (grace) {
    grace();
  }
}

}  // namespace

void set_unmap_grace(std::function<void()> wait) {
  const std::lock_guard lock(grace_mutex);
  grace = std::move(wait);
  grace_set.store(grace != nullptr, std::memory_order_release);
}

}  // namespace sluice::dpdk

// Replaces libc's for this executable and the libraries it loads.
extern "C" int munmap(void* address, size_t bytes) noexcept {
  if (sluice::dpdk::grace_set.load(std::memory_order_acquire) && rte_thread_is_intr() == 1) {
    sluice::dpdk::give_grace();
  }
  return static_cast<int>(syscall(SYS_munmap, address, bytes));
}
