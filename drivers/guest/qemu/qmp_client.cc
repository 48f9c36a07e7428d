#include "drivers/guest/qemu/qmp_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "drivers/base/clock.h"

namespace sluice::guest::qemu {
namespace {

constexpr std::size_t kEventsMax = 1024;
constexpr std::size_t kMessageBytesMax = 16U << 20U;
constexpr TimeNs kConnectRetryNs = 2 * kMillisecondNs;

Expected<FileDescriptor> connect_once(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return fail(ErrorKind::kInvalid, "QMP socket path " + path + " is longer than " +
                                         std::to_string(sizeof(address.sun_path) - 1) +
                                         " bytes; use a shorter run directory");
  }
  path.copy(address.sun_path, path.size());
  // A QEMU that stands still takes no connections, and whoever comes after the first few would wait
  // for it without end.
  FileDescriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return fail(ErrorKind::kNoCapacity,
                std::string("cannot make a socket: ") + std::strerror(errno));
  }
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const bool nobody = errno == ENOENT || errno == ECONNREFUSED;
    const ErrorKind kind = nobody ? ErrorKind::kNotFound : ErrorKind::kUnreachable;
    return fail(kind, "cannot connect to QMP socket " + path + ": " + std::strerror(errno));
  }
  return fd;
}

bool is_readable(int fd, TimeNs wait_ns) {
  pollfd poll_fd{fd, POLLIN, 0};
  const timespec timeout{static_cast<time_t>(wait_ns / kSecondNs),
                         static_cast<long>(wait_ns % kSecondNs)};
  return ppoll(&poll_fd, 1, &timeout, nullptr) > 0;
}

Expected<FileDescriptor> connect_when_ready(const std::string& path, const std::string& guest,
                                            TimeNs deadline_ns, int death_fd) {
  while (true) {
    Expected<FileDescriptor> socket = connect_once(path);
    if (socket || death_fd < 0 || socket.error().kind == ErrorKind::kInvalid) return socket;
    if (is_readable(death_fd, kConnectRetryNs))
      return fail(ErrorKind::kUnreachable, "QEMU of guest " + guest + " has exited");
    if (monotonic_now_ns() > deadline_ns) return socket;
  }
}

}  // namespace

Expected<std::unique_ptr<QmpClient>> QmpClient::connect(const std::string& socket_path,
                                                        const std::string& guest, TimeNs timeout_ns,
                                                        int death_fd) {
  const TimeNs deadline_ns = monotonic_now_ns() + timeout_ns;
  Expected<FileDescriptor> socket = connect_when_ready(socket_path, guest, deadline_ns, death_fd);
  if (!socket) return tl::unexpected(socket.error());
  return open(std::move(*socket), guest, deadline_ns,
              "its greeting (is another program connected to " + socket_path + "?)");
}

Expected<std::unique_ptr<QmpClient>> QmpClient::open(FileDescriptor socket,
                                                     const std::string& guest, TimeNs deadline_ns,
                                                     std::string_view what) {
  fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  std::unique_ptr<QmpClient> client(new QmpClient(std::move(socket), guest));
  while (!client->greeted_) {
    const auto read = client->wait_for_input(deadline_ns, what);
    if (!read) return tl::unexpected(read.error());
  }
  const auto negotiated = client->execute("qmp_capabilities");
  if (!negotiated) return tl::unexpected(negotiated.error());
  return client;
}

bool QmpClient::may_be_listened_to(const std::string& socket_path) {
  const auto socket = connect_once(socket_path);
  return socket || socket.error().kind != ErrorKind::kNotFound;
}

pid_t QmpClient::peer_pid() const {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
  return credentials.pid;
}

tl::unexpected<Error> QmpClient::gone() const {
  return fail(ErrorKind::kUnreachable, "QEMU of guest " + guest_ + " has exited");
}

Expected<std::uint64_t> QmpClient::send(const std::string& command, const Json& arguments,
                                        int pass_fd) {
  const std::uint64_t id = ++last_id_;
  Json message = {{"execute", command}, {"id", id}};
  if (!arguments.empty()) message["arguments"] = arguments;
  const std::string text = message.dump() + "\n";

  std::size_t sent = 0;
  while (sent < text.size()) {
    iovec data{const_cast<char*>(text.data()) + sent, text.size() - sent};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (pass_fd >= 0 && sent == 0) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(rights), &pass_fd, sizeof(int));
    }
    const ssize_t count = sendmsg(socket_.get(), &header, MSG_NOSIGNAL);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      pollfd writable{socket_.get(), POLLOUT, 0};
      if (poll(&writable, 1, static_cast<int>(kCommandTimeoutNs / kMillisecondNs)) == 0) {
        return fail(ErrorKind::kUnreachable,
                    "QEMU of guest " + guest_ + " does not read its QMP socket");
      }
    } else if (errno != EINTR) {
      return gone();
    }
  }
  return id;
}

Expected<Json> QmpClient::await_reply(std::uint64_t id, TimeNs timeout_ns) {
  const TimeNs deadline_ns = monotonic_now_ns() + timeout_ns;
  while (true) {
    for (const Json& reply : replies_) {
      if (!reply.contains("id") || reply["id"] != id) continue;
      const Json answer = reply;
      // Older ones belong to commands that ran out of time: nobody waits for them.
      replies_.clear();
      if (answer.contains("return")) return answer["return"];
      const Json error = answer.value("error", Json::object());
      const std::string text =
          error.is_object() && error.contains("desc") && error["desc"].is_string()
              ? error["desc"]
              : "no reason given";
      return fail(ErrorKind::kFailed, "QEMU of guest " + guest_ + " refused: " + text);
    }
    const auto read = wait_for_input(deadline_ns, "a reply");
    if (!read) return tl::unexpected(read.error());
  }
}

Expected<Json> QmpClient::execute(const std::string& command, const Json& arguments, int pass_fd) {
  const auto id = send(command, arguments, pass_fd);
  if (!id) return tl::unexpected(id.error());
  auto reply = await_reply(*id);
  if (!reply) reply.error().message += " (" + command + ")";
  return reply;
}

bool QmpClient::owes_reply() {
  while (last_answered_id_ < last_id_ && wait_for_input(monotonic_now_ns(), "a reply")) {
  }
  return last_answered_id_ < last_id_;
}

Expected<QmpEvent> QmpClient::wait_event(const std::function<bool(const QmpEvent&)>& wanted,
                                         TimeNs deadline_ns, std::string_view what) {
  while (true) {
    while (!events_.empty()) {
      QmpEvent event = std::move(events_.front());
      events_.pop_front();
      if (wanted(event)) return event;
    }
    const auto read = wait_for_input(deadline_ns, what);
    if (!read) return tl::unexpected(read.error());
  }
}

Expected<void> QmpClient::finish_side_channel(TimeNs deadline_ns, std::string_view what) {
  while (side_channel_.on_ready) {
    auto read = wait_for_input(deadline_ns, what);
    if (!read) return read;
  }
  return {};
}

// Waits until QEMU or the side channel has something, and handles it.
Expected<void> QmpClient::wait_for_input(TimeNs deadline_ns, std::string_view what) {
  std::array<pollfd, 2> fds{
      pollfd{socket_.get(), POLLIN, 0},
      pollfd{side_channel_.on_ready ? side_channel_.fd : -1, side_channel_.poll_events, 0}};
  const timespec timeout = time_until(deadline_ns);
  const int ready = ppoll(fds.data(), fds.size(), &timeout, nullptr);
  if (ready < 0 && errno != EINTR)
    return fail(ErrorKind::kFailed, std::string("cannot wait for QEMU: ") + std::strerror(errno));
  if (ready == 0) {
    return fail(ErrorKind::kUnreachable,
                "QEMU of guest " + guest_ + " did not give " + std::string(what) + " in time");
  }
  if (ready < 0) return {};
  if (fds[1].revents != 0 && !side_channel_.on_ready()) side_channel_ = {};
  if (fds[0].revents != 0) return read_messages();
  return {};
}

Expected<void> QmpClient::read_messages() {
  std::array<char, 65536> chunk{};
  const ssize_t count = recv(socket_.get(), chunk.data(), chunk.size(), 0);
  const TimeNs received_ns = monotonic_now_ns();
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  if (count <= 0) return gone();
  input_.append(chunk.data(), static_cast<std::size_t>(count));

  std::size_t start = 0;
  for (std::size_t end = 0; (end = input_.find('\n', start)) != std::string::npos;
       start = end + 1) {
    auto taken = take_message(std::string_view(input_).substr(start, end - start), received_ns);
    if (!taken) return taken;
  }
  input_.erase(0, start);
  if (input_.size() > kMessageBytesMax) {
    return fail(ErrorKind::kFailed,
                "QEMU of guest " + guest_ + " sent a QMP message without an end");
  }
  return {};
}

Expected<void> QmpClient::take_message(std::string_view line, TimeNs received_ns) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return {};
  Json message = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!message.is_object()) {
    return fail(ErrorKind::kFailed,
                "the QMP socket of guest " + guest_ +
                    " sent what is not a JSON object: " + std::string(line.substr(0, 80)));
  }
  if (message.contains("QMP")) {
    greeted_ = true;
  } else if (message.contains("event") && message["event"].is_string()) {
    if (events_.size() == kEventsMax) events_.pop_front();
    const Json data = message.value("data", Json::object());
    events_.push_back({message["event"], data.is_object() ? data : Json::object(), received_ns});
  } else if (message.contains("return") || message.contains("error")) {
    // QEMU answers in the order of the commands.
    if (message.contains("id") && message["id"].is_number_unsigned())
      last_answered_id_ = std::max<std::uint64_t>(last_answered_id_, message["id"]);
    replies_.push_back(std::move(message));
  } else {
    return fail(ErrorKind::kFailed,
                "the QMP socket of guest " + guest_ +
                    " sent what is not QMP: " + std::string(line.substr(0, 80)));
  }
  return {};
}

}  // namespace sluice::guest::qemu
