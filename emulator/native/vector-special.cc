// VEX-encoded instructions that are more than one operation on their operands: masked moves and gathers, which touch
// memory element by element, those of MXCSR, and PCMPxSTRx.
#include <algorithm>
#include <cstring>

#include "engine.h"
#include "vector.h"

namespace shimbed {

namespace {
enum { RAX, RCX, RDX, RDI = 7 };
constexpr uint32_t MXCSR_RESERVED = ~0xffffu;

// The 32 bytes of a YMM register, put together and taken apart.
struct Ymm {
  uint8_t bytes[32] = {};
  bool chosen(unsigned i, unsigned size) const { return bytes[i * size + size - 1] & 0x80; }
};

Ymm readYmm(const Env& env, unsigned number) {
  Ymm value;
  std::memcpy(value.bytes, env.xmm(number), 16);
  std::memcpy(value.bytes + 16, env.ymmHigh(number), 16);
  return value;
}

void writeYmm(const Env& env, unsigned number, const Ymm& value) {
  std::memcpy(env.xmm(number), value.bytes, 16);
  std::memcpy(env.ymmHigh(number), value.bytes + 16, 16);
}
}  // namespace

// Elements that the mask leaves out are not touched, and do not fault.
Engine::Repeated Engine::maskedMove(const VectorPlan& plan) {
  uint64_t offset = plan.offset(env.head());
  unsigned size = plan.size, count = (plan.wide ? 32 : 16) / size;
  Ymm mask = readYmm(env, plan.v), value;
  bool stores = plan.stores;
  if (stores) value = readYmm(env, plan.r);
  // A store that faults has stored nothing.
  for (unsigned i = 0; i < count; i++) {
    if (!mask.chosen(i, size)) continue;
    uint64_t at = offset + i * size;
    if (!checkVectorAccess(plan, at, size, stores ? WRITE : READ)) return Repeated::stopped;
    uint8_t ignored[8];
    if (!loadGuest(plan.linear(env.head(), at), stores ? ignored : value.bytes + i * size, size, stores ? WRITE : READ)) return Repeated::stopped;
  }
  storedCode_ = false;
  for (unsigned i = 0; stores && i < count; i++) {
    uint64_t at = offset + i * size;
    if (mask.chosen(i, size) && !storeGuest(plan.linear(env.head(), at), value.bytes + i * size, size)) return Repeated::stopped;
  }
  if (!stores) writeYmm(env, plan.r, value);
  return storedCode_ ? Repeated::leaves : Repeated::done;
}

// MASKMOVDQU: its memory is at rDI.
Engine::Repeated Engine::maskedBytes(const VectorPlan& plan) {
  EnvHead& h = env.head();
  Ymm mask = readYmm(env, plan.m), value = readYmm(env, plan.r);
  uint64_t offset = h.regs[RDI] & plan.offsetMask;
  for (int pass = 0; pass < 2; pass++) {
    storedCode_ = false;
    for (unsigned i = 0; i < 16; i++) {
      if (!mask.chosen(i, 1)) continue;
      uint64_t at = offset + i, address = plan.linear(h, at);
      uint8_t ignored;
      bool ok = pass ? storeGuest(address, value.bytes + i, 1) : checkVectorAccess(plan, at, 1, WRITE) && loadGuest(address, &ignored, 1, WRITE);
      if (!ok) return Repeated::stopped;
    }
  }
  return storedCode_ ? Repeated::leaves : Repeated::done;
}

// Elements done are done, and their mask is clear, when one faults.
Engine::Repeated Engine::gatherElements(const VectorPlan& plan) {
  EnvHead& h = env.head();
  unsigned size = plan.size, indexSize = plan.opcode & 1 ? 8 : 4, bytes = plan.wide ? 32 : 16;
  unsigned count = bytes / std::max(size, indexSize);
  Ymm mask = readYmm(env, plan.v), value = readYmm(env, plan.r), index = readYmm(env, plan.index);
  uint64_t base = plan.offset(h);
  bool stopped = false;
  for (unsigned i = 0; i < count && !stopped; i++) {
    if (!mask.chosen(i, size)) {
      std::memset(mask.bytes + i * size, 0, size);
      continue;
    }
    int64_t by;
    if (indexSize == 8) {
      std::memcpy(&by, index.bytes + i * 8, 8);
    } else {
      int32_t narrow;
      std::memcpy(&narrow, index.bytes + i * 4, 4);
      by = narrow;
    }
    uint64_t at = (base + (uint64_t(by) << plan.scale)) & plan.offsetMask, address = plan.linear(h, at);
    int64_t quick = (address & (PAGE - 1)) <= PAGE - size && !strict_ ? active_->translateQuickly(address, READ) : -1;
    if (quick >= 0) std::memcpy(value.bytes + i * size, physical->base() + quick, size);
    else stopped = !checkVectorAccess(plan, at, size, READ) || !loadGuest(address, value.bytes + i * size, size);
    if (!stopped) std::memset(mask.bytes + i * size, 0, size);
  }
  if (!stopped) {
    mask = {};
    std::memset(value.bytes + count * size, 0, 32 - count * size);
  }
  writeYmm(env, plan.r, value);
  writeYmm(env, plan.v, mask);
  return stopped ? Repeated::stopped : Repeated::done;
}

Engine::Repeated Engine::compareStrings(const VectorPlan& plan) {
  EnvHead& h = env.head();
  StringsState state{h.regs[RAX], h.regs[RDX], h.regs[RCX], 0};
  alignas(16) char buffer[16];
  void* m = env.p + plan.mAt;
  if (plan.memory) {
    uint64_t offset = plan.offset(h);
    if (!checkVectorAccess(plan, offset, plan.size, READ) || !loadGuest(plan.linear(h, offset), buffer, plan.size)) return Repeated::stopped;
    m = buffer;
  }
  plan.stub(env.p + plan.rAt, env.p + plan.vAt, m, &state);
  if (plan.opcode & 1) h.regs[RCX] = state.rcx;
  h.ccSrc = state.flags;
  return Repeated::done;
}

Engine::Repeated Engine::runSpecial(const VectorPlan& plan) {
  EnvHead& h = env.head();
  switch (plan.form) {
    case Form::zero: {
      unsigned registers = h.hflags & HF_CS64 ? 16 : 8;
      for (unsigned i = 0; i < registers; i++) {
        std::memset(env.ymmHigh(i), 0, 16);
        if (plan.wide) std::memset(env.xmm(i), 0, 16);
      }
      return Repeated::done;
    }
    case Form::loadMxcsr: {
      uint32_t value;
      uint64_t offset = plan.offset(h);
      if (!checkVectorAccess(plan, offset, 4, READ) || !loadGuest(plan.linear(h, offset), &value, 4)) return Repeated::stopped;
      if (value & MXCSR_RESERVED) {
        stopException(13, 0);
        return Repeated::stopped;
      }
      // Whether exceptions are unmasked decides how what follows in the block is translated.
      bool flips = unmasks(value) != unmasks(env.at<uint32_t>(offset::mxcsr));
      uc_reg_write(uc, UC_X86_REG_MXCSR, &value);
      return flips ? Repeated::leaves : Repeated::done;
    }
    case Form::storeMxcsr: {
      uint32_t value = env.mergedMxcsr();
      uint64_t offset = plan.offset(h);
      storedCode_ = false;
      if (!checkVectorAccess(plan, offset, 4, WRITE) || !storeGuest(plan.linear(h, offset), &value, 4)) return Repeated::stopped;
      return storedCode_ ? Repeated::leaves : Repeated::done;
    }
    case Form::maskedLoad:
    case Form::maskedStore: return maskedMove(plan);
    case Form::maskedBytes: return maskedBytes(plan);
    case Form::gather: return gatherElements(plan);
    case Form::strings:
      if (plan.stub) return compareStrings(plan);
      [[fallthrough]];
    default:
      // The host gives no memory for stubs.
      stopWith(FAILED);
      return Repeated::stopped;
  }
}

}  // namespace shimbed
