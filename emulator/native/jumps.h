// Jumps whose target is known only when they are taken, or lies in another page. libunicorn has a helper look for the block
// there, in two places of memory that are seldom near; it is the half of what calls and returns cost. The translated code
// looks in a table of ours instead, by the address alone: each table is for blocks that are translated alike.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "tcg.h"
#include "vector.h"

namespace shimbed {

class JumpTable {
 public:
  struct Entry {
    uint64_t address;
    const void* code;
  };
  static constexpr int SHIFT = 12, ENTRY_SHIFT = 4;
  static constexpr uint64_t MASK = (1u << SHIFT) - 1;
  static_assert(sizeof(Entry) == 1 << ENTRY_SHIFT);

  JumpTable(uint32_t flags, const void* otherwise) : flags_(flags), otherwise_(otherwise), entries_(MASK + 1, none()) {}
  uint32_t flags() const { return flags_; }
  const Entry* entries() const { return entries_.data(); }
  void put(uint64_t address, const void* code) {
    uint64_t place = (address + (address >> SHIFT)) & MASK;
    entries_[place] = {address, code};
    if (used_.size() <= MASK) used_.push_back(uint16_t(place));
  }
  void clear();

 private:
  // No address of code; whoever jumps there looks further.
  Entry none() const { return {~uint64_t(0), otherwise_}; }

  uint32_t flags_;
  const void* otherwise_;
  std::vector<Entry> entries_;
  std::vector<uint16_t> used_;
};

class JumpTables {
 public:
  // `lookUp` gets the processor's state and gives where to go on.
  void begin(const void* (*lookUp)(char* env));
  // For blocks translated under these flags, or null.
  JumpTable* of(uint32_t flags);
  // After any change of what is where, or of translations.
  void clear() {
    for (auto& table : tables_) table->clear();
  }
  const void* otherwise() const { return otherwise_; }

 private:
  static constexpr size_t MOST = 8;
  StubMemory stubs_;
  const void* otherwise_ = nullptr;
  std::vector<std::unique_ptr<JumpTable>> tables_;
};

// Emits a jump to the address that `target` has.
void emitJump(Emitter emitter, const JumpTable& table, const void* otherwise, Temporary target);

}  // namespace shimbed
