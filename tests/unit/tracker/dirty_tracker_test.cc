#include "drivers/tracker/dirty_tracker.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <iostream>
#include <memory>
#include <numeric>
#include <sched.h>
#include <string>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "dataplane/base/random.h"
#include "tests/unit/tracker/target_process.h"

namespace sluice::tracker {
namespace {

using port::HarvestStatus;
using test::Child;
using test::harvest_pages;
using test::PageWorker;
using test::SharedMemory;
using Pages = std::vector<std::uint64_t>;

std::unique_ptr<DirtyTracker> attach(pid_t pid, const SharedMemory& memory) {
  auto tracker = DirtyTracker::attach(pid, memory.range());
  EXPECT_TRUE(tracker) << tracker.error().message;
  return tracker ? std::move(*tracker) : nullptr;
}

std::uint64_t seed_of_this_run() {
  const auto seed =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  std::cout << "seed " << seed << '\n';
  return seed;
}

Pages page_range(std::uint64_t first, std::uint64_t count) {
  Pages pages(count);
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

TEST(KernelSupport, IsThereWhereTheseTestsRun) {
  const auto support = check_kernel_support();
  EXPECT_TRUE(support) << support.error().message;
}

TEST(DirtyTracker, ReportsExactlyTheWrittenPagesOfThisProcess) {
  const SharedMemory memory(1024);
  memory.word(5) = 1;  // before the tracking began
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  EXPECT_EQ(tracker->figures().target_stopped_ns, 0U);
  EXPECT_EQ(tracker->figures().page_bytes, kPageBytes);
  EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{});
  for (const std::uint64_t page : {0U, 5U, 6U, 511U, 512U, 1023U}) memory.word(page) = 2;
  EXPECT_EQ(harvest_pages(*tracker, 1024), (Pages{0, 5, 6, 511, 512, 1023}));
  EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{});
  memory.word(6) = 3;
  EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{6});
}

TEST(DirtyTracker, ReportsExactlyTheWrittenPagesOfAnotherProcess) {
  const SharedMemory memory(1024);
  PageWorker worker(memory);
  for (const std::uint64_t page : {1U, 2U, 700U}) worker.write(page);
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  EXPECT_GT(tracker->figures().target_stopped_ns, 0U);
  RecordProperty("target_stopped_us",
                 static_cast<int>(tracker->figures().target_stopped_ns / 1000));
  EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{});
  for (const std::uint64_t page : {2U, 3U, 900U}) worker.write(page);
  worker.read(1);
  EXPECT_EQ(harvest_pages(*tracker, 1024), (Pages{2, 3, 900}));
  EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{});
}

TEST(DirtyTracker, KeepsReportsOfOneRangeWhenAnotherIsHarvested) {
  const SharedMemory memory(1024);
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  memory.word(10) = 1;
  memory.word(600) = 1;
  std::array<port::PageRun, 4> runs{};
  const auto result = tracker->harvest(512, 512, runs);
  ASSERT_EQ(result.runs, 1U);
  EXPECT_EQ(runs[0], (port::PageRun{600, 1}));
  EXPECT_EQ(result.next_page, 1024U);
  EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{10});
}

TEST(DirtyTracker, TellsWritesFromReadsOnPagesThatWereNeverPopulated) {
  const SharedMemory memory(2048);
  PageWorker worker(memory);
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  worker.read(3);
  worker.read(1500);
  worker.write(4);
  worker.write(1501);
  EXPECT_EQ(harvest_pages(*tracker, 2048), (Pages{4, 1501}));
  worker.write(3);
  EXPECT_EQ(harvest_pages(*tracker, 2048), Pages{3});
}

// A guest that was migrated in: its memory was filled through our mapping, its own page tables are
// empty.
TEST(DirtyTracker, SeesWritesToPagesThatOurMappingPopulated) {
  const SharedMemory memory(2048);
  PageWorker worker(memory);
  for (std::uint64_t page = 0; page < 1024; ++page) memory.word(page) = page;
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  for (std::uint64_t page = 1024; page < 2048; ++page)
    memory.word(page) = page;  // while it is tracked
  EXPECT_EQ(harvest_pages(*tracker, 2048), Pages{});
  for (const std::uint64_t page : {0U, 77U, 1024U, 2047U}) worker.write(page);
  for (const std::uint64_t page : {1U, 78U, 1025U, 2046U}) worker.read(page);
  EXPECT_EQ(harvest_pages(*tracker, 2048), (Pages{0, 77, 1024, 2047}));
}

TEST(DirtyTracker, GoesOnAtNextPageWhenTheOutputIsTiny) {
  const SharedMemory memory(4096);
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  for (const std::size_t span : {1U, 2U, 3U, 127U, 128U, 129U}) {
    Pages written;
    for (std::uint64_t page = 1; page < 4096; page += 3) {
      memory.word(page) = span;
      written.push_back(page);
    }
    EXPECT_EQ(harvest_pages(*tracker, 4096, span), written) << "span " << span;
  }
}

TEST(DirtyTracker, LosesNothingWhenThereIsNoRoomAtAll) {
  const SharedMemory memory(16);
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  memory.word(3) = 1;
  const auto result = tracker->harvest(0, 16, {});
  EXPECT_EQ(result.status, HarvestStatus::kOk);
  EXPECT_EQ(result.runs, 0U);
  EXPECT_EQ(result.next_page, 0U);
  EXPECT_EQ(harvest_pages(*tracker, 16), Pages{3});
}

TEST(DirtyTracker, RefusesARequestBeyondItsRange) {
  const SharedMemory memory(16);
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  std::array<port::PageRun, 4> runs{};
  EXPECT_EQ(tracker->harvest(8, 9, runs).status, HarvestStatus::kFailed);
  EXPECT_EQ(tracker->harvest(17, 0, runs).status, HarvestStatus::kFailed);
  EXPECT_EQ(tracker->harvest(16, 0, runs).status, HarvestStatus::kOk);
}

TEST(DirtyTracker, ReportsPagesWhoseTableEntriesTheTargetDropped) {
  const SharedMemory memory(2048);
  PageWorker worker(memory);
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  worker.write_range(0, 8);
  worker.forget_range(0, 8);
  EXPECT_EQ(harvest_pages(*tracker, 2048), page_range(0, 8));
  worker.write_range(0, 2048);
  worker.forget_range(0, 2048);
  EXPECT_EQ(harvest_pages(*tracker, 2048).size(), 2048U);
}

// What a migration relies on: copying each page after it was harvested gives, in the end, an exact
// copy.
void check_copy_is_exact(DirtyTracker& tracker, const SharedMemory& memory, std::uint64_t pages,
                         const std::function<bool()>& writer_is_done, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint64_t> copy(pages);
  const auto copy_dirty_pages = [&] {
    for (const std::uint64_t page : harvest_pages(tracker, pages, 1 + random.below(100))) {
      copy[page] = memory.word(page);
    }
  };
  std::size_t passes = 0;
  for (; !writer_is_done(); ++passes) copy_dirty_pages();
  copy_dirty_pages();
  std::cout << passes << " passes while the writer ran\n";
  std::uint64_t lost = 0;
  for (std::uint64_t page = 0; page < pages; ++page)
    lost += copy[page] != memory.word(page) ? 1 : 0;
  EXPECT_EQ(lost, 0U) << "pages differ";
}

// Writes random pages, each time a new value, and notes in `journal` which pages it wrote.
void write_at_random(const SharedMemory& memory, std::uint64_t pages, std::uint64_t writes,
                     std::uint64_t seed, const SharedMemory& journal) {
  Random random(seed);
  for (std::uint64_t write = 1; write <= writes; ++write) {
    const std::uint64_t page = random.below(pages);
    memory.word(page) = write;
    journal.word(page) = 1;
  }
}

constexpr std::uint64_t kRacePages = 4096;
constexpr std::uint64_t kRaceWrites = 300'000;

TEST(DirtyTracker, LosesNoWriteOfAThreadDuringScans) {
  const SharedMemory memory(kRacePages);
  const SharedMemory journal(kRacePages);
  const std::uint64_t seed = seed_of_this_run();
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    write_at_random(memory, kRacePages, kRaceWrites, seed, journal);
    done = true;
  });
  check_copy_is_exact(
      *tracker, memory, kRacePages, [&] { return done.load(); }, seed + 1);
  writer.join();
}

TEST(DirtyTracker, LosesNoWriteOfAnotherProcessDuringScans) {
  const SharedMemory memory(kRacePages);
  const SharedMemory journal(kRacePages);
  const SharedMemory control(1);
  const std::uint64_t seed = seed_of_this_run();
  const Child child([&] {
    while (control.word(0) == 0) std::this_thread::yield();
    write_at_random(memory, kRacePages, kRaceWrites, seed, journal);
    control.word(0) = 2;
    ::pause();
    return 0;
  });
  const auto tracker = attach(child.pid(), memory);
  ASSERT_TRUE(tracker);
  control.word(0) = 1;
  check_copy_is_exact(
      *tracker, memory, kRacePages, [&] { return control.word(0) == 2; }, seed + 1);
}

TEST(DirtyTracker, ReportsOnlyAndAllPagesInAWritersJournal) {
  const SharedMemory memory(kRacePages);
  const SharedMemory journal(kRacePages);
  const std::uint64_t seed = seed_of_this_run();
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    write_at_random(memory, kRacePages, 3000, seed, journal);
    done = true;
  });
  std::vector<bool> harvested(kRacePages);
  for (bool last = false; !last;) {
    last = done;
    for (const std::uint64_t page : harvest_pages(*tracker, kRacePages, 7)) harvested[page] = true;
  }
  writer.join();
  for (std::uint64_t page = 0; page < kRacePages; ++page) {
    EXPECT_EQ(harvested[page], journal.word(page) == 1) << "page " << page;
  }
}

TEST(DirtyTracker, LetsTwoThreadsHarvestDisjointRanges) {
  const SharedMemory memory(kRacePages);
  const SharedMemory journal(kRacePages);
  const std::uint64_t seed = seed_of_this_run();
  const auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  constexpr std::uint64_t kHalf = kRacePages / 2;
  std::vector<std::uint64_t> copy(kRacePages);
  std::atomic<bool> done = false;
  const auto harvest_half = [&](std::uint64_t first) {
    std::array<port::PageRun, 16> runs{};
    for (bool last = false; !last;) {
      last = done;
      for (std::uint64_t next = first; next < first + kHalf;) {
        const auto result = tracker->harvest(next, first + kHalf - next, runs);
        ASSERT_EQ(result.status, HarvestStatus::kOk);
        for (const auto& run : std::span(runs).first(result.runs)) {
          ASSERT_GE(run.first, first);
          ASSERT_LE(run.first + run.count, first + kHalf);
          for (std::uint64_t page = run.first; page < run.first + run.count; ++page)
            copy[page] = memory.word(page);
        }
        next = result.next_page;
      }
    }
  };
  std::thread lower(harvest_half, 0);
  std::thread upper(harvest_half, kHalf);
  write_at_random(memory, kRacePages, kRaceWrites, seed, journal);
  done = true;
  lower.join();
  upper.join();
  for (std::uint64_t page = 0; page < kRacePages; ++page)
    EXPECT_EQ(copy[page], memory.word(page)) << "page " << page;
}

TEST(DirtyTracker, TracksAProcessWithoutPrivileges) {
  const SharedMemory memory(64);
  PageWorker worker(memory, [] {
    constexpr uid_t kNobody = 65534;
    if (::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(1);
  });
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  worker.write(9);
  EXPECT_EQ(harvest_pages(*tracker, 64), Pages{9});
}

TEST(DirtyTracker, LeavesNothingBehindAndCanAttachAgain) {
  const SharedMemory memory(1024);
  PageWorker worker(memory);
  const std::size_t descriptors = worker.process().open_descriptors();
  for (int round = 0; round < 3; ++round) {
    const auto tracker = attach(worker.process().pid(), memory);
    ASSERT_TRUE(tracker);
    EXPECT_EQ(worker.process().open_descriptors(), descriptors);
    EXPECT_TRUE(worker.process().is_write_tracked());
    worker.write(round);
    EXPECT_EQ(harvest_pages(*tracker, 1024), Pages{static_cast<std::uint64_t>(round)});
    const auto detached = tracker->detach();
    EXPECT_TRUE(detached) << detached.error().message;
    EXPECT_TRUE(tracker->detach()) << "is not idempotent";
    EXPECT_EQ(worker.process().open_descriptors(), descriptors);
    EXPECT_FALSE(worker.process().is_write_tracked());
    worker.write(round);
  }
}

TEST(DirtyTracker, LeavesNothingBehindWhenItsProcessIsKilled) {
  const SharedMemory memory(1024);
  const SharedMemory control(1);
  PageWorker worker(memory);
  const std::size_t descriptors = worker.process().open_descriptors();
  Child agent([&] {
    auto tracker = DirtyTracker::attach(worker.process().pid(), memory.range());
    control.word(0) = tracker ? 1 : 2;
    ::pause();
    return 0;
  });
  while (control.word(0) == 0) std::this_thread::yield();
  ASSERT_EQ(control.word(0), 1U);
  EXPECT_TRUE(worker.process().is_write_tracked());
  agent.kill();
  EXPECT_EQ(agent.wait(), -SIGKILL);
  EXPECT_FALSE(worker.process().is_write_tracked());
  EXPECT_EQ(worker.process().open_descriptors(), descriptors);
  worker.write(7);
  EXPECT_TRUE(attach(worker.process().pid(), memory));
}

TEST(DirtyTracker, SaysThatTheTargetIsGone) {
  const SharedMemory memory(1024);
  PageWorker worker(memory);
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  worker.write(1);
  worker.process().kill();
  worker.process().wait();
  std::array<port::PageRun, 4> runs{};
  EXPECT_EQ(tracker->harvest(0, 1024, runs).status, HarvestStatus::kTargetGone);
  EXPECT_EQ(tracker->harvest(0, 1024, runs).status, HarvestStatus::kTargetGone);
  const auto detached = tracker->detach();
  EXPECT_TRUE(detached) << detached.error().message;
}

// A report that comes too late must not look like "nothing was written".
TEST(DirtyTracker, NeverCallsADyingTargetsPagesClean) {
  const SharedMemory memory(1024);
  for (int round = 0; round < 20; ++round) {
    PageWorker worker(memory);
    const auto tracker = attach(worker.process().pid(), memory);
    ASSERT_TRUE(tracker);
    worker.write(9);
    worker.process().kill();
    std::array<port::PageRun, 4> runs{};
    const auto result = tracker->harvest(0, 1024, runs);
    if (result.status == HarvestStatus::kOk) {
      EXPECT_EQ(result.runs, 1U);
    } else {
      EXPECT_EQ(result.status, HarvestStatus::kTargetGone);
    }
  }
}

TEST(DirtyTracker, SurvivesTheTargetsDeathWhileItAttaches) {
  const SharedMemory memory(64);
  Random random(seed_of_this_run());
  for (int round = 0; round < 200; ++round) {
    const Child child([] { return ::pause(); });
    std::thread killer([&, delay_us = random.below(800)] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      child.kill();
    });
    const auto tracker = DirtyTracker::attach(child.pid(), memory.range());
    killer.join();
    if (tracker) {
      const auto detached = (*tracker)->detach();
      EXPECT_TRUE(detached) << detached.error().message;
    } else {
      EXPECT_EQ(tracker.error().kind, ErrorKind::kNotFound) << tracker.error().message;
    }
  }
}

TEST(DirtyTracker, FailsWhenTheTargetUnmapsItsMemory) {
  const SharedMemory memory(16);
  auto tracker = attach(::getpid(), memory);
  ASSERT_TRUE(tracker);
  void* const base =
      reinterpret_cast<void*>(memory.range().address);  // NOLINT(performance-no-int-to-ptr)
  ASSERT_EQ(::munmap(base, memory.range().bytes), 0);
  std::array<port::PageRun, 4> runs{};
  EXPECT_EQ(tracker->harvest(0, 16, runs).status, HarvestStatus::kFailed);
  EXPECT_TRUE(tracker->detach());
}

TEST(DirtyTrackerErrors, PrivateMemoryIsRefusedByName) {
  void* const base =
      ::mmap(nullptr, 16 * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(base, MAP_FAILED);
  const auto tracker =
      DirtyTracker::attach(::getpid(), {reinterpret_cast<std::uint64_t>(base), 16 * kPageBytes});
  ASSERT_FALSE(tracker);
  EXPECT_EQ(tracker.error().kind, ErrorKind::kUnsupported);
  EXPECT_NE(tracker.error().message.find("private"), std::string::npos) << tracker.error().message;
  ::munmap(base, 16 * kPageBytes);
}

TEST(DirtyTrackerErrors, AMissingProcessIsNotFound) {
  Child child([] { return 0; });
  const pid_t pid = child.pid();
  const SharedMemory memory(16);
  child.wait();
  const auto tracker = DirtyTracker::attach(pid, memory.range());
  ASSERT_FALSE(tracker);
  EXPECT_EQ(tracker.error().kind, ErrorKind::kNotFound);
}

TEST(DirtyTrackerErrors, AnUnmappedRangeIsNotFound) {
  AddressRange range;
  {
    const SharedMemory memory(16);
    range = memory.range();
  }
  const auto tracker = DirtyTracker::attach(::getpid(), range);
  ASSERT_FALSE(tracker);
  EXPECT_EQ(tracker.error().kind, ErrorKind::kNotFound) << tracker.error().message;
}

TEST(DirtyTrackerErrors, PartsOfPagesAreInvalid) {
  const SharedMemory memory(16);
  AddressRange range = memory.range();
  range.address += 8;
  range.bytes -= kPageBytes;
  const auto tracker = DirtyTracker::attach(::getpid(), range);
  ASSERT_FALSE(tracker);
  EXPECT_EQ(tracker.error().kind, ErrorKind::kInvalid);
}

TEST(DirtyTrackerErrors, ARangeIsTrackedOnceAtATime) {
  const SharedMemory memory(16);
  PageWorker worker(memory);
  const std::size_t descriptors = worker.process().open_descriptors();
  const auto first = attach(worker.process().pid(), memory);
  ASSERT_TRUE(first);
  const auto second = DirtyTracker::attach(worker.process().pid(), memory.range());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy) << second.error().message;
  EXPECT_EQ(worker.process().open_descriptors(), descriptors);
  worker.write(3);
  EXPECT_EQ(harvest_pages(*first, 16), Pages{3});
}

constexpr int kCannotTry = 77;

// In a child with a mount namespace of its own: tracks this child's mapping of a tmpfs with
// transparent huge pages.
int track_transparent_huge_pages() {
  constexpr std::uint64_t kPages = 4 * kExtentPages;
  const std::string directory = "/tmp/tracker-test-" + std::to_string(::getpid());
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mkdir(directory.c_str(), 0700) != 0) {
    return kCannotTry;
  }
  const bool mounted = ::mount("none", directory.c_str(), "tmpfs", 0, "huge=always") == 0;
  const int file = mounted ? ::open((directory + "/ram").c_str(), O_RDWR | O_CREAT, 0600) : -1;
  ::umount2(directory.c_str(), MNT_DETACH);
  ::rmdir(directory.c_str());
  if (file < 0 || ::ftruncate(file, kPages * kPageBytes) != 0) return kCannotTry;
  void* const hint = reinterpret_cast<void*>(
      0x100000000000);  // NOLINT(performance-no-int-to-ptr): a multiple of 2 MiB
  auto* const memory = static_cast<char*>(::mmap(hint, kPages * kPageBytes, PROT_READ | PROT_WRITE,
                                                 MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0));
  if (memory != hint) return kCannotTry;
  for (std::uint64_t page = 0; page < kPages; ++page) memory[page * kPageBytes] = 1;

  auto tracker = DirtyTracker::attach(
      ::getpid(), {reinterpret_cast<std::uint64_t>(memory), kPages * kPageBytes});
  if (!tracker) return 1;
  if (!harvest_pages(**tracker, kPages).empty()) return 2;
  const Pages written = {0, 1, 511, 512, 700, 2047};
  for (const std::uint64_t page : written) memory[page * kPageBytes] = 2;
  if (static_cast<volatile char*>(memory)[1200 * kPageBytes] != 1) return 3;
  if (harvest_pages(**tracker, kPages) != written) return 4;
  memory[512 * kPageBytes] = 3;
  if (harvest_pages(**tracker, kPages) != Pages{512}) return 5;
  return 0;
}

TEST(DirtyTracker, TracksSinglePagesOfTransparentHugePages) {
  Child child(track_transparent_huge_pages);
  const int status = child.wait();
  if (status == kCannotTry)
    GTEST_SKIP() << "no tmpfs with transparent huge pages could be mounted: run as root";
  EXPECT_EQ(status, 0) << "the step of track_transparent_huge_pages() that failed";
}

TEST(DirtyTracker, TracksHugePages) {
  constexpr std::uint64_t kHugePages = 4;
  const SharedMemory memory(kHugePages * kExtentPages, MFD_HUGETLB);
  if (!memory.valid()) {
    GTEST_SKIP() << "no free 2 MiB huge pages: set vm.nr_hugepages or vm.nr_overcommit_hugepages "
                    "to 4 or more";
  }
  PageWorker worker(memory);
  worker.write(0);
  const auto tracker = attach(worker.process().pid(), memory);
  ASSERT_TRUE(tracker);
  EXPECT_EQ(tracker->figures().page_bytes, kExtentBytes);
  worker.read(3 * kExtentPages);
  EXPECT_EQ(harvest_pages(*tracker, kHugePages * kExtentPages), Pages{});
  worker.write(5);
  worker.write(2 * kExtentPages + 7);
  Pages expected = page_range(0, kExtentPages);
  const Pages third = page_range(2 * kExtentPages, kExtentPages);
  expected.insert(expected.end(), third.begin(), third.end());
  EXPECT_EQ(harvest_pages(*tracker, kHugePages * kExtentPages, 1), expected);
  std::array<port::PageRun, 4> runs{};
  EXPECT_EQ(tracker->harvest(1, kExtentPages, runs).status, HarvestStatus::kFailed);
  EXPECT_TRUE(tracker->detach());
}

}  // namespace
}  // namespace sluice::tracker
