// The processor that the guest sees: the features libunicorn answers CPUID with, and the leaves it would get wrong.
#include "processor.h"

#include <cstring>

#include "engine.h"

namespace shimbed {

namespace {

enum Bit1Ecx : uint32_t { FMA = 1u << 12, XSAVE = 1u << 26, OSXSAVE = 1u << 27, AVX = 1u << 28, F16C = 1u << 29 };
enum Bit7Ecx : uint32_t { VAES = 1u << 9, VPCLMULQDQ = 1u << 10 };
enum Bit7Ebx : uint32_t { BMI1 = 1u << 3, AVX2 = 1u << 5, BMI2 = 1u << 8 };
constexpr uint32_t LZCNT = 1u << 5;                              // 0x80000001 ECX
constexpr uint32_t XSAVEOPT = 1, XSAVEC = 2, XGETBV_INUSE = 4;  // 0xD.1 EAX
enum { RAX, RCX, RDX, RBX };

}  // namespace

std::vector<std::string> hostLacksForV3() {
  std::vector<std::string> missing;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define NEEDS(feature, name) \
  if (!__builtin_cpu_supports(feature)) missing.push_back(name);
  NEEDS("avx", "AVX")
  NEEDS("avx2", "AVX2")
  NEEDS("fma", "FMA")
  NEEDS("f16c", "F16C")
  NEEDS("aes", "AES")
  NEEDS("pclmul", "PCLMULQDQ")
  NEEDS("bmi", "BMI1")
  NEEDS("bmi2", "BMI2")
#undef NEEDS
#else
  missing.push_back("an x86-64 processor");
#endif
  return missing;
}

// x86-64-v2 with AES, PCLMULQDQ, MOVBE and FSGSBASE, nothing random or timed by the host; or x86-64-v3 with the same.
void Engine::modelProcessor() {
  bool v3 = processor_ == Processor::v3;
  env.feature(FEAT_1_EDX) = 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 11 |
                            1u << 12 | 1u << 13 | 1u << 14 | 1u << 15 | 1u << 16 | 1u << 17 | 1u << 19 | 1u << 23 | 1u << 24 |
                            1u << 25 | 1u << 26;
  env.feature(FEAT_1_ECX) = 1u << 0 | 1u << 1 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 | 1u << 25 | 1u << 31 |
                            (v3 ? FMA | XSAVE | OSXSAVE | AVX | F16C : 0u);
  env.feature(FEAT_7_0_EBX) = 1u << 0 | (v3 ? BMI1 | AVX2 | BMI2 : 0u);
  env.feature(FEAT_7_0_ECX) = v3 ? VAES | VPCLMULQDQ : 0u;
  env.feature(FEAT_7_0_EDX) = env.feature(FEAT_7_1_EAX) = 0;
  env.feature(FEAT_8000_0001_EDX) = 1u << 11 | 1u << 20 | 1u << 27 | 1u << 29;
  env.feature(FEAT_8000_0001_ECX) = 1u << 0 | (v3 ? LZCNT : 0u);
  env.feature(FEAT_SVM) = env.feature(FEAT_XSAVE) = env.feature(FEAT_6_EAX) = 0;
  env.cpuidLevel() = v3 ? 0xd : 7;
  env.cpuidLevelFunc7() = 0;
  env.cpuidXlevel() = 0x80000008;
  std::memset(env.cpuidModel(), 0, 48);
  std::strncpy(env.cpuidModel(), v3 ? "shimbed x86-64-v3 processor" : "shimbed x86-64-v2 processor", 47);
}

// Leaves 8 to 0xD, which libunicorn knows nothing good of: true when the one asked for is answered.
bool Engine::extendedCpuid() {
  uint64_t* regs = env.head().regs;
  uint32_t leaf = uint32_t(regs[RAX]), sub = uint32_t(regs[RCX]);
  if (processor_ != Processor::v3 || leaf < 8 || leaf > 0xd) return false;
  regs[RAX] = regs[RBX] = regs[RCX] = regs[RDX] = 0;
  if (leaf == 0xb) regs[RCX] = sub & 0xff, regs[RDX] = 0;
  if (leaf != 0xd) return true;
  if (sub == 0) regs[RAX] = STATE_ALL, regs[RBX] = regs[RCX] = XSAVE_SIZE;
  if (sub == 1) regs[RAX] = XSAVEOPT | XSAVEC | XGETBV_INUSE, regs[RBX] = XSAVE_SIZE;
  if (sub == 2) regs[RAX] = XSAVE_SIZE - XSAVE_AVX, regs[RBX] = XSAVE_AVX;
  return true;
}

}  // namespace shimbed
