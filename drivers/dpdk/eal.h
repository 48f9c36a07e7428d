// Starts DPDK's environment abstraction layer (EAL) for this process, quietly and without touching
// what it need not.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "dataplane/base/expected.h"
#include "drivers/dpdk/data_plane.h"

namespace sluice::dpdk {

struct EalOptions {
  Hugepages hugepages = Hugepages::kAuto;
  std::size_t memory_bytes = 0;  // for packet buffers
  std::string file_prefix;  // of this process's runtime directory; empty: made from the process id
  std::string pci_address;  // the one PCI device to probe; empty: the PCI bus is not scanned
  std::string virtual_device;  // "net_memif0,role=server,…"; empty: none
};

struct EalFacts {
  bool hugepages = false;
};

// Bytes in 2 MiB and 1 GiB pages of this machine that are neither used nor reserved.
[[nodiscard]] std::size_t free_hugepage_bytes();

// The EAL's command line for these options.
[[nodiscard]] std::vector<std::string> eal_arguments(const EalOptions& options, bool hugepages);

// Once per process. The calling thread's affinity is as before afterwards. Errors: kNoCapacity
// (hugepages demanded but not free), kFailed (the EAL's own refusal; its reason is on standard
// error). Waits while another process of this machine is in here, so that both do not count on the
// same hugepages.
[[nodiscard]] Expected<EalFacts> start_eal(const EalOptions& options);

}  // namespace sluice::dpdk
