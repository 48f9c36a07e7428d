// Which controller speaks. Every call of a controller says it, in metadata: agents obey the
// controllers of one journal, and of these the one with the highest epoch. Where copies of a
// journal are led apart, two controllers can have the same epoch, but not the same instance.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::model {

inline constexpr const char* kEpochMetadata = "sluice-epoch";        // decimal digits
inline constexpr const char* kJournalMetadata = "sluice-journal";    // hexadecimal digits
inline constexpr const char* kInstanceMetadata = "sluice-instance";  // hexadecimal digits
// Ids of journals, with commas between them.
inline constexpr const char* kReplacedMetadata = "sluice-replaced-journals";

struct ControllerIdentity {
  std::string journal;      // its id; empty: one of an earlier version, which does not say
  std::uint64_t epoch = 0;  // of its lease
  // Journals whose agents an operator has given to this one.
  std::vector<std::string> replaced{};
  // Made by chance with its lease; empty: one of an earlier version, which has none.
  std::string instance{};
};

}  // namespace sluice::model
