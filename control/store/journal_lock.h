// Keeps a second process of one controller's name off its journal: a lease alone cannot tell it
// from the first one come back.
#pragma once

#include <string>

#include "dataplane/base/expected.h"

namespace sluice::store {

class JournalLock {
 public:
  // kBusy, naming the process, while another one holds it; whoever dies gives it up.
  [[nodiscard]] static Expected<JournalLock> take(const std::string& journal,
                                                  const std::string& controller);
  ~JournalLock();
  JournalLock(JournalLock&& other) noexcept;
  JournalLock& operator=(JournalLock&&) = delete;
  JournalLock(const JournalLock&) = delete;
  JournalLock& operator=(const JournalLock&) = delete;

 private:
  explicit JournalLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
};

}  // namespace sluice::store
