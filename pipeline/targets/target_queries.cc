#include "pipeline/targets/target_queries.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "base/status_macros.h"
#include "storage/backend.h"

namespace taskwal::pipeline {
namespace {

// Which of several rows of one id counts: the highest. `turn`: the reads of one call are numbered.
struct Rank {
  bool is_home = false;
  Time updated_at{};
  std::size_t turn = 0;
  friend auto operator<=>(const Rank&, const Rank&) = default;
};

template <typename Row>
struct Found {
  Row row;
  Rank rank;
};

// What a save with another time of creation left at two places of one page.
template <typename Row>
void DropOlder(std::vector<Found<Row>>* found) {
  std::map<std::string, Rank> newest;
  for (const Found<Row>& one : *found) {
    Rank& rank = newest.try_emplace(one.row.id, one.rank).first->second;
    rank = std::max(rank, one.rank);
  }
  std::erase_if(*found, [&](const Found<Row>& one) { return one.rank < newest[one.row.id]; });
}

// Cuts one page out of several; `has_more`: one of them was not the last.
template <typename Row>
std::string CutPage(const Paging& paging, bool has_more, std::vector<Found<Row>> found,
                    std::vector<Row>* rows) {
  const auto place = [](const Found<Row>& one) {
    return std::tie(*one.row.created_at, one.row.id);
  };
  std::sort(found.begin(), found.end(), [&](const Found<Row>& a, const Found<Row>& b) {
    if (place(a) == place(b)) return a.rank > b.rank;
    return paging.newest_first ? place(b) < place(a) : place(a) < place(b);
  });
  const auto is_same = [&](const Found<Row>& a, const Found<Row>& b) {
    return place(a) == place(b);
  };
  found.erase(std::unique(found.begin(), found.end(), is_same), found.end());
  if (found.size() > paging.limit) {
    found.resize(paging.limit);
    has_more = true;
  }
  std::string next_page;
  if (has_more) {
    const Row& last = found.back().row;
    next_page = storage::MakePageToken(*last.created_at, last.id);
  }
  DropOlder(&found);
  for (Found<Row>& one : found) rows->push_back(std::move(one.row));
  return next_page;
}

}  // namespace

TargetQueries::TargetQueries(std::vector<Database> databases,
                             std::function<std::uint16_t(const std::string&)> home_of)
    : databases_(std::move(databases)), home_of_(std::move(home_of)) {}

Status TargetQueries::Named(const Database& database, const Status& status) const {
  if (databases_.size() == 1 || status.ok()) return status;
  return {status.code(), "target " + database.name + ": " + status.message()};
}

template <typename Ask>
Result<TaskPage> TargetQueries::MergeTasks(const Paging& paging, Ask&& ask) {
  if (databases_.size() == 1) return ask(*databases_.front().calls);
  std::vector<Found<Task>> found;
  bool has_more = false;
  // A rebalance puts a task into its new home before it takes it out of the old one. What goes
  // from a database that is still to be read to one that has been would be in neither answer: all
  // but the last are read again.
  const std::size_t turns = 2 * databases_.size() - 1;
  for (std::size_t turn = 0; turn < turns; ++turn) {
    const Database& database = databases_[turn % databases_.size()];
    Result<TaskPage> page = ask(*database.calls);
    if (!page.ok()) return Named(database, page.status());
    has_more = has_more || !page->next_page.empty();
    for (Task& task : page->tasks) {
      const Rank rank{home_of_(task.id) == database.target, task.updated_at.value_or(Time{}), turn};
      found.push_back({std::move(task), rank});
    }
  }
  TaskPage merged;
  merged.next_page = CutPage(paging, has_more, std::move(found), &merged.tasks);
  return merged;
}

Result<TaskPage> TargetQueries::QueryTasks(const TaskQuery& query, const End& end) {
  return MergeTasks(query.paging,
                    [&](DatabaseCalls& calls) { return calls.QueryTasks(query, end); });
}

Result<TaskPage> TargetQueries::ResumableTasks(const Paging& paging, const End& end) {
  return MergeTasks(paging,
                    [&](DatabaseCalls& calls) { return calls.ResumableTasks(paging, end); });
}

Result<ActivityPage> TargetQueries::QueryActivities(const ActivityQuery& query, const End& end) {
  if (databases_.size() == 1) return databases_.front().calls->QueryActivities(query, end);
  std::vector<Found<Activity>> found;
  bool has_more = false;
  for (std::size_t turn = 0; turn < databases_.size(); ++turn) {
    const Database& database = databases_[turn];
    Result<ActivityPage> page = database.calls->QueryActivities(query, end);
    if (!page.ok()) return Named(database, page.status());
    has_more = has_more || !page->next_page.empty();
    for (Activity& activity : page->activities) {
      found.push_back({std::move(activity), Rank{.turn = turn}});
    }
  }
  ActivityPage merged;
  merged.next_page = CutPage(query.paging, has_more, std::move(found), &merged.activities);
  return merged;
}

Result<StoredCounts> TargetQueries::Count(const End& end) {
  StoredCounts all;
  std::map<TaskStatus, std::uint64_t> by_status;
  for (const Database& database : databases_) {
    const Result<StoredCounts> counts = database.calls->Count(end);
    if (!counts.ok()) return Named(database, counts.status());
    all.tasks += counts->tasks;
    all.activities += counts->activities;
    for (const auto& [status, count] : counts->tasks_by_status) by_status[status] += count;
  }
  all.tasks_by_status.assign(by_status.begin(), by_status.end());
  return all;
}

Status TargetQueries::Ping(const End& end) {
  for (const Database& database : databases_) {
    TASKWAL_TRY(Named(database, database.calls->Ping(end)));
  }
  return Status::Ok();
}

template <typename Ask>
Result<std::uint64_t> TargetQueries::SumOf(Ask&& ask) {
  std::uint64_t sum = 0;
  Status failed;
  for (const Database& database : databases_) {
    const Result<std::uint64_t> one = ask(*database.calls);
    if (one.ok()) sum += *one;
    if (failed.ok()) failed = Named(database, one.status());
  }
  if (!failed.ok()) return failed;
  return sum;
}

Result<std::uint64_t> TargetQueries::CleanupTasks(Time before,
                                                  std::span<const TaskStatus> statuses,
                                                  const DatabaseCalls::Skip& skip,
                                                  const End& end) {
  return SumOf(
      [&](DatabaseCalls& calls) { return calls.CleanupTasks(before, statuses, skip, end); });
}

Result<std::uint64_t> TargetQueries::CleanupActivities(Time before, const End& end) {
  return SumOf([&](DatabaseCalls& calls) { return calls.CleanupActivities(before, end); });
}

}  // namespace taskwal::pipeline
