// The wire protocol: what travels inside a UDP datagram between two Sluice hosts. All integers are
// little-endian; all sizes are asserted; the value 0 of every enumeration is never valid. Pure: no
// I/O.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/base/units.h"

namespace sluice::wire {

// Raised whenever any layout below changes; a receiver drops every other version.
inline constexpr std::uint8_t kVersion = 2;

enum class FrameType : std::uint8_t {
  kData = 1,        // header, record table, payloads of the records in the same order
  kAck = 2,         // header, ack body, bitmap words
  kProbe = 3,       // header, padding up to the size under test
  kProbeReply = 4,  // header, probe reply body
};
inline constexpr std::array kFrameTypes = {FrameType::kData, FrameType::kAck, FrameType::kProbe,
                                           FrameType::kProbeReply};
// Each type is sent by one end of a flow only, the source of the session or its destination.
[[nodiscard]] constexpr bool sent_by_source(FrameType type) {
  return type == FrameType::kData || type == FrameType::kProbe;
}

// What a frame has against faults and foes on the way.
//
// A sealed frame: header in the clear, then the body_bytes encrypted, then a tag of 16 bytes that
// body_bytes does not count:
//
//   +--------------------+-------------------------------------------+----------+
//   | header (associated | body: record table and payloads, or ack   | tag 16 B |
//   | data)         40 B | body and bitmap: AES-256-GCM              |          |
//   +--------------------+-------------------------------------------+----------+
//
// The nonce is the frame's sequence number, big-endian in 12 bytes. It never repeats under a key:
// every flow has a key for each type of frame, a type is sent by one end only, and a number is
// given to one sealed frame only. Whether the frames of a session are sealed was agreed on by the
// control channel; the frame does not say.
enum class Protection : std::uint8_t {
  kChecksum = 1,  // in the clear, with header_crc
  kSealed,        // encrypted and authenticated
};
inline constexpr std::size_t kTagBytes = 16;
inline constexpr std::size_t kNonceBytes = 12;
[[nodiscard]] constexpr std::size_t tag_bytes(Protection protection) {
  return protection == Protection::kSealed ? kTagBytes : 0;
}

// Frame header, 40 bytes:
//
//    0       1       2               4               6       7       8
//   +-------+-------+---------------+---------------+-------+-------+
//   |version| type  | flow          | body_bytes    |records| zero  |
//   +-------+-------+---------------+---------------+-------+-------+
//   | session                                                       |  8
//   +---------------------------------------------------------------+
//   | sequence                                                      | 16
//   +---------------------------------------------------------------+
//   | timestamp_ns                                                  | 24
//   +-------------------------------+-------------------------------+
//   | floor_distance                | header_crc                    | 32
//   +-------------------------------+-------------------------------+
//
// body_bytes      bytes after this header
// records         entries of the record table (DATA), else 0
// session         random, agreed on by the control channel; frames of unknown sessions are dropped
// sequence        the flow's number of the frame among those of its type, from 1; of an ACK, so
//                 that a late one is known
// timestamp_ns    DATA, PROBE: the sender's clock at transmission. ACK: the echo of the newest DATA
//                 frame's timestamp. PROBE_REPLY: that of the probe
// floor_distance  DATA: sequence minus the oldest sequence the sender still waits for; every older
//                 frame is settled (acknowledged or declared lost) and the receiver's cumulative
//                 number may pass over it. Else 0
// header_crc      CRC32C over the header (this field as 0) and the record table, or ack body and
//                 bitmap, or probe reply body. Page contents are covered end to end by page hashes
//                 instead, which also see what memory and buses do to them; a probe's padding says
//                 nothing. 0 in a sealed frame: its tag covers all of it, and a checksum of what is
//                 encrypted would tell about it.
struct FrameHeader {
  FrameType type = FrameType::kData;
  std::uint16_t flow = 0;
  std::uint16_t body_bytes = 0;
  std::uint8_t records = 0;
  std::uint64_t session = 0;
  Sequence sequence = 0;
  TimeNs timestamp_ns = 0;
  std::uint32_t floor_distance = 0;
};
inline constexpr std::size_t kFrameHeaderBytes = 40;

enum class RecordType : std::uint8_t {
  kRaw = 1,       // `pages` whole pages of content follow in the payload area
  kZero = 2,      // `pages` pages are all zero; no payload
  kFragment = 3,  // part of one page, for MTUs that do not hold a whole one
};

// Record, 16 bytes. The record table comes first, all payloads after it, so that a sender can chain
// guest memory behind one small header buffer.
//
//    0       1       2               4               6               8
//   +-------+-------+---------------+---------------+---------------+
//   | type  | index | pages         | offset        | payload_bytes |
//   +-------+-------+---------------+---------------+---------------+
//   | page                                                          |
//   +---------------------------------------------------------------+
//
// page           first page, a session-wide number (base/units.h)
// pages          RAW: 1..kRawPagesMax. ZERO: 1..kZeroPagesMax. FRAGMENT: 1. No run of pages
//                crosses an extent
// index, offset  FRAGMENT: which fragment (0-based) and its byte offset in the page; else 0. The
//                fragments of one version of a page are sent in consecutive frames of one record
//                each, so that sequence - index names the version. The count of fragments is
//                ceil(4096 / fragment size), and every fragment but the last has the same size.
// payload_bytes  RAW: pages * 4096. ZERO: 0. FRAGMENT: 1..4095
struct Record {
  RecordType type = RecordType::kRaw;
  std::uint8_t index = 0;
  std::uint16_t pages = 1;
  std::uint16_t offset = 0;
  std::uint16_t payload_bytes = 0;
  PageNumber page = 0;

  friend bool operator==(const Record&, const Record&) = default;
};
inline constexpr std::size_t kRecordBytes = 16;

inline constexpr std::size_t kRecordsMax = 16;   // per frame; bounds every table of them
inline constexpr std::size_t kRawPagesMax = 15;  // 15 * 4096 fits the u16 payload_bytes
inline constexpr std::size_t kZeroPagesMax = kExtentPages;
inline constexpr std::size_t kFragmentsMax = 8;  // of one page: an MTU of 640 bytes and more

// Ack body, 24 bytes, then bitmap_words 64-bit words:
//
//   +---------------------------------------------------------------+
//   | cumulative                                                    |  0
//   +---------------------------------------------------------------+
//   | largest                                                       |  8
//   +-------------------------------+---------------+---------------+
//   | ack_delay_ns                  | bitmap_words  | zero          | 16
//   +-------------------------------+---------------+---------------+
//
// cumulative    every frame with a smaller sequence is settled for the receiver
// largest       the largest sequence received; 0 never (an ack is sent only after a frame)
// ack_delay_ns  time between the arrival of `largest` and this ack, saturating
// bitmap        bit i of word w set: frame cumulative + 64 w + i was received. Covers at most
//               kAckSpanMax frames.
inline constexpr std::size_t kAckBodyBytes = 24;
inline constexpr std::size_t kAckWordsMax = 16;
// The sender never has more frames than this between its oldest unsettled and its newest one.
inline constexpr std::size_t kAckSpanMax = kAckWordsMax * 64;

struct Ack {
  Sequence cumulative = 0;
  Sequence largest = 0;
  std::uint32_t ack_delay_ns = 0;
  std::uint16_t bitmap_words = 0;
  std::array<std::uint64_t, kAckWordsMax> bitmap{};

  friend bool operator==(const Ack&, const Ack&) = default;
};

// Probe reply body, 16 bytes:
//
//   +---------------------------------------------------------------+
//   | probe                                                         |  0
//   +-------------------------------+-------------------------------+
//   | probe_body_bytes              | zero                          |  8
//   +-------------------------------+-------------------------------+
//
// probe             the sequence of the PROBE that arrived; 0 never
// probe_body_bytes  its body_bytes: what arrived was that large. 0..65,535
inline constexpr std::size_t kProbeReplyBodyBytes = 16;

// Why a frame was dropped; index of the receive counters. Names are shown to operators.
enum class DropReason : std::uint8_t {
  kTooShort = 1,
  kBadVersion,
  kBadType,
  kBadChecksum,
  kBadLength,  // body_bytes, record table and payloads do not agree
  kBadRecord,  // unknown type, count of pages out of range, run that crosses an extent, non-zero
               // reserved bits
  kUnknownSession,  // no such session or flow on this worker
  kOutOfRange,  // page outside the session or not of this flow's shard, sequence 0 or beyond the
                // window
  kDuplicate,   // sequence already received, or settled
  kReplay,    // a sealed ack not newer than the newest handled, or a sealed probe or reply handled
              // before: sent again by somebody, or overtaken
  kBadTag,    // a sealed frame that was altered, forged, or sealed with another key
  kNotForUs,  // not an Ethernet/IPv4/UDP packet to our address and port
  kCount      // number of values, not a reason
};
[[nodiscard]] const char* to_string(DropReason reason);

// A decoded DATA frame; `payload` points into the buffer that was decoded.
struct DataFrame {
  FrameHeader header;
  std::array<Record, kRecordsMax> records{};  // header.records entries are valid
  std::span<const std::byte> payload;
};

struct AckFrame {
  FrameHeader header;
  Ack ack;
};

// A PROBE is its header: header.body_bytes of padding arrived behind it.
struct ProbeReplyFrame {
  FrameHeader header;
  Sequence probe = 0;
  std::uint16_t probe_body_bytes = 0;
};

// Size of header + record table of a DATA frame, without payloads.
[[nodiscard]] constexpr std::size_t data_prefix_bytes(std::size_t records) {
  return kFrameHeaderBytes + records * kRecordBytes;
}
inline constexpr std::size_t kDataPrefixBytesMax = data_prefix_bytes(kRecordsMax);
inline constexpr std::size_t kAckBytesMax =
    kFrameHeaderBytes + kAckBodyBytes + kAckWordsMax * sizeof(std::uint64_t);
inline constexpr std::size_t kProbeReplyBytes = kFrameHeaderBytes + kProbeReplyBodyBytes;

// Writes header and record table; the payloads follow in the records' order and are the caller's.
// header.type, body_bytes and records are set from the records. `out` holds at least
// data_prefix_bytes(records.size()); returns the bytes written. 1..kRecordsMax records.
// `protection` says what the whole frame is going to have: a frame to be sealed has no checksum.
std::size_t encode_data_prefix(FrameHeader header, std::span<const Record> records,
                               std::span<std::byte> out,
                               Protection protection = Protection::kChecksum);

// Writes a whole ACK frame; `out` holds at least kAckBytesMax. Trailing all-zero words need not be
// sent.
std::size_t encode_ack(FrameHeader header, const Ack& ack, std::span<std::byte> out,
                       Protection protection = Protection::kChecksum);

// Writes a PROBE's header, for header.body_bytes bytes of padding, which follow and are the
// caller's: anything. `out` holds at least kFrameHeaderBytes; returns the bytes written.
std::size_t encode_probe_prefix(FrameHeader header, std::span<std::byte> out,
                                Protection protection = Protection::kChecksum);

// Writes the whole answer to a decoded PROBE: session, flow and timestamp are the probe's,
// `sequence` numbers the replies. `out` holds at least kProbeReplyBytes; returns the bytes written.
std::size_t encode_probe_reply(const FrameHeader& probe, Sequence sequence,
                               std::span<std::byte> out,
                               Protection protection = Protection::kChecksum);

// Reads only what is needed to find the flow, and to open the frame where it is sealed: length,
// version, type. nullopt with `reason` set otherwise. Nothing of a sealed frame may be believed
// before it has been opened.
struct FlowKey {
  FrameType type;
  std::uint64_t session;
  std::uint16_t flow;
  Sequence sequence;
  std::uint16_t body_bytes;
};
[[nodiscard]] std::optional<FlowKey> peek(std::span<const std::byte> frame, DropReason& reason);

// Full decoding with every check of the formats above. On failure returns false and sets `reason`;
// `out` is then unspecified. Never reads beyond `frame`; safe on hostile input. `frame` may have
// trailing padding (Ethernet's minimum of 60 bytes, an opened frame's tag), which is ignored.
[[nodiscard]] bool decode_data(std::span<const std::byte> frame, DataFrame& out, DropReason& reason,
                               Protection protection = Protection::kChecksum);
[[nodiscard]] bool decode_ack(std::span<const std::byte> frame, AckFrame& out, DropReason& reason,
                              Protection protection = Protection::kChecksum);
[[nodiscard]] bool decode_probe(std::span<const std::byte> frame, FrameHeader& out,
                                DropReason& reason, Protection protection = Protection::kChecksum);
[[nodiscard]] bool decode_probe_reply(std::span<const std::byte> frame, ProbeReplyFrame& out,
                                      DropReason& reason,
                                      Protection protection = Protection::kChecksum);

}  // namespace sluice::wire
