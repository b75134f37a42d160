// COPY … FROM STDIN: rows as lines of text, sent in large pieces. Throws what libpqxx throws, at
// any EndRow or at Complete; without Complete nothing counts. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "taskwal/task.h"

namespace pqxx {
class transaction_base;
}

namespace taskwal::storage {

class PostgresCopy {
 public:
  // `columns` as in SQL: "id, task_id". `work` has nothing else to do meanwhile.
  PostgresCopy(pqxx::transaction_base& work, std::string_view table, std::string_view columns);
  ~PostgresCopy();

  // The row's next field.
  PostgresCopy& Add(std::string_view text);
  PostgresCopy& AddOptional(const std::optional<std::string>& text);
  PostgresCopy& Add(std::int32_t number);
  PostgresCopy& Add(Time time);
  void EndRow();
  void Complete();

 private:
  class Writer;

  void Send();

  std::unique_ptr<Writer> writer_;
  std::string lines_;
};

}  // namespace taskwal::storage
