// SSE instructions that libunicorn 2.0 carries out otherwise than a processor: which of two NaNs is the result, exceptions
// that ROUNDPS and the approximations do not raise, and PCMPxSTRx, whose search for a substring goes wrong there.
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "engine.h"

using namespace shimbed;

namespace {

constexpr uint8_t FLAG_INVALID = 1, FLAG_INEXACT = 0x20;
constexpr size_t FLAGS_IN_STATUS = 2;
constexpr uint32_t CF = 1, ZF = 0x40, SF = 0x80, OF = 0x800;
enum { RAX, RCX, RDX };

union Vector {
  uint8_t u8[16];
  int8_t s8[16];
  uint16_t u16[8];
  int16_t s16[8];
};

int element(const Vector& v, int i, uint32_t control) {
  switch (control & 3) {
    case 0: return v.u8[i];
    case 1: return v.u16[i];
    case 2: return v.s8[i];
    default: return v.s16[i];
  }
}

int count(uint32_t control) { return control & 1 ? 8 : 16; }

int lengthToZero(const Vector& v, uint32_t control) {
  int n = 0;
  while (n < count(control) && element(v, n, control) != 0) n++;
  return n;
}

int lengthIn(uint64_t value, bool wide, uint32_t control) {
  int64_t length = wide ? int64_t(value) : int32_t(value);
  uint64_t positive = length < 0 ? 0 - uint64_t(length) : uint64_t(length);
  return int(std::min<uint64_t>(positive, uint64_t(count(control))));
}

// Bit j of IntRes1 (SDM vol. 2B, 4.1.4).
bool matches(const Vector& a, int lengthA, const Vector& b, int lengthB, int j, uint32_t control) {
  auto at = [control](const Vector& v, int i) { return element(v, i, control); };
  switch (control >> 2 & 3) {
    case 0:  // equal any
      for (int i = 0; i < lengthA && j < lengthB; i++)
        if (at(a, i) == at(b, j)) return true;
      return false;
    case 1:  // ranges
      for (int i = 0; i + 1 < lengthA && j < lengthB; i += 2)
        if (at(a, i) <= at(b, j) && at(b, j) <= at(a, i + 1)) return true;
      return false;
    case 2:  // equal each
      return j < lengthA && j < lengthB ? at(a, j) == at(b, j) : j >= lengthA && j >= lengthB;
    default:  // equal ordered
      for (int i = 0; i < lengthA && i + j < count(control); i++)
        if (i + j >= lengthB || at(a, i) != at(b, i + j)) return false;
      return true;
  }
}

// IntRes2; the flags go where the translator looks for them.
uint32_t compare(char* env, const Vector& a, int lengthA, const Vector& b, int lengthB, uint32_t control) {
  int n = count(control);
  uint32_t result = 0;
  for (int j = 0; j < n; j++) {
    bool negative = control & 0x10 && (!(control & 0x20) || j < lengthB);
    if (matches(a, lengthA, b, lengthB, j, control) != negative) result |= 1u << j;
  }
  Env{env}.head().ccSrc = (result ? CF : 0) | (lengthB < n ? ZF : 0) | (lengthA < n ? SF : 0) | (result & 1 ? OF : 0);
  return result;
}

void giveIndex(char* env, uint32_t result, uint32_t control) {
  int index = count(control);
  if (result) index = control & 0x40 ? 31 - __builtin_clz(result) : __builtin_ctz(result);
  Env{env}.head().regs[RCX] = uint64_t(index);
}

void giveMask(char* env, uint32_t result, uint32_t control) {
  Vector& mask = Env{env}.at<Vector>(offset::xmmRegs);
  for (int i = 0; i < 16; i++) {
    if (control & 0x40) mask.u8[i] = result >> (control & 1 ? i / 2 : i) & 1 ? 0xff : 0;
    else mask.u8[i] = i < 2 ? uint8_t(result >> (8 * i)) : 0;
  }
}

uint32_t compareImplicit(char* env, const Vector& a, const Vector& b, uint32_t control) {
  return compare(env, a, lengthToZero(a, control), b, lengthToZero(b, control), control);
}

// The translator marks REX.W by bit 8.
uint32_t compareExplicit(char* env, const Vector& a, const Vector& b, uint32_t control) {
  const uint64_t* regs = Env{env}.head().regs;
  bool wide = control >> 8 & 1;
  return compare(env, a, lengthIn(regs[RAX], wide, control), b, lengthIn(regs[RDX], wide, control), control);
}

}  // namespace

extern "C" {

#define STRING_COMPARISON(name, compared, gives)                                                                 \
  __attribute__((visibility("default"))) void helper_##name##_xmm_x86_64(char* env, void* a, void* b, uint32_t control) { \
    gives(env, compared(env, *static_cast<Vector*>(a), *static_cast<Vector*>(b), control), control);             \
  }
STRING_COMPARISON(pcmpistri, compareImplicit, giveIndex)
STRING_COMPARISON(pcmpistrm, compareImplicit, giveMask)
STRING_COMPARISON(pcmpestri, compareExplicit, giveIndex)
STRING_COMPARISON(pcmpestrm, compareExplicit, giveMask)

// Bit 3 of the operand says that an inexact result is none to report.
#define ROUND(name)                                                                                  \
  void __real_helper_##name##_x86_64(char* env, void* to, void* from, uint32_t mode);                \
  void __wrap_helper_##name##_x86_64(char* env, void* to, void* from, uint32_t mode) {               \
    uint8_t& flags = Env{env}.at<uint8_t>(offset::sseFlags);                                         \
    uint8_t before = flags;                                                                          \
    __real_helper_##name##_x86_64(env, to, from, mode);                                              \
    if (mode & 8) flags = uint8_t((flags & ~FLAG_INEXACT) | (before & FLAG_INEXACT));                \
  }
ROUND(roundps_xmm)
ROUND(roundpd_xmm)
ROUND(roundss_xmm)
ROUND(roundsd_xmm)

#if defined(__x86_64__)
// How near an approximation comes is each processor's own affair: it is as near as the host's, which raises nothing.
#define APPROXIMATION(name, computed)                                                \
  void __wrap_helper_##name##_x86_64(char*, float* to, const float* from) {          \
    __m128 operand = _mm_loadu_ps(from);                                             \
    computed;                                                                        \
  }
APPROXIMATION(rcpps, _mm_storeu_ps(to, _mm_rcp_ps(operand)))
APPROXIMATION(rcpss, _mm_store_ss(to, _mm_rcp_ss(operand)))
APPROXIMATION(rsqrtps, _mm_storeu_ps(to, _mm_rsqrt_ps(operand)))
APPROXIMATION(rsqrtss, _mm_store_ss(to, _mm_rsqrt_ss(operand)))
#else
#define APPROXIMATION(name)                                             \
  void __real_helper_##name##_x86_64(char* env, void* to, void* from);  \
  void __wrap_helper_##name##_x86_64(char* env, void* to, void* from) { \
    uint8_t& flags = Env{env}.at<uint8_t>(offset::sseFlags);            \
    uint8_t before = flags;                                             \
    __real_helper_##name##_x86_64(env, to, from);                       \
    flags = before;                                                     \
  }
APPROXIMATION(rcpps)
APPROXIMATION(rcpss)
APPROXIMATION(rsqrtps)
APPROXIMATION(rsqrtss)
#endif

// Of two NaNs the first is the result (SDM vol. 1, table 4-7); libunicorn goes by x87's rule for both.
#define NANS(name, Bits, INFINITE, QUIET)                                                      \
  Bits __real_##name##_x86_64(Bits a, Bits b, uint8_t* status);                                \
  Bits __wrap_##name##_x86_64(Bits a, Bits b, uint8_t* status) {                               \
    constexpr Bits infinite = INFINITE, quiet = QUIET;                                         \
    bool first = (a << 1) > (infinite << 1), second = (b << 1) > (infinite << 1);              \
    if (__builtin_expect(!(first && second), 1)) return __real_##name##_x86_64(a, b, status);  \
    if (!(a & quiet) || !(b & quiet)) status[FLAGS_IN_STATUS] |= FLAG_INVALID;                 \
    return a | quiet;                                                                          \
  }
#define SINGLE(name) NANS(name, uint32_t, 0x7f800000u, 0x400000u)
#define DOUBLE(name) NANS(name, uint64_t, 0x7ff0000000000000u, 0x8000000000000u)
SINGLE(float32_add)
SINGLE(float32_sub)
SINGLE(float32_mul)
SINGLE(float32_div)
DOUBLE(float64_add)
DOUBLE(float64_sub)
DOUBLE(float64_mul)
DOUBLE(float64_div)
}
