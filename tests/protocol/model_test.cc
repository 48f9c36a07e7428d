// Whatever the guest writes and the network does, the destination ends with the source's memory,
// and the digests say so.
#include <cstdlib>
#include <gtest/gtest.h>
#include <iostream>

#include "tests/protocol/link_model.h"

namespace sluice::protocol {
namespace {

constexpr std::uint64_t kCases = 2'000;

struct Worlds {
  Arena source;
  Arena destination;
};

Worlds& worlds() {
  static Worlds worlds;
  worlds.source.reset();
  worlds.destination.reset();
  return worlds;
}

// What the cases have exercised, so that a model that became too tame is noticed.
SenderCounters total;

void add_to_total(const LinkModel& model, std::uint32_t shards) {
  for (std::uint32_t shard = 0; shard < shards; ++shard) {
    const SenderCounters& counters = model.sender_counters(shard);
    total.frames_sent += counters.frames_sent;
    total.zero_pages_sent += counters.zero_pages_sent;
    total.frames_lost += counters.frames_lost;
    total.pages_resent_after_loss += counters.pages_resent_after_loss;
    total.spurious_losses += counters.spurious_losses;
    total.probe_timeouts += counters.probe_timeouts;
  }
}

void run_case(std::uint64_t seed) {
  Random random(seed);
  const ModelOptions options = ModelOptions::draw(random);
  SCOPED_TRACE("SLUICE_SEED=" + std::to_string(seed) + " " + options.to_string());
  Worlds& memory = worlds();
  LinkModel model(options, random, memory.source, memory.destination);
  for (std::size_t step = 0; step < options.steps; ++step) {
    ASSERT_TRUE(model.step()) << "step " << step << ": " << model.what();
  }
  ASSERT_TRUE(model.finish()) << model.what();
  ASSERT_TRUE(model.memories_equal());
  ASSERT_TRUE(model.digests_equal());
  add_to_total(model, options.shards);
}

TEST(Model, DestinationEndsWithTheSourcesMemory) {
  if (const char* seed = std::getenv("SLUICE_SEED")) {
    run_case(std::strtoull(seed, nullptr, 0));
    return;
  }
  for (std::uint64_t seed = 1; seed <= kCases && !HasFatalFailure(); ++seed) {
    run_case(seed);
  }
  std::cout << "frames " << total.frames_sent << ", zero pages " << total.zero_pages_sent
            << ", frames lost " << total.frames_lost << ", pages again "
            << total.pages_resent_after_loss << ", spurious losses " << total.spurious_losses
            << ", probe timeouts " << total.probe_timeouts << '\n';
  for (const std::uint64_t count :
       {total.frames_sent, total.zero_pages_sent, total.frames_lost, total.pages_resent_after_loss,
        total.spurious_losses, total.probe_timeouts}) {
    EXPECT_GT(count, kCases);
  }
}

// The proof has to find what the protocol cannot see. A corrupted page may be overwritten by a
// later version: then memories are equal and so must the digests be.
TEST(Model, DigestsDifferWhereverMemoryDoes) {
  std::size_t differing = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    ModelOptions options = ModelOptions::draw(random);
    SCOPED_TRACE("seed " + std::to_string(seed) + " " + options.to_string());
    Worlds& memory = worlds();
    LinkModel model(options, random, memory.source, memory.destination);
    for (std::size_t step = 0; step < options.steps; ++step) {
      if (step == options.steps / 2) {
        model.corrupt_next_page();
      }
      ASSERT_TRUE(model.step()) << model.what();
    }
    ASSERT_TRUE(model.finish()) << model.what();
    ASSERT_EQ(model.memories_equal(), model.digests_equal());
    differing += model.memories_equal() ? 0 : 1;
  }
  EXPECT_GT(differing, 10U);
}

}  // namespace
}  // namespace sluice::protocol
