// The code that counts a block, in place of the call that libunicorn makes for a hook on blocks.
#include "counting.h"

#include "engine.h"

extern "C" {
// A TCGv is a temporary's distance from the context; a TCGArg is the temporary itself.
uintptr_t tcg_const_i64_x86_64(char* context, int64_t value);
char* tcg_temp_new_internal_x86_64(char* context, int type, bool local);
void tcg_temp_free_internal_x86_64(char* context, void* temporary);
void tcg_gen_op1_x86_64(char* context, int opcode, uintptr_t a);
void tcg_gen_op3_x86_64(char* context, int opcode, uintptr_t a, uintptr_t b, uintptr_t c);
void tcg_gen_extu_i32_i64_x86_64(char* context, uintptr_t to, uintptr_t from);
void tcg_gen_addi_i64_x86_64(char* context, uintptr_t to, uintptr_t from, int64_t value);
void tcg_gen_brcondi_i64_x86_64(char* context, int condition, uintptr_t a, int64_t b, void* label);
void* gen_new_label_x86_64(char* context);
}

namespace shimbed {

namespace {
// Numbers of libunicorn 2.0.1 (tcg-opc.h on a 64-bit host, tcg.h).
constexpr int SET_LABEL = 1, LD_I64 = 73, ST_I64 = 77, ADD_I64 = 78, TYPE_I64 = 1, GREATER_OR_EQUAL = 3;
}  // namespace

// Where no block is left `spent` is called, which takes the change back.
void emitCount(char* context, void* size, BlockCount& count, void (*spent)(char* context)) {
  auto fresh = [&] { return uintptr_t(tcg_temp_new_internal_x86_64(context, TYPE_I64, false) - context); };
  auto temporary = [&](uintptr_t v) { return uintptr_t(context) + v; };
  uintptr_t base = tcg_const_i64_x86_64(context, int64_t(reinterpret_cast<uintptr_t>(count.address())));
  uintptr_t number = fresh(), change = fresh();
  // Each block waits for the one before to have stored the number: between load and store is one addition of a constant.
  tcg_gen_extu_i32_i64_x86_64(context, change, uintptr_t(size) - uintptr_t(context));
  tcg_gen_addi_i64_x86_64(context, change, change, -BlockCount::BLOCK);
  tcg_gen_op3_x86_64(context, LD_I64, temporary(number), temporary(base), 0);
  tcg_gen_op3_x86_64(context, ST_I64, temporary(number), temporary(base), BlockCount::BEFORE_AT);
  tcg_gen_op3_x86_64(context, ADD_I64, temporary(number), temporary(number), temporary(change));
  tcg_gen_op3_x86_64(context, ST_I64, temporary(number), temporary(base), 0);
  void* label = gen_new_label_x86_64(context);
  tcg_gen_brcondi_i64_x86_64(context, GREATER_OR_EQUAL, number, 0, label);
  spent(context);
  *static_cast<uint32_t*>(label) |= 1;  // present
  tcg_gen_op1_x86_64(context, SET_LABEL, uintptr_t(label));
  for (uintptr_t v : {base, number, change}) tcg_temp_free_internal_x86_64(context, context + v);
}

// No block is left of those that the number can hold.
void Engine::onBlocksSpent() {
  count_.takeBack();
  if (count_.refill()) count_.takeOne();
  else stopWith(BUDGET);
}

}  // namespace shimbed
