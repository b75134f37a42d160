// POST /api/v1/logs: operations and packets into the log.
//
// All of a request is appended first and waited for once: one sync serves it. It is answered when
// what it counts as successful has reached the durability level.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/json_text.h"
#include "pipeline/append_operation.h"
#include "server/packet.h"
#include "server/service.h"
#include "storage/ingest_line.h"

namespace taskwal::server {
namespace {

// A sync that takes longer leaves the items of its request in doubt.
constexpr auto kSyncTimeout = std::chrono::seconds(60);

bool HasMember(std::string_view object, std::string_view name) {
  JsonCursor in(object);
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    if (in.key() == name) return true;
    if (!in.ReadRaw()) return false;
  }
  return false;
}

class IngestRequest {
 public:
  explicit IngestRequest(Service& service)
      : service_(service), room_until_(service.clock.Now() + service.block_timeout) {}

  // Everything in the body; it is JSON.
  void Take(std::string_view body) {
    JsonCursor in(body);
    if (in.Peek() != '[') return TakeItem(body);
    for (bool more = in.EnterArray(); more; more = in.NextElement()) {
      if (const auto item = in.ReadRaw()) TakeItem(*item);
    }
  }

  // Waits for the durability level.
  void Settle() {
    std::uint64_t last = 0;
    for (const Item& item : items_) last = std::max(last, item.lsn);
    if (last == 0 || Await(last, kSyncTimeout).ok()) return;
    for (Item& item : items_) {
      if (!item.status.ok() || item.lsn == 0) continue;
      const Status reached = Await(item.lsn, std::chrono::milliseconds(0));
      if (!reached.ok()) item.status = Status::InDoubt(reached.message(), item.lsn);
    }
  }

  [[nodiscard]] HttpResponse Answer() const {
    std::string ids, errors;
    std::uint64_t lsn = 0;
    std::size_t failed = 0;
    const Status* first = nullptr;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const Item& item = items_[i];
      if (item.status.ok()) {
        ids += (ids.empty() ? "" : ",") + JsonQuote(item.id);
        lsn = std::max(lsn, item.lsn);
        continue;
      }
      ++failed;
      if (first == nullptr) first = &item.status;
      errors += (errors.empty() ? "" : ",") + ErrorText(i, item);
    }
    std::string text = "{\"total\":" + std::to_string(items_.size()) +
                       ",\"successful\":" + std::to_string(items_.size() - failed) +
                       ",\"failed\":" + std::to_string(failed) + ",\"ids\":[" + ids + "]";
    if (lsn > 0) text += ",\"lsn\":" + std::to_string(lsn);
    if (failed > 0) text += ",\"errors\":[" + errors + "]";
    if (failed == 0) return JsonAnswer(text + "}");
    if (failed < items_.size()) return JsonAnswer(text + "}", 207);
    return JsonAnswer(text + ",\"error\":" + JsonQuote(first->message()) + "}",
                      HttpStatusOf(first->code()));
  }

 private:
  struct Item {
    std::string id;
    std::uint64_t lsn = 0;  // the last one's of a packet
    Status status;
  };

  static std::string ErrorText(std::size_t index, const Item& item) {
    std::string text = "{\"index\":" + std::to_string(index);
    if (!item.id.empty()) text += ",\"id\":" + JsonQuote(item.id);
    if (item.status.lsn() > 0) text += ",\"lsn\":" + std::to_string(item.status.lsn());
    return text + ",\"error\":" + JsonQuote(item.status.message()) + "}";
  }

  void TakeItem(std::string_view text) {
    if (HasMember(text, "op")) {
      TakeOperation(text);
    } else {
      TakePacket(text);
    }
  }

  void TakeOperation(std::string_view text) {
    ++service_.operations;
    Item& item = items_.emplace_back();
    const auto operation = storage::ParseIngestLine(text);
    if (!operation.ok()) {
      item.status = operation.status();
      return;
    }
    Append(*operation, &item);
  }

  void TakePacket(std::string_view text) {
    ++service_.packets;
    Item& item = items_.emplace_back();
    auto packet = ParsePacket(text);
    if (!packet.ok()) {
      item.status = packet.status();
      return;
    }
    service_.messages += packet->messages.size();
    for (Activity& message : packet->messages) {
      if (!item.status.ok()) break;
      Append(storage::LogActivityOp{std::move(message)}, &item);
    }
    item.id = std::move(packet->id);
  }

  void Append(const storage::OperationBody& operation, Item* item) {
    WriteOptions options;
    options.durability = service_.durability;
    options.wait = WaitFor::kAppended;
    // The request as a whole waits for room as long as a call would.
    options.timeout = std::max(
        std::chrono::milliseconds(0),
        std::chrono::duration_cast<std::chrono::milliseconds>(room_until_ - service_.clock.Now()));
    options.stop = service_.stopping.get_token();
    auto appended = pipeline::AppendOperation(service_.storage, operation, options);
    item->status = appended.status();
    if (!appended.ok()) return;
    item->lsn = appended->lsn;
    item->id = std::move(appended->id);
  }

  Status Await(std::uint64_t lsn, std::chrono::milliseconds timeout) {
    return service_.storage.Wait(lsn, WaitFor::kAcknowledged, service_.durability, timeout);
  }

  Service& service_;
  const Monotonic room_until_;
  std::vector<Item> items_;
};

HttpResponse PostLogs(Service& service, const HttpRequest& request) {
  // Half a surrogate pair is the fault of the item that it is in.
  JsonCursor body(request.body);
  if (!body.ReadRaw() || !body.AtEnd()) return ErrorAnswer(400, "the body is no JSON");
  if (service.stopping.stop_requested()) return ErrorAnswer(503, "the daemon is stopping");
  IngestRequest ingest(service);
  ingest.Take(request.body);
  ingest.Settle();
  return ingest.Answer();
}

}  // namespace

void AddIngestRoutes(Router& router, Service& service) {
  router.Add("POST", "/api/v1/logs",
             [&service](const HttpRequest& request) { return PostLogs(service, request); });
}

}  // namespace taskwal::server
