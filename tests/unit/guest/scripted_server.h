// A QMP server that says what a test wants.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "drivers/guest/qemu/qmp_client.h"

namespace sluice::guest::qemu::test {

inline constexpr const char* kGreeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
inline constexpr const char* kNegotiated = "{\"return\": {}, \"id\": 1}\r\n";

// Serves one client on a socket with a function, in a thread.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::function<void(int)> script) {
    if (mkdtemp(directory_.data()) == nullptr) std::abort();
    path_ = directory_ + "/q.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, path_.size());
    listener_.reset(socket(AF_UNIX, SOCK_STREAM, 0));
    if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      std::abort();
    if (listen(listener_.get(), 1) != 0) std::abort();
    thread_ = std::thread([this, script = std::move(script)] {
      const FileDescriptor client(accept(listener_.get(), nullptr, nullptr));
      if (client.valid()) script(client.get());
    });
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  ~ScriptedServer() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
    std::filesystem::remove_all(directory_);
  }
  [[nodiscard]] Expected<std::unique_ptr<QmpClient>> connect() const {
    return QmpClient::connect(path_, "web", kSecondNs / 2);
  }

 private:
  std::string directory_ = "/tmp/sluice-qmp-XXXXXX";
  std::string path_;
  FileDescriptor listener_;
  std::thread thread_;
};

inline void say(int fd, const std::string& text) {
  (void)send(fd, text.data(), text.size(), MSG_NOSIGNAL);
}

inline std::string read_line(int fd) {
  std::string line;
  for (char c = 0; read(fd, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}

inline void greet(int fd) {
  say(fd, kGreeting);
  read_line(fd);
  say(fd, kNegotiated);
}

}  // namespace sluice::guest::qemu::test
