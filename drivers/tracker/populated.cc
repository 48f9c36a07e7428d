// Which pages of a memory file exist at all. lseek(2), "Seeking file data and holes".
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "drivers/tracker/dirty_tracker.h"

namespace sluice::tracker {

namespace {

// Appends [first, end), joining it to the last run where they touch or share a page.
void append(std::vector<port::PageRun>& runs, std::uint64_t first, std::uint64_t end) {
  if (!runs.empty() && first <= runs.back().first + runs.back().count) {
    runs.back().count = std::max(end, runs.back().first + runs.back().count) - runs.back().first;
  } else {
    runs.push_back({first, end - first});
  }
}

}  // namespace

Expected<std::vector<port::PageRun>> populated_runs(int memory_fd, std::uint64_t offset,
                                                    std::uint64_t bytes) {
  std::vector<port::PageRun> runs;
  const std::uint64_t end = offset + bytes;
  if (offset % kPageBytes != 0 || bytes % kPageBytes != 0 || end < offset) {
    return fail(ErrorKind::kInvalid, "memory range at " + std::to_string(offset) + " of " +
                                         std::to_string(bytes) +
                                         " bytes is not a range of whole pages");
  }
  for (std::uint64_t position = offset; position < end;) {
    const off_t data = ::lseek(memory_fd, static_cast<off_t>(position), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // no more data, or behind the end of the file
    // A file without holes has one at its end, so after data there is always a hole.
    const off_t hole = data < 0 ? data : ::lseek(memory_fd, data, SEEK_HOLE);
    if (data >= 0 && hole < 0 && errno == ENXIO) continue;  // punched out in between: look again
    if (hole < 0) {
      return fail(ErrorKind::kFailed, "looking for populated pages in memory descriptor " +
                                          std::to_string(memory_fd) +
                                          " failed: " + std::strerror(errno));
    }
    const auto data_at = static_cast<std::uint64_t>(data);
    const auto hole_at = std::min(static_cast<std::uint64_t>(hole), end);
    if (data_at >= end) break;
    append(runs, (data_at - offset) / kPageBytes, (hole_at - offset + kPageBytes - 1) / kPageBytes);
    position = hole_at;
  }
  return runs;
}

}  // namespace sluice::tracker
