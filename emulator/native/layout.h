// Where libunicorn 2.0.1 keeps its x86-64 CPU state. The public API copies one register a call; the run loop
// needs all of them at once, so it reads the state in place. Every offset used here is checked against the
// public API when an engine is opened (engine.cc, verifyLayout); a mismatch is an error, never a guess.
#pragma once
#include <cstddef>
#include <cstdint>

struct CPUState;

namespace shimbed {

struct SegmentCache {
  uint32_t selector;
  uint64_t base;
  uint32_t limit;
  uint32_t flags;
};
static_assert(sizeof(SegmentCache) == 24, "as in libunicorn 2.0.1");

enum Segment { ES, CS, SS, DS, FS, GS };

namespace offset {
constexpr size_t ucCpu = 384;
constexpr size_t cpuEnvPtr = 296;
constexpr size_t cpuNextBlock = 24, cpuUc = 33192;
constexpr size_t fpstt = 572, fpus = 576, fpuc = 578, fptags = 580, fpregs = 592, fpOperand = 752, sseRounding = 777, sseFlags = 778, sseFlushResults = 780, sseFlushInputs = 781,
                 mxcsr = 784, xmmRegs = 792, ymmHigh = 1024;
constexpr size_t tbPc = 0, tbCsBase = 8;
constexpr size_t tbFlags = 16, tbSize = 20, tbCflags = 24, tbCode = 32;
// Where the blocks of a run are counted: beside an upper half of a YMM register (Env::ymmHigh), in what is never used.
constexpr size_t blockCount = xmmRegs + ymmHigh + 16;
}  // namespace offset

// The head of CPUX86State, up to the control registers.
struct EnvHead {
  uint64_t regs[16];
  uint64_t eip;
  uint64_t eflags;
  uint64_t ccDst, ccSrc, ccSrc2;
  uint32_t ccOp;
  int32_t df;
  uint32_t hflags;
  uint32_t hflags2;
  SegmentCache segs[6];
  SegmentCache ldt, tr, gdt, idt;
  uint64_t cr[5];
  int32_t a20Mask;
};
static_assert(offsetof(EnvHead, hflags) == 176 && offsetof(EnvHead, cr) == 424, "as in libunicorn 2.0.1");

constexpr uint32_t MXCSR_TRACKED = 0x3d;  // all but denormal operand
constexpr uint32_t MXCSR_FLUSHED = 0x30;  // underflow and precision, of a result that FTZ made zero
constexpr uint8_t FLAG_FLUSHED = 0x80;    // what the float routines say of it

struct Env {
  char* p = nullptr;
  EnvHead& head() const { return *reinterpret_cast<EnvHead*>(p); }
  template <typename T>
  T& at(size_t o) const {
    return *reinterpret_cast<T*>(p + o);
  }
  uint64_t& efer() const { return at<uint64_t>(560); }
  uint64_t& kernelGsBase() const { return at<uint64_t>(4832); }
  int32_t& errorCode() const { return at<int32_t>(5352); }
  int32_t& exceptionIsInt() const { return at<int32_t>(5356); }
  int32_t& oldException() const { return at<int32_t>(5464); }
  uint32_t& cpuidLevelFunc7() const { return at<uint32_t>(5540); }
  uint32_t& cpuidLevel() const { return at<uint32_t>(5572); }
  uint32_t& cpuidXlevel() const { return at<uint32_t>(5576); }
  uint64_t& feature(size_t word) const { return at<uint64_t>(5600 + 8 * word); }
  // MXCSR's exception flags live in the state of the float routines, where nothing of libunicorn brings them back from.
  void mergeMxcsr() const {
    uint8_t flags = at<uint8_t>(offset::sseFlags);
    at<uint32_t>(offset::mxcsr) |= (flags & MXCSR_TRACKED) | (flags & FLAG_FLUSHED ? MXCSR_FLUSHED : 0);
  }
  uint32_t mergedMxcsr() const {
    mergeMxcsr();
    return at<uint32_t>(offset::mxcsr);
  }
  char* xmm(size_t i) const { return p + offset::xmmRegs + 64 * i; }
  // The upper halves of the YMM registers. They have the places of XMM16 to XMM31, which nothing in libunicorn uses here,
  // since its helpers leave what they like above an XMM register.
  char* ymmHigh(size_t i) const { return p + offset::xmmRegs + offset::ymmHigh + 64 * i; }
  char* cpuidModel() const { return p + 6144; }
  // Fields up to here make a thread's context; what follows is the model of the processor.
  static constexpr size_t contextSize = 5536;
};

// hflags bits (fixed by the translator of libunicorn 2.0.1)
constexpr uint32_t HF_CPL = 3u, HF_CS32 = 1u << 4, HF_SS32 = 1u << 5, HF_ADDSEG = 1u << 6, HF_LMA = 1u << 14,
                   HF_CS64 = 1u << 15, HF_OSFXSR = 1u << 22, HF_IOBPT = 1u << 24,
                   HF_SHAPED = 1u << 20,  // ours (SVME, which nothing here uses): a segment of 32-bit code is not flat
                   HF_BREAKS = 1u << 19,  // ours (SMM): there are breakpoints on instructions
                   HF_FLOAT_TRAPS = 1u << 23;  // ours (SMAP, of the kernel's accesses): MXCSR has an unmasked exception
// Those that differ between threads, and those that never change: CPL 3, PE, MP, LMA, OSFXSR.
constexpr uint32_t HF_CONTEXT = 1u << 3 /* after mov ss */ | HF_CS32 | HF_SS32 | HF_ADDSEG | HF_CS64 | HF_IOBPT;
constexpr uint32_t HF_FIXED = HF_CPL | 1u << 7 | 1u << 9 | HF_LMA | HF_OSFXSR;
constexpr uint64_t FLAGS_FIXED = 0x202, FLAGS_USER = 0x254dd5;  // what ring 3 may change, and RF
constexpr uint64_t CR4_FSGSBASE = 1u << 16;

inline bool canonical(uint64_t a) { return uint64_t(int64_t(a << 16) >> 16) == a; }

// CPUID feature words
enum FeatureWord { FEAT_1_EDX = 0, FEAT_1_ECX = 1, FEAT_7_0_EBX = 2, FEAT_7_0_ECX = 3, FEAT_7_0_EDX = 4,
                   FEAT_7_1_EAX = 5, FEAT_8000_0001_EDX = 6, FEAT_8000_0001_ECX = 7, FEAT_SVM = 18, FEAT_XSAVE = 19, FEAT_6_EAX = 20 };

// mmu_idx values
constexpr int MMU_USER_IDX = 1;

}  // namespace shimbed
