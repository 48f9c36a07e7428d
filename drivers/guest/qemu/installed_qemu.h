// Which QEMU a host has on its disk, whatever its guests still run on.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

namespace sluice::guest::qemu {

// Any thread.
class InstalledQemu {
 public:
  // `binary`: a name looked up in PATH, or a path.
  explicit InstalledQemu(std::string binary) : binary_(std::move(binary)) {}

  // "7.2.22"; empty: there is none, or it does not say. Asked again whenever the file is another.
  [[nodiscard]] std::string version();
  // Whether `binary`, as a guest file has it, is this one.
  [[nodiscard]] bool is(const std::string& binary) const;

 private:
  // Of a file: device, inode, size, and when it was written. All 0: there is none.
  using Stamp = std::tuple<std::uint64_t, std::uint64_t, std::int64_t, std::int64_t, std::int64_t>;
  [[nodiscard]] static Stamp stamp_of(const std::string& path);

  const std::string binary_;
  std::mutex mutex_;
  Stamp asked_;  // of which the version is known
  std::string version_;
};

}  // namespace sluice::guest::qemu
