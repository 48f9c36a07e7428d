#include "drivers/dpdk/placement.h"

#include <algorithm>
#include <hwloc.h>
#include <memory>
#include <numa.h>
#include <pthread.h>
#include <sched.h>

namespace sluice::dpdk {
namespace {

struct Core {
  unsigned cpu = 0;  // its first logical CPU that this process may use
  int node = -1;
};

bool may_use(const cpu_set_t& allowed, unsigned cpu) {
  return cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed);
}

// The physical cores this process may use, the last ones first: interrupts and other work gather on
// the first.
std::vector<Core> physical_cores(const cpu_set_t& allowed) {
  hwloc_topology_t topology = nullptr;
  std::vector<Core> cores;
  if (hwloc_topology_init(&topology) != 0) {
    return cores;
  }
  const std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)> owner(
      topology, hwloc_topology_destroy);
  if (hwloc_topology_load(topology) != 0) {
    return cores;
  }
  const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
  for (int i = count - 1; i >= 0; --i) {
    const hwloc_obj_t core =
        hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, static_cast<unsigned>(i));
    for (int cpu = hwloc_bitmap_first(core->cpuset); cpu >= 0;
         cpu = hwloc_bitmap_next(core->cpuset, cpu)) {
      if (may_use(allowed, static_cast<unsigned>(cpu))) {
        cores.push_back({static_cast<unsigned>(cpu),
                         core->nodeset == nullptr ? -1 : hwloc_bitmap_first(core->nodeset)});
        break;
      }
    }
  }
  return cores;
}

std::string join(const std::vector<unsigned>& numbers) {
  std::string text;
  for (const unsigned number : numbers) {
    text += (text.empty() ? "" : ",") + std::to_string(number);
  }
  return text;
}

void remark_on_nodes(Placement& placement, int numa_node) {
  for (const unsigned core : placement.cores) {
    const int node = numa_available() < 0 ? -1 : numa_node_of_cpu(static_cast<int>(core));
    if (numa_node >= 0 && node >= 0 && node != numa_node) {
      placement.remarks.push_back("warning: core " + std::to_string(core) + " is on NUMA node " +
                                  std::to_string(node) + ", the port on node " +
                                  std::to_string(numa_node));
    }
  }
}

}  // namespace

Expected<Placement> place_workers(const std::vector<unsigned>& asked, std::uint32_t workers,
                                  int numa_node) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return fail(ErrorKind::kFailed, "cannot read this process's CPU affinity");
  }
  Placement placement;
  if (!asked.empty()) {
    if (asked.size() != workers) {
      return fail(ErrorKind::kInvalid, "cores " + join(asked) + ": one core for each of the " +
                                           std::to_string(workers) + " queues is needed");
    }
    for (const unsigned core : asked) {
      if (!may_use(allowed, core)) {
        return fail(ErrorKind::kInvalid,
                    "core " + std::to_string(core) + ": not one that this process may run on");
      }
    }
    placement.cores = asked;
  } else {
    std::vector<Core> cores = physical_cores(allowed);
    std::stable_partition(cores.begin(), cores.end(), [numa_node](const Core& core) {
      return numa_node < 0 || core.node == numa_node;
    });
    if (cores.size() < workers) {
      return fail(ErrorKind::kNoCapacity,
                  std::to_string(workers) +
                      " queues need as many physical cores; this process may use " +
                      std::to_string(cores.size()));
    }
    for (std::uint32_t i = 0; i < workers; ++i) {
      placement.cores.push_back(cores[i].cpu);
    }
  }
  placement.remarks.push_back("workers on cores " + join(placement.cores) +
                              (numa_node < 0
                                   ? ", the port on no particular NUMA node"
                                   : ", the port on NUMA node " + std::to_string(numa_node)));
  remark_on_nodes(placement, numa_node);
  return placement;
}

void bind_this_thread(unsigned core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
  if (numa_available() >= 0) {
    const int node = numa_node_of_cpu(static_cast<int>(core));
    if (node >= 0) {
      numa_set_preferred(node);
    }
  }
}

}  // namespace sluice::dpdk
