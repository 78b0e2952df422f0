// The VEX-encoded instructions of x86-64-v3: what each asks of its encoding, and where its operands are.
#pragma once
#include <cstdint>

namespace shimbed {

// Which operand is which (SDM vol. 2, "Instruction Operand Encoding"): R is ModRM.reg, V is vvvv, M is ModRM.rm, the
// destination first; G stands for a general register in that place.
enum class Form : uint8_t {
  none,
  RM,
  RVM,
  RVMR,  // and a register in the immediate
  MR,
  MVR,
  VM,   // ModRM.reg is part of the opcode
  GM,   // a general register from a vector
  RG,   // a vector from a general register or memory
  RVG,
  MG,   // a general register or memory from the vector in ModRM.reg
  compares,  // R and M give flags
  // What the engine does without a stub, or with one of another shape.
  bits,      // BMI: general registers alone, gives flags
  quietBits, // and gives none
  plainBits, // BMI that libunicorn gets right
  strings,
  zero,
  loadMxcsr,
  storeMxcsr,
  maskedLoad,
  maskedStore,
  maskedBytes,
  gather,
};

enum class Size : uint8_t {
  b1 = 1, b2 = 2, b4 = 4, b8 = 8, b16 = 16,
  full = 64,  // of the vector, 16 or 32 bytes
  half, quarter, eighth,
  duplicated,  // 8 or 32
  scalar,      // 4 with F3, 8 with F2
  ordered,     // 4, or 8 with 66
  byW,         // 4 or 8
};

enum VexFlags : uint16_t {
  L0 = 1, L1 = 2, LIG = 4,  // only so; LIG: ignored
  W0 = 8, W1 = 16,
  IMMEDIATE = 32,
  FLOATS = 64,         // reads MXCSR and raises its exceptions
  ALIGNED = 128,       // #GP where memory is not aligned
  MEMORY = 256, REGISTER = 512,  // only so
  READS_R = 1024,      // the destination is read, too
  HALVES = 2048,       // of 32 bytes as twice of 16: hosts may have only the latter
};

struct VexRow {
  Form form = Form::none;
  Size size = Size::full;
  uint16_t flags = 0;
  uint8_t digits = 0xff;  // allowed values of ModRM.reg, one bit each
};

// `pp` as in the prefix: 0, 1 for 66, 2 for F3, 3 for F2; maps 2, 3 and 4 are 0F, 0F38 and 0F3A.
const VexRow& vexRow(unsigned map, unsigned pp, uint8_t opcode, bool memory);

}  // namespace shimbed
