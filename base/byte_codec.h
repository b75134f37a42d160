// Bounds-checked little-endian encoding over spans. A writer or reader that runs out of room turns
// bad and stays bad; ask ok() once at the end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace taskwal {

static_assert(std::endian::native == std::endian::little, "taskwal's formats are little-endian");

template <typename T>
T LoadLittle(const std::byte* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void StoreLittle(std::byte* to, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof value);
}

class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> room) : room_(room) {}

  template <typename T>
  void Put(T value) {
    if (!Has(sizeof value)) return;
    StoreLittle(room_.data() + used_, value);
    used_ += sizeof value;
  }
  void PutBytes(const void* data, std::size_t size) {
    if (!Has(size)) return;
    if (size > 0) std::memcpy(room_.data() + used_, data, size);
    used_ += size;
  }
  // u32 length, then the bytes.
  void PutText(std::string_view text) {
    Put(static_cast<std::uint32_t>(text.size()));
    PutBytes(text.data(), text.size());
  }

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  bool Has(std::size_t size) {
    if (!ok_ || room_.size() - used_ < size) ok_ = false;
    return ok_;
  }

  std::span<std::byte> room_;
  std::size_t used_ = 0;
  bool ok_ = true;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T Get() {
    if (!Has(sizeof(T))) return T{};
    const T value = LoadLittle<T>(bytes_.data() + used_);
    used_ += sizeof(T);
    return value;
  }
  std::span<const std::byte> GetBytes(std::size_t size) {
    if (!Has(size)) return {};
    const auto part = bytes_.subspan(used_, size);
    used_ += size;
    return part;
  }
  std::string_view GetText() {
    const auto part = GetBytes(Get<std::uint32_t>());
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t left() const { return bytes_.size() - used_; }

 private:
  bool Has(std::size_t size) {
    if (!ok_ || bytes_.size() - used_ < size) ok_ = false;
    return ok_;
  }

  std::span<const std::byte> bytes_;
  std::size_t used_ = 0;
  bool ok_ = true;
};

}  // namespace taskwal
