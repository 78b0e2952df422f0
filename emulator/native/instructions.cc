// Instructions that the engine carries out itself, and exceptions that the translator could only be made to report as
// another one.
#include <cstring>

#include "engine.h"

namespace shimbed {

// The instruction at an address relative to CS; length 0 where memory ends before it does.
Decoded Engine::instructionAt(uint64_t rip) {
  EnvHead& h = env.head();
  Width width = codeWidth(h.hflags);
  uint64_t linear = width == Width::code64 ? rip : uint32_t(rip + h.segs[CS].base);
  uint8_t bytes[15];
  size_t have = 0;
  while (active_ && have < sizeof bytes) {
    uint64_t a = linear + have;
    int64_t at = active_->translate(a, FETCH);
    if (at < 0) break;
    size_t n = PAGE - (a & (PAGE - 1));
    if (n > sizeof bytes - have) n = sizeof bytes - have;
    std::memcpy(bytes + have, physical->base() + at, n);
    have += n;
  }
  return decode(bytes, have, width);
}

namespace {
// Whether an instruction's memory access that went wrong in 64-bit code is one through the stack segment.
bool throughStack(const Decoded& d) {
  uint8_t op = d.opcode;
  if (d.map == 1) {
    // push, pop, call, ret, enter, leave, pushf, popf
    if ((op >= 0x50 && op < 0x60) || op == 0x68 || op == 0x6a || op == 0xe8 || (op >= 0xc8 && op <= 0xcb) || op == 0xc2 ||
        op == 0xc3 || op == 0x9c || op == 0x9d || op == 0x8f || (op == 0xff && d.modrm >= 0xc0)) {
      return true;
    }
  }
  if (d.map == 2 && (op == 0xa0 || op == 0xa1 || op == 0xa8 || op == 0xa9)) return true;
  if (!d.memory() || d.segment >= FS) return false;
  int base = d.rm() == 4 ? (d.sib & 7) : d.rm();
  if (d.rex & 1) return false;
  return base == 4 || (base == 5 && d.mod() != 0);
}
}  // namespace

// Called where the translator was shown a syscall: true when the instruction there is one of ours and is done, or has
// stopped the run.
bool Engine::ownInstruction() {
  EnvHead& h = env.head();
  Decoded d = instructionAt(h.eip);
  switch (d.verdict) {
    case Verdict::repString:
      repString(d);
      return true;
    case Verdict::writeBase: {
      int r = d.rm() | (d.rex & 1) << 3;
      if (!(h.cr[4] & CR4_FSGSBASE)) {
        stopException(6, 0);
      } else if (!canonical(h.regs[r])) {
        stopException(13, 0);
      } else {
        h.segs[d.reg() == 2 ? FS : GS].base = h.regs[r];
        h.eip += d.length;
      }
      return true;
    }
    default: return false;
  }
}

void Engine::refineStop() {
  EnvHead& h = env.head();
  if (stop.vector == 13 && stop.errorCode == 0) {
    if (stop.miss && stop.access == FETCH) return;
    Decoded d = instructionAt(h.eip);
    // int n from ring 3 where the gate does not allow it (SDM vol. 3, 6.13)
    if (d.map == 1 && d.opcode == 0xcd) stop.errorCode = d.immediate * 8u + 2;
    if (stop.miss && throughStack(d)) stop.vector = 12;
  } else if (stop.vector == 14 && stop.access == READ) {
    if (instructionAt(h.eip).modifiesMemory()) {
      stop.access = WRITE;
      stop.errorCode |= 2;
    }
  } else if (stop.vector == 6) {
    Decoded d = instructionAt(h.eip);
    if (d.map == 1 && d.opcode == 0xf1 && !d.lock) {
      stop.vector = 1;
      h.eip += d.length;
    }
  }
}

}  // namespace shimbed
