// XSAVE and its like (SDM vol. 1, chapter 13): the three state components x87, SSE and AVX, as instructions of the guest
// and as images of a signal frame.
#include <cstring>

#include "engine.h"

namespace shimbed {

namespace {

constexpr uint32_t MXCSR_RESET = 0x1f80, MXCSR_RESERVED = ~0xffffu;
constexpr uint64_t COMPACTED = uint64_t(1) << 63;
constexpr size_t IMAGE_MXCSR = 24, IMAGE_ST = 32, IMAGE_XMM = 160, HEADER_STATES = 512, HEADER_LAYOUT = 520;
enum { RAX, RCX, RDX };

template <typename T>
T get(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void put(uint8_t* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

bool isZero(const void* bytes, size_t length) {
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  for (size_t i = 0; i < length; i++)
    if (p[i]) return false;
  return true;
}

}  // namespace

// The components that are not as a reset leaves them (XINUSE).
uint64_t Engine::statesInUse() {
  uint64_t used = 0;
  bool empty = true;
  for (uint32_t i = 0; i < 8; i++) empty = empty && env.at<uint8_t>(offset::fptags + i);
  if (env.at<uint16_t>(offset::fpuc) != 0x37f || env.at<uint16_t>(offset::fpus) || env.at<uint32_t>(offset::fpstt) & 7 || !empty) used |= STATE_X87;
  for (uint32_t i = 0; i < 8; i++)
    if (!isZero(env.p + offset::fpregs + 16 * i, 10)) used |= STATE_X87;
  for (uint32_t i = 0; i < 16; i++) {
    if (!isZero(env.xmm(i), 16)) used |= STATE_SSE;
    if (!isZero(env.ymmHigh(i), 16)) used |= STATE_AVX;
  }
  return used;
}

// Puts components into an image: those written, and which of them the header says are there.
void Engine::saveStates(uint8_t* image, uint64_t written, bool mxcsr, uint32_t registers) {
  uint8_t legacy[XSAVE_LEGACY];
  fxsave(legacy);
  if (written & STATE_X87) {
    std::memcpy(image, legacy, IMAGE_MXCSR);
    std::memcpy(image + IMAGE_ST, legacy + IMAGE_ST, IMAGE_XMM - IMAGE_ST);
  }
  if (mxcsr) std::memcpy(image + IMAGE_MXCSR, legacy + IMAGE_MXCSR, 8);
  if (written & STATE_SSE) std::memcpy(image + IMAGE_XMM, legacy + IMAGE_XMM, 16 * registers);
  if (written & STATE_AVX)
    for (uint32_t i = 0; i < registers; i++) std::memcpy(image + XSAVE_AVX + 16 * i, env.ymmHigh(i), 16);
}

// Loads the components asked for from an image in either layout: those its header lacks as a reset leaves them. False,
// with nothing changed, where XRSTOR raises #GP.
bool Engine::restoreStates(const uint8_t* image, uint64_t asked, uint32_t registers) {
  uint64_t states = get<uint64_t>(image + HEADER_STATES), layout = get<uint64_t>(image + HEADER_LAYOUT);
  bool compacted = layout & COMPACTED;
  if (states & ~STATE_ALL) return false;
  if (compacted) {
    if ((layout & ~COMPACTED & ~STATE_ALL) || (states & ~layout) || !isZero(image + HEADER_LAYOUT + 8, 48)) return false;
  } else if (!isZero(image + HEADER_LAYOUT, 16)) {
    return false;
  }
  // The standard layout always has MXCSR, the compacted one with the XMM registers.
  bool keepsMxcsr = compacted ? asked & states & STATE_SSE : asked & (STATE_SSE | STATE_AVX);
  bool resetsMxcsr = compacted && asked & ~states & STATE_SSE;
  uint32_t mxcsr = get<uint32_t>(image + IMAGE_MXCSR);
  if (keepsMxcsr && mxcsr & MXCSR_RESERVED) return false;

  uint8_t legacy[XSAVE_LEGACY];
  fxsave(legacy);
  if (asked & STATE_X87) {
    std::memset(legacy, 0, IMAGE_MXCSR);
    std::memset(legacy + IMAGE_ST, 0, IMAGE_XMM - IMAGE_ST);
    put<uint16_t>(legacy, 0x37f);
    if (states & STATE_X87) {
      std::memcpy(legacy, image, IMAGE_MXCSR);
      std::memcpy(legacy + IMAGE_ST, image + IMAGE_ST, IMAGE_XMM - IMAGE_ST);
    }
  }
  if (keepsMxcsr || resetsMxcsr) put<uint32_t>(legacy + IMAGE_MXCSR, keepsMxcsr ? mxcsr : MXCSR_RESET);
  if (asked & STATE_SSE) {
    if (states & STATE_SSE) std::memcpy(legacy + IMAGE_XMM, image + IMAGE_XMM, 16 * registers);
    else std::memset(legacy + IMAGE_XMM, 0, 16 * registers);
  }
  fxrstor(legacy);
  if (asked & STATE_AVX)
    for (uint32_t i = 0; i < registers; i++) {
      if (states & STATE_AVX) std::memcpy(env.ymmHigh(i), image + XSAVE_AVX + 16 * i, 16);
      else std::memset(env.ymmHigh(i), 0, 16);
    }
  return true;
}

void Engine::xsave(uint8_t* image) {
  std::memset(image, 0, XSAVE_SIZE);
  saveStates(image, STATE_ALL, true, 16);
  put<uint64_t>(image + HEADER_STATES, statesInUse());
}

bool Engine::xrstor(const uint8_t* image) { return restoreStates(image, STATE_ALL, 16); }

// XSAVE, XSAVEOPT, XSAVEC, XRSTOR and XGETBV; the instruction is past, or the run has stopped.
void Engine::xsaveInstruction(const Decoded& d) {
  EnvHead& h = env.head();
  if (d.opcode == 0x01) {
    uint32_t which = uint32_t(h.regs[RCX]);
    if (which > 1) return stopException(13, 0);
    h.regs[RAX] = which ? statesInUse() : STATE_ALL;
    h.regs[RDX] = 0;
    h.eip += d.length;
    return;
  }
  uint64_t address = effectiveAddress(d);
  if (!canonical(address)) return stopAtMiss(address, READ, UNMAPPED);
  bool restores = d.opcode == 0xae && d.reg() == 5, compacts = d.opcode == 0xc7, optimized = compacts || d.reg() == 6;
  if (strict_ && !(h.hflags & HF_CS64)) {
    int segment = d.memorySegment(codeWidth(h.hflags));
    if (!checkAccess(segment, uint32_t(address - h.segs[segment].base), XSAVE_AVX, restores ? READ : WRITE)) return;
  }
  if (address & 63) return stopException(13, 0);
  uint64_t asked = h.regs[RAX] & STATE_ALL;
  uint32_t registers = h.hflags & HF_CS64 ? 16 : 8;
  alignas(64) uint8_t image[XSAVE_SIZE];
  if (restores) {
    if (!loadGuest(address, image, XSAVE_AVX)) return;
    bool wantsAvx = asked & get<uint64_t>(image + HEADER_STATES) & STATE_AVX;
    if (wantsAvx && !loadGuest(address, image, XSAVE_SIZE)) return;
    if (!restoreStates(image, asked, registers)) return stopException(13, 0);
    h.eip += d.length;
    return;
  }
  uint64_t used = statesInUse();
  if (compacts && asked & STATE_SSE && env.mergedMxcsr() != MXCSR_RESET) used |= STATE_SSE;
  uint64_t written = optimized ? asked & used : asked;
  uint32_t size = written & STATE_AVX ? XSAVE_SIZE : XSAVE_AVX;
  if (!loadGuest(address, image, size, WRITE)) return;
  saveStates(image, written, compacts ? written & STATE_SSE : asked & (STATE_SSE | STATE_AVX), registers);
  uint64_t others = compacts ? 0 : get<uint64_t>(image + HEADER_STATES) & ~asked;
  put<uint64_t>(image + HEADER_STATES, others | (asked & used));
  if (compacts) put<uint64_t>(image + HEADER_LAYOUT, COMPACTED | asked);
  if (storeGuest(address, image, size)) h.eip += d.length;
}

}  // namespace shimbed
