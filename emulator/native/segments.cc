// Segment registers as ring 3 loads them, and what makes up a thread's context.
#include <cstring>

#include "engine.h"
#include "internals.h"

namespace shimbed {

namespace {
constexpr uint32_t DESC_B = 1u << 22, DESC_L = 1u << 21, DESC_G = 1u << 23, DESC_P = 1u << 15, DESC_S = 1u << 12,
                   DESC_CODE = 1u << 11, DESC_C = 1u << 10, DESC_W = 1u << 9, DESC_R = 1u << 9, DESC_A = 1u << 8;
}  // namespace

void Engine::updateAddseg() {
  EnvHead& h = env.head();
  bool wide = h.hflags & HF_CS64;
  bool add = !wide && (!(h.hflags & HF_CS32) || ((h.segs[DS].base | h.segs[ES].base | h.segs[SS].base) != 0));
  h.hflags = add ? h.hflags | HF_ADDSEG : h.hflags & ~HF_ADDSEG;
  updateShape();
}

void Engine::setSegment(int segment, uint16_t selector, uint64_t d) {
  uint32_t low = uint32_t(d), high = uint32_t(d >> 32);
  SegmentCache& s = env.head().segs[segment];
  s.selector = selector;
  s.base = (low >> 16) | (high & 0xff) << 16 | (high & 0xff000000u);
  s.limit = (low & 0xffff) | (high & 0xf0000);
  if (high & DESC_G) s.limit = s.limit << 12 | 0xfff;
  s.flags = high;
}

void Engine::enterUser(bool wide, uint16_t cs, uint16_t ss) {
  EnvHead& h = env.head();
  setSegment(CS, cs, gdt()[cs >> 3]);
  setSegment(SS, ss, gdt()[ss >> 3]);
  // As start_thread of the kernel: 32-bit programs start with flat data segments, 64-bit ones with null selectors.
  for (int segment : {DS, ES}) {
    if (wide) h.segs[segment] = SegmentCache{0, 0, 0, 0};
    else setSegment(segment, ss, gdt()[ss >> 3]);
  }
  h.hflags &= ~(HF_CS32 | HF_SS32 | HF_CS64 | HF_ADDSEG);
  h.hflags |= HF_CPL | HF_CS32 | HF_SS32 | (wide ? HF_CS64 : 0);
  updateAddseg();
}

// As `mov sreg, selector` in ring 3: false where it would raise #GP, #NP or #SS.
bool Engine::loadSelector(int segment, uint16_t selector) {
  EnvHead& h = env.head();
  if ((selector & ~3) == 0) {
    if (segment == SS || segment == CS) return false;
    SegmentCache& s = h.segs[segment];
    s = SegmentCache{selector, 0, 0, 0};
    updateAddseg();
    return true;
  }
  uint64_t* entry = selector & 4 ? ldtEntry(selector >> 3) : (selector >> 3) < GDT_ENTRIES ? &gdt()[selector >> 3] : nullptr;
  if (!entry) return false;
  uint32_t high = uint32_t(*entry >> 32);
  uint32_t dpl = (high >> 13) & 3, rpl = selector & 3;
  if (!(high & DESC_S) || !(high & DESC_P)) return false;
  if (segment == SS) {
    if ((high & DESC_CODE) || !(high & DESC_W) || dpl != 3 || rpl != 3) return false;
  } else if (segment == CS) {
    if (!(high & DESC_CODE) || rpl != 3 || ((high & DESC_C) ? dpl > 3 : dpl != 3)) return false;
  } else {
    if ((high & DESC_CODE) && !(high & DESC_R)) return false;
    if (!((high & DESC_CODE) && (high & DESC_C)) && dpl < 3) return false;
  }
  *entry |= uint64_t(DESC_A) << 32;
  setSegment(segment, selector, *entry);
  if (segment == CS) {
    bool wide = high & DESC_L;
    h.hflags &= ~(HF_CS32 | HF_CS64);
    h.hflags |= wide ? HF_CS32 | HF_CS64 : (high & DESC_B) ? HF_CS32 : 0;
    h.hflags |= HF_CPL;
  }
  if (segment == CS || segment == SS) {
    bool ss32 = (h.hflags & HF_CS64) || (h.segs[SS].flags & DESC_B);
    h.hflags = ss32 ? h.hflags | HF_SS32 : h.hflags & ~HF_SS32;
  }
  updateAddseg();
  return true;
}

void Engine::save(Context& c) {
  std::memcpy(c.env, env.p, Env::contextSize);
  std::memcpy(c.gdt, gdt(), sizeof c.gdt);
}

void Engine::restore(const Context& c) {
  EnvHead& h = env.head();
  SegmentCache ldt = h.ldt;
  std::memcpy(env.p, c.env, Env::contextSize);
  std::memcpy(gdt(), c.gdt, sizeof c.gdt);
  h.ldt = ldt;
  // Whatever the bytes are, the CPU stays in ring 3 of long mode and inside its own tables.
  h.hflags = (h.hflags & HF_CONTEXT) | HF_FIXED;
  if (unmasks(env.at<uint32_t>(offset::mxcsr))) h.hflags |= HF_FLOAT_TRAPS;
  h.eflags = (h.eflags & FLAGS_USER) | FLAGS_FIXED;
  updateShape();
  h.df = h.df < 0 ? -1 : 1;
  env.at<uint32_t>(offset::fpstt) &= 7;
  env.oldException() = -1;
  stop.rflags = flags();
}

// The 512-byte image of FXSAVE (SDM vol. 1, 10.5.1), which is what signal frames carry.
void Engine::fxsave(uint8_t* image) {
  std::memset(image, 0, 512);
  env.mergeMxcsr();
  uint32_t top = env.at<uint32_t>(offset::fpstt) & 7;
  uint16_t status = uint16_t((env.at<uint16_t>(offset::fpus) & ~0x3800) | top << 11);
  std::memcpy(image, &env.at<uint16_t>(offset::fpuc), 2);
  std::memcpy(image + 2, &status, 2);
  for (uint32_t i = 0; i < 8; i++) {
    if (!env.at<uint8_t>(offset::fptags + i)) image[4] |= uint8_t(1u << i);
    std::memcpy(image + 32 + 16 * i, env.p + offset::fpregs + 16 * ((top + i) & 7), 10);
  }
  std::memcpy(image + 24, &env.at<uint32_t>(offset::mxcsr), 4);
  uint32_t mask = 0xffff;
  std::memcpy(image + 28, &mask, 4);
  for (uint32_t i = 0; i < 16; i++) std::memcpy(image + 160 + 16 * i, env.p + offset::xmmRegs + 64 * i, 16);
}

// False when MXCSR has reserved bits, where FXRSTOR raises #GP.
bool Engine::fxrstor(const uint8_t* image) {
  uint32_t mxcsr;
  uint16_t control, status;
  std::memcpy(&control, image, 2);
  std::memcpy(&status, image + 2, 2);
  std::memcpy(&mxcsr, image + 24, 4);
  if (mxcsr & ~0xffffu) return false;
  // These two also set the rounding modes, so they go through the public API.
  uc_reg_write(uc, UC_X86_REG_FPCW, &control);
  uc_reg_write(uc, UC_X86_REG_MXCSR, &mxcsr);
  uint32_t top = (status >> 11) & 7;
  env.at<uint32_t>(offset::fpstt) = top;
  env.at<uint16_t>(offset::fpus) = uint16_t(status & ~0x3800);
  for (uint32_t i = 0; i < 8; i++) {
    env.at<uint8_t>(offset::fptags + i) = !(image[4] & 1u << i);
    std::memcpy(env.p + offset::fpregs + 16 * ((top + i) & 7), image + 32 + 16 * i, 10);
  }
  for (uint32_t i = 0; i < 16; i++) std::memcpy(env.p + offset::xmmRegs + 64 * i, image + 160 + 16 * i, 16);
  return true;
}

bool Engine::beforeMxcsr(uint32_t value, uintptr_t retaddr) {
  bool flips = unmasks(value) != bool(env.head().hflags & HF_FLOAT_TRAPS);
  if (!flips && !(value >> 16)) return false;
  internals::restoreState(cpu, retaddr);
  if (!(value >> 16)) return true;
  stopException(13, 0);
  internals::leave(cpu, uc, 0);
}

bool Engine::beforeFxrstor(uint64_t address, uintptr_t retaddr) {
  // Where the image cannot be read the instruction itself says so.
  internals::restoreState(cpu, retaddr);
  wantAligned(env.p, address, 3, 0);
  int64_t at = address & 15 || !active_ ? int64_t(UNMAPPED) : active_->translate(address + 24, READ);
  if (at < 0) return false;
  uint32_t mxcsr;
  std::memcpy(&mxcsr, physical->base() + at, sizeof mxcsr);
  return beforeMxcsr(mxcsr, 0);
}

void Engine::leaveBlock() {
  EnvHead& h = env.head();
  if (h.eflags & FLAG_TF) return;  // blocks of one instruction, and the trap is still to come
  h.eip += instructionAt(h.eip).length;
  if (!(h.hflags & HF_CS64)) h.eip &= 0xffffffffu;
  internals::exitBlock(cpu);
}

}  // namespace shimbed
