// Strict segments: what libunicorn leaves out of 32-bit protection. Limits, expand-down segments, read-only data,
// execute-only code and null selectors are checked before each instruction that a check could stop, as the SDM has it
// (vol. 3, 5.3 to 5.5).
//
// Code that runs while DS, ES, SS and CS are flat is translated apart from code that runs while one of them is not; in
// the first only accesses through CS, FS and GS are checked, in the second every instruction. A checked instruction
// comes here as one of the engine's own and then runs alone in a block that checks nothing.
#include "engine.h"
#include "internals.h"

namespace shimbed {

namespace {
constexpr uint32_t P = 1u << 15, S = 1u << 12, CODE = 1u << 11, EXPAND_DOWN = 1u << 10, W = 1u << 9, R = 1u << 9, B = 1u << 22;

bool isFlat(const SegmentCache& s, bool code) {
  uint32_t need = P | S | W | (code ? CODE : 0), look = need | CODE | (code ? 0 : EXPAND_DOWN);
  return s.base == 0 && s.limit == 0xffffffffu && (s.flags & look) == need;
}

bool isString(const Decoded& d) {
  return d.map == 1 && ((d.opcode >= 0xa4 && d.opcode <= 0xa7) || (d.opcode >= 0xaa && d.opcode <= 0xaf));
}
}  // namespace

void Engine::setStrictSegments(bool on) {
  strict_ = on;
  updateShape();
}

void Engine::updateShape() {
  EnvHead& h = env.head();
  h.hflags &= ~HF_SHAPED;
  if (!strict_ || (h.hflags & HF_CS64)) return;
  bool flat = isFlat(h.segs[CS], true) && isFlat(h.segs[DS], false) && isFlat(h.segs[ES], false) && isFlat(h.segs[SS], false);
  if (!flat) h.hflags |= HF_SHAPED;
}

bool Engine::needsCheck(const Decoded& d, uint32_t hflags) const {
  if (!strict_ || (hflags & HF_CS64)) return false;
  if (hflags & HF_SHAPED) return true;
  if (d.segment != CS && d.segment != FS && d.segment != GS) return false;
  if (d.map == 1 && (isString(d) || d.opcode == 0xd7 || (d.opcode & 0xfc) == 0xa0)) return true;
  return d.memory() && !(d.map == 1 && d.opcode == 0x8d);
}

// One access against a segment; false when it has stopped the run.
bool Engine::checkAccess(int segment, uint64_t offset, uint64_t size, Access access) {
  const SegmentCache& s = env.head().segs[segment];
  bool code = s.flags & CODE;
  bool ok = (s.flags & P) && (s.selector & 0xfffc) != 0;
  if (access == WRITE) ok = ok && !code && (s.flags & W);
  if (access == READ && code) ok = ok && (s.flags & R);
  uint64_t last = offset + size - 1;
  if (!code && (s.flags & EXPAND_DOWN)) ok = ok && offset > s.limit && last <= (s.flags & B ? 0xffffffffu : 0xffffu);
  else ok = ok && last <= s.limit;
  if (!ok) stopException(segment == SS ? 12 : 13, 0);
  return ok;
}

bool Engine::checkSegments(const Decoded& d) {
  EnvHead& h = env.head();
  Width width = codeWidth(h.hflags);
  const SegmentCache& cs = h.segs[CS];
  if (h.eip + d.length - 1 > cs.limit) {
    stopException(13, 0);
    return false;
  }
  if (d.verdict == Verdict::vector || d.verdict == Verdict::xsave) return true;  // they check for themselves
  bool wide = (width == Width::code32) != d.opsize;
  uint64_t word = wide ? 4 : 2;
  uint64_t addressMask = (width == Width::code32) != d.adsize ? 0xffffffffu : 0xffff;
  uint64_t stackMask = h.segs[SS].flags & B ? 0xffffffffu : 0xffff;
  auto pushes = [&](uint64_t count) {
    uint64_t size = count * word, sp = h.regs[4];
    for (uint64_t done = word; done <= size; done += word) {
      if (!checkAccess(SS, (sp - done) & stackMask, word, WRITE)) return false;
    }
    return true;
  };
  auto pops = [&](uint64_t count, uint64_t from) {
    for (uint64_t k = 0; k < count; k++) {
      if (!checkAccess(SS, (from + k * word) & stackMask, word, READ)) return false;
    }
    return true;
  };
  uint8_t op = d.opcode;
  if (d.map == 1) {
    if (isString(d)) {
      uint64_t size = op & 1 ? word : 1;
      if ((d.rep || d.repne) && !(h.regs[1] & addressMask)) return true;
      int source = d.memorySegment(width);
      bool reads = (op & 0xfe) != 0xaa && (op & 0xfe) != 0xae, writes = (op & 0xfe) == 0xa4 || (op & 0xfe) == 0xaa;
      if (reads && !checkAccess(source, h.regs[6] & addressMask, size, READ)) return false;
      if ((op & 0xfe) == 0xac) return true;
      return checkAccess(ES, h.regs[7] & addressMask, size, writes ? WRITE : READ);
    }
    if ((op & 0xfc) == 0xa0) {
      uint64_t offset = uint32_t(d.displacement);
      return checkAccess(d.memorySegment(width), offset & addressMask, op & 1 ? word : 1, op & 2 ? WRITE : READ);
    }
    if (op == 0xd7) return checkAccess(d.memorySegment(width), (h.regs[3] + (h.regs[0] & 0xff)) & addressMask, 1, READ);
    if ((op >= 0x50 && op < 0x58) || op == 0x68 || op == 0x6a || op == 0x9c || op == 0xe8 || op == 0x06 || op == 0x0e ||
        op == 0x16 || op == 0x1e) {
      return pushes(1);
    }
    if (op == 0x60) return pushes(8);
    if (op == 0x61) return pops(8, h.regs[4]);
    if ((op >= 0x58 && op < 0x60) || op == 0x9d || op == 0xc2 || op == 0xc3 || op == 0x07 || op == 0x17 || op == 0x1f) return pops(1, h.regs[4]);
    if (op == 0xc9) return pops(1, h.regs[5]);
    if (op == 0xc8) return pushes(1);
    if (op == 0xca || op == 0xcb) return pops(2, h.regs[4]);
    if (op == 0xcf) return pops(3, h.regs[4]);
    if (op == 0x9a) return pushes(2);
    if (op == 0x8f && !pops(1, h.regs[4])) return false;
    if (op == 0xff && d.modrm >= 0xc0) return d.reg() == 2 || d.reg() == 6 ? pushes(1) : true;
  }
  if (d.map == 2 && (op == 0xa0 || op == 0xa8)) return pushes(1);
  if (d.map == 2 && (op == 0xa1 || op == 0xa9)) return pops(1, h.regs[4]);
  if (!d.memory()) return true;
  MemoryUse use = memoryUse(d, wide);
  if (use.size == 0) return true;
  int segment = d.memorySegment(width);
  uint64_t linear = effectiveAddress(d), offset = uint32_t(linear - h.segs[segment].base) & addressMask;
  if (d.map == 2 && (op == 0xa3 || op == 0xab || op == 0xb3 || op == 0xbb)) {
    // A bit string reaches as far as its index.
    int64_t index = wide ? int64_t(int32_t(h.regs[d.reg()])) >> 5 : int64_t(int16_t(h.regs[d.reg()])) >> 4;
    offset = (offset + uint64_t(index) * word) & addressMask;
  }
  if (use.reads && !checkAccess(segment, offset, use.size, READ)) return false;
  if (use.writes && !checkAccess(segment, offset, use.size, WRITE)) return false;
  if (d.map == 1 && op == 0xff) return d.reg() == 2 || d.reg() == 6 ? pushes(1) : d.reg() == 3 ? pushes(2) : true;
  return true;
}

// Has the instruction at EIP run next, alone and unchecked.
void Engine::runAlone() {
  if (counting_) count_.allowOne();  // the block that was left has been counted
  aloneTrap_ = env.head().eflags & FLAG_TF;
  internals::nextBlockAlone(cpu);
}

}  // namespace shimbed
