// libunicorn's code generator, for code of our own between what its translator emits.
#pragma once
#include <unicorn/unicorn.h>

#include <cstdint>
#include <string>

namespace shimbed {

// A temporary as the translator has it: its distance from the context.
using Temporary = uintptr_t;

// Numbers that the generator has for what it does, by their names.
struct Operations {
  int load32 = -1, load64 = -1, store64 = -1, add64 = -1, jump = -1, label = -1;
  // False with a message where libunicorn does not keep them where version 2.0.1 does.
  bool find(uc_engine* uc, std::string& error);
};

class Emitter {
 public:
  Emitter(char* context, const Operations& operations) : context_(context), operations_(operations) {}
  Temporary fresh();
  void free(Temporary t);
  void load(Temporary to, uintptr_t base, int64_t at) { emit(operations_.load64, to, base, at); }
  void store(Temporary from, uintptr_t base, int64_t at) { emit(operations_.store64, from, base, at); }
  void add(Temporary to, Temporary a, Temporary b) { emit(operations_.add64, to, argument(a), int64_t(argument(b))); }
  void add(Temporary to, Temporary from, int64_t value);
  void widen(Temporary to, Temporary from32);
  Temporary constant(int64_t value);
  void shiftRight(Temporary to, Temporary from, int bits);
  void shiftLeft(Temporary to, Temporary from, int bits);
  void mask(Temporary to, Temporary from, int64_t bits);
  void selectIfEqual(Temporary to, Temporary a, Temporary b, Temporary equal, Temporary otherwise);
  // To code of the host that goes on as translated code does.
  void jump(Temporary to);
  void leaveBelowZero(Temporary t, void* label);
  // As operations name a temporary.
  uintptr_t argument(Temporary t) const { return uintptr_t(context_) + t; }

 private:
  void emit(int operation, Temporary a, uintptr_t b, int64_t c);

  char* context_;
  const Operations& operations_;
};

}  // namespace shimbed
