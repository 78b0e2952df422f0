// A length decoder for x86 code, enough to know before translation where each instruction starts and whether the
// processor we model has it. libunicorn 2.0.1 executes some encodings wrongly (VEX as two-operand SSE), ends the
// host process on others, and lets ring 3 use I/O ports; the translator is shown other bytes in their place.
#pragma once
#include <cstddef>
#include <cstdint>

#include "processor.h"

namespace shimbed {

enum class Verdict : uint8_t {
  fine,        // translate as it stands
  undefined,   // #UD on the modelled processor
  privileged,  // #GP in ring 3
  repString,   // rep movs/stos: done by the engine on whole pages
  rewrite,     // libunicorn reads some bytes otherwise than hardware: `patch` is what it should see
  storeMxcsr,  // stmxcsr: the exception flags are kept elsewhere
  checked,     // strict segments: the engine looks at its memory accesses first
  vector,      // VEX: done by the engine, on the host's own vector unit
  xsave,       // xsave and its like, xgetbv
  hostSse,     // may raise an unmasked floating-point exception: see host-sse.h
  writeBase,   // wrfsbase, wrgsbase of 64 bits: the engine checks the address
};

enum class Width : uint8_t { code16, code32, code64 };

struct Decoded {
  uint8_t length = 0;  // 0: the bytes ran out
  Verdict verdict = Verdict::fine;
  bool endsBlock = false;
  bool opsize = false, adsize = false, rep = false, repne = false, lock = false;  // prefixes 66 67 f3 f2 f0
  uint8_t rex = 0;
  uint8_t patch[15];       // `length` bytes, set for Verdict::rewrite
  int8_t segment = -1;  // override, numbered as in layout.h
  uint8_t map = 1;      // 1, 0F: 2, 0F38: 3, 0F3A: 4
  uint8_t opcode = 0;
  bool hasModrm = false;
  uint8_t modrm = 0xff, sib = 0;
  int32_t displacement = 0;
  uint8_t immediate = 0;  // its first byte, where there is one
  bool vex = false;       // then `rex` has R, X, B and W of its prefix
  uint8_t vvvv = 0, pp = 0;
  bool vexL = false;

  int mod() const { return modrm >> 6; }
  int reg() const { return (modrm >> 3) & 7; }
  int rm() const { return modrm & 7; }
  // Reads its memory operand and writes it back: hardware reports a fault there as that of a write.
  bool modifiesMemory() const;
  // The segment its memory operand lies in.
  int memorySegment(Width width) const;
  bool memory() const { return hasModrm && modrm < 0xc0; }
};

// The memory operand of an instruction that has one.
struct MemoryUse {
  uint16_t size;  // 0: nothing is touched
  bool reads, writes;
};

MemoryUse memoryUse(const Decoded& d, bool wide);
// Raises #GP where its memory operand does not lie on a multiple of 16.
bool wantsAlignment(const Decoded& d);
// The instruction with a VEX prefix at p[at]; x86-64-v3 alone has any.
void decodeVex(Decoded& d, const uint8_t* p, size_t at, size_t n, Width width);
// ModRM, SIB and displacement from p[i] on; false when the bytes run out.
bool takeOperand(Decoded& d, const uint8_t* p, size_t& i, size_t n, bool address16);
Decoded decode(const uint8_t* bytes, size_t available, Width width, Processor processor);

}  // namespace shimbed
