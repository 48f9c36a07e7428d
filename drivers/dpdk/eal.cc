#include "drivers/dpdk/eal.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <rte_eal.h>
#include <rte_errno.h>
#include <sched.h>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

#include "drivers/base/file_descriptor.h"

namespace sluice::dpdk {
namespace {

std::size_t pages_in(const char* directory, const char* counter) {
  std::ifstream file(std::string("/sys/kernel/mm/hugepages/") + directory + "/" + counter);
  std::size_t pages = 0;
  return file >> pages ? pages : 0;
}

// Reserved pages count as free until their owner touches them.
std::size_t free_bytes_of(const char* directory, std::size_t page_bytes) {
  const std::size_t free_pages = pages_in(directory, "free_hugepages");
  return (free_pages - std::min(free_pages, pages_in(directory, "resv_hugepages"))) * page_bytes;
}

// Held from the look at the free pages until the EAL has taken its own. Otherwise agents that start
// together all find the same pages free, and an EAL that has failed cannot start again without
// them. The file is the kernel's: hosts of a lab share it, and it needs no removal. Without it, as
// in a container that hides it, nothing waits.
FileDescriptor lock_hugepages() {
  FileDescriptor file(open("/proc/sys/vm/nr_hugepages", O_RDONLY | O_CLOEXEC));
  while (file.valid() && flock(file.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
  return file;
}

// Lcore 0 is this thread, allowed wherever it was: our own threads register as lcores and pin
// themselves.
std::string lcores_argument() {
  cpu_set_t allowed;
  std::string cpus;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) {
        cpus += (cpus.empty() ? "" : ",") + std::to_string(cpu);
      }
    }
  }
  return "--lcores=0@(" + (cpus.empty() ? "0" : cpus) + ")";
}

Expected<bool> choose_hugepages(const EalOptions& options) {
  if (options.hugepages == Hugepages::kNo) {
    return false;
  }
  const std::size_t free_bytes = free_hugepage_bytes();
  if (free_bytes >= options.memory_bytes) {
    return true;
  }
  if (options.hugepages == Hugepages::kAuto) {
    return false;
  }
  return fail(ErrorKind::kNoCapacity,
              "hugepages: " + std::to_string(free_bytes >> 20) + " MiB free, " +
                  std::to_string(options.memory_bytes >> 20) +
                  " MiB needed; raise /proc/sys/vm/nr_hugepages or set hugepages to auto");
}

}  // namespace

std::size_t free_hugepage_bytes() {
  return free_bytes_of("hugepages-2048kB", 2UL << 20) +
         free_bytes_of("hugepages-1048576kB", 1UL << 30);
}

std::vector<std::string> eal_arguments(const EalOptions& options, bool hugepages) {
  std::vector<std::string> arguments = {
      "sluice", lcores_argument(), "--no-telemetry", "--log-level=error",
      // It reports every attempt to reach a peer that has not started yet.
      "--log-level=pmd.net.memif:emergency", "-m", std::to_string(options.memory_bytes >> 20)};
  arguments.push_back("--file-prefix=" + (options.file_prefix.empty()
                                              ? "sluice-" + std::to_string(getpid())
                                              : options.file_prefix));
  if (hugepages) {
    arguments.emplace_back("--in-memory");
  } else {
    // What --in-memory does about shared files: none are made.
    arguments.insert(arguments.end(), {"--no-huge", "--no-shconf"});
  }
  if (options.pci_address.empty()) {
    arguments.emplace_back("--no-pci");
    arguments.emplace_back("--iova-mode=va");
  } else {
    arguments.insert(arguments.end(), {"-a", options.pci_address});
  }
  if (!options.virtual_device.empty()) {
    arguments.push_back("--vdev=" + options.virtual_device);
  }
  return arguments;
}

Expected<EalFacts> start_eal(const EalOptions& options) {
  const FileDescriptor lock = lock_hugepages();
  const auto hugepages = choose_hugepages(options);
  if (!hugepages) {
    return tl::unexpected<Error>(hugepages.error());
  }
  std::vector<std::string> arguments = eal_arguments(options, *hugepages);
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  cpu_set_t affinity;
  const bool known = sched_getaffinity(0, sizeof(affinity), &affinity) == 0;
  const int result = rte_eal_init(static_cast<int>(argv.size()), argv.data());
  const int error = rte_errno;
  // No second process attaches, so nothing needs the directory; left alone it would outlive us.
  std::error_code ignored;
  std::filesystem::remove_all(rte_eal_get_runtime_dir(), ignored);
  if (known) {
    sched_setaffinity(0, sizeof(affinity), &affinity);
  }
  if (result < 0) {
    return fail(ErrorKind::kFailed, std::string("DPDK's EAL did not start: ") +
                                        rte_strerror(error) + "; its reason is on standard error");
  }
  return EalFacts{*hugepages};
}

}  // namespace sluice::dpdk
