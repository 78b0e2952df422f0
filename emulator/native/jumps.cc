#include "jumps.h"

#include <cstring>

#include "engine.h"

extern "C" {
char* tb_htable_lookup_x86_64(CPUState*, uint64_t pc, uint64_t csBase, uint32_t flags, uint32_t cflags);
const void* helper_lookup_tb_ptr_x86_64(char* env);
}

namespace shimbed {

namespace {
// What of the flags a block is translated for, besides the hidden ones (cpu_get_tb_cpu_state of libunicorn 2.0.1): AC, VM,
// RF, IOPL and TF.
constexpr uint64_t TRANSLATED_FLAGS = 0x73100;
// After a block that begins with one of these they are others: RF, and the wait after `mov ss`.
constexpr uint32_t PASSING_FLAGS = 1u << 16 | 1u << 3;

const void* lookUp(char* env) {
  Engine* e = currentEngine();
  return e ? e->lookUpJump() : helper_lookup_tb_ptr_x86_64(env);
}
}  // namespace

void JumpTable::clear() {
  if (used_.size() > MASK) std::fill(entries_.begin(), entries_.end(), none());
  else for (uint16_t place : used_) entries_[place] = none();
  used_.clear();
}

void JumpTables::begin(const void* (*lookUp)(char* env)) {
#if defined(__x86_64__)
  // Translated code has the state in RBP and the stack as a call needs it.
  std::string code("\x48\x89\xef\x48\xb8" "01234567" "\xff\xd0\xff\xe0", 17);  // mov rdi, rbp; mov rax, lookUp; call rax; jmp rax
  std::memcpy(code.data() + 5, &lookUp, sizeof lookUp);
  otherwise_ = reinterpret_cast<const void*>(stubs_.add(code));
#else
  (void)lookUp;
#endif
}

JumpTable* JumpTables::of(uint32_t flags) {
  for (auto& table : tables_)
    if (table->flags() == flags) return table.get();
  if (!otherwise_ || tables_.size() == MOST) return nullptr;
  tables_.push_back(std::make_unique<JumpTable>(flags, otherwise_));
  return tables_.back().get();
}

void emitJump(Emitter emitter, const JumpTable& table, const void* otherwise, Temporary target) {
  Temporary place = emitter.fresh(), address = emitter.fresh();
  Temporary elsewhere = emitter.constant(int64_t(reinterpret_cast<uintptr_t>(otherwise)));
  emitter.shiftRight(place, target, JumpTable::SHIFT);
  emitter.add(place, place, target);
  emitter.mask(place, place, JumpTable::MASK);
  emitter.shiftLeft(place, place, JumpTable::ENTRY_SHIFT);
  emitter.add(place, place, int64_t(reinterpret_cast<uintptr_t>(table.entries())));
  emitter.load(address, emitter.argument(place), offsetof(JumpTable::Entry, address));
  emitter.load(place, emitter.argument(place), offsetof(JumpTable::Entry, code));
  emitter.selectIfEqual(place, address, target, place, elsewhere);
  emitter.jump(place);
  for (Temporary t : {place, address, elsewhere}) emitter.free(t);
}

void Engine::beginBlock(const char* tb) {
  state_ = 0;
  target_ = 0;
  translatedFlags_ = *reinterpret_cast<const uint32_t*>(tb + offset::tbFlags);
  translatedBase_ = *reinterpret_cast<const uint64_t*>(tb + offset::tbCsBase);
  clusterFlags_ = *reinterpret_cast<const uint32_t*>(tb + offset::tbCflags) & 0xff000000u;
}

bool Engine::insteadOfLookUp(char* context) {
  if (!target_ || translatedBase_ || translatedFlags_ & PASSING_FLAGS) return false;
  JumpTable* table = jumps_.of(translatedFlags_);
  if (!table) return false;
  emitJump(Emitter(context, operations_), *table, jumps_.otherwise(), target_);
  return true;
}

const void* Engine::lookUpJump() {
  EnvHead& h = env.head();
  uint32_t flags = h.hflags | uint32_t(h.eflags & TRANSLATED_FLAGS);
  uint64_t base = h.segs[CS].base;
  char* tb = base ? nullptr : tb_htable_lookup_x86_64(cpu, h.eip, base, flags, clusterFlags_);
  if (!tb) return helper_lookup_tb_ptr_x86_64(env.p);
  const void* code = *reinterpret_cast<const void**>(tb + offset::tbCode);
  if (JumpTable* table = jumps_.of(flags)) table->put(h.eip, code);
  return code;
}

void Engine::beginJumps() { jumps_.begin(lookUp); }

}  // namespace shimbed
