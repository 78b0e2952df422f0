// Instructions that the engine carries out itself, and exceptions that the translator could only be made to report as
// another one.
#include <algorithm>
#include <cstring>
#include <iterator>

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
  return decode(bytes, have, width, processor_);
}

// As instructionAt, remembered for as long as its bytes are the same.
const Decoded& Engine::ownInstructionAt(uint64_t rip) {
  EnvHead& h = env.head();
  Width width = codeWidth(h.hflags);
  uint64_t linear = width == Width::code64 ? rip : uint32_t(rip + h.segs[CS].base);
  OwnInstruction& own = own_[(linear ^ linear >> 6) % std::size(own_)];
  int64_t at = active_ ? active_->translate(linear, FETCH) : int64_t(UNMAPPED);
  bool whole = at >= 0 && PAGE - (linear & (PAGE - 1)) >= sizeof own.bytes;
  if (whole && own.linear == linear && own.width == width &&
      std::memcmp(physical->base() + at, own.bytes, own.decoded.length) == 0) {
    return own.decoded;
  }
  own.decoded = instructionAt(rip);
  own.linear = whole && own.decoded.length ? linear : ~uint64_t(0);
  own.width = width;
  if (whole) std::memcpy(own.bytes, physical->base() + at, sizeof own.bytes);
  return own.decoded;
}

namespace {
// Whether an instruction's memory access that went wrong in 64-bit code is one through the stack segment.
bool throughStack(const Decoded& d, uint32_t access) {
  uint8_t op = d.opcode;
  if (d.map == 1) {
    // push, pop, call, ret, enter, leave, pushf, popf
    if ((op >= 0x50 && op < 0x60) || op == 0x68 || op == 0x6a || op == 0xe8 || (op >= 0xc8 && op <= 0xcb) || op == 0xc2 ||
        op == 0xc3 || op == 0x9c || op == 0x9d || (op == 0x8f && access == READ) || (op == 0xff && access == WRITE && d.reg() >= 2)) {
      return true;
    }
  }
  if (d.map == 2 && (op == 0xa0 || op == 0xa1 || op == 0xa8 || op == 0xa9)) return true;
  return d.memorySegment(Width::code64) == SS;
}
}  // namespace

// The linear address of the memory operand.
uint64_t Engine::effectiveAddress(const Decoded& d) {
  EnvHead& h = env.head();
  Width width = codeWidth(h.hflags);
  bool address16 = width == Width::code16 ? !d.adsize : width == Width::code32 && d.adsize;
  int rm = d.rm(), mod = d.mod(), segment = d.memorySegment(width);
  uint64_t a = uint64_t(int64_t(d.displacement));
  if (address16) {
    static const int8_t first[8] = {3, 3, 5, 5, 6, 7, 5, 3}, second[8] = {6, 7, 6, 7, -1, -1, -1, -1};
    if (mod != 0 || rm != 6) {
      a += h.regs[first[rm]];
      if (second[rm] >= 0) a += h.regs[second[rm]];
    }
    a &= 0xffff;
  } else {
    int base = rm | (d.rex & 1) << 3;
    bool hasBase = true;
    if (rm == 4) {
      int index = ((d.sib >> 3) & 7) | (d.rex & 2) << 2;
      base = (d.sib & 7) | (d.rex & 1) << 3;
      if (index != 4) a += h.regs[index] << (d.sib >> 6);
      hasBase = (d.sib & 7) != 5 || mod != 0;
    } else if (rm == 5 && mod == 0) {
      hasBase = false;
      if (width == Width::code64) a += h.eip + d.length;
    }
    if (hasBase) a += h.regs[base];
    if (width != Width::code64 || d.adsize) a &= 0xffffffffu;
  }
  if (width == Width::code64) return segment >= FS ? a + h.segs[segment].base : a;
  return (a + h.segs[segment].base) & 0xffffffffu;
}

void Engine::stopAtMiss(uint64_t address, int access, int64_t miss) {
  pageFault(address, access, miss);
  endRun();
}

// Reads up to a page of what the guest may access so; false when the run is stopped with the page fault.
bool Engine::loadGuest(uint64_t address, void* into, uint32_t size, Access access) {
  for (uint32_t done = 0; done < size;) {
    uint64_t a = address + done;
    int64_t at = reach(a, access);
    if (at < 0) {
      stopAtMiss(a, access, at);
      return false;
    }
    uint32_t n = uint32_t(std::min<uint64_t>(size - done, PAGE - (a & (PAGE - 1))));
    std::memcpy(static_cast<char*>(into) + done, physical->base() + at, n);
    done += n;
  }
  if (access == READ) noteAccess(address, size, false);
  return true;
}

// All of it or nothing, and then the run is stopped with the page fault.
bool Engine::storeGuest(uint64_t address, const void* from, uint32_t size) {
  int64_t at[2] = {0, 0};
  uint32_t first = uint32_t(std::min<uint64_t>(size, PAGE - (address & (PAGE - 1))));
  for (int part = 0; part < (first < size ? 2 : 1); part++) {
    uint64_t a = address + (part ? first : 0);
    at[part] = reach(a, WRITE);
    if (at[part] < 0) {
      stopAtMiss(a, WRITE, at[part]);
      return false;
    }
  }
  for (int part = 0; part < (first < size ? 2 : 1); part++) {
    if (beforeWrite(uint32_t(uint64_t(at[part]) / PAGE))) storedCode_ = true;
    std::memcpy(physical->base() + at[part], static_cast<const char*>(from) + (part ? first : 0), part ? size - first : first);
  }
  noteAccess(address, size, true);
  return true;
}

// Called where the translator was shown a syscall: true when the instruction there is one of ours and is done, or has
// stopped the run.
bool Engine::ownInstruction() {
  EnvHead& h = env.head();
  const Decoded& d = ownInstructionAt(h.eip);
  SseForm form = hostForm(d, h.hflags);
  if (needsCheck(d, h.hflags)) {
    checkedAt_ = h.eip;
    if (!checkSegments(d)) return true;
    if (d.verdict != Verdict::repString && d.verdict != Verdict::storeMxcsr && d.verdict != Verdict::xsave && d.verdict != Verdict::vector && !form.to) {
      runAlone();
      return true;
    }
  }
  if (form.to) {
    computeOnHost(d, form);
    return true;
  }
  switch (d.verdict) {
    case Verdict::repString:
      repString(d);
      return true;
    case Verdict::storeMxcsr: {
      uint64_t address = effectiveAddress(d);
      if (h.eflags & FLAG_AC && address & 3 && canonical(address)) {
        stopException(17, 0);
        return true;
      }
      env.mergeMxcsr();
      if (storeGuest(address, &env.at<uint32_t>(offset::mxcsr), 4)) h.eip += d.length;
      return true;
    }
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
    case Verdict::vector:
      ownVectorInstruction(d);
      return true;
    case Verdict::xsave:
      xsaveInstruction(d);
      return true;
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
    if (stop.miss && throughStack(d, stop.access)) stop.vector = 12;
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
