#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "drivers/guest/qemu/qemu_guest.h"

namespace sluice::guest::qemu {
namespace {

struct StateReaderTest : testing::Test {
  void SetUp() override {
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    reader = std::make_unique<StateReader>(FileDescriptor(ends[0]));
    writer.reset(ends[1]);
  }
  void write(char byte, std::size_t count) {
    const std::vector<char> bytes(count, byte);
    ASSERT_EQ(send(writer.get(), bytes.data(), count, 0), static_cast<ssize_t>(count));
  }
  std::ptrdiff_t count_in(char byte) {
    return std::count(out.begin(), out.end(), static_cast<std::byte>(byte));
  }

  std::unique_ptr<StateReader> reader;
  FileDescriptor writer;
  std::vector<std::byte> out = std::vector<std::byte>(100);
};

TEST_F(StateReaderTest, JoinsWhatCameEarlyAndWhatComesLater) {
  write('a', 30);
  EXPECT_TRUE(reader->read_some());
  reader->redirect(out);
  write('b', 40);
  EXPECT_TRUE(reader->read_some());
  writer.reset();
  EXPECT_FALSE(reader->read_some());
  EXPECT_EQ(reader->size(), 70U);
  EXPECT_TRUE(std::all_of(out.begin(), out.begin() + 30,
                          [](std::byte byte) { return byte == std::byte{'a'}; }));
  EXPECT_EQ(count_in('b'), 40);
}

TEST_F(StateReaderTest, CountsWhatDoesNotFitAndWritesNothingBeyond) {
  reader->redirect(std::span(out).first(50));
  write('a', 80);
  EXPECT_TRUE(reader->read_some());
  EXPECT_EQ(reader->size(), 80U);
  EXPECT_EQ(count_in('a'), 50);
}

TEST_F(StateReaderTest, LeavesTheCallersMemoryAloneOnceItDiscards) {
  reader->redirect(out);
  write('a', 10);
  EXPECT_TRUE(reader->read_some());
  reader->discard();
  write('b', 50);
  EXPECT_TRUE(reader->read_some());
  EXPECT_EQ(count_in('a'), 10);
  EXPECT_EQ(count_in('b'), 0);
  writer.reset();
  EXPECT_FALSE(reader->read_some());
}

}  // namespace
}  // namespace sluice::guest::qemu
