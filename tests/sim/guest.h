// A guest that writes to its memory while that moves, and what is known about its copy.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/page/layout.h"
#include "dataplane/wire/frame.h"
#include "drivers/sim/dirty_source.h"
#include "tests/protocol/arena.h"
#include "tests/sim/options.h"

namespace sluice::sim {

// Region 0 is the guest's RAM, tracked by `tracker`; region 1 its device state. Every write fills a
// page with a stamp of its own, or with zeros.
class Guest {
 public:
  // The arenas hold only zeros, and do so again when the guest is destroyed.
  Guest(const SessionOptions& options, protocol::Arena& source, protocol::Arena& destination,
        std::uint64_t seed);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // ---- the guest at the source ----

  // What it has written to since the last call, at its rate.
  void run_until(TimeNs now);
  // A single write, sometimes: called at inconvenient moments.
  void maybe_write();
  void stop() { stopped_ = true; }
  // Fills the device state, which nobody tracks.
  void write_state();
  // Calls mark(page, count) for the runs of pages to be sent at first.
  void for_each_populated(const std::function<void(PageNumber, std::uint64_t)>& mark) const;

  // ---- its copy ----

  // A data frame was handed to the destination's worker, which has not looked at it yet.
  void frame_arrives(const wire::DataFrame& frame, bool corrupted);
  // The worker has taken all frames handed to it. False if a page went back to an older version.
  [[nodiscard]] bool copy_went_forward();

  // ---- at the end ----

  [[nodiscard]] bool source_untouched() const;
  [[nodiscard]] bool copy_equal() const;
  // Frames with corrupted contents that the destination had to believe.
  [[nodiscard]] std::uint64_t corrupted_frames() const { return corrupted_frames_; }
  [[nodiscard]] std::uint64_t writes() const { return writes_; }

  page::Layout layout;
  page::MemoryMap source;
  page::MemoryMap destination;
  DirtySource tracker;

 private:
  // A page's copy is watched at so many words, spread over it, so that parts that travel apart are
  // seen too.
  static constexpr std::size_t kWatchedWords = 8;
  static constexpr std::size_t kWatchedEveryBytes = kPageBytes / kWatchedWords;

  struct Arrival {
    std::uint64_t watched = 0;  // index of the word
    std::uint64_t content = 0;
    std::uint64_t before = 0;  // what stood there until now
    bool newest = false;       // none newer arrived before
  };

  void write(PageNumber page);
  void fill(PageNumber page, std::uint64_t stamp);
  void watch(PageNumber page, std::size_t word, Sequence version, std::uint64_t content);
  [[nodiscard]] std::uint64_t load(std::uint64_t watched) const;
  [[nodiscard]] bool explained(const Arrival& arrival, std::uint64_t content) const;

  SessionOptions options_;
  Random random_;
  bool stopped_ = false;
  TimeNs next_write_ns_ = 0;
  std::uint64_t writes_ = 0;
  std::vector<PageNumber> working_set_;
  std::vector<bool> used_;             // by page: was ever written to
  std::vector<std::uint64_t> stamps_;  // by page: what fills it; 0: zeros
  std::vector<Sequence> newest_;       // by watched word: the newest version that arrived
  std::vector<bool> tainted_;          // by page: corrupted contents may have been applied
  std::vector<Arrival> arrivals_;
  std::uint64_t corrupted_frames_ = 0;
};

}  // namespace sluice::sim
