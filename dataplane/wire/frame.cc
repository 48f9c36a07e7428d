#include "dataplane/wire/frame.h"

#include <algorithm>
#include <cassert>
#include <nmmintrin.h>

#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

// Offsets of the fields drawn in frame.h.
namespace header_at {
constexpr std::size_t kVersion = 0;
constexpr std::size_t kType = 1;
constexpr std::size_t kFlow = 2;
constexpr std::size_t kBodyBytes = 4;
constexpr std::size_t kRecords = 6;
constexpr std::size_t kReserved = 7;
constexpr std::size_t kSession = 8;
constexpr std::size_t kSequence = 16;
constexpr std::size_t kTimestamp = 24;
constexpr std::size_t kFloorDistance = 32;
constexpr std::size_t kCrc = 36;
}  // namespace header_at
static_assert(header_at::kCrc + sizeof(std::uint32_t) == kFrameHeaderBytes);

namespace record_at {
constexpr std::size_t kType = 0;
constexpr std::size_t kIndex = 1;
constexpr std::size_t kPages = 2;
constexpr std::size_t kOffset = 4;
constexpr std::size_t kPayloadBytes = 6;
constexpr std::size_t kPage = 8;
}  // namespace record_at
static_assert(record_at::kPage + sizeof(PageNumber) == kRecordBytes);

namespace ack_at {
constexpr std::size_t kCumulative = 0;
constexpr std::size_t kLargest = 8;
constexpr std::size_t kAckDelay = 16;
constexpr std::size_t kBitmapWords = 20;
constexpr std::size_t kReserved = 22;
}  // namespace ack_at
static_assert(ack_at::kReserved + sizeof(std::uint16_t) == kAckBodyBytes);

namespace probe_reply_at {
constexpr std::size_t kProbe = 0;
constexpr std::size_t kProbeBodyBytes = 8;
constexpr std::size_t kReserved = 12;
}  // namespace probe_reply_at
static_assert(probe_reply_at::kReserved + sizeof(std::uint32_t) == kProbeReplyBodyBytes);

// The checksum walks 8 bytes a step and has no tail.
static_assert(kFrameHeaderBytes % 8 == 0 && kRecordBytes % 8 == 0 && kAckBodyBytes % 8 == 0 &&
              kProbeReplyBodyBytes % 8 == 0);
static_assert(kRawPagesMax * kPageBytes <= UINT16_MAX);
static_assert(kRecordsMax * kRecordBytes + kRawPagesMax * kPageBytes <= UINT16_MAX,
              "the largest body fits body_bytes");
static_assert(kAckBytesMax - kFrameHeaderBytes <= UINT16_MAX);
static_assert(kRecordsMax <= UINT8_MAX && kZeroPagesMax <= UINT16_MAX);

// CRC32C of the first `bytes` of a frame, a multiple of 8, with the checksum field as 0.
std::uint32_t header_crc(const std::byte* frame, std::size_t bytes) {
  std::uint64_t crc = UINT32_MAX;
  for (std::size_t at = 0; at < bytes; at += 8) {
    auto word = load_le<std::uint64_t>(frame + at);
    if (at == header_at::kFloorDistance) {
      word &= UINT32_MAX;
    }
    crc = _mm_crc32_u64(crc, word);
  }
  return ~static_cast<std::uint32_t>(crc);
}

void store_checksum(std::byte* frame, std::size_t covered_bytes, Protection protection) {
  const bool sealed = protection == Protection::kSealed;
  store_le(frame + header_at::kCrc, sealed ? 0U : header_crc(frame, covered_bytes));
}

void store_header(const FrameHeader& header, std::byte* to) {
  to[header_at::kVersion] = std::byte{kVersion};
  to[header_at::kType] = static_cast<std::byte>(header.type);
  store_le(to + header_at::kFlow, header.flow);
  store_le(to + header_at::kBodyBytes, header.body_bytes);
  to[header_at::kRecords] = std::byte{header.records};
  to[header_at::kReserved] = std::byte{0};
  store_le(to + header_at::kSession, header.session);
  store_le(to + header_at::kSequence, header.sequence);
  store_le(to + header_at::kTimestamp, header.timestamp_ns);
  store_le(to + header_at::kFloorDistance, header.floor_distance);
}

void load_header(const std::byte* from, FrameHeader& header) {
  header.type = static_cast<FrameType>(from[header_at::kType]);
  header.flow = load_le<std::uint16_t>(from + header_at::kFlow);
  header.body_bytes = load_le<std::uint16_t>(from + header_at::kBodyBytes);
  header.records = static_cast<std::uint8_t>(from[header_at::kRecords]);
  header.session = load_le<std::uint64_t>(from + header_at::kSession);
  header.sequence = load_le<Sequence>(from + header_at::kSequence);
  header.timestamp_ns = load_le<TimeNs>(from + header_at::kTimestamp);
  header.floor_distance = load_le<std::uint32_t>(from + header_at::kFloorDistance);
}

void store_record(const Record& record, std::byte* to) {
  to[record_at::kType] = static_cast<std::byte>(record.type);
  to[record_at::kIndex] = std::byte{record.index};
  store_le(to + record_at::kPages, record.pages);
  store_le(to + record_at::kOffset, record.offset);
  store_le(to + record_at::kPayloadBytes, record.payload_bytes);
  store_le(to + record_at::kPage, record.page);
}

void load_record(const std::byte* from, Record& record) {
  record.type = static_cast<RecordType>(from[record_at::kType]);
  record.index = static_cast<std::uint8_t>(from[record_at::kIndex]);
  record.pages = load_le<std::uint16_t>(from + record_at::kPages);
  record.offset = load_le<std::uint16_t>(from + record_at::kOffset);
  record.payload_bytes = load_le<std::uint16_t>(from + record_at::kPayloadBytes);
  record.page = load_le<PageNumber>(from + record_at::kPage);
}

bool run_valid(const Record& record, std::size_t pages_max) {
  return record.index == 0 && record.offset == 0 && record.pages >= 1 &&
         record.pages <= pages_max && record.page % kExtentPages + record.pages <= kExtentPages;
}

bool fragment_valid(const Record& record) {
  const std::size_t end = std::size_t{record.offset} + record.payload_bytes;
  if (record.pages != 1 || record.index >= kFragmentsMax || record.payload_bytes == 0 ||
      end > kPageBytes) {
    return false;
  }
  // The size of all fragments but the last follows from either: a fragment that does not end the
  // page has it, and the last one starts at a multiple of it.
  std::size_t size = record.payload_bytes;
  if (end == kPageBytes) {
    if (record.index == 0) {
      return false;  // a whole page is RAW
    }
    size = record.offset / record.index;
  }
  return record.offset == record.index * size && record.payload_bytes <= size &&
         size * kFragmentsMax >= kPageBytes;
}

bool record_valid(const Record& record) {
  switch (record.type) {
    case RecordType::kRaw:
      return run_valid(record, kRawPagesMax) && record.payload_bytes == record.pages * kPageBytes;
    case RecordType::kZero:
      return run_valid(record, kZeroPagesMax) && record.payload_bytes == 0;
    case RecordType::kFragment:
      return fragment_valid(record);
  }
  return false;
}

bool drop(DropReason& reason, DropReason why) {
  reason = why;
  return false;
}

// The checks that all frames share: up to here nothing beyond the fixed header was read.
bool decode_header(std::span<const std::byte> frame, FrameType type, FrameHeader& header,
                   DropReason& reason) {
  const auto key = peek(frame, reason);
  if (!key) {
    return false;
  }
  if (key->type != type) {
    return drop(reason, DropReason::kBadType);
  }
  load_header(frame.data(), header);
  if (frame.size() - kFrameHeaderBytes < header.body_bytes) {
    return drop(reason, DropReason::kBadLength);
  }
  return true;
}

// Checks the checksum first: only then are the fields' values worth a more precise reason.
bool check_checksum(std::span<const std::byte> frame, std::size_t covered_bytes,
                    const FrameHeader& header, DropReason& reason, Protection protection) {
  const auto stored = load_le<std::uint32_t>(frame.data() + header_at::kCrc);
  if (protection == Protection::kSealed) {
    if (stored != 0) {
      return drop(reason, DropReason::kBadRecord);
    }
  } else if (header_crc(frame.data(), covered_bytes) != stored) {
    return drop(reason, DropReason::kBadChecksum);
  }
  if (frame[header_at::kReserved] != std::byte{0}) {
    return drop(reason, DropReason::kBadRecord);
  }
  if (header.sequence == 0) {
    return drop(reason, DropReason::kOutOfRange);
  }
  return true;
}

}  // namespace

const char* to_string(DropReason reason) {
  switch (reason) {
    case DropReason::kTooShort:
      return "too_short";
    case DropReason::kBadVersion:
      return "bad_version";
    case DropReason::kBadType:
      return "bad_type";
    case DropReason::kBadChecksum:
      return "bad_checksum";
    case DropReason::kBadLength:
      return "bad_length";
    case DropReason::kBadRecord:
      return "bad_record";
    case DropReason::kUnknownSession:
      return "unknown_session";
    case DropReason::kOutOfRange:
      return "out_of_range";
    case DropReason::kDuplicate:
      return "duplicate";
    case DropReason::kReplay:
      return "replay";
    case DropReason::kBadTag:
      return "bad_tag";
    case DropReason::kNotForUs:
      return "not_for_us";
    case DropReason::kCount:
      break;
  }
  return "unknown";
}

std::size_t encode_data_prefix(FrameHeader header, std::span<const Record> records,
                               std::span<std::byte> out, Protection protection) {
  const std::size_t bytes = data_prefix_bytes(records.size());
  assert(!records.empty() && records.size() <= kRecordsMax && out.size() >= bytes);
  std::size_t body_bytes = records.size() * kRecordBytes;
  std::byte* to = out.data() + kFrameHeaderBytes;
  for (const Record& record : records) {
    assert(record_valid(record));
    assert(record.type != RecordType::kFragment || records.size() == 1);
    store_record(record, to);
    to += kRecordBytes;
    body_bytes += record.payload_bytes;
  }
  assert(body_bytes <= UINT16_MAX);
  header.type = FrameType::kData;
  header.body_bytes = static_cast<std::uint16_t>(body_bytes);
  header.records = static_cast<std::uint8_t>(records.size());
  store_header(header, out.data());
  store_checksum(out.data(), bytes, protection);
  return bytes;
}

std::size_t encode_ack(FrameHeader header, const Ack& ack, std::span<std::byte> out,
                       Protection protection) {
  assert(ack.bitmap_words <= kAckWordsMax && out.size() >= kAckBytesMax);
  std::uint16_t words = ack.bitmap_words;
  while (words > 0 && ack.bitmap[words - 1U] == 0) {
    --words;
  }
  std::byte* body = out.data() + kFrameHeaderBytes;
  store_le(body + ack_at::kCumulative, ack.cumulative);
  store_le(body + ack_at::kLargest, ack.largest);
  store_le(body + ack_at::kAckDelay, ack.ack_delay_ns);
  store_le(body + ack_at::kBitmapWords, words);
  store_le(body + ack_at::kReserved, std::uint16_t{0});
  for (std::size_t i = 0; i < words; ++i) {
    store_le(body + kAckBodyBytes + i * sizeof(std::uint64_t), ack.bitmap[i]);
  }
  const std::size_t body_bytes = kAckBodyBytes + words * sizeof(std::uint64_t);
  header.type = FrameType::kAck;
  header.body_bytes = static_cast<std::uint16_t>(body_bytes);
  header.records = 0;
  header.floor_distance = 0;
  store_header(header, out.data());
  store_checksum(out.data(), kFrameHeaderBytes + body_bytes, protection);
  return kFrameHeaderBytes + body_bytes;
}

std::size_t encode_probe_prefix(FrameHeader header, std::span<std::byte> out,
                                Protection protection) {
  assert(out.size() >= kFrameHeaderBytes);
  header.type = FrameType::kProbe;
  header.records = 0;
  header.floor_distance = 0;
  store_header(header, out.data());
  store_checksum(out.data(), kFrameHeaderBytes, protection);
  return kFrameHeaderBytes;
}

std::size_t encode_probe_reply(const FrameHeader& probe, Sequence sequence,
                               std::span<std::byte> out, Protection protection) {
  assert(out.size() >= kProbeReplyBytes);
  std::byte* body = out.data() + kFrameHeaderBytes;
  store_le(body + probe_reply_at::kProbe, probe.sequence);
  store_le(body + probe_reply_at::kProbeBodyBytes, std::uint32_t{probe.body_bytes});
  store_le(body + probe_reply_at::kReserved, std::uint32_t{0});
  FrameHeader header = probe;
  header.type = FrameType::kProbeReply;
  header.body_bytes = kProbeReplyBodyBytes;
  header.records = 0;
  header.sequence = sequence;
  header.floor_distance = 0;
  store_header(header, out.data());
  store_checksum(out.data(), kProbeReplyBytes, protection);
  return kProbeReplyBytes;
}

std::optional<FlowKey> peek(std::span<const std::byte> frame, DropReason& reason) {
  if (frame.size() < kFrameHeaderBytes) {
    reason = DropReason::kTooShort;
    return std::nullopt;
  }
  if (frame[header_at::kVersion] != std::byte{kVersion}) {
    reason = DropReason::kBadVersion;
    return std::nullopt;
  }
  const auto type = static_cast<FrameType>(frame[header_at::kType]);
  if (type < FrameType::kData || type > FrameType::kProbeReply) {
    reason = DropReason::kBadType;
    return std::nullopt;
  }
  return FlowKey{type, load_le<std::uint64_t>(frame.data() + header_at::kSession),
                 load_le<std::uint16_t>(frame.data() + header_at::kFlow),
                 load_le<Sequence>(frame.data() + header_at::kSequence),
                 load_le<std::uint16_t>(frame.data() + header_at::kBodyBytes)};
}

bool decode_data(std::span<const std::byte> frame, DataFrame& out, DropReason& reason,
                 Protection protection) {
  FrameHeader& header = out.header;
  if (!decode_header(frame, FrameType::kData, header, reason)) {
    return false;
  }
  const std::size_t table_bytes = header.records * kRecordBytes;
  if (header.records == 0 || header.records > kRecordsMax || table_bytes > header.body_bytes) {
    return drop(reason, DropReason::kBadLength);
  }
  const std::size_t prefix_bytes = data_prefix_bytes(header.records);
  if (!check_checksum(frame, prefix_bytes, header, reason, protection)) {
    return false;
  }
  if (header.floor_distance >= header.sequence) {
    return drop(reason, DropReason::kOutOfRange);
  }
  std::size_t payload_bytes = 0;
  for (std::size_t i = 0; i < header.records; ++i) {
    Record& record = out.records[i];
    load_record(frame.data() + data_prefix_bytes(i), record);
    if (!record_valid(record)) {
      return drop(reason, DropReason::kBadRecord);
    }
    if (record.type == RecordType::kFragment) {
      if (header.records != 1) {
        return drop(reason, DropReason::kBadRecord);
      }
      if (record.index >= header.sequence) {
        return drop(reason, DropReason::kOutOfRange);
      }
    }
    payload_bytes += record.payload_bytes;
  }
  if (table_bytes + payload_bytes != header.body_bytes) {
    return drop(reason, DropReason::kBadLength);
  }
  out.payload = frame.subspan(prefix_bytes, payload_bytes);
  return true;
}

bool decode_ack(std::span<const std::byte> frame, AckFrame& out, DropReason& reason,
                Protection protection) {
  FrameHeader& header = out.header;
  if (!decode_header(frame, FrameType::kAck, header, reason)) {
    return false;
  }
  if (header.records != 0 || header.body_bytes < kAckBodyBytes) {
    return drop(reason, DropReason::kBadLength);
  }
  const std::byte* body = frame.data() + kFrameHeaderBytes;
  Ack& ack = out.ack;
  ack.bitmap_words = load_le<std::uint16_t>(body + ack_at::kBitmapWords);
  if (ack.bitmap_words > kAckWordsMax ||
      header.body_bytes != kAckBodyBytes + ack.bitmap_words * sizeof(std::uint64_t)) {
    return drop(reason, DropReason::kBadLength);
  }
  if (!check_checksum(frame, kFrameHeaderBytes + header.body_bytes, header, reason, protection)) {
    return false;
  }
  ack.cumulative = load_le<Sequence>(body + ack_at::kCumulative);
  ack.largest = load_le<Sequence>(body + ack_at::kLargest);
  ack.ack_delay_ns = load_le<std::uint32_t>(body + ack_at::kAckDelay);
  if (header.floor_distance != 0 || load_le<std::uint16_t>(body + ack_at::kReserved) != 0) {
    return drop(reason, DropReason::kBadRecord);
  }
  if (ack.cumulative == 0 || ack.largest == 0) {
    return drop(reason, DropReason::kOutOfRange);
  }
  std::fill(ack.bitmap.begin() + ack.bitmap_words, ack.bitmap.end(), 0);
  for (std::size_t i = 0; i < ack.bitmap_words; ++i) {
    ack.bitmap[i] = load_le<std::uint64_t>(body + kAckBodyBytes + i * sizeof(std::uint64_t));
  }
  return true;
}

bool decode_probe(std::span<const std::byte> frame, FrameHeader& out, DropReason& reason,
                  Protection protection) {
  if (!decode_header(frame, FrameType::kProbe, out, reason)) {
    return false;
  }
  if (out.records != 0) {
    return drop(reason, DropReason::kBadLength);
  }
  if (!check_checksum(frame, kFrameHeaderBytes, out, reason, protection)) {
    return false;
  }
  return out.floor_distance == 0 || drop(reason, DropReason::kBadRecord);
}

bool decode_probe_reply(std::span<const std::byte> frame, ProbeReplyFrame& out, DropReason& reason,
                        Protection protection) {
  FrameHeader& header = out.header;
  if (!decode_header(frame, FrameType::kProbeReply, header, reason)) {
    return false;
  }
  if (header.records != 0 || header.body_bytes != kProbeReplyBodyBytes) {
    return drop(reason, DropReason::kBadLength);
  }
  if (!check_checksum(frame, kProbeReplyBytes, header, reason, protection)) {
    return false;
  }
  const std::byte* body = frame.data() + kFrameHeaderBytes;
  out.probe = load_le<Sequence>(body + probe_reply_at::kProbe);
  const auto body_bytes = load_le<std::uint32_t>(body + probe_reply_at::kProbeBodyBytes);
  if (header.floor_distance != 0 || body_bytes > UINT16_MAX ||
      load_le<std::uint32_t>(body + probe_reply_at::kReserved) != 0) {
    return drop(reason, DropReason::kBadRecord);
  }
  if (out.probe == 0) {
    return drop(reason, DropReason::kOutOfRange);
  }
  out.probe_body_bytes = static_cast<std::uint16_t>(body_bytes);
  return true;
}

}  // namespace sluice::wire
