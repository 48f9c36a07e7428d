#include "dataplane/protocol/audit_rounds.h"

#include <algorithm>
#include <numeric>

namespace sluice::protocol {
namespace {

// Multiples of the golden section, modulo 1, are spread evenly however many of them are taken
// (Knuth, TAOCP vol. 3, 6.4).
std::uint64_t spreading_stride(std::uint64_t groups) {
  auto stride =
      std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(groups) * 0.618));
  while (std::gcd(stride, groups) != 1) {
    ++stride;
  }
  return stride;
}

}  // namespace

AuditRounds::AuditRounds(std::uint64_t local_pages)
    : groups_(std::max<std::uint64_t>(1, local_pages / kGroupPages)),
      stride_(spreading_stride(groups_)),
      admitted_(local_pages) {}

std::optional<std::uint64_t> AuditRounds::next() {
  const std::uint64_t end = (group_ + 1) * kGroupPages;
  const auto page = admitted_.find_next(group_ * kGroupPages + cursor_);
  if (page && *page < end) {
    cursor_ = *page % kGroupPages + 1;
    return page;
  }
  group_ = (group_ + stride_) % groups_;
  cursor_ = 0;
  return std::nullopt;
}

}  // namespace sluice::protocol
