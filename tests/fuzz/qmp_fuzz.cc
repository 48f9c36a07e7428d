// What a QMP socket may say: a client greets, asks all that it asks before a guest is moved, and
// waits for an event. Whatever the answers are, it ends, with a value or an error.
//
// An input is lines:
//   =JSON   the answer to the client's next command
//   !JSON   its refusal
//   /       what follows arrives in a packet of its own
//   others  as they are
#include <array>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

#include "drivers/base/clock.h"
#include "drivers/guest/qemu/movability.h"
#include "drivers/guest/qemu/qmp_client.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::guest::qemu {
namespace {

using fuzz::require;

// So that all of it fits the socket's buffer.
constexpr std::size_t kInputBytesMax = 16'384;
constexpr std::size_t kPacketsMax = 32;

class Server {
 public:
  explicit Server(int fd) : fd_(fd) {}

  void say(std::string_view script) {
    packet_ = "{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n";
    while (!script.empty()) {
      const std::size_t length = std::min(script.find('\n'), script.size() - 1) + 1;
      say_line(script.substr(0, length));
      script.remove_prefix(length);
    }
    send_packet();
  }

 private:
  void say_line(std::string_view line) {
    const std::string_view rest = line.substr(1, line.find_last_not_of('\n'));
    if (line.front() == '=' || line.front() == '!') {
      packet_ += line.front() == '=' ? "{\"return\": " : "{\"error\": ";
      packet_.append(rest).append(", \"id\": ").append(std::to_string(next_id_++)).append("}\n");
    } else if (line.front() == '/') {
      send_packet();
    } else {
      packet_ += line;
    }
  }

  void send_packet() {
    if (!packet_.empty() && ++packets_ <= kPacketsMax) {
      (void)send(fd_, packet_.data(), packet_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    packet_.clear();
  }

  int fd_;
  std::string packet_;
  std::size_t packets_ = 0;
  std::uint64_t next_id_ = 2;
};

void check_error(const Error& error) {
  require(!error.message.empty(), "an error says what is wrong");
}

void ask_everything(QmpClient& qmp, const char* version) {
  Description description;
  description.definition.name = "web";
  description.qemu_version = version;
  if (const auto movable = check_guest_movable(qmp, description); !movable) {
    check_error(movable.error());
  }
  if (const auto direct = uses_direct_io(qmp, "web"); !direct) {
    check_error(direct.error());
  }
  const auto event =
      qmp.wait_event([](const QmpEvent& e) { return e.data.contains("status"); }, 0, "an event");
  if (event) {
    require(event->data.is_object() && !event->name.empty(), "an event is whole");
  }
}

// Packets instead of a stream, so that the input says where reads end.
void run(std::string_view script, const char* version) {
  std::array<int, 2> ends{};
  require(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()) == 0, "a socket pair");
  const FileDescriptor server(ends[1]);
  Server(server.get()).say(script);
  shutdown(server.get(), SHUT_WR);
  const auto client =
      QmpClient::open(FileDescriptor(ends[0]), "web", monotonic_now_ns() + kSecondNs, "a greeting");
  if (client) {
    ask_everything(**client, version);
  } else {
    check_error(client.error());
  }
}

}  // namespace
}  // namespace sluice::guest::qemu

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::guest::qemu;
  const std::string_view script(reinterpret_cast<const char*>(data), size);
  if (size > kInputBytesMax) {
    return 0;
  }
  run(script, "8.2.0");
  (void)parse_version(std::string(script));
  return 0;
}
