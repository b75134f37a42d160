#include "server/packet.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "storage/operation.h"

namespace taskwal::server {
namespace {

constexpr const char* kAction = "message";
constexpr std::size_t kShownBytesMax = 64;

Status Bad(const std::string& field, std::string_view what) {
  return Status::InvalidArgument(field + ": " + std::string(what));
}

Status UnknownField(const std::string& object, const std::string& key) {
  return Bad(object + "." + JsonQuote(key.substr(0, kShownBytesMax)), "unknown field");
}

Status ReadText(JsonCursor& in, const std::string& field, std::string* into) {
  auto value = in.ReadString();
  if (!value) return Bad(field, in.error());
  *into = std::move(*value);
  return Status::Ok();
}

// In either case: "ERROR" is what many senders write.
Status ReadLevel(JsonCursor& in, const std::string& field, Level* into) {
  std::string name;
  TASKWAL_TRY(ReadText(in, field, &name));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const auto level = ParseLevel(name);
  if (!level) return Bad(field, "is not debug, info, warn, error or fatal");
  *into = *level;
  return Status::Ok();
}

Status ReadMetadata(JsonCursor& in, const std::string& field, std::optional<std::string>* into) {
  if (in.ReadNull()) return Status::Ok();
  if (in.Peek() != '{') return Bad(field, "is no object");
  const auto raw = in.ReadRaw();
  if (!raw) return Bad(field, in.error());
  *into = std::string(*raw);
  return Status::Ok();
}

Status ReadMessageMember(JsonCursor& in, const std::string& object, Activity* message) {
  const std::string& key = in.key();
  const std::string field = object + "." + key.substr(0, kShownBytesMax);
  if (key == "message") return ReadText(in, field, &message->message);
  if (key == "source") return ReadText(in, field, &message->node_id);
  if (key == "level") return ReadLevel(in, field, &message->level);
  if (key == "metadata") return ReadMetadata(in, field, &message->data);
  return UnknownField(object, key);
}

Status ReadMessage(JsonCursor& in, const std::string& object, Activity* message) {
  std::set<std::string> seen;
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    if (!seen.insert(in.key()).second) return Bad(object + "." + in.key(), "given twice");
    TASKWAL_TRY(ReadMessageMember(in, object, message));
  }
  if (in.failed()) return Bad(object, in.error());
  if (!seen.contains("message")) return Bad(object + ".message", "missing");
  message->action = kAction;
  return Status::Ok();
}

Status ReadMessages(JsonCursor& in, std::vector<Activity>* messages) {
  for (bool more = in.EnterArray(); more; more = in.NextElement()) {
    const std::string object = "messages[" + std::to_string(messages->size()) + "]";
    TASKWAL_TRY(ReadMessage(in, object, &messages->emplace_back()));
  }
  return in.failed() ? Bad("messages", in.error()) : Status::Ok();
}

Status ReadPacketMember(JsonCursor& in, Packet* packet) {
  const std::string& key = in.key();
  if (key == "id") return ReadText(in, "id", &packet->id);
  if (key == "messages") return ReadMessages(in, &packet->messages);
  if (key != "retry_count") return UnknownField("packet", key);
  const auto count = in.ReadInteger();
  return count && *count >= 0 ? Status::Ok() : Bad("retry_count", "is no count");
}

}  // namespace

Result<Packet> ParsePacket(std::string_view text) {
  JsonCursor in(text);
  Packet packet;
  std::set<std::string> seen;
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    if (!seen.insert(in.key()).second) return Bad(in.key(), "given twice");
    TASKWAL_TRY(ReadPacketMember(in, &packet));
  }
  if (!in.AtEnd()) return Bad("packet", in.failed() ? in.error() : "something follows it");
  TASKWAL_TRY(storage::CheckId("id", packet.id, true));
  if (packet.messages.empty()) return Bad("messages", "missing or empty");
  for (std::size_t i = 0; i < packet.messages.size(); ++i) {
    Activity& message = packet.messages[i];
    message.id = packet.id + "/" + std::to_string(i);
    const Status checked = storage::CheckActivity(message);
    if (!checked.ok()) return Bad("messages[" + std::to_string(i) + "]", checked.message());
  }
  return packet;
}

}  // namespace taskwal::server
