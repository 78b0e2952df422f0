#include "tcg.h"

#include <unistd.h>

#include <cstring>
#include <iterator>
#include <utility>

extern "C" {
char* tcg_temp_new_internal_x86_64(char* context, int type, bool local);
void tcg_temp_free_internal_x86_64(char* context, void* temporary);
void __real_tcg_gen_op3_x86_64(char* context, int operation, uintptr_t a, uintptr_t b, uintptr_t c);
void tcg_gen_extu_i32_i64_x86_64(char* context, uintptr_t to, uintptr_t from);
void tcg_gen_addi_i64_x86_64(char* context, uintptr_t to, uintptr_t from, int64_t value);
uintptr_t tcg_const_i64_x86_64(char* context, int64_t value);
void tcg_gen_shri_i64_x86_64(char* context, uintptr_t to, uintptr_t from, int64_t bits);
void tcg_gen_shli_i64_x86_64(char* context, uintptr_t to, uintptr_t from, int64_t bits);
void tcg_gen_andi_i64_x86_64(char* context, uintptr_t to, uintptr_t from, int64_t bits);
void __real_tcg_gen_movcond_i64_x86_64(char* context, int condition, uintptr_t to, uintptr_t a, uintptr_t b, uintptr_t yes, uintptr_t no);
void tcg_gen_op1_x86_64(char* context, int operation, uintptr_t a);
void tcg_gen_brcondi_i64_x86_64(char* context, int condition, uintptr_t a, int64_t b, void* label);
}

namespace shimbed {

namespace {
constexpr int TYPE_I64 = 1, LESS = 2, EQUAL = 8;  // tcg.h of libunicorn 2.0.1
constexpr size_t UC_CONTEXT = 704, CONTEXT_OPERATIONS = 39272;

// What tcg_op_defs has for each.
struct Definition {
  const char* name;
  uint8_t outputs, inputs, constants, arguments, flags;
  void* constraints;
  int* sorted;
};
static_assert(sizeof(Definition) == 32, "as in libunicorn 2.0.1");

// Reads memory that may not be there: the system says so instead of a signal.
class CarefulReader {
 public:
  CarefulReader() {
    if (pipe(ends_)) ends_[0] = ends_[1] = -1;
  }
  ~CarefulReader() {
    for (int end : ends_) close(end);
  }
  CarefulReader(const CarefulReader&) = delete;
  bool read(const void* from, void* into, size_t size) {
    return ::write(ends_[1], from, size) == ssize_t(size) && ::read(ends_[0], into, size) == ssize_t(size);
  }

 private:
  int ends_[2];
};
}  // namespace

static Operations search(uc_engine* uc) {
  Operations o;
  CarefulReader memory;
  const char* context = nullptr;
  const Definition* definitions = nullptr;
  bool ok = memory.read(reinterpret_cast<const char*>(uc) + UC_CONTEXT, &context, sizeof context) &&
            memory.read(context + CONTEXT_OPERATIONS, &definitions, sizeof definitions);
  const std::pair<const char*, int*> wanted[] = {{"ld_i32", &o.load32}, {"ld_i64", &o.load64}, {"st_i64", &o.store64}, {"add_i64", &o.add64}, {"goto_ptr", &o.jump}, {"set_label", &o.label}};
  size_t found = 0;
  for (int i = 0; ok && found < std::size(wanted) && i < 200; i++) {
    Definition d;
    char name[8] = "";
    ok = memory.read(definitions + i, &d, sizeof d) && memory.read(d.name, name, sizeof name);
    for (auto& [text, number] : wanted) {
      if (!ok || std::strncmp(name, text, sizeof name) != 0) continue;
      *number = i;
      found++;
    }
  }
  return o;
}

bool Operations::find(uc_engine* uc, std::string& error) {
  static const Operations same = search(uc);  // in every engine
  *this = same;
  if (load32 >= 0 && load64 >= 0 && store64 >= 0 && add64 >= 0 && jump >= 0 && label >= 0) return true;
  error = "this build of libunicorn 2.0.1 keeps its code generator elsewhere than expected";
  return false;
}

Temporary Emitter::fresh() { return Temporary(tcg_temp_new_internal_x86_64(context_, TYPE_I64, false) - context_); }
void Emitter::free(Temporary t) { tcg_temp_free_internal_x86_64(context_, context_ + t); }
void Emitter::add(Temporary to, Temporary from, int64_t value) { tcg_gen_addi_i64_x86_64(context_, to, from, value); }
void Emitter::widen(Temporary to, Temporary from32) { tcg_gen_extu_i32_i64_x86_64(context_, to, from32); }
void Emitter::leaveBelowZero(Temporary t, void* label) { tcg_gen_brcondi_i64_x86_64(context_, LESS, t, 0, label); }
Temporary Emitter::constant(int64_t value) { return tcg_const_i64_x86_64(context_, value); }
void Emitter::shiftRight(Temporary to, Temporary from, int bits) { tcg_gen_shri_i64_x86_64(context_, to, from, bits); }
void Emitter::shiftLeft(Temporary to, Temporary from, int bits) { tcg_gen_shli_i64_x86_64(context_, to, from, bits); }
void Emitter::mask(Temporary to, Temporary from, int64_t bits) { tcg_gen_andi_i64_x86_64(context_, to, from, bits); }
void Emitter::selectIfEqual(Temporary to, Temporary a, Temporary b, Temporary equal, Temporary otherwise) {
  __real_tcg_gen_movcond_i64_x86_64(context_, EQUAL, to, a, b, equal, otherwise);
}
void Emitter::jump(Temporary to) { tcg_gen_op1_x86_64(context_, operations_.jump, argument(to)); }
void Emitter::emit(int operation, Temporary a, uintptr_t b, int64_t c) {
  __real_tcg_gen_op3_x86_64(context_, operation, argument(a), b, uintptr_t(c));
}

}  // namespace shimbed
