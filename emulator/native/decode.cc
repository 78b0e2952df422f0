#include "decode.h"

#include <cstring>
#include <initializer_list>

#include "layout.h"

namespace shimbed {

namespace {

// Per opcode of the one-byte map: M has a ModRM byte, b imm8, w imm16, z imm16/32 by operand size, v imm up to 64 (mov),
// a address-size immediate, B ends a block, x undefined in 64-bit code.
enum : uint8_t { M = 1, I8 = 2, I16 = 4, IZ = 8, IV = 16, IA = 32, END = 64, NO64 = 128 };

struct OneByte {
  uint8_t t[256];
  constexpr OneByte() : t() {
    for (int base = 0; base < 0x40; base += 8) {
      t[base] = t[base + 1] = t[base + 2] = t[base + 3] = M;
      t[base + 4] = I8;
      t[base + 5] = IZ;
      t[base + 6] = t[base + 7] = NO64;
    }
    for (int i = 0x70; i < 0x80; i++) t[i] = I8 | END;
    t[0x60] = t[0x61] = NO64;
    t[0x62] = M | NO64;
    t[0x63] = M;
    t[0x68] = IZ;
    t[0x69] = M | IZ;
    t[0x6a] = I8;
    t[0x6b] = M | I8;
    t[0x80] = t[0x83] = t[0xc0] = t[0xc1] = t[0xc6] = M | I8;
    t[0x82] = M | I8 | NO64;
    t[0x81] = t[0xc7] = M | IZ;
    for (int i = 0x84; i < 0x90; i++) t[i] = M;
    t[0x9a] = IZ | I16 | NO64 | END;
    t[0xa0] = t[0xa1] = t[0xa2] = t[0xa3] = IA;
    t[0xa8] = I8;
    t[0xa9] = IZ;
    for (int i = 0xb0; i < 0xb8; i++) t[i] = I8;
    for (int i = 0xb8; i < 0xc0; i++) t[i] = IV;
    t[0xc2] = t[0xca] = I16 | END;
    t[0xc3] = t[0xcb] = t[0xcf] = END;
    t[0xc4] = t[0xc5] = M | NO64;
    t[0xc8] = I16 | I8;
    t[0xcc] = END;
    t[0xcd] = I8 | END;
    t[0xce] = NO64 | END;
    t[0xd0] = t[0xd1] = t[0xd2] = t[0xd3] = M;
    t[0xd4] = t[0xd5] = I8 | NO64;
    t[0xd6] = NO64;
    for (int i = 0xd8; i < 0xe0; i++) t[i] = M;
    for (int i = 0xe0; i < 0xe4; i++) t[i] = I8 | END;
    for (int i = 0xe4; i < 0xe8; i++) t[i] = I8;
    t[0xe8] = t[0xe9] = IZ | END;
    t[0xea] = IZ | I16 | NO64 | END;
    t[0xeb] = I8 | END;
    t[0xf1] = t[0xf4] = END;
    t[0xf6] = t[0xf7] = t[0xfe] = t[0xff] = M;  // f6/f7 /0 /1 have an immediate, see below
  }
};
constexpr OneByte oneByte;

// The 0F map: M and I8 as above, END, NO64 unused; 0x10 marks an opcode the modelled processor does not have.
constexpr uint8_t UNDEF = 16;
struct TwoByte {
  uint8_t t[256];
  constexpr TwoByte() : t() {
    for (int i = 0; i < 256; i++) t[i] = M;
    for (int i : {0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa})
      t[i] = 0;
    t[0x05] = t[0x07] = t[0x0b] = t[0x34] = t[0x35] = END;
    for (int i : {0x04, 0x0a, 0x0c, 0x0e, 0x0f, 0x24, 0x25, 0x26, 0x27, 0x36, 0x37, 0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
                  0x78, 0x79, 0x7a, 0x7b, 0xa6, 0xa7, 0xb8, 0xff})
      t[i] = UNDEF;
    t[0xb8] = M;  // popcnt with F3, else undefined
    t[0xff] = M | UNDEF;
    for (int i = 0x80; i < 0x90; i++) t[i] = IZ | END;
    for (int i = 0xc8; i < 0xd0; i++) t[i] = 0;
    for (int i : {0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6}) t[i] = M | I8;
  }
};
constexpr TwoByte twoByte;

// Which instructions may carry LOCK (SDM vol. 2, "LOCK"): read-modify-write with a memory destination.
bool lockable(int map, uint8_t op, uint8_t modrm) {
  if (modrm >= 0xc0) return false;
  int reg = (modrm >> 3) & 7;
  if (map == 1) {
    if (op < 0x38) return (op & 7) <= 1;
    switch (op) {
      case 0x80: case 0x81: case 0x82: case 0x83: return reg != 7;
      case 0x86: case 0x87: return true;
      case 0xf6: case 0xf7: return reg == 2 || reg == 3;
      case 0xfe: case 0xff: return reg <= 1;
      default: return false;
    }
  }
  switch (op) {
    case 0xab: case 0xb3: case 0xbb: case 0xb0: case 0xb1: case 0xc0: case 0xc1: return true;
    case 0xba: return reg >= 5;
    case 0xc7: return reg == 1;
    default: return false;
  }
}

}  // namespace

namespace {

bool takePrefix(Decoded& d, uint8_t b) {
  switch (b) {
    case 0x66: d.opsize = true; return true;
    case 0x67: d.adsize = true; return true;
    case 0xf3: d.rep = true; d.repne = false; return true;
    case 0xf2: d.repne = true; d.rep = false; return true;
    case 0xf0: d.lock = true; return true;
    case 0x26: d.segment = ES; return true;
    case 0x2e: d.segment = CS; return true;
    case 0x36: d.segment = SS; return true;
    case 0x3e: d.segment = DS; return true;
    case 0x64: d.segment = FS; return true;
    case 0x65: d.segment = GS; return true;
    default: return false;
  }
}

}  // namespace

bool takeOperand(Decoded& d, const uint8_t* p, size_t& i, size_t n, bool address16) {
  if (i >= n) return false;
  d.hasModrm = true;
  d.modrm = p[i++];
  if (d.modrm >= 0xc0) return true;
  int mod = d.mod(), rm = d.rm();
  size_t displacement = mod == 1 ? 1 : mod == 2 ? (address16 ? 2 : 4) : 0;
  if (address16) {
    if (mod == 0 && rm == 6) displacement = 2;
  } else if (rm == 4) {
    if (i >= n) return false;
    d.sib = p[i++];
    if ((d.sib & 7) == 5 && mod == 0) displacement = 4;
  } else if (mod == 0 && rm == 5) {
    displacement = 4;
  }
  if (i + displacement > n) return false;
  if (displacement == 1) d.displacement = int8_t(p[i]);
  if (displacement == 2) d.displacement = int16_t(p[i] | p[i + 1] << 8);
  if (displacement == 4) d.displacement = int32_t(uint32_t(p[i]) | uint32_t(p[i + 1]) << 8 | uint32_t(p[i + 2]) << 16 | uint32_t(p[i + 3]) << 24);
  i += displacement;
  return true;
}

namespace {

void undefined(Decoded& d, size_t length) {
  d.verdict = Verdict::undefined;
  d.length = uint8_t(length);
  d.endsBlock = true;
}

}  // namespace

// What the modelled processor has of the maps 0F38 and 0F3A: SSSE3 and SSE4, AES, PCLMULQDQ, MOVBE and CRC32.
bool exists(const Decoded& d) {
  uint8_t op = d.opcode;
  if (d.map == 3) {
    if ((op & 0xfe) == 0xf0) return d.repne || d.modrm < 0xc0;
    if (d.rep || d.repne) return false;
    if (op <= 0x0b || (op >= 0x1c && op <= 0x1e)) return true;
    return d.opsize && (op == 0x10 || op == 0x14 || op == 0x15 || op == 0x17 || (op >= 0x20 && op <= 0x25) || (op >= 0x28 && op <= 0x2b) ||
                        (op >= 0x30 && op <= 0x41 && op != 0x36) || (op >= 0xdb && op <= 0xdf));
  }
  if (d.map == 4) {
    if (d.rep || d.repne) return false;
    if (op == 0x0f) return true;
    return d.opsize && ((op >= 0x08 && op <= 0x0e) || (op >= 0x14 && op <= 0x17) || (op >= 0x20 && op <= 0x22) ||
                        (op >= 0x40 && op <= 0x44 && op != 0x43) || (op >= 0x60 && op <= 0x63) || op == 0xdf);
  }
  return true;
}

// Where libunicorn reads an encoding otherwise than hardware does, what it has to see instead.
void rewrite(Decoded& d, const uint8_t* p, size_t prefixes, size_t modrmAt, Width width, bool odd) {
  if (d.verdict != Verdict::fine) return;
  uint8_t b = d.opcode, modrm = d.modrm, immediate = d.immediate;
  if (d.map == 1) {
    // SAHF and LAHF mean AH with REX too.
    if (d.rex && (b == 0x9e || b == 0x9f)) odd = true, d.rex = 0;
    // PAUSE would leave the run loop.
    if (b == 0x90 && d.rep && !(d.rex & 1)) odd = true, d.rep = false;
    bool group = (b >= 0x80 && b <= 0x83) || b == 0xc0 || b == 0xc1 || b == 0xc6 || b == 0xc7 || b == 0x8f || (b >= 0xd0 && b <= 0xd3) ||
                 b == 0xf6 || b == 0xf7 || b >= 0xfe;
    if (group && (d.rex & 4)) odd = true, d.rex &= uint8_t(~4);
    // TEST has a second encoding; LOCK NEG gets its flags wrong, and nothing runs beside it.
    if ((b == 0xf6 || b == 0xf7) && d.reg() == 1) modrm &= uint8_t(~0x38);
    if ((b == 0xf6 || b == 0xf7) && d.reg() == 3 && d.lock && d.memory()) odd = true, d.lock = false;
  }
  // MMX registers are eight; libunicorn would take REX's bits for more of them.
  if (((d.map == 3 && b < 0x40) || (d.map == 4 && b == 0x0f)) && !d.opsize && !d.rep && !d.repne) {
    uint8_t extra = d.rex & (modrm >= 0xc0 ? 5 : 4);
    if (extra) odd = true, d.rex &= uint8_t(~extra);
  }
  // The predicates of CMPPS are eight without AVX.
  if (d.map == 2 && b == 0xc2) immediate &= 7;
  if (!odd && modrm == d.modrm && immediate == d.immediate) return;

  d.verdict = Verdict::rewrite;
  std::memcpy(d.patch, p, d.length);
  if (d.hasModrm) d.patch[modrmAt] = modrm;
  if (immediate != d.immediate) d.patch[d.length - 1] = immediate;
  if (!odd) return;
  static const uint8_t overrides[6] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
  size_t k = prefixes;
  if (d.rex) d.patch[--k] = d.rex;
  if (d.segment >= 0) d.patch[--k] = overrides[d.segment];
  if (d.opsize) d.patch[--k] = 0x66;
  if (d.adsize) d.patch[--k] = 0x67;
  if (d.rep || d.repne) d.patch[--k] = d.rep ? 0xf3 : 0xf2;
  if (d.lock) d.patch[--k] = 0xf0;
  // What is too long is filled with prefixes that say what holds anyway.
  uint8_t filler = width == Width::code64 ? 0x2e : overrides[d.memorySegment(width)];
  while (k) d.patch[--k] = filler;
}

// The instructions of extended states, which come without a prefix that would make them others.
void xsaves(Decoded& d) {
  if (d.rep || d.repne || d.opsize) return;
  int reg = d.reg();
  bool save = d.memory() && ((d.opcode == 0xae && reg >= 4 && reg <= 6) || (d.opcode == 0xc7 && reg == 4));
  if (save || (d.opcode == 0x01 && d.modrm == 0xd0)) d.verdict = Verdict::xsave;
  if (d.opcode == 0x01 && d.modrm == 0xd1) d.verdict = Verdict::privileged;
}

int Decoded::memorySegment(Width width) const {
  if (segment >= 0) return segment;
  if (!memory()) return DS;
  bool address16 = width != Width::code64 && adsize != (width == Width::code16);
  if (address16) return rm() == 2 || rm() == 3 || (rm() == 6 && mod() != 0) ? SS : DS;
  int base = rm() == 4 ? (sib & 7) : rm();
  return !(rex & 1) && (base == 4 || (base == 5 && mod() != 0)) ? SS : DS;
}

bool Decoded::modifiesMemory() const {
  if (!memory() || vex) return false;
  if (map == 1) return lockable(1, opcode, modrm) || opcode == 0xc0 || opcode == 0xc1 || (opcode >= 0xd0 && opcode <= 0xd3);
  return map == 2 && (lockable(2, opcode, modrm) || (opcode & 0xf6) == 0xa4);
}

Decoded decode(const uint8_t* p, size_t available, Width width, Processor processor) {
  bool code64 = width == Width::code64;
  Decoded d;
  bool odd = false;
  size_t n = available < 15 ? available : 15, i = 0;
  for (;; i++) {
    if (i >= n) return d;
    uint8_t b = p[i];
    if (code64 && (b & 0xf0) == 0x40) {
      d.rex = b;
      continue;
    }
    int8_t segment = d.segment;
    if (!takePrefix(d, b)) break;
    // One that is not last counts for nothing, and 64-bit code has no other segments than FS and GS.
    odd = odd || d.rex;
    d.rex = 0;
    if (code64 && d.segment != segment && d.segment < FS) {
      odd = odd || b != 0x2e || segment >= 0;
      d.segment = segment;
    }
  }
  size_t prefixes = i;
  bool opsize = d.opsize != (width == Width::code16), address16 = !code64 && d.adsize != (width == Width::code16);
  bool rexW = d.rex & 8;
  uint8_t b = p[i], info;
  // VEX (AVX, FMA, BMI), EVEX, XOP, and LES, LDS and BOUND with a register
  bool next = i + 1 < n;
  if (((b == 0xc4 || b == 0xc5 || b == 0x62) && (code64 || (next && p[i + 1] >= 0xc0))) || (b == 0x8f && next && (p[i + 1] & 0x38))) {
    if (processor == Processor::v3 && (b & 0xfe) == 0xc4) {
      decodeVex(d, p, i, n, width);
      return d;
    }
    undefined(d, i + 1);
    return d;
  }
  if (b == 0x0f) {
    if (++i >= n) return d;
    b = p[i];
    d.map = 2;
    if (b == 0x38 || b == 0x3a) {
      d.map = b == 0x38 ? 3 : 4;
      if (++i >= n) return d;
      info = d.map == 3 ? uint8_t(M) : uint8_t(M | I8);
      b = p[i];
    } else {
      info = twoByte.t[b];
      if (info & UNDEF) d.verdict = Verdict::undefined;
      if (b == 0xb8 && !d.rep) d.verdict = Verdict::undefined;
    }
  } else {
    info = oneByte.t[b];
    if (code64 && (info & NO64)) d.verdict = Verdict::undefined;
  }
  d.opcode = b;
  size_t modrmAt = ++i;
  if (d.map == 2 && b >= 0x20 && b <= 0x23) {
    if (i >= n) return d;
    d.hasModrm = true;
    d.modrm = p[i++] | 0xc0;  // control and debug registers: mod counts for nothing
  } else if ((info & M) && !takeOperand(d, p, i, n, address16)) {
    return d;
  }
  int map = d.map;
  uint8_t modrm = d.modrm;
  size_t immediate = i;
  // A near branch keeps its 32-bit displacement in 64-bit code (on Intel; AMD takes two bytes).
  bool nearBranch = (map == 1 && (b == 0xe8 || b == 0xe9)) || (map == 2 && (b & 0xf0) == 0x80);
  if (map == 1 && (b == 0xf6 || b == 0xf7) && d.reg() < 2) i += b == 0xf6 ? 1 : (opsize && !rexW ? 2 : 4);
  if (info & I8) i += 1;
  if (info & I16) i += 2;
  if (info & IZ) i += (opsize && !rexW && !(nearBranch && code64)) ? 2 : 4;
  if (map == 1 && (info & IV)) i += rexW ? 8 : opsize ? 2 : 4;
  if (map == 1 && (info & IA)) i += code64 ? (d.adsize ? 4 : 8) : address16 ? 2 : 4;
  if (i > n) return d;
  if (i > immediate) d.immediate = p[immediate];
  if (map == 1 && (info & IA) && !code64) {
    uint32_t offset = 0;
    std::memcpy(&offset, p + immediate, i - immediate);
    d.displacement = int32_t(offset);
  }
  d.length = uint8_t(i);

  if (map == 1) {
    if (info & END) d.endsBlock = true;
    int reg = d.reg();
    if (b == 0xff) {
      d.endsBlock = reg >= 2 && reg <= 5;
      if ((reg == 7) || ((reg == 3 || reg == 5) && modrm >= 0xc0)) d.verdict = Verdict::undefined;
    }
    if (b == 0xfe && reg > 1) d.verdict = Verdict::undefined;
    if (b == 0x8d && modrm >= 0xc0) d.verdict = Verdict::undefined;
    if ((b == 0xc6 || b == 0xc7) && reg != 0) d.verdict = Verdict::undefined;
    if (b == 0x8f && reg != 0) d.verdict = Verdict::undefined;
    if (b == 0x8e && (reg == 1 || reg > 5)) d.verdict = Verdict::undefined;
    if (b == 0x8c && reg > 5) d.verdict = Verdict::undefined;
    if ((b == 0x6c || b == 0x6d || b == 0x6e || b == 0x6f) || (b >= 0xe4 && b <= 0xe7) || (b >= 0xec && b <= 0xef))
      d.verdict = Verdict::privileged;
    if (b == 0xcd && d.immediate != 3 && d.immediate != 4 && d.immediate != 0x80) d.verdict = Verdict::privileged;
    if (b == 0xf1) d.verdict = Verdict::undefined;  // int1, see refineStop
    if ((d.rep || d.repne) && (b == 0xa4 || b == 0xa5 || b == 0xaa || b == 0xab)) d.verdict = Verdict::repString;
  } else if (map == 2) {
    d.endsBlock = (info & END) != 0;
    int reg = d.reg();
    if (b == 0xae && modrm < 0xc0 && reg == 3 && !d.rep && !d.repne && !d.opsize) d.verdict = Verdict::storeMxcsr;
    if (b == 0xae && d.rep && code64 && rexW && modrm >= 0xc0 && (reg == 2 || reg == 3)) d.verdict = Verdict::writeBase;
    if (b == 0x20 || b == 0x22) {
      int control = reg | (d.rex & 4) << 1;
      if (control == 1 || (control > 4 && control != 8)) d.verdict = Verdict::undefined;
    }
    if ((b == 0x21 || b == 0x23) && (d.rex & 4)) d.verdict = Verdict::undefined;
    if (b == 0x33 || b == 0x35) d.verdict = Verdict::privileged;
    // movmskps, the shifts by an immediate, pextrw, pmovmskb, maskmovq take a register
    if (modrm < 0xc0 && (b == 0x50 || (b >= 0x71 && b <= 0x73) || b == 0xc5 || b == 0xd7 || b == 0xf7)) d.verdict = Verdict::undefined;
    if (b == 0xba && reg < 4) d.verdict = Verdict::undefined;
    if (b == 0x0b || b == 0xb9 || b == 0xff) d.verdict = Verdict::undefined;
    if (b == 0xc7 && modrm >= 0xc0) d.verdict = Verdict::undefined;  // rdrand, rdseed, rdpid
    if (b == 0x01 && modrm >= 0xc0 && modrm != 0xf8 && modrm != 0xf9 && reg != 4 && reg != 6) {
      // vmcall, monitor, xgetbv, SVM: none of them is there (smsw, lmsw, swapgs and rdtscp are)
      d.verdict = Verdict::undefined;
    }
    if (processor == Processor::v3) xsaves(d);
  }
  if (!exists(d)) d.verdict = Verdict::undefined;
  // SSE instructions that have no form without a prefix
  if (map == 2 && !d.opsize && !d.repne) {
    if (b == 0x7c || b == 0x7d || b == 0xd0 || b == 0x6c || b == 0x6d || b == 0xf0) d.verdict = Verdict::undefined;
    if (!d.rep && (b == 0xd6 || b == 0xe6)) d.verdict = Verdict::undefined;
  }
  rewrite(d, p, prefixes, modrmAt, width, odd);
  if (d.lock && d.verdict != Verdict::undefined) {
    bool ok = (map == 1 || map == 2) && (info & M) && lockable(map, b, modrm);
    if (!ok) d.verdict = Verdict::undefined;
  }
  if (d.verdict != Verdict::fine) d.endsBlock = true;
  return d;
}

}  // namespace shimbed
