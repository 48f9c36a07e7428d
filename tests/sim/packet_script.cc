#include "tests/sim/packet_script.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "dataplane/protocol/receiver.h"
#include "dataplane/protocol/sender.h"

namespace sluice::sim {
namespace {

// A line that does not hold or cannot be read. Thrown and caught in this file only.
struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Run {
  std::uint64_t first = 0;
  std::uint64_t count = 1;
};

std::uint64_t parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw Mismatch("not a number: " + std::string(text));
  }
  return value;
}

// "250us", "1.5ms", "2s"
TimeNs parse_time(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double scale = unit == "ns"   ? 1
                       : unit == "us" ? 1e3
                       : unit == "ms" ? 1e6
                       : unit == "s"  ? 1e9
                                      : 0;
  if (error != std::errc{} || scale == 0) {
    throw Mismatch("not a time: " + std::string(text));
  }
  return static_cast<TimeNs>(std::llround(value * scale));
}

std::string print_time(TimeNs time_ns) {
  std::ostringstream out;
  out << static_cast<double>(time_ns) / 1e6 << "ms";
  return out.str();
}

// "5+3": three from 5 on; "5-7": the same; "5": one.
Run parse_run(std::string_view text) {
  const std::size_t at = text.find_first_of("+-");
  if (at == std::string_view::npos) {
    return {parse_number(text), 1};
  }
  const std::uint64_t first = parse_number(text.substr(0, at));
  const std::uint64_t second = parse_number(text.substr(at + 1));
  return {first, text[at] == '+' ? second : second - first + 1};
}

// The words of a line, taken one after the other.
class Words {
 public:
  explicit Words(const std::string& line) {
    std::istringstream in(line.substr(0, line.find('#')));
    for (std::string word; in >> word;) {
      words_.push_back(word);
    }
  }
  [[nodiscard]] bool empty() const { return at_ == words_.size(); }
  [[nodiscard]] std::string next() {
    if (empty()) {
      throw Mismatch("the line ends too early");
    }
    return words_[at_++];
  }
  // Takes the next word if it is this one.
  [[nodiscard]] bool take(std::string_view word) {
    const bool same = !empty() && words_[at_] == word;
    at_ += same ? 1 : 0;
    return same;
  }
  [[nodiscard]] std::uint64_t number() { return parse_number(next()); }
  [[nodiscard]] std::string rest() {
    std::string text;
    while (!empty()) {
      text += (text.empty() ? "" : " ") + next();
    }
    return text;
  }

 private:
  std::vector<std::string> words_;
  std::size_t at_ = 0;
};

void require_equal(const std::string& wanted, const std::string& seen) {
  if (wanted != seen) {
    throw Mismatch("it is: " + seen);
  }
}

void set_received(wire::Ack& ack, std::string_view list) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    const Run run = parse_run(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    for (Sequence sequence = run.first; sequence < run.first + run.count; ++sequence) {
      const std::size_t bit = sequence - ack.cumulative;
      ack.bitmap.at(bit / 64) |= 1ULL << bit % 64;
      ack.bitmap_words = std::max(ack.bitmap_words, static_cast<std::uint16_t>(bit / 64 + 1));
      ack.largest = std::max(ack.largest, sequence);
    }
  }
}

std::string print_received(const wire::Ack& ack) {
  std::string text;
  for (std::size_t bit = 0; bit < ack.bitmap_words * 64U; ++bit) {
    const auto received = [&](std::size_t i) {
      return i < ack.bitmap_words * 64U && (ack.bitmap[i / 64] >> i % 64 & 1U) != 0;
    };
    if (!received(bit)) {
      continue;
    }
    const std::size_t first = bit;
    while (received(bit + 1)) {
      ++bit;
    }
    text += (text.empty() ? "" : ",") + std::to_string(ack.cumulative + first);
    text += bit > first ? "-" + std::to_string(ack.cumulative + bit) : "";
  }
  return text;
}

std::string print_records(const wire::DataFrame& frame) {
  std::string text;
  for (std::size_t i = 0; i < frame.header.records; ++i) {
    const wire::Record& record = frame.records[i];
    const std::string page = std::to_string(record.page);
    if (record.type == wire::RecordType::kFragment) {
      text += " fragment " + page + "/" + std::to_string(record.index);
    } else {
      text += (record.type == wire::RecordType::kRaw ? " raw " : " zero ") + page + "+" +
              std::to_string(record.pages);
    }
  }
  return text;
}

std::string print_data(const wire::DataFrame& frame) {
  return "data " + std::to_string(frame.header.sequence) + " floor " +
         std::to_string(frame.header.sequence - frame.header.floor_distance) + print_records(frame);
}

struct Setup {
  std::uint64_t pages = 64;
  std::size_t mtu = 9000;
  std::uint32_t window = 64;
};

Setup parse_setup(Words& words) {
  Setup setup;
  while (!words.empty()) {
    const std::string name = words.next();
    const std::uint64_t value = words.number();
    if (name == "pages") {
      setup.pages = value;
    } else if (name == "mtu") {
      setup.mtu = value;
    } else if (name == "window") {
      setup.window = static_cast<std::uint32_t>(value);
    } else {
      throw Mismatch("unknown word " + name);
    }
  }
  return setup;
}

// What a script drives: one end of a flow and its memory.
class End {
 public:
  explicit End(const Setup& setup)
      : layout_({setup.pages}),
        shards_(layout_.extents(), 1, 0),
        memory_(setup.pages * kPageBytes),
        map_(layout_, {memory_.data()}) {}
  virtual ~End() = default;
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  // Everything that is due before `now`.
  virtual void pass_time(TimeNs now) = 0;
  virtual void run(const std::string& verb, Words& words, TimeNs now) = 0;

 protected:
  void fill(Words& words) {
    const Run run = parse_run(words.next());
    std::memset(map_.address(run.first), static_cast<int>(words.number()), run.count * kPageBytes);
  }

  page::Layout layout_;
  page::ShardMap shards_;
  std::vector<std::byte> memory_;
  page::MemoryMap map_;
};

class SenderEnd final : public End {
 public:
  explicit SenderEnd(const Setup& setup)
      : End(setup),
        sender_(
            {.mtu = setup.mtu,
             .window = {.window_first_frames = setup.window, .window_max_frames = setup.window}},
            layout_, shards_, map_) {}

  void pass_time(TimeNs now) override {
    for (TimeNs due = sender_.deadline_ns(); due != 0 && due <= now; due = sender_.deadline_ns()) {
      sender_.on_time(due);
    }
  }

  void run(const std::string& verb, Words& words, TimeNs now) override {
    if (verb == "fill") {
      fill(words);
    } else if (verb == "mark") {
      const Run run = parse_run(words.next());
      sender_.mark_dirty(run.first, run.count);
    } else if (verb == "iteration") {
      sender_.begin_iteration();
    } else if (verb == "final") {
      sender_.begin_final_pass();
    } else if (verb == "mtu") {
      sender_.lower_mtu(words.number());
    } else if (verb == "undo") {
      sender_.undo_last_frame();
    } else if (verb == ">") {
      frame_out(words.rest(), now);
    } else if (verb == "<") {
      ack_in(words, now);
    } else if (verb == "expect") {
      expect(words);
    } else {
      throw Mismatch("unknown word " + verb);
    }
    if (!sender_.invariants_hold()) {
      throw Mismatch("an invariant of the sender is broken");
    }
  }

 private:
  void frame_out(const std::string& wanted, TimeNs now) {
    protocol::OutgoingFrame out;
    if (!sender_.next_frame(now, out)) {
      return require_equal(wanted, "nothing");
    }
    std::vector<std::byte> bytes(out.prefix.begin(), out.prefix.begin() + out.prefix_bytes);
    bytes.resize(out.prefix_bytes + out.payload_bytes());
    wire::DataFrame frame;
    wire::DropReason reason{};
    if (!wire::decode_data(bytes, frame, reason)) {
      throw Mismatch(std::string("it does not decode: ") + wire::to_string(reason));
    }
    require_equal(wanted, print_data(frame));
  }

  void ack_in(Words& words, TimeNs now) {
    wire::AckFrame frame;
    frame.header.type = wire::FrameType::kAck;
    bool rejected = false;
    while (!words.empty()) {
      const std::string name = words.next();
      if (name == "ack") {
        frame.header.sequence = words.number();
      } else if (name == "cumulative") {
        frame.ack.cumulative = words.number();
        frame.ack.largest = frame.ack.cumulative - 1;
      } else if (name == "received") {
        set_received(frame.ack, words.next());
      } else if (name == "largest") {
        frame.ack.largest = words.number();
      } else if (name == "echo") {
        frame.header.timestamp_ns = kOrigin + parse_time(words.next());
      } else if (name == ":" && words.take("rejected")) {
        rejected = true;
      } else {
        throw Mismatch("unknown word " + name);
      }
    }
    const std::uint64_t before = sender_.counters().acks_rejected;
    sender_.on_ack(frame, now);
    require_equal(rejected ? "rejected" : "accepted",
                  sender_.counters().acks_rejected > before ? "rejected" : "accepted");
  }

  void expect(Words& words) {
    const protocol::SenderCounters& counters = sender_.counters();
    const TimeNs due = sender_.deadline_ns();
    const std::map<std::string, std::string> seen = {
        {"pending", std::to_string(sender_.pending_pages())},
        {"deferred", std::to_string(sender_.deferred_pages())},
        {"in_flight", std::to_string(sender_.in_flight_frames())},
        {"in_flight_pages", std::to_string(sender_.in_flight_pages())},
        {"acked", std::to_string(counters.frames_acked)},
        {"lost", std::to_string(counters.frames_lost)},
        {"spurious", std::to_string(counters.spurious_losses)},
        {"probe_timeouts", std::to_string(counters.probe_timeouts)},
        {"sent", std::to_string(counters.frames_sent)},
        {"suspect", sender_.path_suspect() ? "yes" : "no"},
        {"settled", sender_.settled() ? "yes" : "no"},
        {"deadline", due == 0 ? "none" : print_time(due - kOrigin)},
    };
    while (!words.empty()) {
      const std::string name = words.next();
      const auto found = seen.find(name);
      if (found == seen.end()) {
        throw Mismatch("unknown word " + name);
      }
      require_equal(name + " " + words.next(), name + " " + found->second);
    }
  }

 public:
  // The script's 0: a time of 0 means "not set".
  static constexpr TimeNs kOrigin = kSecondNs;

 private:
  protocol::Sender sender_;
};

class ReceiverEnd final : public End {
 public:
  explicit ReceiverEnd(const Setup& setup) : End(setup), receiver_({}, layout_, shards_, map_) {}

  void pass_time(TimeNs /*now*/) override {}

  void run(const std::string& verb, Words& words, TimeNs now) override {
    if (verb == "<") {
      data_in(words, now);
    } else if (verb == ">") {
      ack_out(words.rest(), now);
    } else if (verb == "expect" && words.take("page")) {
      expect_page(words);
    } else {
      throw Mismatch("unknown word " + verb);
    }
  }

 private:
  void data_in(Words& words, TimeNs now) {
    wire::FrameHeader header;
    std::vector<wire::Record> records;
    std::vector<std::byte> payload;
    std::string wanted = "applied";
    header.timestamp_ns = now;
    while (!words.empty()) {
      const std::string name = words.next();
      if (name == "data") {
        header.sequence = words.number();
      } else if (name == "floor") {
        header.floor_distance = static_cast<std::uint32_t>(header.sequence - words.number());
      } else if (name == "value") {
        std::fill(payload.begin(), payload.end(), static_cast<std::byte>(words.number()));
      } else if (name == ":") {
        wanted = words.next();
      } else {
        records.push_back(parse_record(name, words.next()));
        payload.resize(payload.size() + records.back().payload_bytes);
      }
    }
    std::vector<std::byte> bytes(wire::kDataPrefixBytesMax);
    bytes.resize(wire::encode_data_prefix(header, records, bytes));
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    wire::DataFrame frame;
    wire::DropReason reason{};
    const bool applied =
        wire::decode_data(bytes, frame, reason) && receiver_.on_data(frame, now, reason);
    require_equal(wanted, applied ? "applied" : wire::to_string(reason));
  }

  // Fragments are halves of a page, as an MTU of about 2,500 needs them.
  static wire::Record parse_record(const std::string& type, const std::string& where) {
    wire::Record record;
    if (type == "fragment") {
      const std::size_t slash = std::min(where.find('/'), where.size() - 1);
      constexpr std::uint16_t kHalf = kPageBytes / 2;
      record.type = wire::RecordType::kFragment;
      record.page = parse_number(where.substr(0, slash));
      record.index = static_cast<std::uint8_t>(parse_number(where.substr(slash + 1)));
      record.offset = static_cast<std::uint16_t>(record.index * kHalf);
      record.payload_bytes = kHalf;
      return record;
    }
    const Run run = parse_run(where);
    record.page = run.first;
    record.pages = static_cast<std::uint16_t>(run.count);
    if (type == "raw") {
      record.payload_bytes = static_cast<std::uint16_t>(run.count * kPageBytes);
    } else if (type == "zero") {
      record.type = wire::RecordType::kZero;
    } else {
      throw Mismatch("unknown word " + type);
    }
    return record;
  }

  void ack_out(const std::string& wanted, TimeNs now) {
    if (!receiver_.ack_due(now, true)) {
      return require_equal(wanted, "nothing");
    }
    std::vector<std::byte> bytes(wire::kAckBytesMax);
    bytes.resize(receiver_.make_ack(now, bytes));
    wire::AckFrame frame;
    wire::DropReason reason{};
    if (!wire::decode_ack(bytes, frame, reason)) {
      throw Mismatch(std::string("it does not decode: ") + wire::to_string(reason));
    }
    const std::string received = print_received(frame.ack);
    require_equal(wanted, "ack " + std::to_string(frame.header.sequence) + " cumulative " +
                              std::to_string(frame.ack.cumulative) + " largest " +
                              std::to_string(frame.ack.largest) +
                              (received.empty() ? "" : " received " + received));
  }

  void expect_page(Words& words) {
    const std::byte* page = map_.address(words.number());
    const auto value = static_cast<std::byte>(words.number());
    const std::byte* other =
        std::find_if(page, page + kPageBytes, [&](std::byte byte) { return byte != value; });
    if (other != page + kPageBytes) {
      throw Mismatch("byte " + std::to_string(other - page) + " is " +
                     std::to_string(std::to_integer<int>(*other)));
    }
  }

  protocol::Receiver receiver_;
};

std::unique_ptr<End> make_end(Words& words) {
  const std::string role = words.next();
  const Setup setup = parse_setup(words);
  if (role == "sender") {
    return std::make_unique<SenderEnd>(setup);
  }
  if (role == "receiver") {
    return std::make_unique<ReceiverEnd>(setup);
  }
  throw Mismatch("a script begins with sender or receiver");
}

void run_line(Words& words, std::unique_ptr<End>& end, TimeNs& now) {
  if (end == nullptr) {
    end = make_end(words);
    return;
  }
  const TimeNs at = SenderEnd::kOrigin + parse_time(words.next());
  if (at < now) {
    throw Mismatch("time goes back");
  }
  now = at;
  end->pass_time(now);
  const std::string verb = words.next();
  end->run(verb, words, now);
  if (!words.empty()) {
    throw Mismatch("not understood: " + words.rest());
  }
}

}  // namespace

std::string run_packet_script(std::istream& script) {
  std::unique_ptr<End> end;
  TimeNs now = 0;
  std::string line;
  for (int number = 1; std::getline(script, line); ++number) {
    Words words(line);
    if (words.empty()) {
      continue;
    }
    try {
      run_line(words, end, now);
    } catch (const std::exception& error) {
      return std::to_string(number) + ": " + error.what() + "\n  " + line;
    }
  }
  return end == nullptr ? "the script is empty" : "";
}

}  // namespace sluice::sim
