#include "drivers/guest/definition.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <sstream>
#include <toml++/toml.h>

#include "dataplane/base/parse_size.h"

namespace sluice::guest {
namespace {

// The name under which the table [memory] is kept while parsing. Its natural name is taken by the
// key `memory`, which TOML does not let one document use for a value and for a table; people write
// both (see retitle_memory_table).
constexpr std::string_view kMemoryTable = "[memory]";

// Reads one document and keeps the first error, so that the checks below read as a list.
class Reader {
 public:
  explicit Reader(const std::string& source) : source_(source) {}

  void complain(const toml::source_region& where, const std::string& what) {
    if (error_) return;
    error_ = source_ + ":" + std::to_string(where.begin.line) + ":" +
             std::to_string(where.begin.column) + ": " + what;
  }
  [[nodiscard]] const std::optional<std::string>& error() const { return error_; }

  void refuse_unknown_keys(const toml::table& table, const std::string& title,
                           std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : table) {
      if (std::find(known.begin(), known.end(), key.str()) == known.end())
        refuse_key(key, title, known);
    }
  }

  [[nodiscard]] const toml::node* find(const toml::table& table, std::string_view key,
                                       const std::string& title, bool required) {
    const toml::node* node = table.get(key);
    if (node == nullptr && required)
      complain(table.source(), title + " has no '" + std::string(key) + "'");
    return node;
  }

  // The string at `key`, or an empty one after a complaint or where it is optional and absent.
  std::string text(const toml::table& table, std::string_view key, const std::string& title,
                   bool required) {
    const toml::node* node = find(table, key, title, required);
    if (node == nullptr) return {};
    if (const auto value = node->value_exact<std::string>()) return *value;
    complain(node->source(), "'" + std::string(key) + "' must be a string");
    return {};
  }

  std::uint64_t bytes(const toml::table& table, std::string_view key, const std::string& title,
                      bool required) {
    const toml::node* node = find(table, key, title, required);
    if (node == nullptr) return 0;
    const auto value = node->value_exact<std::string>();
    if (value) {
      if (const auto parsed = parse_bytes(*value)) return *parsed;
    }
    complain(node->source(), "'" + std::string(key) +
                                 "' must be a size in quotes such as \"512M\" or \"4G\"" +
                                 (value ? ", not \"" + *value + "\"" : ""));
    return 0;
  }

  std::vector<std::string> texts(const toml::table& table, std::string_view key) {
    std::vector<std::string> values;
    const toml::node* node = table.get(key);
    if (node == nullptr) return values;
    const toml::array* array = node->as_array();
    if (array == nullptr) {
      complain(node->source(), "'" + std::string(key) + "' must be a list of strings");
      return values;
    }
    for (const toml::node& element : *array) {
      const auto value = element.value_exact<std::string>();
      if (!value)
        complain(element.source(), "every element of '" + std::string(key) + "' must be a string");
      values.push_back(value.value_or(""));
    }
    return values;
  }

  const toml::table* table(const toml::table& root, std::string_view key,
                           const std::string& title) {
    const toml::node* node = root.get(key);
    if (node == nullptr) return nullptr;
    if (node->is_table()) return node->as_table();
    complain(node->source(), title + " must be a table");
    return nullptr;
  }

 private:
  void refuse_key(const toml::key& key, const std::string& title,
                  std::initializer_list<std::string_view> known) {
    std::string expected;
    for (const std::string_view name : known) {
      if (name == kMemoryTable) continue;
      if (!expected.empty()) expected += ", ";
      expected += name;
    }
    complain(key.source(), "unknown key '" + std::string(key.str()) + "' in " + title +
                               "; known are: " + expected);
  }

  const std::string& source_;
  std::optional<std::string> error_;
};

void read_qemu(Reader& reader, const toml::table& root, Definition& definition) {
  definition.qemu_binary = kUsualQemu;
  const toml::table* table = reader.table(root, "qemu", "[qemu]");
  if (table == nullptr) return;
  reader.refuse_unknown_keys(*table, "[qemu]", {"binary", "args"});
  if (table->contains("binary")) {
    definition.qemu_binary = reader.text(*table, "binary", "[qemu]", true);
    if (definition.qemu_binary.empty())
      reader.complain(table->get("binary")->source(), "'binary' must name QEMU's program");
  }
  definition.qemu_args = reader.texts(*table, "args");
}

void read_memory_driver(Reader& reader, const toml::table& root, Definition& definition) {
  const toml::table* table = reader.table(root, kMemoryTable, "[memory]");
  if (table == nullptr) return;
  reader.refuse_unknown_keys(*table, "[memory]", {"dirty_rate", "pattern"});
  definition.dirty_bytes_per_second = reader.bytes(*table, "dirty_rate", "[memory]", false);
  if (!table->contains("pattern")) return;
  definition.pattern = reader.text(*table, "pattern", "[memory]", true);
  if (definition.pattern != "uniform" && definition.pattern != "hotset")
    reader.complain(table->get("pattern")->source(), "'pattern' must be \"uniform\" or \"hotset\"");
}

Definition read_document(Reader& reader, const toml::table& root) {
  Definition definition;
  reader.refuse_unknown_keys(root, "the guest file",
                             {"name", "driver", "memory", "qemu", kMemoryTable});
  definition.name = reader.text(root, "name", "the guest file", true);
  if (root.contains("name") && !is_valid_guest_name(definition.name)) {
    reader.complain(root.get("name")->source(),
                    "'name' must be 1 to 63 of a-z, 0-9 and -, and must not start with -: \"" +
                        definition.name + "\" is not");
  }

  definition.memory_bytes = reader.bytes(root, "memory", "the guest file", true);
  if (root.contains("memory") &&
      (definition.memory_bytes == 0 || definition.memory_bytes % kExtentBytes != 0))
    reader.complain(root.get("memory")->source(), "'memory' must be a multiple of 2M, and not 0");

  definition.driver = reader.text(root, "driver", "the guest file", true);
  const auto refuse_table = [&](std::string_view key, const std::string& title) {
    if (!root.contains(key)) return;
    reader.complain(
        root.get(key)->source(),
        title + " does not belong to a guest with driver = \"" + definition.driver + "\"");
  };
  if (definition.driver == "qemu") {
    read_qemu(reader, root, definition);
    refuse_table(kMemoryTable, "[memory]");
  } else if (definition.driver == "memory") {
    read_memory_driver(reader, root, definition);
    refuse_table("qemu", "[qemu]");
  } else if (root.contains("driver")) {
    reader.complain(root.get("driver")->source(),
                    "'driver' must be \"qemu\" or \"memory\", not \"" + definition.driver + "\"");
  }
  return definition;
}

// Renames the header line [memory] to ["[memory]"]. Lines keep their numbers, so errors still point
// at the right place.
std::string retitle_memory_table(std::string_view text) {
  std::string result;
  result.reserve(text.size() + 16);
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view line = text.substr(0, length);
    const std::size_t start = line.find_first_not_of(" \t");
    constexpr std::string_view kHeader = "[memory]";
    if (start != std::string_view::npos && line.substr(start).starts_with(kHeader)) {
      result.append(line.substr(0, start)).append("[\"").append(kMemoryTable).append("\"]");
      result.append(line.substr(start + kHeader.size()));
    } else {
      result.append(line);
    }
    text.remove_prefix(length);
  }
  return result;
}

}  // namespace

bool is_valid_guest_name(std::string_view name) {
  const auto is_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 63 && is_word(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_word(c) || c == '-'; });
}

Expected<Definition> parse_definition(std::string_view text, const std::string& source) {
  Reader reader(source);
  Definition definition;
  // By toml++'s shared library: its headers alone, compiled with assertions, end the process at
  // [.a].
  try {
    definition = read_document(reader, toml::parse(retitle_memory_table(text)));
  } catch (const toml::parse_error& error) {
    reader.complain(error.source(), std::string(error.description()));
  }
  if (reader.error()) return fail(ErrorKind::kInvalid, *reader.error());
  return definition;
}

Expected<Definition> load_definition(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return fail(ErrorKind::kNotFound,
                "cannot read guest file " + path + ": " + std::strerror(errno));
  }
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return parse_definition(text, path);
}

std::string to_toml(const Definition& definition) {
  toml::table root;
  root.insert("name", definition.name);
  root.insert("driver", definition.driver);
  root.insert("memory", std::to_string(definition.memory_bytes));
  std::ostringstream text;
  if (definition.driver == "qemu") {
    toml::array arguments;
    for (const auto& argument : definition.qemu_args) arguments.push_back(argument);
    root.insert("qemu", toml::table{{"binary", definition.qemu_binary}, {"args", arguments}});
    text << root << '\n';
  } else {
    const toml::table writer{{"dirty_rate", std::to_string(definition.dirty_bytes_per_second)},
                             {"pattern", definition.pattern}};
    text << root << "\n[memory]\n" << writer << '\n';
  }
  return text.str();
}

}  // namespace sluice::guest
