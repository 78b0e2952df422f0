// One emulated x86-64 processor: libunicorn, the machine's physical memory, and the run loop.
#pragma once
#include <unicorn/unicorn.h>

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "decode.h"
#include "host-sse.h"
#include "jumps.h"
#include "layout.h"
#include "memory.h"
#include "processor.h"
#include "counting.h"
#include "vector.h"

// The C library keeps room for a few words of objects that it loads later, reached without a call.
#if defined(__GLIBC__)
#define QUICK_THREAD_LOCAL __attribute__((tls_model("initial-exec")))
#else
#define QUICK_THREAD_LOCAL
#endif

namespace shimbed {

enum StopKind : uint32_t { SYSCALL = 0, INT80 = 1, SYSENTER = 2, EXCEPTION = 3, BUDGET = 4, INTERRUPTED = 5, FAILED = 6 };

// Shared with TypeScript (emulator/cpu.ts reads it by these offsets).
struct StopBlock {
  uint32_t kind;          // 0
  uint32_t vector;        // 4
  uint32_t errorCode;     // 8
  uint32_t access;        // 12
  double address;         // 16
  uint32_t software;      // 24: raised by int n, int3, into
  uint32_t generation;    // 28: changes whenever a cached guest translation may be wrong
  double budget;          // 32: in: basic blocks allowed, < 0 unlimited; out: what is left
  double blocks;          // 40: blocks counted since the engine was opened (while counting)
  uint64_t rflags;        // 48
  double tsc;             // 56: what rdtsc answers; the owner of time sets it
  uint32_t miss;          // 64: for a page fault, why: -Miss
  uint64_t exactAddress;  // 72: of a page fault, where a double would round
  double codeBytes;       // 80: length of the code of these blocks, likewise
  uint32_t debug;         // 88: of a debug exception, the breakpoints that raised it, as DR6 has them
};

constexpr uint32_t GDT_ENTRIES = 16;
// __USER_DS of an x86-64 kernel, the only kind that has `syscall`.
constexpr uint16_t SYSRET_SS = 0x2b;
constexpr uint64_t FLAG_TF = 0x100, FLAG_RF = 1 << 16, FLAG_AC = 1 << 18;

struct Context {
  char env[Env::contextSize];
  uint64_t gdt[GDT_ENTRIES];
};

struct Breakpoints {
  static constexpr uint32_t COUNT = 4;
  // Of length 0 where there is none; the kind is as DR7 has it.
  struct One {
    uint64_t address = 0;
    uint8_t length = 0, kind = 0;
  };
  One ones[COUNT];
  // As DR6 says which.
  uint32_t executing(uint64_t address) const;
  uint32_t accessing(uint64_t address, uint64_t size, bool writes) const;
};

class Engine {
 public:
  static std::unique_ptr<Engine> open(uint64_t windowBytes, Processor processor, std::string& error);
  ~Engine();

  void run();
  void interrupt();

  uint32_t addSpace(uint64_t limit);
  uint32_t forkSpace(uint32_t id);
  void removeSpace(uint32_t id);
  Space* space(uint32_t id) { return id < spaces_.size() ? spaces_[id].get() : nullptr; }
  void activate(uint32_t id);
  uint32_t activeId() const { return activeId_; }
  // After any change of mappings: drops what the CPU cached and tells TypeScript to drop what it cached.
  void changed(Space& s, uint64_t start = 0, uint64_t end = ~uint64_t(0));
  // A frame is about to be written from outside the CPU.
  // True when code was translated from it, which is dropped.
  bool beforeWrite(uint32_t frame) {
    if (!physical->hasCode(frame)) return false;
    dropCode(frame);
    return true;
  }
  void dropCode(uint32_t frame);
  void sweepStaleCode();

  uint64_t flags();
  void setFlags(uint64_t v);
  bool loadSelector(int segment, uint16_t selector);
  // CS and SS for user code of a width, with flat data segments, as the kernel enters a new program.
  void enterUser(bool wide, uint16_t cs, uint16_t ss);
  void setFsGsBase(bool on);
  void setStrictSegments(bool on);
  // After any load of a segment register.
  void updateShape();
  bool strict() const { return strict_; }
  uint64_t* gdt();
  uint32_t gdtFrame() const { return gdtFrame_; }
  uint64_t* ldtEntry(uint32_t index);  // of the active space; grows nothing
  bool resizeLdt(uint32_t entries);
  void save(Context& c);
  void restore(const Context& c);
  void fxsave(uint8_t* image);
  bool fxrstor(const uint8_t* image);
  // The same with the AVX state, XSAVE_SIZE bytes in the standard layout of XSAVE.
  void xsave(uint8_t* image);
  bool xrstor(const uint8_t* image);
  void setCounting(bool on);
  // Four addresses, and DR7.
  void setBreakpoints(const double* addresses, uint32_t control);
  bool watches(uint64_t address, uint64_t size) const { return watching_ && breakpoints_.accessing(address, size, true); }
  void onWatchedAccess(uint64_t address, uint64_t size, bool writes, uintptr_t retaddr);

  uc_engine* uc = nullptr;
  Env env;
  CPUState* cpu = nullptr;
  StopBlock stop{};
  std::unique_ptr<Physical> physical;
  std::unique_ptr<HostSse> hostSse;  // once MXCSR has had an unmasked exception

  // Used by the wrapped functions of libunicorn (wraps.cc).
  bool fill(CPUState* cs, uint64_t address, int size, int access, int mmuIdx, bool probe, uintptr_t retaddr);
  int prepareTranslation(const char* tb, int maxInstructions);
  void onSyscallInstruction(uint32_t addend);
  // Where the translator was shown a cpuid: true when the instruction is another one and is done.
  bool onCpuidInstruction();
  void onSysenter(uint32_t addend);
  // MXCSR is about to be loaded by LDMXCSR, or by FXRSTOR from an address: raises #GP where hardware does. True when
  // floating-point exceptions are from then on translated otherwise; then the load is followed by leaveBlock().
  bool beforeMxcsr(uint32_t value, uintptr_t retaddr);
  bool beforeFxrstor(uint64_t address, uintptr_t retaddr);
  // EIP is at the instruction, which is done.
  void leaveBlock();
  // While a block is translated.
  void countBlock(char* context, Temporary size) { counter_.count(Emitter(context, operations_), size); }
  // Every block begins with a load from the processor's state, where its jumps put the address that they go to.
  bool insteadOf(char* context, int operation, uintptr_t a, uintptr_t base, uintptr_t at) {
    if (!state_) {
      if (operation != operations_.load32) return false;
      state_ = base;
      return counter_.load(Emitter(context, operations_), base);
    }
    if (at != offsetof(EnvHead, eip) || base != state_) return false;
    if (operation == operations_.store64) target_ = a - uintptr_t(context);
    else if (operation == operations_.load64) target_ = 0;  // a far jump's helper has put it there
    return false;
  }
  // After a helper's call and at a label EIP may be another, and what was in a temporary is gone.
  void loseTarget() { target_ = 0; }
  void onOperation(int operation) {
    if (operation == operations_.label) target_ = 0;
  }
  bool insteadOfLookUp(char* context);
  const void* lookUpJump();
  bool insteadOfJump(char* context, void* label) { return counter_.jump(Emitter(context, operations_), label); }
  // A block has left before it ran.
  void onBlockLeft(const char* tb);
  void onVectorInstruction(uint32_t number, uint64_t eip, uintptr_t returnAddress);
  // While a block is translated: the plan of the instruction at hand, or VectorPlans::NONE.
  uint32_t vectorAtHand(uint64_t& eip) const;
  void onAbort();
  // While a block is translated: what a load or store of the instruction at hand wants of its address, for TCG.
  uint32_t wantedAlignment();
  void noteAlignment(uint64_t address, const Decoded& d);
  void onUnaligned(uint64_t address, uintptr_t retaddr);
  uint64_t readTsc();
  // Translations are gone.
  void forgetJumps() { jumps_.clear(); }
  int patchedByte(uint64_t address) {
    fetchedAt_ = address;
    if (patchCount_ == 0) return -1;
    // Bytes are fetched in order, more or less.
    for (uint32_t k = 0, p = patchAt_; k < patchCount_; k++, p = p + 1 < patchCount_ ? p + 1 : 0) {
      uint64_t i = address - patches_[p].address;
      if (i >= patches_[p].length) continue;
      patchAt_ = p;
      return patches_[p].bytes[i];
    }
    return -1;
  }
  bool interruptPending() const { return interruptRequested_; }
  bool running() const { return running_; }
  void* region = nullptr;  // the one MemoryRegion

 private:
  Engine() = default;
  bool init(std::string& error);
  void beginBlock(const char* tb);
  void beginJumps();
  bool verifyLayout(std::string& error);
  void modelProcessor();
  void resetProcessor();
  bool extendedCpuid();
  static void onInterrupt(uc_engine*, uint32_t number, void* self);
  static bool onInvalid(uc_engine*, void* self);
  static void onBlock(uc_engine*, uint64_t address, uint32_t size, void* self);
  void stopWith(StopKind kind);
  void endRun();
  void stopException(uint32_t vector, uint32_t errorCode);
  // Physical address of a byte that the engine itself reads or writes for the guest, or a Miss.
  int64_t reach(uint64_t address, Access access) {
    uint32_t changes = active_->changes;
    int64_t at = active_->translate(address, access);
    if (active_->changes != changes && pageMoved(address)) storedCode_ = true;
    return at;
  }
  bool pageMoved(uint64_t address);
  Decoded instructionAt(uint64_t rip);
  const Decoded& ownInstructionAt(uint64_t rip);
  struct Patch;
  bool showVector(Patch& patch, uint64_t at, const Decoded& d, Width width);
  void patchInstruction(uint64_t at, const Decoded& d, Width width, bool inPlace);
  void refineStop();
  void pageFault(uint64_t address, int access, int64_t miss);
  bool ownInstruction();
  bool needsCheck(const Decoded& d, uint32_t hflags) const;
  bool checkSegments(const Decoded& d);
  bool checkAccess(int segment, uint64_t offset, uint64_t size, Access access);
  void runAlone();
  bool breaksHere();
  void dropBreaksAt(uint64_t address);
  void noteBreakPage(uint64_t pc, uint32_t frame);
  bool trapsForAccess();
  // Of an instruction of the engine's own.
  void noteAccess(uint64_t address, uint64_t size, bool writes) {
    if (watching_) hits_ |= breakpoints_.accessing(address, size, writes);
  }
  // leaves: done, but what the block goes on with may be translated wrongly
  enum class Repeated { done, leaves, more, stopped };
  Repeated repString(const Decoded& d);
  uint64_t effectiveAddress(const Decoded& d);
  bool computeOnHost(const Decoded& d, const SseForm& form);
  // The form of an instruction that has to be computed on the host now.
  SseForm hostForm(const Decoded& d, uint32_t hflags) {
    SseForm form = sseForm(d);
    if (hostSse && !hostSse->ok()) return {};
    return hflags & HF_FLOAT_TRAPS || form.always ? form : SseForm{};
  }
  bool storeGuest(uint64_t address, const void* from, uint32_t size);
  bool loadGuest(uint64_t address, void* into, uint32_t size, Access access = READ);
  void stopAtMiss(uint64_t address, int access, int64_t miss);
  uint64_t statesInUse();
  void saveStates(uint8_t* image, uint64_t written, bool mxcsr, uint32_t registers);
  bool restoreStates(const uint8_t* image, uint64_t asked, uint32_t registers);
  void xsaveInstruction(const Decoded& d);
  Repeated runVector(const VectorPlan& plan);
  Repeated vectorSlowly(const VectorPlan& plan, uint64_t offset, uint64_t address);
  Repeated runSpecial(const VectorPlan& plan);
  Repeated maskedMove(const VectorPlan& plan);
  Repeated maskedBytes(const VectorPlan& plan);
  Repeated gatherElements(const VectorPlan& plan);
  Repeated compareStrings(const VectorPlan& plan);
  bool runFloats(const VectorPlan& plan, void* m);
  bool checkVectorAccess(const VectorPlan& plan, uint64_t offset, uint64_t size, Access access);
  void ownVectorInstruction(const Decoded& d);
  void setSegment(int segment, uint16_t selector, uint64_t descriptor);
  void updateAddseg();

  std::vector<std::unique_ptr<Space>> spaces_;
  Space* active_ = nullptr;
  uint32_t activeId_ = 0;
  uint32_t gdtFrame_ = 0;
  bool running_ = false;
  bool counting_ = false;
  BlockCount count_;
  BlockCounter counter_;
  Operations operations_;
  JumpTables jumps_;
  // Of the block that is being translated: its flags, how it names the processor's state, and what was put in EIP last.
  uint32_t translatedFlags_ = 0, clusterFlags_ = 0;
  uintptr_t state_ = 0;
  Temporary target_ = 0;
  bool stopped_ = false;
  bool strict_ = false;
  Breakpoints breakpoints_;
  bool watching_ = false, breaking_ = false;  // there are some on data, on instructions
  // Of the blocks that are kept apart for them: their addresses, and where the blocks lie, as page and frame.
  uint64_t translatedBreaks_[Breakpoints::COUNT] = {~uint64_t(0), ~uint64_t(0), ~uint64_t(0), ~uint64_t(0)};
  std::unordered_multimap<uint64_t, uint32_t> breakPages_;
  uint32_t hits_ = 0;
  bool aloneForTrap_ = false;  // the next block is the instruction that accesses what is watched
  Processor processor_ = Processor::v2;
  // The next block is one checked instruction: not counted, and the single-step trap before it is not one.
  bool aloneTrap_ = false;
  uint64_t checkedAt_ = ~uint64_t(0);
  bool syscallTf_ = false;  // TF was set when `syscall` ran
  std::atomic<bool> interruptRequested_{false};
  uc_hook intrHook_ = 0, invalidHook_ = 0, blockHooks_[2] = {};
  // What the translator is shown instead of some instructions of the block it is at.
  struct Patch {
    uint64_t address;
    uint8_t bytes[15];
    uint8_t length;
    uint32_t vector = VectorPlans::NONE;
  };
  Patch patches_[32];
  uint32_t patchCount_ = 0, patchAt_ = 0;
  uint64_t translatedBase_ = 0;  // of CS
  VectorPlans vectors_;
  bool storedCode_ = false;  // by storeGuest, since it was last cleared
  // Of that block, the instructions whose memory operand has to be aligned otherwise than naturally, as TCG's MemOp has
  // it, in order; the first that is not translated yet.
  struct Aligned {
    uint64_t address;
    uint8_t length, memop;
  };
  std::vector<Aligned> aligned_;
  size_t nextAligned_ = 0;
  bool alignsAll_ = false;  // EFLAGS.AC is set
  uint64_t fetchedAt_ = 0;
  uint32_t fills_ = 0;
  // Instructions that the engine carries out, as last seen at their addresses.
  struct OwnInstruction {
    uint64_t linear = ~uint64_t(0);
    Width width{};
    uint8_t bytes[15];
    Decoded decoded;
  };
  OwnInstruction own_[64];
};

inline Width codeWidth(uint32_t hflags) {
  return hflags & HF_CS64 ? Width::code64 : hflags & HF_CS32 ? Width::code32 : Width::code16;
}

// The engine whose guest code runs on this thread now; libunicorn's internals carry no pointer of ours.
extern thread_local constinit Engine* runningEngine QUICK_THREAD_LOCAL;
inline Engine* currentEngine() { return runningEngine; }

// In a helper of libunicorn's that translated code calls: tells which instruction that is.
#define CALLER (reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - 2)

// In a helper that accesses memory; with EFLAGS.AC a misaligned address ends it.
inline void wantAligned(char* env, uint64_t address, uint32_t mask, uintptr_t retaddr) {
  if (__builtin_expect(Env{env}.head().eflags & FLAG_AC && address & mask, 0))
    if (Engine* e = currentEngine()) e->onUnaligned(address, retaddr);
}

}  // namespace shimbed
