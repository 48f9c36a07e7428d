// A sender with frames in flight gets acks that no honest receiver would send, and times. Its state
// must stay consistent, frames that were never sent must never count as acknowledged, and it may be
// settled only if every page's newest frame was acknowledged.
#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <set>
#include <vector>

#include "dataplane/protocol/sender.h"
#include "dataplane/wire/packet.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::protocol {
namespace {

using fuzz::Input;
using fuzz::require;

constexpr std::uint64_t kPages = 300;
constexpr std::size_t kStepsMax = 300;
constexpr std::array<std::size_t, 4> kMtus = {wire::kMtuMin, 1500, 4300, 9000};

// No page is all zero, so that each has to be sent.
std::vector<std::byte>& guest_memory() {
  static std::vector<std::byte> bytes(kPages * kPageBytes, std::byte{7});
  return bytes;
}

class Driver {
 public:
  explicit Driver(Input input)
      : input_(input),
        layout_({kPages}),
        shards_(layout_.extents(), 1, 0),
        map_(layout_, {guest_memory().data()}),
        sender_(config(), layout_, shards_, map_) {
    mark(0);
  }

  void run() {
    for (std::size_t i = 0; i < kStepsMax && !input_.empty(); ++i) {
      step();
      require(sender_.invariants_hold(), "the sender's state is consistent");
      if (sender_.settled()) {
        check_settled();
      }
    }
  }

 private:
  SenderConfig config() {
    SenderConfig config;
    config.mtu = kMtus[input_.below(kMtus.size())];
    return config;
  }

  void step() {
    switch (input_.below(10)) {
      case 0:
        mark(input_.below(kPages + 4));
        break;
      case 1:
        now_ += input_.take<std::uint32_t>();
        sender_.on_time(now_);
        break;
      case 2:
        now_ = std::max(now_, sender_.deadline_ns());
        sender_.on_time(now_);
        break;
      case 3:
        sender_.begin_iteration();
        break;
      case 4:
        path_event();
        break;
      case 5:
        take_back();
        break;
      case 6:
      case 7:
        send(1 + input_.below(64));
        break;
      default:
        acknowledge();
    }
  }

  void mark(PageNumber page) {
    const std::uint64_t count = 1 + input_.below(40);
    sender_.mark_dirty(page, count);
    for (PageNumber p = page; p < std::min(page + count, kPages); ++p) {
      newest_frame_[p] = 0;
    }
  }

  void path_event() {
    const std::size_t mtu = kMtus[input_.below(kMtus.size())];
    if (mtu < sender_.mtu()) {
      sender_.lower_mtu(mtu);
    } else {
      sender_.begin_final_pass();
    }
  }

  bool send_one() {
    OutgoingFrame out;
    if (!sender_.next_frame(now_, out)) {
      return false;
    }
    std::vector<std::byte> bytes(out.prefix.begin(), out.prefix.begin() + out.prefix_bytes);
    for (std::size_t i = 0; i < out.slices; ++i) {
      bytes.insert(bytes.end(), out.slice[i].begin(), out.slice[i].end());
    }
    wire::DataFrame frame;
    wire::DropReason reason{};
    require(wire::decode_data(bytes, frame, reason), "what is sent can be decoded");
    require(frame.header.sequence == next_, "numbers are given one after the other");
    ++next_;
    for (std::size_t i = 0; i < frame.header.records; ++i) {
      const wire::Record& record = frame.records[i];
      require(record.page < kPages && record.pages <= kPages - record.page,
              "only pages that exist");
      for (PageNumber p = record.page; p < record.page + record.pages; ++p) {
        newest_frame_[p] = frame.header.sequence;
      }
    }
    return true;
  }

  void send(std::size_t frames) {
    while (frames-- > 0 && send_one()) {
      now_ += kMicrosecondNs;
    }
  }

  // The port was full.
  void take_back() {
    const auto before = newest_frame_;
    if (send_one()) {
      sender_.undo_last_frame();
      newest_frame_ = before;
      --next_;
    }
  }

  Sequence take_sequence() {
    switch (input_.below(8)) {
      case 0:
        return input_.take<Sequence>();
      case 1:
        return next_ + input_.below(70);
      default:
        return next_ - std::min<Sequence>(next_, input_.below(80));
    }
  }

  wire::AckFrame take_ack() {
    wire::AckFrame frame;
    frame.header.type = wire::FrameType::kAck;
    frame.header.sequence = input_.below(16) == 0 ? input_.take<Sequence>() : ++ack_number_;
    frame.header.timestamp_ns =
        input_.below(4) == 0 ? input_.take<TimeNs>() : now_ - kMicrosecondNs;
    frame.ack.ack_delay_ns = input_.take<std::uint32_t>();
    frame.ack.cumulative = take_sequence();
    frame.ack.bitmap_words = static_cast<std::uint16_t>(input_.below(wire::kAckWordsMax + 1));
    for (std::size_t i = 0; i < frame.ack.bitmap_words; ++i) {
      frame.ack.bitmap[i] = input_.take<std::uint64_t>();
    }
    frame.ack.largest = input_.below(4) == 0 ? take_sequence() : largest_of(frame.ack);
    return frame;
  }

  // What an honest receiver would give with this number and bitmap.
  static Sequence largest_of(const wire::Ack& ack) {
    for (std::size_t i = ack.bitmap_words; i > 0; --i) {
      if (ack.bitmap[i - 1] != 0) {
        return ack.cumulative + i * 64 - 1 -
               static_cast<Sequence>(std::countl_zero(ack.bitmap[i - 1]));
      }
    }
    return ack.cumulative - 1;
  }

  void acknowledge() {
    const wire::AckFrame frame = take_ack();
    const SenderCounters before = sender_.counters();
    const std::uint64_t in_flight = sender_.in_flight_frames();
    sender_.on_ack(frame, now_);
    const bool rejected = sender_.counters().acks_rejected > before.acks_rejected;
    const bool of_unsent =
        std::max(frame.ack.largest, largest_of(frame.ack)) >= next_ || frame.ack.cumulative > next_;
    require(rejected || !of_unsent, "an ack of a frame that was never sent is rejected");
    if (rejected) {
      require(sender_.counters().frames_acked == before.frames_acked &&
                  sender_.in_flight_frames() == in_flight,
              "a rejected ack changes nothing");
      return;
    }
    acked_below_ = std::max(acked_below_, frame.ack.cumulative);
    for (std::size_t i = 0; i < frame.ack.bitmap_words * std::size_t{64}; ++i) {
      if ((frame.ack.bitmap[i / 64] >> i % 64 & 1U) != 0) {
        acked_.insert(frame.ack.cumulative + i);
      }
    }
  }

  void check_settled() {
    for (const auto& [page, frame] : newest_frame_) {
      require(frame != 0 && (frame < acked_below_ || acked_.contains(frame)),
              "a sender is settled only when each page's newest frame was acknowledged");
    }
  }

  Input input_;
  page::Layout layout_;
  page::ShardMap shards_;
  page::MemoryMap map_;
  Sender sender_;
  TimeNs now_ = kSecondNs;
  Sequence next_ = 1;
  Sequence ack_number_ = 0;
  // Of each page that was ever marked: the newest frame with any of it; 0: none since.
  std::map<PageNumber, Sequence> newest_frame_;
  Sequence acked_below_ = 1;
  std::set<Sequence> acked_;
};

}  // namespace
}  // namespace sluice::protocol

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::protocol::Driver(sluice::fuzz::Input(data, size)).run();
  return 0;
}
