// In which order the pages of a shard are audited, that is, hashed again. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/page/bitmap.h"

namespace sluice::protocol {

// Pages, and groups of pages without any to audit, that one call of an audit passes over at most.
inline constexpr std::size_t kAuditPassedOverMax = 32;

// Pages are numbered as in page::ShardMap's shard. Allocates only in the constructor.
class AuditRounds {
 public:
  explicit AuditRounds(std::uint64_t local_pages);

  // The page takes part from now on.
  void admit(std::uint64_t local_page) { admitted_.set(local_page); }
  // The next page that takes part; every one once a round. All parts of the shard are reached
  // early: groups of consecutive pages follow each other far apart. nullopt: there was none in the
  // group that was looked at; call again.
  [[nodiscard]] std::optional<std::uint64_t> next();

 private:
  static constexpr std::uint64_t kGroupPages = 16;

  std::uint64_t groups_;
  // In groups; without a common divisor with groups_, so that all are visited.
  std::uint64_t stride_;
  std::uint64_t group_ = 0;
  std::uint64_t cursor_ = 0;  // within the group
  page::PageBitmap admitted_;
};

}  // namespace sluice::protocol
