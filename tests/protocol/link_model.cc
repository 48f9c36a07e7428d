#include "tests/protocol/link_model.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>

#include "dataplane/wire/packet.h"

namespace sluice::protocol {
namespace {

constexpr std::size_t kFinishRoundsMax = 20'000;

template <typename T, std::size_t N>
T one_of(Random& random, const std::array<T, N>& values) {
  return values[random.below(N)];
}

std::vector<std::uint64_t> draw_regions(Random& random, std::uint32_t shards) {
  // Every shard but the first starts a chunk of its own.
  const std::uint64_t chunks = shards - 1;
  std::vector<std::uint64_t> pages;
  pages.push_back(chunks * page::ShardMap::kChunkPages + 1 + random.below(600));
  while (pages.size() < 3 && random.chance(0.4)) {
    pages.push_back(random.chance(0.3) ? kExtentPages : 1 + random.below(100));
  }
  return pages;
}

}  // namespace

ModelOptions ModelOptions::draw(Random& random) {
  ModelOptions options;
  // Several shards need page spaces of several chunks, which are slow to check: three cases in a
  // hundred.
  options.shards = random.chance(0.03) ? 2 + static_cast<std::uint32_t>(random.below(2)) : 1;
  options.region_pages = draw_regions(random, options.shards);
  options.mtu =
      one_of<std::size_t>(random, std::array<std::size_t, 5>{9000, 1500, 65535, 640, 4300});
  options.narrowing = one_of(random, std::array<double, 3>{0, 0, 0.03});
  options.window_frames =
      one_of<std::uint32_t>(random, std::array<std::uint32_t, 7>{1, 2, 5, 16, 64, 256, 1024});
  options.written_pages = 1 + random.below(random.chance(0.5) ? 8 : 64);
  options.mark_all = options.shards == 1 && random.chance(0.3);
  options.data_loss = one_of(random, std::array<double, 4>{0, 0.02, 0.2, 0.6});
  options.ack_loss = one_of(random, std::array<double, 4>{0, 0.02, 0.3, 0.7});
  options.duplication = one_of(random, std::array<double, 3>{0, 0.05, 0.4});
  options.reordering = one_of(random, std::array<double, 3>{0, 0.1, 0.9});
  options.port_full = one_of(random, std::array<double, 3>{0, 0.05, 0.4});
  options.steps = 20 + random.below(200);
  return options;
}

std::string ModelOptions::to_string() const {
  std::ostringstream out;
  out << "regions";
  for (const std::uint64_t pages : region_pages) {
    out << ' ' << pages;
  }
  out << ", shards " << shards << ", mtu " << mtu << ", narrowing " << narrowing << ", window "
      << window_frames << ", written pages " << written_pages << ", mark all " << mark_all
      << ", data loss " << data_loss << ", ack loss " << ack_loss << ", duplication " << duplication
      << ", reordering " << reordering << ", port full " << port_full << ", steps " << steps;
  return out.str();
}

LinkModel::Flow::Flow(const ModelOptions& options, std::uint32_t shard, const page::Layout& layout,
                      const page::MemoryMap& source, const page::MemoryMap& destination)
    : sender(SenderConfig{.session = 7,
                          .flow = static_cast<std::uint16_t>(shard),
                          .mtu = options.mtu,
                          .window = {.window_first_frames = options.window_frames,
                                     .window_max_frames = options.window_frames}},
             layout, page::ShardMap(layout.extents(), options.shards, shard), source),
      receiver(ReceiverConfig{.session = 7, .flow = static_cast<std::uint16_t>(shard)}, layout,
               page::ShardMap(layout.extents(), options.shards, shard), destination),
      local_extents(page::ShardMap(layout.extents(), options.shards, shard).local_extents()) {}

LinkModel::LinkModel(const ModelOptions& options, Random& random, Arena& source, Arena& destination)
    : options_(options),
      random_(random),
      layout_(options.region_pages),
      source_(layout_, source.bases(layout_)),
      destination_(layout_, destination.bases(layout_)),
      kernel_dirty_(layout_.padded_pages()) {
  for (std::uint32_t shard = 0; shard < options.shards; ++shard) {
    flows_.push_back(std::make_unique<Flow>(options, shard, layout_, source_, destination_));
  }
  // Neighbours too, so that runs form.
  while (written_.size() < options.written_pages) {
    const page::RegionExtent& region = layout_.region(random_.below(layout_.regions()));
    PageNumber page = region.first + random_.below(region.pages);
    for (std::uint64_t run = 1 + random_.below(6); run > 0 && layout_.contains(page); --run) {
      written_.push_back(page++);
    }
  }
  for (const PageNumber page : written_) {
    if (random_.chance(0.7)) {
      write_page(page);
    }
  }
  if (options_.mark_all) {
    kernel_dirty_.clear_all();
    for (auto& flow : flows_) {
      flow->sender.mark_dirty(0, layout_.padded_pages());
    }
  }
}

void LinkModel::write_page(PageNumber page) {
  // Few contents, so that a page often gets back one that it had before.
  std::byte* content = source_.address(page);
  const std::uint64_t kind = random_.below(5);
  if (kind == 0) {
    std::memset(content, 0, kPageBytes);
  } else if (kind == 4) {
    content[random_.below(kPageBytes)] = static_cast<std::byte>(random_.next());
  } else {
    std::memset(content, static_cast<int>(kind), kPageBytes);
  }
  kernel_dirty_.set(page);
}

void LinkModel::write_some() {
  for (std::uint64_t i = 1 + random_.below(8); i > 0; --i) {
    write_page(written_[random_.below(written_.size())]);
  }
}

void LinkModel::harvest() {
  while (const auto first = kernel_dirty_.find_next(0)) {
    const std::uint64_t count = kernel_dirty_.run_length(*first, kernel_dirty_.size());
    kernel_dirty_.clear_range(*first, count);
    for (auto& flow : flows_) {
      flow->sender.mark_dirty(*first, count);
    }
  }
}

void LinkModel::send(Flow& flow, std::size_t frames) {
  std::vector<OutgoingFrame> burst;
  OutgoingFrame frame;
  while (burst.size() < frames && flow.sender.next_frame(now_, frame)) {
    burst.push_back(frame);
  }
  std::size_t accepted = burst.size();
  if (!network_fair_ && random_.chance(options_.port_full)) {
    accepted = random_.below(burst.size() + 1);
  }
  for (std::size_t i = burst.size(); i > accepted; --i) {
    flow.sender.undo_last_frame();
  }
  burst.resize(accepted);
  if (!guest_stopped_ && random_.chance(0.2)) {
    write_some();  // between the making of frames and the port's reading of memory
  }
  for (const OutgoingFrame& accepted_frame : burst) {
    transmit(flow, accepted_frame);
  }
}

void LinkModel::transmit(Flow& flow, const OutgoingFrame& frame) {
  std::vector<std::byte> packet(frame.prefix.begin(), frame.prefix.begin() + frame.prefix_bytes);
  for (std::size_t i = 0; i < frame.slices; ++i) {
    packet.insert(packet.end(), frame.slice[i].begin(), frame.slice[i].end());
  }
  if (packet.size() + 28 > flow.sender.mtu()) {
    what_ = "a frame exceeds the MTU";
  }
  if (corrupt_next_page_ && packet.size() > wire::kDataPrefixBytesMax) {
    packet.back() ^= std::byte{0xFF};
    corrupt_next_page_ = false;
    corrupted_ = true;
  }
  if (!network_fair_ && random_.chance(options_.data_loss)) {
    return;
  }
  if (!network_fair_ && random_.chance(options_.duplication)) {
    flow.data.push_back(packet);
  }
  flow.data.push_back(std::move(packet));
}

std::vector<std::byte> LinkModel::take(std::vector<std::vector<std::byte>>& queue) {
  const std::size_t at = random_.chance(options_.reordering) ? random_.below(queue.size()) : 0;
  std::vector<std::byte> packet = std::move(queue[at]);
  queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(at));
  return packet;
}

void LinkModel::receive(Flow& flow, std::size_t frames) {
  for (; frames > 0 && !flow.data.empty(); --frames) {
    deliver_data(flow, take(flow.data));
  }
  if (flow.receiver.ack_due(now_, random_.chance(0.5))) {
    std::vector<std::byte> ack(wire::kAckBytesMax);
    ack.resize(flow.receiver.make_ack(now_, ack));
    if (network_fair_ || !random_.chance(options_.ack_loss)) {
      flow.acks.push_back(std::move(ack));
    }
  }
}

void LinkModel::deliver_data(Flow& flow, std::vector<std::byte> packet) {
  wire::DataFrame frame;
  wire::DropReason reason{};
  if (!wire::decode_data(packet, frame, reason)) {
    what_ = std::string("a frame did not decode: ") + wire::to_string(reason);
    return;
  }
  if (!flow.receiver.on_data(frame, now_, reason) && reason != wire::DropReason::kDuplicate) {
    what_ = std::string("a frame was dropped: ") + wire::to_string(reason);
  }
}

void LinkModel::receive_acks(Flow& flow, std::size_t acks) {
  for (; acks > 0 && !flow.acks.empty(); --acks) {
    const std::vector<std::byte> packet = take(flow.acks);
    wire::AckFrame ack;
    wire::DropReason reason{};
    if (!wire::decode_ack(packet, ack, reason)) {
      what_ = std::string("an ack did not decode: ") + wire::to_string(reason);
      return;
    }
    flow.sender.on_ack(ack, now_);
    if (flow.sender.counters().acks_rejected != 0) {
      what_ = "a receiver's ack was rejected";
    }
  }
}

void LinkModel::pass_time(TimeNs limit_ns) {
  now_ += 1 + random_.below(limit_ns);
  for (auto& flow : flows_) {
    flow->sender.on_time(now_);
  }
}

void LinkModel::narrow(Flow& flow) {
  const std::size_t mtu = wire::kMtuMin + random_.below(flow.sender.mtu() - wire::kMtuMin + 1);
  if (mtu < flow.sender.mtu()) {
    flow.sender.lower_mtu(mtu);
  }
}

bool LinkModel::step() {
  Flow& flow = *flows_[random_.below(flows_.size())];
  if (random_.chance(options_.narrowing)) {
    narrow(flow);
  }
  switch (random_.below(11)) {
    case 0:
    case 1:
      write_some();
      break;
    case 2:
      harvest();
      break;
    case 3:
    case 4:
      send(flow, 1 + random_.below(40));
      break;
    case 5:
    case 6:
      receive(flow, 1 + random_.below(40));
      break;
    case 7:
    case 8:
      receive_acks(flow, 1 + random_.below(4));
      break;
    case 9:
      pass_time(random_.chance(0.2) ? 200 * kMillisecondNs : kMillisecondNs);
      break;
    default:
      if (random_.chance(0.3)) {
        for (auto& each : flows_) {
          each->sender.begin_iteration();
        }
      }
      break;
  }
  return check();
}

bool LinkModel::check() {
  for (auto& flow : flows_) {
    if (!flow->sender.invariants_hold()) {
      what_ = "an invariant of the sender is broken";
    }
  }
  if (what_.empty() && !corrupted_ && kernel_dirty_.empty() && all_settled()) {
    for (const PageNumber page : written_) {
      if (std::memcmp(source_.address(page), destination_.address(page), kPageBytes) != 0) {
        what_ = "settled, but page " + std::to_string(page) + " differs";
      }
    }
  }
  return what_.empty();
}

bool LinkModel::all_settled() const {
  return std::all_of(flows_.begin(), flows_.end(),
                     [](const auto& flow) { return flow->sender.settled(); });
}

bool LinkModel::finish() {
  guest_stopped_ = true;
  harvest();
  for (auto& flow : flows_) {
    flow->sender.begin_final_pass();
  }
  for (std::size_t round = 0; !all_settled(); ++round) {
    // The network mends itself at some time; before, even the final pass has to bear it.
    network_fair_ = round > 200;
    if (round == kFinishRoundsMax) {
      what_ = "the final pass does not end";
      return false;
    }
    for (auto& flow : flows_) {
      send(*flow, 1 + random_.below(40));
      receive(*flow, 1 + random_.below(60));
      receive_acks(*flow, 4);
    }
    pass_time(kMillisecondNs);
    if (!check()) {
      return false;
    }
  }
  for (auto& flow : flows_) {
    receive(*flow, flow->data.size());
    receive_acks(*flow, flow->acks.size());
  }
  return check();
}

bool LinkModel::memories_equal() const {
  for (std::size_t i = 0; i < layout_.regions(); ++i) {
    const page::RegionExtent& region = layout_.region(i);
    // Beyond the region's end too: nothing may be written there.
    const std::size_t bytes = region.pages * kPageBytes + Arena::kGapBytes;
    if (std::memcmp(source_.address(region.first), destination_.address(region.first), bytes) !=
        0) {
      return false;
    }
  }
  return true;
}

bool LinkModel::digests_equal() {
  for (auto& flow : flows_) {
    std::vector<page::ExtentDigest> sent(flow->local_extents);
    std::vector<page::ExtentDigest> applied(flow->local_extents);
    flow->sender.fold_digests(sent);
    flow->receiver.fold_digests(applied);
    if (sent != applied) {
      return false;
    }
  }
  return true;
}

}  // namespace sluice::protocol
