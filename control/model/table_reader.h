// Reads TOML tables of configuration files: every complaint names file, line and column. One
// thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <toml++/toml.h>
#include <utility>

#include "dataplane/base/expected.h"
#include "dataplane/base/nearest.h"

namespace sluice::model {

// What becomes of values that can be read and that are not allowed.
enum class Refusals : std::uint8_t {
  kApply = 1,
  kWaive,  // they were allowed once, and are taken as they stand
};

// Reads keys of one table; the first thing that is wrong is kept and everything after it is
// skipped.
class TableReader {
 public:
  TableReader(const toml::table& table, const std::string& source, std::string prefix,
              std::optional<Error>& error, Refusals refusals = Refusals::kApply)
      : table_(table),
        source_(source),
        prefix_(std::move(prefix)),
        error_(error),
        refusals_(refusals) {}

  // Names the known key that was probably meant, or, if none is near, all of them.
  void refuse_unknown(std::initializer_list<std::string_view> known) {
    for (const auto& [key, node] : table_) {
      if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
      const std::string_view meant = nearest(key.str(), known);
      complain(key.source(),
               fmt::format("unknown key {}{}; {}", prefix_, key.str(),
                           meant.empty() ? fmt::format("known: {}", fmt::join(known, ", "))
                                         : fmt::format("did you mean {}{}?", prefix_, meant)));
    }
  }

  void text(std::string_view key, std::string& out, bool required = false) {
    const toml::node* node = find(key, required);
    if (node == nullptr) return;
    if (const auto value = node->value_exact<std::string>(); value && !value->empty()) {
      out = *value;
    } else {
      complain(node->source(), fmt::format("{}{} must be a text that is not empty", prefix_, key));
    }
  }

  template <typename Integer>
  void integer(std::string_view key, Integer& out, std::int64_t min, std::int64_t max) {
    const toml::node* node = find(key, false);
    if (node == nullptr) return;
    const auto value = node->value_exact<std::int64_t>();
    const auto expected =
        fmt::format("{}{} must be a whole number from {} to {}", prefix_, key, min, max);
    if (!value || !std::in_range<Integer>(*value)) return complain(node->source(), expected);
    if (*value < min || *value > max) refuse(node->source(), expected);
    out = static_cast<Integer>(*value);
  }

  void boolean(std::string_view key, bool& out) {
    const toml::node* node = find(key, false);
    if (node == nullptr) return;
    if (const auto value = node->value_exact<bool>()) {
      out = *value;
    } else {
      complain(node->source(), fmt::format("{}{} must be true or false", prefix_, key));
    }
  }

  void number(std::string_view key, double& out, double min, double max) {
    const toml::node* node = find(key, false);
    if (node == nullptr) return;
    const auto value = node->value<double>();
    const auto expected =
        fmt::format("{}{} must be a number from {} to {}", prefix_, key, min, max);
    if (!value) return complain(node->source(), expected);
    if (!(*value >= min && *value <= max)) refuse(node->source(), expected);
    out = *value;
  }

  // A number above 0 and up to `max`.
  void positive(std::string_view key, double& out, double max) {
    const toml::node* node = find(key, false);
    if (node == nullptr) return;
    const auto value = node->value<double>();
    if (value && *value > 0 && *value <= max) {
      out = *value;
    } else {
      complain(node->source(),
               fmt::format("{}{} must be a number above 0 and up to {}", prefix_, key, max));
    }
  }

  // Calls read(TableReader&) for the table at `key`, if there is one.
  template <typename Read>
  void subtable(std::string_view key, Read read) {
    const toml::node* node = find(key, false);
    if (node == nullptr) return;
    const toml::table* table = node->as_table();
    if (table == nullptr) {
      complain(node->source(), fmt::format("{}{} must be a table", prefix_, key));
      return;
    }
    TableReader reader(*table, source_, fmt::format("{}{}.", prefix_, key), error_, refusals_);
    read(reader);
  }

  template <typename Out, typename Parse>
  void parsed(std::string_view key, Out& out, std::string_view expectation, Parse parse,
              bool required = false) {
    std::string value;
    text(key, value, required);
    if (value.empty() || error_) return;
    if (const auto result = parse(value)) {
      out = *result;
    } else {
      complain(table_.get(key)->source(),
               fmt::format("{}{} = \"{}\": expected {}", prefix_, key, value, expectation));
    }
  }

  // Calls visit(node) for every element of an array.
  template <typename Visit>
  void array(std::string_view key, bool required, Visit visit) {
    const toml::node* node = find(key, required);
    if (node == nullptr) return;
    const auto* elements = node->as_array();
    if (elements == nullptr || (required && elements->empty())) {
      complain(node->source(), fmt::format("{}{} must be a list", prefix_, key));
      return;
    }
    for (const auto& element : *elements) {
      if (!error_) visit(element);
    }
  }

  void complain(const toml::source_region& where, const std::string& what) {
    if (error_) return;
    error_ = Error{ErrorKind::kInvalid, fmt::format("{}:{}:{}: {}", source_, where.begin.line,
                                                    where.begin.column, what)};
  }

  // As complain(), of a value that can be taken all the same.
  void refuse(const toml::source_region& where, const std::string& what) {
    if (refusals_ == Refusals::kApply) complain(where, what);
  }

  [[nodiscard]] const toml::table& table() const { return table_; }

 private:
  const toml::node* find(std::string_view key, bool required) {
    if (error_) return nullptr;
    const toml::node* node = table_.get(key);
    if (node == nullptr && required)
      complain(table_.source(), fmt::format("{}{} is missing", prefix_, key));
    return node;
  }

  const toml::table& table_;
  const std::string& source_;
  std::string prefix_;
  std::optional<Error>& error_;
  Refusals refusals_;
};

// The document, or where it is not TOML.
[[nodiscard]] inline Expected<toml::table> parse_toml(std::string_view text,
                                                      const std::string& source) {
  try {
    return toml::parse(text, source);
  } catch (const toml::parse_error& failure) {
    const auto& at = failure.source().begin;
    return fail(ErrorKind::kInvalid,
                fmt::format("{}:{}:{}: {}", source, at.line, at.column, failure.description()));
  }
}

}  // namespace sluice::model
