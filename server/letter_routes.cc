// Dead letters: looking at them, and bringing one once more.
#include <algorithm>
#include <charconv>
#include <string>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "pipeline/letter_desk.h"
#include "server/service.h"
#include "taskwal/dead_letters.h"

namespace taskwal::server {
namespace {

constexpr std::uint32_t kLimitDefault = 100;
constexpr std::uint32_t kLimitMax = 10000;
constexpr auto kRetryTimeout = std::chrono::seconds(10);

struct LetterPage {
  std::uint32_t limit = kLimitDefault;
  std::string after;
};

Result<LetterPage> PageOf(const HttpRequest& request) {
  LetterPage page;
  for (const auto& [name, value] : request.parameters) {
    if (name == "after") {
      page.after = value;
      continue;
    }
    if (name != "limit") return Status::InvalidArgument("the parameters are limit and after");
    const char* const end = value.data() + value.size();
    const auto read = std::from_chars(value.data(), end, page.limit);
    if (read.ec != std::errc{} || read.ptr != end || page.limit < 1 || page.limit > kLimitMax) {
      return Status::InvalidArgument("limit is a whole number from 1 to 10000");
    }
  }
  return page;
}

// {"dead_letters":[…],"next_page":"…"}; next_page is "" on the last page.
Result<std::string> ListAsJson(DeadLetterControl& letters, const HttpRequest& request) {
  TASKWAL_ASSIGN(const LetterPage page, PageOf(request));
  // One more than asked for tells whether there is a next page.
  TASKWAL_ASSIGN(const auto list, letters.List(page.limit + 1, page.after));
  const std::size_t shown = std::min<std::size_t>(list.size(), page.limit);
  std::string text = "{\"dead_letters\":[";
  for (std::size_t i = 0; i < shown; ++i) {
    if (i > 0) text += ',';
    text += pipeline::LetterJson(list[i], false);
  }
  const std::string next = list.size() > shown ? list[shown - 1].id : std::string();
  return text + "],\"next_page\":" + JsonQuote(next) + "}";
}

Result<std::string> LetterAsJson(DeadLetterControl& letters, const HttpRequest& request) {
  TASKWAL_ASSIGN(const DeadLetterInfo letter, letters.Get(request.id));
  return pipeline::LetterJson(letter, true);
}

// A save goes with the updates that follow it, so there may be several outcomes.
Result<std::string> RetryAsJson(DeadLetterControl& letters, const HttpRequest& request) {
  DeadLetterSelection selection;
  selection.ids = {request.id};
  TASKWAL_ASSIGN(const auto outcomes, letters.Retry(selection, kRetryTimeout));
  std::string text = "{\"results\":[";
  for (const RetryOutcome& outcome : outcomes) {
    if (&outcome != outcomes.data()) text += ',';
    text += "{\"id\":" + JsonQuote(outcome.id) + ",\"lsn\":" + std::to_string(outcome.lsn) +
            ",\"result\":" + JsonQuote(RetryResultName(outcome.result));
    if (!outcome.error.empty()) text += ",\"error\":" + JsonQuote(outcome.error);
    text += '}';
  }
  return text + "]}";
}

void AddLetters(Router& router, Service& service, std::string_view method, std::string_view pattern,
                Result<std::string> (*answer)(DeadLetterControl&, const HttpRequest&)) {
  router.Add(method, pattern, [&service, answer](const HttpRequest& request) {
    DeadLetterControl* const letters = service.storage.GetDeadLetters();
    if (letters == nullptr) {
      return ErrorAnswer(404, "there are no dead letters: wal.enabled is off");
    }
    auto json = answer(*letters, request);
    return json.ok() ? JsonAnswer(std::move(json).value()) : ErrorAnswer(json.status());
  });
}

}  // namespace

void AddLetterRoutes(Router& router, Service& service) {
  AddLetters(router, service, "GET", "/api/v1/dead-letter", &ListAsJson);
  AddLetters(router, service, "GET", "/api/v1/dead-letter/:id", &LetterAsJson);
  AddLetters(router, service, "POST", "/api/v1/dead-letter/:id/retry", &RetryAsJson);
}

}  // namespace taskwal::server
