// The audit: pages that the tracker calls clean are hashed again, and what they hold now is
// compared with what was sent.
//
// Why a suspect that the next scan does not report is guilty: a scan that reports a page protects
// it again before the page is read, and every tracked write is reported by the first scan that
// begins after it can be seen. So if a page differs from what was read, and a scan that began
// afterwards does not report it, whoever wrote it is not tracked.
#include "dataplane/protocol/sender.h"

namespace sluice::protocol {

void Sender::audit(std::size_t pages) {
  if (config_.audit == AuditMode::kOff) {
    return;
  }
  std::size_t passed_over = 0;
  while (pages > 0 && passed_over < kAuditPassedOverMax) {
    const auto local_page = audit_rounds_.next();
    if (local_page && clean(*local_page) && !suspects_.test(*local_page)) {
      audit_page(*local_page);
      --pages;
    } else {
      ++passed_over;
    }
  }
}

bool Sender::clean(std::uint64_t local_page) const {
  return sent_sequence_[local_page] == 0 && !pending_.test(local_page) &&
         !deferred_.test(local_page);
}

void Sender::audit_page(std::uint64_t local_page) {
  const page::PageHash hash = page::hash_page(memory_.address(shards_.to_global(local_page)));
  ++counters_.audited_pages;
  if (hash == hashes_.get(local_page)) {
    return;
  }
  // Memory that was given back reads as zeros without having been written (a hole was punched):
  // that is no writer's doing, and is sent.
  if (config_.audit == AuditMode::kResend || hash == page::zero_page_hash()) {
    pending_.set(local_page);
  } else {
    suspects_.set(local_page);
  }
}

std::optional<PageNumber> Sender::find_unseen_write(std::uint64_t first_local,
                                                    std::uint64_t count) const {
  const auto local_page = suspects_.find_next(first_local);
  if (!local_page || *local_page >= first_local + count) {
    return std::nullopt;
  }
  return shards_.to_global(*local_page);
}

}  // namespace sluice::protocol
