#include "control/patch/driver.h"

#include <fmt/format.h>

namespace sluice::patch {

Expected<Driver> Driver::create(store::Journal& journal, std::uint64_t epoch, const std::string& id,
                                const Created& created, Actions& actions, TimeMs now_ms) {
  Driver driver(journal, epoch, id, actions);
  const Record first{now_ms, created};
  if (auto applied = driver.run_->apply(first); !applied)
    return tl::unexpected<Error>(applied.error());
  if (const auto& why = driver.run().unreadable(); !why.empty())
    return fail(ErrorKind::kInvalid, why);
  if (auto written = journal.append(epoch, id, encode(first)); !written)
    return tl::unexpected<Error>(written.error());
  return driver;
}

Expected<void> replay(store::Journal& journal, Run& run) {
  const auto entries = journal.read(run.id());
  if (!entries) return tl::unexpected<Error>(entries.error());
  for (const auto& entry : *entries) {
    const auto record = decode(entry.body);
    if (!record) return tl::unexpected<Error>(record.error());
    if (auto applied = run.apply(*record); !applied) return applied;
  }
  return {};
}

Expected<Driver> Driver::resume(store::Journal& journal, std::uint64_t epoch, const std::string& id,
                                Actions& actions) {
  Driver driver(journal, epoch, id, actions);
  if (auto replayed = replay(journal, *driver.run_); !replayed)
    return tl::unexpected<Error>(replayed.error());
  // What was under way for a plan that cannot be read is left to itself.
  if (!driver.run().unreadable().empty()) return driver;
  for (const Intent* intent : driver.run_->open_intents())
    actions.begin(*driver.run_, *intent, /*again=*/true);
  return driver;
}

// Applied before it is written, since apply() refuses what is illegal; an error of the journal ends
// the driver.
Expected<void> Driver::record(const Record& record) {
  if (auto applied = run_->apply(record); !applied) return applied;
  return journal_->append(epoch_, run_->id(), encode(record));
}

Expected<void> Driver::step(const Facts& facts, const Mover& mover) {
  while (true) {
    const auto records = run_->decide(facts, mover, patience_);
    if (records.empty()) return {};
    for (const auto& next : records) {
      if (auto recorded = record(next); !recorded) return recorded;
      if (const auto* intent = std::get_if<Intent>(&next.body))
        actions_->begin(*run_, *intent, /*again=*/false);
    }
  }
}

Expected<void> Driver::finish(const Outcome& outcome, TimeMs now_ms) {
  return record({now_ms, outcome});
}

Expected<void> Driver::command(RunEvent event, const std::string& reason, const std::string& by,
                               TimeMs now_ms) {
  if (const auto& why = run_->unreadable(); !why.empty()) return fail(ErrorKind::kInvalid, why);
  return record({now_ms, RunStep{event, reason, by}});
}

Expected<void> Driver::mended(const std::string& host, const std::string& by, TimeMs now_ms) {
  return record({now_ms, MarkStep{host, Mark::kMended, by}});
}

}  // namespace sluice::patch
