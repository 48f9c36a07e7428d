// The client against a scripted server: what a healthy QEMU never sends.
#include "drivers/guest/qemu/qmp_client.h"

#include <array>
#include <future>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "drivers/base/clock.h"
#include "tests/unit/guest/scripted_server.h"

namespace sluice::guest::qemu {
namespace {

using test::greet;
using test::read_line;
using test::say;
using test::ScriptedServer;

TEST(QmpClient, MissingSocketIsNamed) {
  const auto client = QmpClient::connect("/nonexistent/q.sock", "web", kSecondNs);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kNotFound);
}

TEST(QmpClient, TooLongAPathIsNamed) {
  const auto client = QmpClient::connect("/" + std::string(200, 'x'), "web", kSecondNs);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kInvalid);
}

TEST(QmpClient, ServerThatSaysNothingIsATimeout) {
  const ScriptedServer server([](int fd) { read_line(fd); });
  const auto client = server.connect();
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kUnreachable);
  EXPECT_NE(client.error().message.find("greeting"), std::string::npos);
}

TEST(QmpClient, GarbageIsAnError) {
  for (const char* text :
       {"hello\n", "[1]\n", "{\"QMP\"\n", "{\"neither\": 1}\n", "{\"event\": 5}\n"}) {
    const ScriptedServer server([text](int fd) { say(fd, text); });
    EXPECT_FALSE(server.connect()) << text;
  }
}

TEST(QmpClient, ReassemblesMessagesAndSkipsRepliesThatNobodyWaitsFor) {
  const ScriptedServer server([](int fd) {
    greet(fd);
    read_line(fd);
    say(fd,
        "{\"return\": 7, \"id\": 99}\r\n{\"event\": \"STOP\", \"timestamp\": {}}\r\n\r\n{\"retu");
    usleep(2000);
    say(fd, "rn\": 8, \"id\": 2}\r\n");
    read_line(fd);
  });
  auto client = server.connect();
  ASSERT_TRUE(client) << client.error().message;
  const TimeNs before_ns = monotonic_now_ns();
  const auto reply = (*client)->execute("query-x");
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(*reply, 8);
  const auto event =
      (*client)->wait_event([](const QmpEvent& e) { return e.name == "STOP"; }, 0, "STOP");
  ASSERT_TRUE(event) << "an event that came with a reply was lost";
  EXPECT_GE(event->received_ns, before_ns);
  EXPECT_LE(event->received_ns, monotonic_now_ns());
}

TEST(QmpClient, KnowsWhetherALateReplyIsStillToCome) {
  std::promise<void> may_answer;
  const ScriptedServer server([&](int fd) {
    greet(fd);
    read_line(fd);
    may_answer.get_future().wait();
    say(fd, "{\"return\": 7, \"id\": 2}\r\n");
    read_line(fd);
  });
  auto client = server.connect();
  ASSERT_TRUE(client);
  EXPECT_FALSE((*client)->owes_reply());
  const auto command = (*client)->send("query-x");
  ASSERT_TRUE(command);
  EXPECT_FALSE((*client)->await_reply(*command, 0));
  EXPECT_TRUE((*client)->owes_reply());
  may_answer.set_value();
  while ((*client)->owes_reply()) usleep(1000);
}

TEST(QmpClient, RefusalCarriesQemusWords) {
  const ScriptedServer server([](int fd) {
    greet(fd);
    read_line(fd);
    say(fd,
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}, \"id\": 2}\r\n");
    read_line(fd);
    say(fd, "{\"error\": 5, \"id\": 3}\r\n");
    read_line(fd);
  });
  auto client = server.connect();
  ASSERT_TRUE(client);
  const auto refused = (*client)->execute("query-x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kFailed);
  EXPECT_EQ(refused.error().message, "QEMU of guest web refused: no such thing (query-x)");
  EXPECT_FALSE((*client)->execute("query-y"));
}

TEST(QmpClient, DeadQemuIsAnErrorAtOnce) {
  const ScriptedServer server([](int fd) {
    greet(fd);
    read_line(fd);
  });
  auto client = server.connect();
  ASSERT_TRUE(client);
  const TimeNs before_ns = monotonic_now_ns();
  const auto reply = (*client)->execute("query-x");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kUnreachable);
  EXPECT_LT(monotonic_now_ns() - before_ns, QmpClient::kCommandTimeoutNs / 2)
      << "it waited for the deadline";
  EXPECT_FALSE((*client)->execute("query-x")) << "a later command must fail as well";
}

TEST(QmpClient, SideChannelIsServedWhileAReplyIsAwaited) {
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  const FileDescriptor ours(ends[0]);
  const FileDescriptor servers(ends[1]);
  // As QEMU does: it answers only when its stream has been read.
  const ScriptedServer server([&servers](int fd) {
    greet(fd);
    read_line(fd);
    const std::string block(4U << 20U, 'x');
    for (std::size_t sent = 0; sent < block.size();) {
      const ssize_t count = write(servers.get(), block.data() + sent, block.size() - sent);
      if (count <= 0) return;
      sent += static_cast<std::size_t>(count);
    }
    say(fd, "{\"return\": {}, \"id\": 2}\r\n");
    read_line(fd);
  });
  auto client = server.connect();
  ASSERT_TRUE(client);
  std::size_t received = 0;
  (*client)->set_side_channel({ours.get(), POLLIN, [&] {
                                 std::array<char, 65536> chunk;
                                 const ssize_t count =
                                     recv(ours.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
                                 if (count > 0) received += static_cast<std::size_t>(count);
                                 return received < (4U << 20U);
                               }});
  EXPECT_TRUE((*client)->execute("migrate"));
  EXPECT_TRUE((*client)->finish_side_channel(monotonic_now_ns() + kSecondNs, "the rest"));
  EXPECT_EQ(received, 4U << 20U);
}

}  // namespace
}  // namespace sluice::guest::qemu
