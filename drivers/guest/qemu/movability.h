// Whether a QEMU guest can be moved safely. Asks; changes nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "drivers/guest/guest.h"
#include "drivers/guest/qemu/qmp_client.h"

namespace sluice::guest::qemu {

struct QemuVersion {
  int major = 0;
  int minor = 0;
  int micro = 0;
  [[nodiscard]] bool at_least(int wanted_major, int wanted_minor) const {
    return major > wanted_major || (major == wanted_major && minor >= wanted_minor);
  }
};

// The first "N.N.N" in a text such as the output of --version; zeros if there is none.
[[nodiscard]] QemuVersion parse_version(const std::string& text);
[[nodiscard]] std::string to_text(const QemuVersion& version);

// What of query-memdev the driver needs.
struct RamBackend {
  std::string id;
  std::string type;  // "memory-backend-file"
  std::uint64_t bytes = 0;
  bool shared = false;
};

// The level of CPU (cpu_level.h) that hosts must have for the guest, which runs on one of
// `host_level`; 0: any host will do, since its processor is emulated. QEMU is asked whether it is:
// its arguments need not say, nor be what became of them.
[[nodiscard]] Expected<std::uint32_t> query_cpu_level(QmpClient& qmp,
                                                      const std::vector<std::string>& args,
                                                      std::uint32_t host_level);

// The guest's one RAM backend; kUnsupported if it has none or several.
[[nodiscard]] Expected<RamBackend> query_ram_backend(QmpClient& qmp, const std::string& guest);

// kUnsupported names what makes the move impossible or would lose writes unseen.
[[nodiscard]] Expected<void> check_guest_movable(QmpClient& qmp, const Description& description);

// True if a block node reads with direct I/O (cache=none), or by a driver of QEMU's own for the
// device: RAM is then written by DMA to pages that the kernel pinned when the request began.
// Write-protecting such a page again does not make the rest of the request seen. QEMU ends all
// requests before pre-switchover.
[[nodiscard]] Expected<bool> uses_direct_io(QmpClient& qmp, const std::string& guest);

// A capability in this QEMU's list.
[[nodiscard]] bool has_migration_capability(QmpClient& qmp, const std::string& name);

// The text at `key` of an object; empty if it is absent or something else. QMP is input: nothing in
// it is trusted.
[[nodiscard]] std::string text_at(const Json& object, const std::string& key);
// The same for a number that is not negative; 0 if it is absent or something else.
[[nodiscard]] std::uint64_t number_at(const Json& object, const std::string& key);

}  // namespace sluice::guest::qemu
