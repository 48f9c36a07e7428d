// What records say when memory runs out in the middle of a change.
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <new>
#include <unistd.h>

#include "control/agent/records.h"

namespace {

// While there is such a file this thread gets no memory.
thread_local const char* no_memory_beside = nullptr;

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (no_memory_beside != nullptr && access(no_memory_beside, F_OK) == 0) {
    no_memory_beside = nullptr;
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*bytes*/) noexcept {
  std::free(memory);
}

namespace sluice::agent {
namespace {

// A commit that fails is reported to the source before the twin is discarded, and the source asks
// at once: it must not hear "owned".
TEST(RecordsWithoutMemory, ACommitThatIsOnFileHasSucceeded) {
  std::string run_dir = "/tmp/sluice-records-XXXXXX";
  ASSERT_NE(mkdtemp(run_dir.data()), nullptr);
  auto outcomes = *OutcomeRecords::open(run_dir, "boot-1");
  ASSERT_TRUE(outcomes->begin(5, "a-guest-whose-name-is-not-short", "there"));
  const std::string record = run_dir + "/outcome/0000000000000005.json";
  no_memory_beside = record.c_str();
  bool owned = false;
  try {
    owned = outcomes->own(5).has_value();
  } catch (const std::bad_alloc&) {
  }
  no_memory_beside = nullptr;
  EXPECT_TRUE(owned);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  std::filesystem::remove_all(run_dir);
}

}  // namespace
}  // namespace sluice::agent
