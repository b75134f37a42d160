#include "storage/postgres/postgres_copy.h"

#include <algorithm>
#include <array>
#include <pqxx/tablewriter>
#include <vector>

#include "storage/postgres/postgres_rows.h"

namespace taskwal::storage {
namespace {

// The server works on one piece while the next is made.
constexpr std::size_t kPieceBytes = 16u << 10;

// What COPY reads as something else than itself, looked up by byte: a search for any of a set of
// characters calls a function for each character of the text.
constexpr std::array<bool, 256> kIsSpecial = [] {
  std::array<bool, 256> is_special{};
  for (const char c : {'\\', '\t', '\n', '\r'}) is_special[static_cast<unsigned char>(c)] = true;
  return is_special;
}();

std::size_t FindSpecial(std::string_view text) {
  const auto found = std::find_if(text.begin(), text.end(), [](char c) {
    return kIsSpecial[static_cast<unsigned char>(c)];
  });
  return static_cast<std::size_t>(found - text.begin());
}

std::vector<std::string> NamesIn(std::string_view columns) {
  std::vector<std::string> names;
  while (!columns.empty()) {
    const std::size_t end = std::min(columns.find(", "), columns.size());
    names.emplace_back(columns.substr(0, end));
    columns.remove_prefix(std::min(end + 2, columns.size()));
  }
  return names;
}

char EscapeOf(char special) {
  switch (special) {
    case '\t': return 't';
    case '\n': return 'n';
    case '\r': return 'r';
    default: return special;
  }
}

}  // namespace

// pqxx::stream_to quotes byte by byte and sends each row alone, which is a fifth of a small batch's
// time. The older class takes lines as they are.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
class PostgresCopy::Writer {
 public:
  Writer(pqxx::transaction_base& work, std::string_view table,
         const std::vector<std::string>& columns)
      : writer_(work, std::string(table), columns.begin(), columns.end(), "\\N") {}

  void Send(const std::string& lines) { writer_.write_raw_line(lines); }
  void Complete() { writer_.complete(); }

 private:
  pqxx::tablewriter writer_;
};
#pragma GCC diagnostic pop

PostgresCopy::PostgresCopy(pqxx::transaction_base& work, std::string_view table,
                           std::string_view columns)
    : writer_(std::make_unique<Writer>(work, table, NamesIn(columns))) {
  lines_.reserve(2 * kPieceBytes);
}

PostgresCopy::~PostgresCopy() = default;

PostgresCopy& PostgresCopy::Add(std::string_view text) {
  for (std::size_t at = FindSpecial(text); at < text.size(); at = FindSpecial(text)) {
    lines_ += text.substr(0, at);
    lines_ += '\\';
    lines_ += EscapeOf(text[at]);
    text.remove_prefix(at + 1);
  }
  lines_ += text;
  lines_ += '\t';
  return *this;
}

PostgresCopy& PostgresCopy::AddOptional(const std::optional<std::string>& text) {
  if (text) return Add(std::string_view(*text));
  lines_ += "\\N\t";
  return *this;
}

PostgresCopy& PostgresCopy::Add(std::int32_t number) {
  lines_ += std::to_string(number);
  lines_ += '\t';
  return *this;
}

PostgresCopy& PostgresCopy::Add(Time time) { return Add(std::string_view(PostgresTimeText(time))); }

void PostgresCopy::EndRow() {
  lines_.back() = '\n';  // for the last field's tab
  if (lines_.size() >= kPieceBytes) Send();
}

void PostgresCopy::Complete() {
  if (!lines_.empty()) Send();
  writer_->Complete();
}

// It ends the piece with a newline itself.
void PostgresCopy::Send() {
  lines_.pop_back();
  writer_->Send(lines_);
  lines_.clear();
}

}  // namespace taskwal::storage
