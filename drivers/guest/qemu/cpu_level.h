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

// The level that hosts must have for a guest that was started with these arguments of QEMU's, on a
// host of `host_level`; 0: any host will do, since its processor is emulated. A model that takes
// what the host has (host, max), or that is not known here, needs `host_level`: the guest may use
// all of it until it is started anew. Features that are added to or taken from a model do not
// count.
[[nodiscard]] std::uint32_t cpu_level_needed(const std::vector<std::string>& args,
                                             std::uint32_t host_level);

// Whether that level is its host's, whatever host starts it.
[[nodiscard]] bool takes_cpu_of_host(const std::vector<std::string>& args);

}  // namespace sluice::guest::qemu
