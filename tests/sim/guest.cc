#include "tests/sim/guest.h"

#include <algorithm>
#include <cstring>

namespace sluice::sim {
namespace {

// Beyond this, comparing holes would cost more than the whole run.
constexpr std::uint64_t kPagesComparedMax = 8 * kExtentPages;
constexpr int kWritesAtOnceMax = 64;

}  // namespace

Guest::Guest(const SessionOptions& options, protocol::Arena& source_arena,
             protocol::Arena& destination_arena, std::uint64_t seed)
    : layout(options.region_pages),
      source(layout, source_arena.bases(layout)),
      destination(layout, destination_arena.bases(layout)),
      tracker(options.region_pages[0]),
      options_(options),
      random_(seed),
      used_(layout.padded_pages()),
      stamps_(layout.padded_pages()),
      newest_(layout.padded_pages() * kWatchedWords),
      tainted_(layout.padded_pages()) {
  // Neighbours too, so that runs form.
  while (working_set_.size() < options.working_set_pages) {
    PageNumber page = random_.below(options.region_pages[0]);
    for (std::uint64_t run = 1 + random_.below(6); run > 0 && page < options.region_pages[0];
         --run) {
      working_set_.push_back(page++);
    }
  }
  for (const PageNumber page : working_set_) {
    if (random_.chance(0.7)) {
      fill(page, ++writes_ << 32U | page);
    }
  }
  if (random_.chance(0.5)) {
    tracker.runs_max = 1 + random_.below(8);
  }
}

Guest::~Guest() {
  for (PageNumber page = 0; page < used_.size(); ++page) {
    if (used_[page]) {
      std::memset(source.address(page), 0, kPageBytes);
      std::memset(destination.address(page), 0, kPageBytes);
    }
  }
}

void Guest::fill(PageNumber page, std::uint64_t stamp) {
  auto* words = reinterpret_cast<std::uint64_t*>(source.address(page));
  std::fill_n(words, kPageBytes / sizeof(std::uint64_t), stamp);
  stamps_[page] = stamp;
  used_[page] = true;
}

void Guest::write(PageNumber page) {
  ++writes_;
  fill(page, random_.chance(options_.zeroing) ? 0 : writes_ << 32U | page);
}

void Guest::run_until(TimeNs now) {
  for (int i = 0; i < kWritesAtOnceMax && next_write_ns_ <= now && !stopped_; ++i) {
    const PageNumber page = working_set_[random_.below(working_set_.size())];
    write(page);
    tracker.write(page);
    next_write_ns_ += 1 + random_.below(2 * options_.write_every_ns);
  }
  next_write_ns_ = std::max(next_write_ns_, now);
}

void Guest::maybe_write() {
  if (!stopped_ && random_.chance(0.05)) {
    const PageNumber page = working_set_[random_.below(working_set_.size())];
    write(page);
    tracker.write(page);
  }
}

void Guest::write_state() {
  for (PageNumber i = 0; i < layout.region(1).pages; ++i) {
    write(layout.region(1).first + i);
  }
}

void Guest::for_each_populated(const std::function<void(PageNumber, std::uint64_t)>& mark) const {
  if (options_.mark_all) {
    mark(0, layout.region(0).pages);
    return;
  }
  for (const PageNumber page : working_set_) {
    if (used_[page]) {
      mark(page, 1);
    }
  }
}

// ---- the copy ----

void Guest::frame_arrives(const wire::DataFrame& frame, bool corrupted) {
  corrupted_frames_ += corrupted ? 1 : 0;
  const std::byte* payload = frame.payload.data();
  for (std::size_t i = 0; i < frame.header.records; ++i) {
    const wire::Record& record = frame.records[i];
    const Sequence version = frame.header.sequence - record.index;
    const bool zero = record.type == wire::RecordType::kZero;
    const std::size_t bytes = zero ? record.pages * kPageBytes : record.payload_bytes;
    const std::size_t first = (record.offset + kWatchedEveryBytes - 1) / kWatchedEveryBytes;
    for (std::size_t word = first; word * kWatchedEveryBytes < record.offset + bytes; ++word) {
      std::uint64_t content = 0;
      if (!zero) {
        std::memcpy(&content, payload + word * kWatchedEveryBytes - record.offset, sizeof(content));
      }
      watch(record.page + word / kWatchedWords, word % kWatchedWords, version, content);
    }
    payload += record.payload_bytes;
    if (corrupted) {
      std::fill_n(tainted_.begin() + static_cast<std::ptrdiff_t>(record.page), record.pages, true);
    }
  }
}

// Whatever becomes of a frame, nothing older may be applied afterwards: it is either applied
// itself, or older than what was settled.
void Guest::watch(PageNumber page, std::size_t word, Sequence version, std::uint64_t content) {
  const std::uint64_t watched = page * kWatchedWords + word;
  arrivals_.push_back({watched, content, load(watched), version >= newest_[watched]});
  newest_[watched] = std::max(newest_[watched], version);
}

std::uint64_t Guest::load(std::uint64_t watched) const {
  std::uint64_t content = 0;
  std::memcpy(
      &content,
      destination.address(watched / kWatchedWords) + watched % kWatchedWords * kWatchedEveryBytes,
      sizeof(content));
  return content;
}

bool Guest::copy_went_forward() {
  bool forward = true;
  for (const Arrival& arrival : arrivals_) {
    const std::uint64_t content = load(arrival.watched);
    if (content != arrival.before && !tainted_[arrival.watched / kWatchedWords]) {
      forward &= (arrival.newest && content == arrival.content) || explained(arrival, content);
    }
  }
  arrivals_.clear();
  return forward;
}

// By another frame of the same burst.
bool Guest::explained(const Arrival& arrival, std::uint64_t content) const {
  return std::any_of(arrivals_.begin(), arrivals_.end(), [&](const Arrival& other) {
    return other.watched == arrival.watched && other.newest && other.content == content;
  });
}

// ---- the end ----

bool Guest::source_untouched() const {
  for (PageNumber page = 0; page < used_.size(); ++page) {
    if (!used_[page]) {
      continue;
    }
    const auto* words = reinterpret_cast<const std::uint64_t*>(source.address(page));
    if (std::any_of(words, words + kPageBytes / sizeof(std::uint64_t),
                    [&](std::uint64_t word) { return word != stamps_[page]; })) {
      return false;
    }
  }
  return true;
}

bool Guest::copy_equal() const {
  if (layout.padded_pages() <= kPagesComparedMax) {
    for (std::size_t i = 0; i < layout.regions(); ++i) {
      // Beyond the region's end too: nothing may be written there.
      const page::RegionExtent& region = layout.region(i);
      if (std::memcmp(source.address(region.first), destination.address(region.first),
                      region.pages * kPageBytes + protocol::Arena::kGapBytes) != 0) {
        return false;
      }
    }
    return true;
  }
  for (PageNumber page = 0; page < used_.size(); ++page) {
    if (used_[page] &&
        std::memcmp(source.address(page), destination.address(page), kPageBytes) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace sluice::sim
