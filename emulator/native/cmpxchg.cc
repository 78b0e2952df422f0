// CMPXCHG of 32 bits leaves RAX alone when it matches, where libunicorn 2.0 clears the upper half. What its translator
// emits for one is known by its operands: the accumulator is written next, from the old value.
#include <cstdint>

#include "engine.h"

namespace {

constexpr int EQUAL = 8;  // TCG_COND_EQ
constexpr unsigned SIZE = 3, LONG = 2;

using Value = const void*;
struct Translation {
  Value old = nullptr, compared = nullptr;        // of a CMPXCHG whose accumulator is not yet written
  Value extended = nullptr, before = nullptr;  // in place, last and the one before
};
thread_local Translation now;

}  // namespace

extern "C" {
void __real_tcg_gen_ext32u_i64_x86_64(void* context, Value to, Value from);
void __real_tcg_gen_movcond_i64_x86_64(void* context, int condition, Value to, Value a, Value b, Value yes, Value no);
void __real_tcg_gen_atomic_cmpxchg_i64_x86_64(void* context, Value old, Value address, Value compared, Value fresh, uintptr_t index, unsigned operation);

void __wrap_tcg_gen_ext32u_i64_x86_64(void* context, Value to, Value from) {
  bool accumulator = now.old && from == now.old && to != from;
  if (accumulator) {
    __real_tcg_gen_ext32u_i64_x86_64(context, from, from);
    __real_tcg_gen_ext32u_i64_x86_64(context, now.compared, now.compared);
    __real_tcg_gen_movcond_i64_x86_64(context, EQUAL, to, from, now.compared, to, from);
  } else {
    __real_tcg_gen_ext32u_i64_x86_64(context, to, from);
  }
  Value before = now.extended;
  now = {};
  if (to == from) now.extended = to, now.before = before;
}

void __wrap_tcg_gen_movcond_i64_x86_64(void* context, int condition, Value to, Value a, Value b, Value yes, Value no) {
  __real_tcg_gen_movcond_i64_x86_64(context, condition, to, a, b, yes, no);
  bool long32 = now.before == a && now.extended == b;
  now = {};
  if (long32 && condition == EQUAL && to == yes && a == no) now.old = a, now.compared = b;
}

void __wrap_tcg_gen_atomic_cmpxchg_i64_x86_64(void* context, Value old, Value address, Value compared, Value fresh, uintptr_t index, unsigned operation) {
  shimbed::Engine* e = shimbed::currentEngine();
  __real_tcg_gen_atomic_cmpxchg_i64_x86_64(context, old, address, compared, fresh, index, e ? operation | e->wantedAlignment() : operation);
  now = {};
  if ((operation & SIZE) == LONG) now.old = old, now.compared = compared;
}
}
