// What CPU a host has and a guest needs, as the x86-64 psABI's micro-architecture levels: 1 to 4
// for x86-64-v1 to -v4. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::guest::qemu {

// Of a host whose /proc/cpuinfo is `cpuinfo`; 0 if it is no x86-64. What its first processor has
// counts.
[[nodiscard]] std::uint32_t cpu_level_of(std::string_view cpuinfo);

// The level that hosts must have for a guest that KVM runs and that was started with these
// arguments of QEMU's, on a host of `host_level`. A model that takes what the host has (host, max),
// or that is not known here, needs `host_level`: the guest may use all of it until it is started
// anew. A feature that is added to a model counts for the level that it belongs to, others for
// none; one that is taken away lowers nothing.
[[nodiscard]] std::uint32_t cpu_level_needed(const std::vector<std::string>& args,
                                             std::uint32_t host_level);

// Whether that level is its host's, whatever host starts it.
[[nodiscard]] bool takes_cpu_of_host(const std::vector<std::string>& args);

}  // namespace sluice::guest::qemu
