// How many bytes of memory an instruction's operand has, and whether it is read or written (SDM vol. 2, in 32-bit code).
#include "decode.h"

namespace shimbed {

namespace {
MemoryUse x87(const Decoded& d, bool wide) {
  int reg = d.reg();
  uint16_t environment = wide ? 28 : 14, state = wide ? 108 : 94;
  switch (d.opcode) {
    case 0xd9: {
      static const uint8_t sizes[8] = {4, 0, 4, 4, 0, 2, 0, 2};
      uint16_t size = reg == 4 || reg == 6 ? environment : sizes[reg];
      bool writes = reg == 2 || reg == 3 || reg == 6 || reg == 7;
      return {size, !writes, writes};
    }
    case 0xdb: return {uint16_t(reg == 5 || reg == 7 ? 10 : 4), reg == 0 || reg == 5, reg != 0 && reg != 5};
    case 0xdd: return {reg == 4 || reg == 6 ? state : uint16_t(reg == 7 ? 2 : 8), reg == 0 || reg == 4, reg != 0 && reg != 4};
    case 0xdf: return {uint16_t(reg == 4 || reg == 6 ? 10 : reg >= 5 ? 8 : 2), reg == 0 || reg == 4 || reg == 5, reg != 0 && reg != 4 && reg != 5};
    case 0xd8: case 0xda: return {4, true, false};
    case 0xdc: return {8, true, false};
    default: return {2, true, false};
  }
}

MemoryUse oneByte(const Decoded& d, uint16_t word, bool wide) {
  uint8_t op = d.opcode;
  int reg = d.reg();
  uint16_t size = op & 1 ? word : 1;
  if (op < 0x40) {
    bool toMemory = !(op & 2), compares = (op & 0x38) == 0x38;
    return {size, true, toMemory && !compares};
  }
  if (op >= 0xd8 && op <= 0xdf) return x87(d, wide);
  switch (op) {
    case 0x62: return {uint16_t(2 * word), true, false};
    case 0x63: return {2, true, false};  // ARPL writes only where it has something to change
    case 0x69: case 0x6b: return {word, true, false};
    case 0x80: case 0x81: case 0x82: case 0x83: return {size, true, reg != 7};
    case 0x84: case 0x85: return {size, true, false};
    case 0x86: case 0x87: return {size, true, true};
    case 0x88: case 0x89: case 0xc6: case 0xc7: return {size, false, true};
    case 0x8a: case 0x8b: return {size, true, false};
    case 0x8c: return {2, false, true};
    case 0x8e: return {2, true, false};
    case 0x8f: return {word, false, true};
    case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3: return {size, true, true};
    case 0xc4: case 0xc5: return {uint16_t(word + 2), true, false};
    case 0xf6: case 0xf7: return {size, true, reg == 2 || reg == 3};
    case 0xfe: case 0xff: return {uint16_t(op == 0xff && (reg == 3 || reg == 5) ? word + 2 : size), true, reg < 2};
    default: return {0, false, false};
  }
}

MemoryUse sse(const Decoded& d, uint16_t none, uint16_t s66, uint16_t sf3, uint16_t sf2, bool writes = false) {
  uint16_t size = d.rep ? sf3 : d.repne ? sf2 : d.opsize ? s66 : none;
  return {size, !writes, writes};
}

MemoryUse twoByte(const Decoded& d, uint16_t word) {
  uint8_t op = d.opcode;
  int reg = d.reg();
  if (op >= 0x40 && op < 0x50) return {word, true, false};
  if (op >= 0x90 && op < 0xa0) return {1, false, true};
  switch (op) {
    case 0x00: return {2, reg > 1, reg < 2};
    case 0x01: return reg < 2 ? MemoryUse{6, false, true} : reg == 4 ? MemoryUse{2, false, true} : MemoryUse{0, false, false};
    case 0x02: case 0x03: return {2, true, false};
    case 0x0d: case 0x18: case 0x19: case 0x1a: case 0x1b: case 0x1c: case 0x1d: case 0x1e: case 0x1f: return {0, false, false};
    case 0x10: case 0x51: case 0x58: case 0x59: case 0x5c: case 0x5d: case 0x5e: case 0x5f: case 0xc2: return sse(d, 16, 16, 4, 8);
    case 0x11: return sse(d, 16, 16, 4, 8, true);
    case 0x52: case 0x53: return sse(d, 16, 16, 4, 4);
    case 0x12: case 0x16: return sse(d, 8, 8, 16, 8);
    case 0x13: case 0x17: return {8, false, true};
    case 0x2a: return sse(d, 8, 8, 4, 4);
    case 0x2c: case 0x2d: return sse(d, 8, 16, 4, 8);
    case 0x2e: case 0x2f: return sse(d, 4, 8, 4, 4);
    case 0x5a: return sse(d, 8, 16, 4, 8);
    case 0xe6: return sse(d, 16, 16, 8, 16);
    case 0x60: case 0x61: case 0x62: return sse(d, 4, 16, 4, 4);
    case 0x6e: return {4, true, false};
    case 0x7e: return d.rep ? MemoryUse{8, true, false} : MemoryUse{4, false, true};
    case 0xd6: return {8, false, true};
    case 0x29: case 0x2b: return {16, false, true};
    case 0x7f: case 0xe7: return sse(d, 8, 16, 16, 16, true);
    case 0xc4: return {2, true, false};
    case 0xa3: case 0xba: return {word, true, op == 0xba && reg > 4};
    case 0xab: case 0xb3: case 0xbb: case 0xa4: case 0xa5: case 0xac: case 0xad: case 0xb1: case 0xc1: return {word, true, true};
    case 0xb0: case 0xc0: return {1, true, true};
    case 0xae: return reg == 0 ? MemoryUse{512, false, true} : reg == 1 ? MemoryUse{512, true, false} : reg == 2 ? MemoryUse{4, true, false} : reg == 3 ? MemoryUse{4, false, true} : MemoryUse{reg == 7 ? uint16_t(1) : uint16_t(0), true, false};
    case 0xaf: case 0xb8: case 0xbc: case 0xbd: return {word, true, false};
    case 0xb2: case 0xb4: case 0xb5: return {uint16_t(word + 2), true, false};
    case 0xb6: case 0xbe: return {1, true, false};
    case 0xb7: case 0xbf: return {2, true, false};
    case 0xc3: return {4, false, true};
    case 0xc7: return {8, true, true};
    case 0x14: case 0x15: case 0x28: case 0x54: case 0x55: case 0x56: case 0x57: case 0x5b: case 0x6c: case 0x6d: case 0x7c:
    case 0x7d: case 0xc6: case 0xd0: case 0xf0: return {16, true, false};
    default: return sse(d, 8, 16, 16, 16);
  }
}
}  // namespace

MemoryUse memoryUse(const Decoded& d, bool wide) {
  uint16_t word = wide ? 4 : 2;
  uint8_t op = d.opcode;
  if (d.map == 1) return oneByte(d, word, wide);
  if (d.map == 2) return twoByte(d, word);
  if (d.map == 3) {
    if ((op & 0xfe) == 0xf0) return {uint16_t(d.repne && op == 0xf0 ? 1 : word), d.repne || op == 0xf0, !d.repne && op == 0xf1};
    static const uint8_t extends[6] = {8, 4, 2, 8, 4, 8};
    if ((op >= 0x20 && op < 0x26) || (op >= 0x30 && op < 0x36)) return {extends[op & 7], true, false};
    return {uint16_t(d.opsize || op >= 0x40 || (op >= 0x10 && op < 0x1c) || (op >= 0x28 && op < 0x40) ? 16 : 8), true, false};
  }
  switch (op) {
    case 0x14: return {1, false, true};
    case 0x15: return {2, false, true};
    case 0x16: case 0x17: return {4, false, true};
    case 0x20: return {1, true, false};
    case 0x0a: case 0x21: case 0x22: return {4, true, false};
    case 0x0b: return {8, true, false};
    case 0x0f: return {uint16_t(d.opsize ? 16 : 8), true, false};
    default: return {16, true, false};
  }
}

bool wantsAlignment(const Decoded& d) {
  if (d.map == 1 || d.vex || !d.memory() || memoryUse(d, true).size != 16) return false;
  uint8_t op = d.opcode;
  if (d.map == 2) return op != 0x10 && op != 0x11 && op != 0xf0 && !(d.rep && (op == 0x6f || op == 0x7f));
  return d.map == 3 || (op & 0xfc) != 0x60;  // not the string comparisons
}

}  // namespace shimbed
