// What the daemon reports, as JSON.
#pragma once

#include <string>

#include "server/service.h"
#include "taskwal/control.h"
#include "taskwal/stats.h"

namespace taskwal::server {

std::string HealthToJson(const Service& service, const Stats& stats);
// `flow`: null where there is nothing to control.
std::string StatsToJson(const Service& service, const Stats& stats, const BufferSnapshot* flow);
std::string TargetsToJson(const Stats& stats);
std::string BufferToJson(const BufferSnapshot& buffer);
std::string BackpressureToJson(const BackpressureSnapshot& pressure);
std::string FlowControlToJson(const FlowControlSnapshot& flow);

// Nothing hinders a record on its way into a database.
bool IsHealthy(const Stats& stats);

}  // namespace taskwal::server
