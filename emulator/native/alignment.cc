// Where an address has to be a multiple of something: for SSE's operands of 16 bytes, and for all under EFLAGS.AC.
#include "engine.h"
#include "internals.h"

using shimbed::currentEngine;
using shimbed::Engine;

namespace shimbed {

// TCG's MemOp: what address bits have to be zero, or those of the access's size.
enum : uint8_t { ALIGN_4 = 0x20, ALIGN_16 = 0x40, ALIGN_NATURALLY = 0x70 };

void Engine::noteAlignment(uint64_t address, const Decoded& d) {
  if (wantsAlignment(d)) {
    aligned_.push_back({address, d.length, ALIGN_16});
  } else if (alignsAll_ && d.map != 1 && !d.vex && d.memory()) {
    uint16_t size = memoryUse(d, true).size;
    // 16 bytes are two accesses, and PUNPCKLBW and its like read four bytes where libunicorn loads eight.
    if (size == 16) aligned_.push_back({address, d.length, ALIGN_16});
    else if (d.map == 2 && d.opcode >= 0x60 && d.opcode <= 0x62) aligned_.push_back({address, d.length, ALIGN_4});
  }
}

uint32_t Engine::wantedAlignment() {
  while (nextAligned_ < aligned_.size() && aligned_[nextAligned_].address + aligned_[nextAligned_].length <= fetchedAt_) nextAligned_++;
  // Of several accesses the first tells.
  if (nextAligned_ < aligned_.size() && fetchedAt_ >= aligned_[nextAligned_].address) return aligned_[nextAligned_++].memop;
  return alignsAll_ ? ALIGN_NATURALLY : 0;
}

void Engine::onUnaligned(uint64_t address, uintptr_t retaddr) {
  internals::restoreState(cpu, retaddr);
  bool operand = (address & 15) && wantsAlignment(instructionAt(env.head().eip));
  if (operand) stopException(13, 0);
  else if (!canonical(address)) stopAtMiss(address, READ, UNMAPPED);
  else stopException(17, 0);
  internals::leave(cpu, uc, 0);
}

}  // namespace shimbed

extern "C" {

// The translator's loads and stores, which may want their addresses aligned.
#define ACCESS(name)                                                                                          \
  void __real_tcg_gen_qemu_##name##_x86_64(void* context, void* value, void* address, uint64_t index, uint32_t memop); \
  void __wrap_tcg_gen_qemu_##name##_x86_64(void* context, void* value, void* address, uint64_t index, uint32_t memop) { \
    if (Engine* e = currentEngine()) memop |= e->wantedAlignment();                                           \
    __real_tcg_gen_qemu_##name##_x86_64(context, value, address, index, memop);                               \
  }
ACCESS(ld_i32)
ACCESS(ld_i64)
ACCESS(st_i32)
ACCESS(st_i64)
#undef ACCESS

// Those of locked instructions, whose loads and stores libunicorn emits without coming here.
#define LOCKED(name)                                                                                          \
  void __real_tcg_gen_atomic_##name##_i64_x86_64(void* context, void* result, void* address, void* value, uint64_t index, uint32_t memop); \
  void __wrap_tcg_gen_atomic_##name##_i64_x86_64(void* context, void* result, void* address, void* value, uint64_t index, uint32_t memop) { \
    if (Engine* e = currentEngine()) memop |= e->wantedAlignment();                                           \
    __real_tcg_gen_atomic_##name##_i64_x86_64(context, result, address, value, index, memop);                 \
  }
LOCKED(xchg)
LOCKED(fetch_add)
LOCKED(fetch_and)
LOCKED(fetch_or)
LOCKED(fetch_xor)
LOCKED(add_fetch)
LOCKED(and_fetch)
LOCKED(or_fetch)
LOCKED(xor_fetch)
#undef LOCKED

// Helpers that access memory themselves.
#define HELPER(name, mask, parameters, arguments)                     \
  void __real_helper_##name##_x86_64 parameters;                      \
  void __wrap_helper_##name##_x86_64 parameters {                     \
    shimbed::wantAligned(env, address, mask, CALLER);                 \
    return __real_helper_##name##_x86_64 arguments;                   \
  }
HELPER(cmpxchg8b_unlocked, 7, (char* env, uint64_t address), (env, address))
HELPER(fldt_ST0, 7, (char* env, uint64_t address), (env, address))
HELPER(fstt_ST0, 7, (char* env, uint64_t address), (env, address))
HELPER(fbld_ST0, 7, (char* env, uint64_t address), (env, address))
HELPER(fldenv, wide ? 3 : 1, (char* env, uint64_t address, int wide), (env, address, wide))
HELPER(fsave, wide ? 3 : 1, (char* env, uint64_t address, int wide), (env, address, wide))
HELPER(frstor, wide ? 3 : 1, (char* env, uint64_t address, int wide), (env, address, wide))
#undef HELPER
}
