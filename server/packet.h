// Packets of messages, as log shippers send them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::server {

struct Packet {
  std::string id;
  // Message n is the activity "<packet id>/<n>", so that a packet sent again is stored once.
  std::vector<Activity> messages;
};

// {"id":…,"messages":[{"level":…,"message":…,"source":…,"metadata":{…}},…],"retry_count":N}:
// source becomes node_id, metadata data. A sender's retry_count is read and not kept. Checked as
// the calls check; kInvalidArgument names the field.
Result<Packet> ParsePacket(std::string_view text);

}  // namespace taskwal::server
