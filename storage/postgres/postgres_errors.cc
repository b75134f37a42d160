#include "storage/postgres/postgres_errors.h"

#include <exception>
#include <pqxx/except>

namespace taskwal::storage {
namespace {

constexpr std::size_t kMessageMax = 500;
constexpr std::string_view kLacksRight = "42501";

struct Caught {
  std::string sqlstate;  // empty where the server said none
  std::string text;
  bool is_lost = false;
  bool is_in_doubt = false;
};

// "ERROR:  text\nDETAIL:  …" -> "text".
std::string FirstLine(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  for (const std::string_view severity : {"ERROR:  ", "FATAL:  ", "PANIC:  "}) {
    if (text.starts_with(severity)) text.remove_prefix(severity.size());
  }
  return std::string(text.substr(0, kMessageMax));
}

// All lines as one: a refused connection names each host that was tried.
std::string OneLine(std::string_view text) {
  std::string line;
  for (const char c : text.substr(0, kMessageMax)) {
    if (c == '\n') {
      line += "; ";
    } else if (c != '\t') {
      line += c;
    }
  }
  while (line.ends_with("; ")) line.resize(line.size() - 2);
  return line;
}

// libpqxx keeps no SQLSTATE where a type of its own says it.
std::string StateOf(const pqxx::transaction_rollback& e) {
  if (dynamic_cast<const pqxx::serialization_failure*>(&e) != nullptr) return "40001";
  if (dynamic_cast<const pqxx::deadlock_detected*>(&e) != nullptr) return "40P01";
  if (dynamic_cast<const pqxx::statement_completion_unknown*>(&e) != nullptr) return "40003";
  return "40000";
}

std::string StateOf(const pqxx::sql_error& e) {
  if (dynamic_cast<const pqxx::insufficient_privilege*>(&e) != nullptr) {
    return std::string(kLacksRight);
  }
  return e.sqlstate();
}

Caught CatchCurrent() {
  try {
    throw;
  } catch (const pqxx::in_doubt_error& e) {
    return {"", OneLine(e.what()), true, true};
  } catch (const pqxx::too_many_connections& e) {
    return {"53300", FirstLine(e.what()), true, false};
  } catch (const pqxx::broken_connection& e) {
    // Before a batch it is missed where its encoding is looked up, which says nothing to anybody.
    const std::string text = OneLine(e.what());
    return {"", text.find("client encoding") == std::string::npos ? text : "", true, false};
  } catch (const pqxx::transaction_rollback& e) {
    return {StateOf(e), FirstLine(e.what()), false, false};
  } catch (const pqxx::sql_error& e) {
    const std::string state = StateOf(e);
    // Classes 57P and 08: the session is being ended.
    return {state, FirstLine(e.what()), state.starts_with("57P") || state.starts_with("08"), false};
  } catch (const std::exception& e) {
    // A connection that breaks during COPY is a plain pqxx::failure.
    return {"", OneLine(e.what()), false, false};
  }
}

// In front of what the server says, where that names neither cause nor remedy.
std::string_view Meaning(std::string_view sqlstate) {
  if (sqlstate == "25006") {
    return "nothing may be written here (default_transaction_read_only is on, or it is a standby: "
           "target_session_attrs=read-write finds the primary): ";
  }
  if (sqlstate == kLacksRight) return "a right is missing: ";
  return "";
}

}  // namespace

StatusCode PostgresStatusCode(std::string_view sqlstate) {
  const std::string_view kind = sqlstate.substr(0, 2);
  // P0001: what a trigger raises by its own will.
  if (kind == "22" || kind == "23" || sqlstate == "54000" || sqlstate == "54001" ||
      sqlstate == "P0001") {
    return StatusCode::kRejected;
  }
  return StatusCode::kUnavailable;
}

StatusCode PostgresCommitCode(std::string_view sqlstate) {
  const StatusCode code = PostgresStatusCode(sqlstate);
  const bool is_rolled_back =
      code == StatusCode::kRejected || (sqlstate.starts_with("40") && sqlstate != "40003");
  return is_rolled_back ? code : StatusCode::kInDoubt;
}

Status PostgresCaught(const PostgresCall& call) {
  const Caught caught = CatchCurrent();
  const StatusCode code = call.is_committing ? PostgresCommitCode(caught.sqlstate)
                                             : PostgresStatusCode(caught.sqlstate);
  std::string message(call.database);
  message += ": ";
  message += call.what;
  message += ": ";
  if (code == StatusCode::kInDoubt) message += "the commit was not answered: ";
  if (call.has_timed_out) {
    message += "took longer than the time limit";
  } else if (caught.text.empty() || (call.is_lost && !caught.is_lost)) {
    // What libpqxx stumbled over afterwards says nothing.
    message += "the connection was lost";
  } else {
    message += Meaning(caught.sqlstate);
    message += caught.text;
  }
  if (!caught.sqlstate.empty()) message += " (SQLSTATE " + caught.sqlstate + ")";
  return {code, std::move(message)};
}

bool PostgresGaveWay() {
  const std::string state = CatchCurrent().sqlstate;
  return state == "40001" || state == "40P01";
}

bool PostgresLacksRight() { return CatchCurrent().sqlstate == kLacksRight; }

bool PostgresConnectionLost() { return CatchCurrent().is_lost; }

}  // namespace taskwal::storage
