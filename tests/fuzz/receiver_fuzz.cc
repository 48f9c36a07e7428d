// A receiver gets a script of frames (stale, repeated, far apart, in pieces, beyond the guest)
// beside a model in which the newest version of a page wins. Memory, acks and digests must agree
// with the model, and nothing outside of the session's memory may change.
#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <vector>

#include "dataplane/page/digest.h"
#include "dataplane/protocol/receiver.h"
#include "dataplane/wire/codec.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::protocol {
namespace {

using fuzz::Input;
using fuzz::require;

constexpr std::array<std::uint64_t, 2> kRegionPages = {20, 3};
constexpr std::size_t kFramesMax = 300;  // of one input

// Both regions with a page around each that belongs to nobody.
class SessionMemory {
 public:
  SessionMemory()
      : layout({kRegionPages[0], kRegionPages[1]}),
        bytes_((kRegionPages[0] + kRegionPages[1] + 3) * kPageBytes),
        map(layout,
            {bytes_.data() + kPageBytes, bytes_.data() + (kRegionPages[0] + 2) * kPageBytes}) {
    for (const std::uint64_t page :
         {std::uint64_t{0}, kRegionPages[0] + 1, kRegionPages[0] + kRegionPages[1] + 2}) {
      std::memset(bytes_.data() + page * kPageBytes, 0xA5, kPageBytes);
    }
  }
  friend bool operator==(const SessionMemory& one, const SessionMemory& other) {
    return one.bytes_ == other.bytes_;
  }

  page::Layout layout;

 private:
  std::vector<std::byte> bytes_;

 public:
  page::MemoryMap map;
};

// What a receiver must be like, without windows, rings or hashes that are kept.
class Model {
 public:
  bool on_data(const wire::DataFrame& frame) {
    if (!acceptable(frame)) {
      return false;
    }
    const Sequence sequence = frame.header.sequence;
    std::size_t at = 0;
    for (std::size_t i = 0; i < frame.header.records; ++i) {
      const wire::Record& record = frame.records[i];
      apply(record, sequence, frame.payload.subspan(at, record.payload_bytes));
      at += record.payload_bytes;
    }
    received_.insert(sequence);
    floor_ = std::max(floor_, sequence - frame.header.floor_distance);
    while (received_.contains(floor_)) {
      ++floor_;
    }
    return true;
  }

  void check_ack(const wire::Ack& ack) const {
    require(!received_.empty() && ack.largest == *received_.rbegin(), "the ack's largest");
    require(ack.cumulative == floor_, "the ack's cumulative number");
    std::set<Sequence> acked;
    for (std::size_t i = 0; i < ack.bitmap_words * std::size_t{64}; ++i) {
      if ((ack.bitmap[i / 64] >> i % 64 & 1U) != 0) {
        acked.insert(ack.cumulative + i);
      }
    }
    require(std::equal(acked.begin(), acked.end(), received_.lower_bound(floor_), received_.end()),
            "the ack tells of exactly the frames that were received");
  }

  // Of the session's extents: one per region.
  [[nodiscard]] page::ExtentDigest digest(std::size_t region) const {
    std::array<page::PageHash, kExtentPages> hashes;
    hashes.fill(page::zero_page_hash());
    const PageNumber first = memory.layout.region(region).first;
    for (std::uint64_t i = 0; i < kRegionPages[region]; ++i) {
      hashes[i] = page::hash_page(memory.map.address(first + i));
    }
    return page::fold_extent(hashes);
  }
  [[nodiscard]] bool complete(std::size_t region) const {
    const auto* const first = &missing_[memory.layout.region(region).first];
    return std::all_of(first, first + kRegionPages[region], [](auto bytes) { return bytes == 0; });
  }

  SessionMemory memory;

 private:
  [[nodiscard]] bool acceptable(const wire::DataFrame& frame) const {
    const Sequence sequence = frame.header.sequence;
    if (sequence == std::numeric_limits<Sequence>::max() || sequence < floor_ ||
        received_.contains(sequence) || frame.header.floor_distance >= wire::kAckSpanMax) {
      return false;
    }
    return std::all_of(frame.records.begin(), frame.records.begin() + frame.header.records,
                       [&](const wire::Record& record) {
                         return memory.layout.contains(record.page) &&
                                memory.layout.contains_run(record.page, record.pages);
                       });
  }

  void apply(const wire::Record& record, Sequence sequence, std::span<const std::byte> payload) {
    if (record.type == wire::RecordType::kFragment) {
      apply_fragment(record, sequence - record.index, payload);
      return;
    }
    for (std::size_t i = 0; i < record.pages; ++i) {
      const PageNumber page = record.page + i;
      if (sequence < version_[page]) {
        continue;
      }
      version_[page] = sequence;
      missing_[page] = 0;
      if (record.type == wire::RecordType::kRaw) {
        std::memcpy(memory.map.address(page), payload.data() + i * kPageBytes, kPageBytes);
      } else {
        std::memset(memory.map.address(page), 0, kPageBytes);
      }
    }
  }

  void apply_fragment(const wire::Record& record, Sequence version,
                      std::span<const std::byte> payload) {
    if (version > version_[record.page]) {
      version_[record.page] = version;
      missing_[record.page] = kPageBytes;
    }
    if (version < version_[record.page] || payload.size() > missing_[record.page]) {
      return;
    }
    std::memcpy(memory.map.address(record.page) + record.offset, payload.data(), payload.size());
    missing_[record.page] -= payload.size();
  }

  static constexpr std::size_t kPages = 2 * kExtentPages;
  std::array<Sequence, kPages> version_{};
  std::array<std::size_t, kPages> missing_{};
  std::set<Sequence> received_;
  Sequence floor_ = 1;
};

// Frames as bytes, so that the receiver gets only what the decoder lets through.
class FrameMaker {
 public:
  [[nodiscard]] std::span<const std::byte> make(Input& input) {
    const std::size_t records = 1 + input.below(4);
    bytes_.assign(wire::data_prefix_bytes(records), std::byte{0});
    const Sequence sequence = take_sequence(input);
    bytes_[0] = std::byte{wire::kVersion};
    bytes_[1] = static_cast<std::byte>(wire::FrameType::kData);
    bytes_[6] = static_cast<std::byte>(records);
    wire::store_le(bytes_.data() + 16, sequence);
    wire::store_le(bytes_.data() + 24, sequence * 1000);
    wire::store_le(bytes_.data() + 32, take_floor_distance(input));
    for (std::size_t i = 0; i < records; ++i) {
      add_record(input, wire::data_prefix_bytes(i), sequence);
    }
    wire::store_le(bytes_.data() + 4,
                   static_cast<std::uint16_t>(bytes_.size() - wire::kFrameHeaderBytes));
    return bytes_;
  }

 private:
  Sequence take_sequence(Input& input) {
    switch (input.below(8)) {
      case 0:
        return input.take<Sequence>();
      case 1:
        return newest_ += input.take<std::uint16_t>();
      case 2:
      case 3:
        return newest_ - std::min<Sequence>(newest_, input.below(16));
      case 4:
        return newest_ - std::min<Sequence>(newest_, input.below(2 * wire::kAckSpanMax));
      default:
        return ++newest_;
    }
  }

  static std::uint32_t take_floor_distance(Input& input) {
    switch (input.below(8)) {
      case 0:
        return input.take<std::uint32_t>();
      case 1:
        return static_cast<std::uint32_t>(input.below(wire::kAckSpanMax + 2));
      default:
        return static_cast<std::uint32_t>(input.below(32));
    }
  }

  // Mostly in or just beyond a region.
  static PageNumber take_page(Input& input) {
    const std::size_t choice = input.below(64);
    if (choice == 63) {
      return input.take<PageNumber>();
    }
    return choice < 48 ? input.below(kRegionPages[0] + 2)
                       : kExtentPages + input.below(kRegionPages[1] + 2);
  }

  void add_record(Input& input, std::size_t at, Sequence sequence) {
    wire::Record record;
    record.type = static_cast<wire::RecordType>(1 + input.below(3));
    record.page = take_page(input);
    if (record.type == wire::RecordType::kRaw) {
      record.pages = static_cast<std::uint16_t>(1 + input.below(3));
      record.payload_bytes = static_cast<std::uint16_t>(record.pages * kPageBytes);
    } else if (record.type == wire::RecordType::kZero) {
      record.pages = static_cast<std::uint16_t>(1 + input.below(kRegionPages[0] + 2));
    } else {
      record.index = static_cast<std::uint8_t>(input.below(wire::kFragmentsMax));
      const std::size_t bytes = 8 * (64 + input.below(448));
      record.offset = static_cast<std::uint16_t>(record.index * bytes);
      record.payload_bytes = static_cast<std::uint16_t>(
          std::min(bytes, kPageBytes - std::min<std::size_t>(record.offset, kPageBytes)));
    }
    std::byte* const to = bytes_.data() + at;
    to[0] = static_cast<std::byte>(record.type);
    to[1] = std::byte{record.index};
    wire::store_le(to + 2, record.pages);
    wire::store_le(to + 4, record.offset);
    wire::store_le(to + 6, record.payload_bytes);
    wire::store_le(to + 8, record.page);
    // Every version differs from every other, and now and then one is all zeros.
    const auto fill = static_cast<std::byte>(sequence * 31 + record.index);
    bytes_.resize(bytes_.size() + record.payload_bytes, fill);
  }

  std::vector<std::byte> bytes_;
  Sequence newest_ = 0;
};

void check_memory(Receiver& receiver, const SessionMemory& memory, const Model& model) {
  require(memory == model.memory, "memory is what the model says");
  std::array<page::ExtentDigest, kRegionPages.size()> digests;
  receiver.fold_digests(digests);
  for (std::size_t region = 0; region < digests.size(); ++region) {
    require((digests[region] == model.digest(region)) == model.complete(region),
            "an extent's digest agrees if and only if all of its pages are whole");
  }
}

void check_ack(Receiver& receiver, TimeNs now, const Model& model) {
  std::array<std::byte, wire::kAckBytesMax> bytes;
  const std::size_t size = receiver.make_ack(now, bytes);
  wire::AckFrame ack;
  wire::DropReason reason{};
  require(wire::decode_ack(std::span(bytes).first(size), ack, reason), "an ack can be decoded");
  model.check_ack(ack.ack);
}

void run(Input input) {
  Model model;
  const SessionMemory memory;
  const page::ShardMap shards(memory.layout.extents(), 1, 0);
  Receiver receiver({}, memory.layout, shards, memory.map);
  FrameMaker frames;
  TimeNs now = kSecondNs;
  for (std::size_t i = 0; i < kFramesMax && !input.empty(); ++i) {
    now += input.take<std::uint8_t>() * kMicrosecondNs;
    wire::DataFrame frame;
    wire::DropReason reason{};
    if (wire::decode_data(frames.make(input), frame, reason, wire::Protection::kSealed)) {
      receiver.prefetch(frame);
      require(receiver.on_data(frame, now, reason) == model.on_data(frame),
              "the model says which frames are accepted");
    }
    if (receiver.ack_due(now, false)) {
      check_ack(receiver, now, model);
    }
  }
  if (receiver.ack_due(now, true)) {
    check_ack(receiver, now, model);
  }
  check_memory(receiver, memory, model);
}

}  // namespace
}  // namespace sluice::protocol

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::protocol::run(sluice::fuzz::Input(data, size));
  return 0;
}
