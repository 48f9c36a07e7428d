// One migration in memory: senders and receivers of all shards, a dirty tracker, a guest that
// writes, and a network that loses, duplicates, delays and reorders. Everything follows from one
// seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/page/bitmap.h"
#include "dataplane/page/layout.h"
#include "dataplane/protocol/receiver.h"
#include "dataplane/protocol/sender.h"
#include "tests/protocol/arena.h"

namespace sluice::protocol {

struct ModelOptions {
  std::vector<std::uint64_t> region_pages;
  std::uint32_t shards = 1;
  std::size_t mtu = 9000;
  double narrowing = 0;  // probability of a smaller MTU, per step
  std::uint32_t window_frames = 256;
  std::size_t written_pages = 16;  // the guest writes to so many different pages
  bool mark_all = false;           // initially, not only the written ones
  double data_loss = 0;
  double ack_loss = 0;
  double duplication = 0;
  double reordering = 0;
  double port_full = 0;
  std::size_t steps = 100;

  static ModelOptions draw(Random& random);
  [[nodiscard]] std::string to_string() const;
};

class LinkModel {
 public:
  LinkModel(const ModelOptions& options, Random& random, Arena& source, Arena& destination);

  // One random thing happens. False if an invariant broke: what() says which.
  [[nodiscard]] bool step();
  // Stops the guest and runs the final pass to its end; then everything late arrives. False as
  // above.
  [[nodiscard]] bool finish();
  [[nodiscard]] const std::string& what() const { return what_; }

  [[nodiscard]] bool memories_equal() const;
  [[nodiscard]] bool digests_equal();
  // Inverts one byte of the destination's next RAW page on its way.
  void corrupt_next_page() { corrupt_next_page_ = true; }
  [[nodiscard]] bool corrupted() const { return corrupted_; }
  [[nodiscard]] const SenderCounters& sender_counters(std::size_t shard) const {
    return flows_[shard]->sender.counters();
  }

 private:
  struct Flow {
    Flow(const ModelOptions& options, std::uint32_t shard, const page::Layout& layout,
         const page::MemoryMap& source, const page::MemoryMap& destination);
    Sender sender;
    Receiver receiver;
    std::uint64_t local_extents;
    std::vector<std::vector<std::byte>> data;
    std::vector<std::vector<std::byte>> acks;
  };

  void write_page(PageNumber page);
  void write_some();
  void harvest();
  void send(Flow& flow, std::size_t frames);
  void transmit(Flow& flow, const OutgoingFrame& frame);
  void receive(Flow& flow, std::size_t frames);
  void deliver_data(Flow& flow, std::vector<std::byte> packet);
  void receive_acks(Flow& flow, std::size_t acks);
  void pass_time(TimeNs limit_ns);
  void narrow(Flow& flow);
  [[nodiscard]] std::vector<std::byte> take(std::vector<std::vector<std::byte>>& queue);
  [[nodiscard]] bool all_settled() const;
  [[nodiscard]] bool check();

  ModelOptions options_;
  Random& random_;
  page::Layout layout_;
  page::MemoryMap source_;
  page::MemoryMap destination_;
  std::vector<std::unique_ptr<Flow>> flows_;
  std::vector<PageNumber> written_;
  page::PageBitmap kernel_dirty_;
  TimeNs now_ = kMillisecondNs;
  bool guest_stopped_ = false;
  bool network_fair_ = false;
  bool corrupt_next_page_ = false;
  bool corrupted_ = false;
  std::string what_;
};

}  // namespace sluice::protocol
