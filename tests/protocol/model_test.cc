// Whatever the guest writes and the network does, the destination ends with the source's memory,
// and the digests say so.
#include <cstdlib>
#include <gtest/gtest.h>

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
}

TEST(Model, DestinationEndsWithTheSourcesMemory) {
  if (const char* seed = std::getenv("SLUICE_SEED")) {
    run_case(std::strtoull(seed, nullptr, 0));
    return;
  }
  for (std::uint64_t seed = 1; seed <= kCases && !HasFatalFailure(); ++seed) {
    run_case(seed);
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
