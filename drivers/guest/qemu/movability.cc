#include "drivers/guest/qemu/movability.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <optional>
#include <string_view>

#include "drivers/guest/qemu/cpu_level.h"

namespace sluice::guest::qemu {
namespace {

tl::unexpected<Error> refuse(const std::string& guest, const std::string& why) {
  return fail(ErrorKind::kUnsupported, "guest " + guest + " cannot be moved: " + why);
}

Json list_of(Expected<Json> reply) {
  return reply && reply->is_array() ? std::move(*reply) : Json::array();
}

Expected<void> check_running(QmpClient& qmp, const std::string& guest) {
  const auto status = qmp.execute("query-status");
  if (!status) return tl::unexpected(status.error());
  const std::string name = text_at(*status, "status");
  if (name != "running")
    return refuse(guest, "it is not running but " + name + "; resume it first");
  return {};
}

Expected<void> check_migration_support(QmpClient& qmp, const std::string& guest) {
  const auto migration = qmp.execute("query-migrate");
  if (!migration) return tl::unexpected(migration.error());
  if (migration->contains("blocked-reasons") && (*migration)["blocked-reasons"].is_array() &&
      !(*migration)["blocked-reasons"].empty()) {
    const Json& reason = (*migration)["blocked-reasons"].front();
    return refuse(guest,
                  "QEMU says: " + (reason.is_string() ? reason.get<std::string>() : reason.dump()));
  }
  for (const char* name : {"x-ignore-shared", "pause-before-switchover", "events"}) {
    if (!has_migration_capability(qmp, name))
      return refuse(guest, std::string("its QEMU lacks the migration capability ") + name);
  }
  return {};
}

Expected<void> check_ram(QmpClient& qmp, const Description& description) {
  const std::string& guest = description.definition.name;
  const auto backend = query_ram_backend(qmp, guest);
  if (!backend) return tl::unexpected(backend.error());
  if (!backend->shared) {
    return refuse(guest,
                  "its RAM backend " + backend->id + " is not shared; start it with share=on");
  }
  // From 8.1 on x-ignore-shared skips named files only, so a memfd backend's RAM would go through
  // the state stream.
  if (parse_version(description.qemu_version).at_least(8, 1) &&
      backend->type != "memory-backend-file") {
    return refuse(guest, "its RAM backend is a " + backend->type + "; QEMU " +
                             description.qemu_version + " needs memory-backend-file");
  }
  return {};
}

bool is_true(const Expected<Json>& reply) {
  return reply && reply->is_boolean() && reply->get<bool>();
}

// Why a device of this type, at this place of QEMU's object tree, cannot be moved; empty if it can.
std::string device_obstacle(QmpClient& qmp, const std::string& path, const std::string& type) {
  if (type.starts_with("vfio-")) return "writes of its VFIO device cannot be tracked";
  if (type.find("vhost-user") != std::string::npos)
    return "a vhost-user back end writes RAM through a mapping of its own, unseen";
  if (type.find("vhost-vdpa") != std::string::npos)
    return "writes of its vDPA device cannot be tracked";
  if (type.starts_with("vhost-scsi"))
    return "the kernel's vhost-scsi writes RAM by DMA, unseen; use virtio-scsi";
  if (type.starts_with("virtio-balloon") &&
      is_true(qmp.execute("qom-get", {{"path", path}, {"property", "free-page-reporting"}})))
    return "free-page-reporting punches holes into RAM, unseen; turn it off";
  return {};
}

// `child` is an entry of qom-list below `parent`; a device's has the type "child<DEVICE-TYPE>".
Expected<void> check_device(QmpClient& qmp, const std::string& guest, const std::string& parent,
                            const Json& child) {
  constexpr std::string_view kChild = "child<";
  const std::string kind = text_at(child, "type");
  if (!kind.starts_with(kChild)) return {};
  const std::string type = kind.substr(kChild.size(), kind.size() - kChild.size() - 1);
  const std::string obstacle = device_obstacle(qmp, parent + "/" + text_at(child, "name"), type);
  if (!obstacle.empty()) return refuse(guest, "device " + type + ": " + obstacle);
  return {};
}

Expected<void> check_devices_below(QmpClient& qmp, const std::string& guest,
                                   const std::string& parent) {
  const auto children = qmp.execute("qom-list", {{"path", parent}});
  if (!children) return tl::unexpected(children.error());
  if (!children->is_array()) return refuse(guest, "QEMU does not list its devices");
  for (const Json& child : *children) {
    auto result = check_device(qmp, guest, parent, child);
    if (!result) return result;
  }
  return {};
}

Expected<void> check_devices(QmpClient& qmp, const std::string& guest) {
  auto result = check_devices_below(qmp, guest, "/machine/peripheral");
  if (result) result = check_devices_below(qmp, guest, "/machine/peripheral-anon");
  return result;
}

// QMP has no list of network back ends; the human monitor's reads "NAME:
// index=0,type=vhost-user,...".
Expected<void> check_network(QmpClient& qmp, const std::string& guest) {
  const auto reply = qmp.execute("human-monitor-command", {{"command-line", "info network"}});
  if (!reply) return tl::unexpected(reply.error());
  const std::string text = reply->is_string() ? reply->get<std::string>() : "";
  for (const char* type : {"vhost-user", "vhost-vdpa"}) {
    if (text.find(std::string("type=") + type) != std::string::npos) {
      return refuse(guest, std::string("its network back end is ") + type +
                               ", which writes RAM through a mapping of its own, unseen");
    }
  }
  return {};
}

}  // namespace

std::string text_at(const Json& object, const std::string& key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string()
             ? found->get<std::string>()
             : "";
}

std::uint64_t number_at(const Json& object, const std::string& key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_number_unsigned()
             ? found->get<std::uint64_t>()
             : 0;
}

QemuVersion parse_version(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (std::isdigit(static_cast<unsigned char>(text[i])) == 0) continue;
    QemuVersion version;
    // NOLINTNEXTLINE(cert-err34-c): the count of fields says whether it is a version
    if (std::sscanf(text.c_str() + i, "%d.%d.%d", &version.major, &version.minor, &version.micro) ==
        3)
      return version;
  }
  return {};
}

std::string to_text(const QemuVersion& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.micro);
}

Expected<std::uint32_t> query_cpu_level(QmpClient& qmp, const std::vector<std::string>& args,
                                        std::uint32_t host_level) {
  const auto kvm = qmp.execute("query-kvm");
  if (!kvm) return tl::unexpected(kvm.error());
  const bool enabled = kvm->is_object() && kvm->contains("enabled") &&
                       (*kvm)["enabled"].is_boolean() && (*kvm)["enabled"].get<bool>();
  return enabled ? cpu_level_needed(args, host_level) : 0;
}

Expected<RamBackend> query_ram_backend(QmpClient& qmp, const std::string& guest) {
  const auto reply = qmp.execute("query-memdev");
  if (!reply) return tl::unexpected(reply.error());
  if (!reply->is_array() || reply->empty()) {
    return refuse(guest,
                  "its RAM has no backend object, so it is not shared; start it with "
                  "-object memory-backend-file,share=on and -machine memory-backend=");
  }
  if (reply->size() > 1) {
    return refuse(
        guest, "it has " + std::to_string(reply->size()) + " RAM backends; only one is supported");
  }
  const Json& device = reply->front();
  RamBackend backend;
  backend.id = text_at(device, "id");
  backend.bytes = number_at(device, "size");
  backend.shared = device.contains("share") && device["share"] == true;
  const auto type =
      qmp.execute("qom-get", {{"path", "/objects/" + backend.id}, {"property", "type"}});
  if (!type) return tl::unexpected(type.error());
  if (type->is_string()) backend.type = type->get<std::string>();
  return backend;
}

Expected<bool> uses_direct_io(QmpClient& qmp, const std::string& guest) {
  const auto nodes = qmp.execute("query-named-block-nodes", {{"flat", true}});
  if (!nodes) return tl::unexpected(nodes.error());
  if (!nodes->is_array())
    return fail(ErrorKind::kFailed, "QEMU of guest " + guest + " does not list its block nodes");
  return std::any_of(nodes->begin(), nodes->end(), [](const Json& node) {
    const Json cache = node.is_object() ? node.value("cache", Json()) : Json();
    const std::string driver = text_at(node, "drv");
    return (cache.is_object() && cache.value("direct", Json()) == true) ||
           driver.starts_with("nvme") || driver.starts_with("virtio-blk-");
  });
}

bool has_migration_capability(QmpClient& qmp, const std::string& name) {
  for (const Json& capability : list_of(qmp.execute("query-migrate-capabilities"))) {
    if (text_at(capability, "capability") == name) return true;
  }
  return false;
}

Expected<void> check_guest_movable(QmpClient& qmp, const Description& description) {
  const std::string& guest = description.definition.name;
  auto result = check_running(qmp, guest);
  if (result) result = check_migration_support(qmp, guest);
  if (result) result = check_ram(qmp, description);
  if (result) result = check_devices(qmp, guest);
  if (result) result = check_network(qmp, guest);
  return result;
}

}  // namespace sluice::guest::qemu
