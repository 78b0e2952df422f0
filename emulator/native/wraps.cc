// Functions of libunicorn that ours stand in front of: by the linker (--wrap, see binding.gyp), or for the shared
// library by the dynamic linker (interpose.cc).
#include <malloc.h>

#include <cstdlib>
#include <cstring>

#include "engine.h"
#include "internals.h"

using shimbed::currentEngine;
using shimbed::Engine;

extern "C" {
void tlb_set_page_x86_64(CPUState*, uint64_t vaddr, uint64_t paddr, int prot, int mmuIdx, uint64_t size);
void tlb_set_dirty_x86_64(CPUState*, uint64_t vaddr);
void tlb_flush_x86_64(CPUState*);
void tlb_flush_page_x86_64(CPUState*, uint64_t page);
void tb_invalidate_phys_range_x86_64(uc_engine*, uint64_t start, uint64_t end);
bool cpu_restore_state_x86_64(CPUState*, uintptr_t hostPc, bool willExit);
[[noreturn]] void cpu_loop_exit_x86_64(CPUState*);
void x86_cpu_do_interrupt_x86_64(CPUState*);

void* __real_memory_mapping(uc_engine*, uint64_t address);
bool __real_x86_cpu_tlb_fill_x86_64(CPUState*, uint64_t, int, int, int, bool, uintptr_t);
void __real_gen_intermediate_code_x86_64(CPUState*, char* tb, int maxInstructions);
uint32_t __real_cpu_ldub_code_x86_64(void* env, uint64_t address);
void __real_helper_syscall_x86_64(void* env, int addend);
void __real_helper_sysenter_x86_64(void* env, int addend);
void __real_helper_cpuid_x86_64(void* env);
void __real_helper_svm_check_intercept_param_x86_64(void* env, uint32_t type, uint64_t param);
void __real_tcg_gen_callN_x86_64(char* context, void* function, void* result, int count, void** arguments);
void* __real_tcg_emit_op_x86_64(char* context, int opcode);
uintptr_t tcg_const_i32_x86_64(char* context, int32_t value);
uintptr_t tcg_const_i64_x86_64(char* context, int64_t value);
void tcg_temp_free_internal_x86_64(char* context, void* temporary);
void helper_uc_tracecode();
void helper_cpuid_x86_64(void* env);
void helper_comiss_x86_64(void* env, void* a, void* b);
void helper_svm_check_intercept_param_x86_64(void* env, uint32_t type, uint64_t param);
uint64_t __real_cpu_get_tsc_x86_64(void* env);
void __real_tcg_gen_lookup_and_goto_ptr_x86_64(char* context);
bool __real_qht_remove(void* table, const void* what, uint32_t hash);
bool __real_qht_reset_size(uc_engine* uc, void* table, size_t size);
void __real_tcg_gen_op3_x86_64(char* context, int operation, uintptr_t a, uintptr_t b, uintptr_t c);
void __real_tcg_gen_brcondi_i32_x86_64(char* context, int condition, uintptr_t a, int32_t b, void* label);
bool x86_cpu_tlb_fill_x86_64(CPUState*, uint64_t, int, int, int, bool, uintptr_t);
int __real_cpu_exec_x86_64(uc_engine*, CPUState*);
void __real_helper_fxsave_x86_64(char* env, uint64_t address);
[[noreturn]] void __real_abort();

bool __wrap_x86_cpu_tlb_fill_x86_64(CPUState* cpu, uint64_t address, int size, int access, int mmuIdx, bool probe, uintptr_t retaddr) {
  Engine* e = currentEngine();
  if (!e) return __real_x86_cpu_tlb_fill_x86_64(cpu, address, size, access, mmuIdx, probe, retaddr);
  return e->fill(cpu, address, size, access, mmuIdx, probe, retaddr);
}

// libunicorn looks up its region by the virtual address; every page that has a translation lies in the one region.
void* __wrap_memory_mapping(uc_engine* uc, uint64_t address) {
  Engine* e = currentEngine();
  return e ? e->region : __real_memory_mapping(uc, address);
}

void __wrap_gen_intermediate_code_x86_64(CPUState* cpu, char* tb, int maxInstructions) {
  if (Engine* e = currentEngine()) maxInstructions = e->prepareTranslation(tb, maxInstructions);
  __real_gen_intermediate_code_x86_64(cpu, tb, maxInstructions);
}

uint32_t __wrap_cpu_ldub_code_x86_64(void* env, uint64_t address) {
  Engine* e = currentEngine();
  int patched = e ? e->patchedByte(address) : -1;
  return patched < 0 ? __real_cpu_ldub_code_x86_64(env, address) : uint32_t(patched);
}

// Between uc_emu_start and here libunicorn forgets what was asked of it before.
int __wrap_cpu_exec_x86_64(uc_engine* uc, CPUState* cpu) {
  Engine* e = currentEngine();
  if (e && e->interruptPending()) uc_emu_stop(uc);
  return __real_cpu_exec_x86_64(uc, cpu);
}

void __wrap_helper_syscall_x86_64(void* env, int addend) {
  if (Engine* e = currentEngine()) e->onSyscallInstruction(uint32_t(addend));
  else __real_helper_syscall_x86_64(env, addend);
}

void __wrap_helper_sysenter_x86_64(void* env, int addend) {
  if (Engine* e = currentEngine()) e->onSysenter(uint32_t(addend));
  else __real_helper_sysenter_x86_64(env, addend);
}

void __wrap_helper_cpuid_x86_64(void* env) {
  Engine* e = currentEngine();
  if (!e || !e->onCpuidInstruction()) __real_helper_cpuid_x86_64(env);
}

// A helper that nothing calls where there is no SVM, and that takes a number and an address.
void __wrap_helper_svm_check_intercept_param_x86_64(void* env, uint32_t number, uint64_t eip) {
  Engine* e = currentEngine();
  if (e) e->onVectorInstruction(number, eip, CALLER);
  else __real_helper_svm_check_intercept_param_x86_64(env, number, eip);
}

// Where a block's instruction is shown as another one for its helper, ours is called with the number of its plan.
void __wrap_tcg_gen_callN_x86_64(char* context, void* function, void* result, int count, void** arguments) {
  Engine* e = currentEngine();
  if (e && function == reinterpret_cast<void*>(helper_uc_tracecode)) return e->countBlock(context, shimbed::Temporary(static_cast<char*>(arguments[0]) - context));
  if (e) e->loseTarget();
  bool stands = function == reinterpret_cast<void*>(helper_cpuid_x86_64) || function == reinterpret_cast<void*>(helper_comiss_x86_64);
  uint64_t eip = 0;
  uint32_t number = e && stands ? e->vectorAtHand(eip) : shimbed::VectorPlans::NONE;
  if (number == shimbed::VectorPlans::NONE) return __real_tcg_gen_callN_x86_64(context, function, result, count, arguments);
  // The translator names a temporary by its distance from the context.
  void* which = context + tcg_const_i32_x86_64(context, int32_t(number));
  void* where = context + tcg_const_i64_x86_64(context, int64_t(eip));
  void* ours[] = {arguments[0], which, where};
  __real_tcg_gen_callN_x86_64(context, reinterpret_cast<void*>(helper_svm_check_intercept_param_x86_64), nullptr, 3, ours);
  tcg_temp_free_internal_x86_64(context, which);
  tcg_temp_free_internal_x86_64(context, where);
}

// libunicorn's translator keeps a temporary for good after some instructions (those of SSE with an immediate, crc32, many of
// the x87), and its array of 512 is followed by its lists: a block of a few hundred such instructions wrote over them. A block
// whose operations are enough ends after the instruction at hand; this one counts as such while there is plenty of room.
void* __wrap_tcg_emit_op_x86_64(char* context, int opcode) {
  constexpr int ENOUGH_TEMPORARIES = 384, ENOUGH_OPERATIONS = 4000;
  auto& temporaries = *reinterpret_cast<int32_t*>(context + 48);
  auto& operations = *reinterpret_cast<int32_t*>(context + 56);
  if (temporaries > ENOUGH_TEMPORARIES && operations < ENOUGH_OPERATIONS) operations += ENOUGH_OPERATIONS;
  if (Engine* e = currentEngine()) e->onOperation(opcode);
  return __real_tcg_emit_op_x86_64(context, opcode);
}

void __wrap_tcg_gen_op3_x86_64(char* context, int operation, uintptr_t a, uintptr_t b, uintptr_t c) {
  Engine* e = currentEngine();
  if (!e || !e->insteadOf(context, operation, a, b, c)) __real_tcg_gen_op3_x86_64(context, operation, a, b, c);
}

void __wrap_tcg_gen_brcondi_i32_x86_64(char* context, int condition, uintptr_t a, int32_t b, void* label) {
  Engine* e = currentEngine();
  if (!e || !e->insteadOfJump(context, label)) __real_tcg_gen_brcondi_i32_x86_64(context, condition, a, b, label);
}

void __wrap_tcg_gen_lookup_and_goto_ptr_x86_64(char* context) {
  Engine* e = currentEngine();
  if (!e || !e->insteadOfLookUp(context)) __real_tcg_gen_lookup_and_goto_ptr_x86_64(context);
}

// Every translation that goes leaves this table; and all of them at once.
bool __wrap_qht_remove(void* table, const void* what, uint32_t hash) {
  if (Engine* e = currentEngine()) e->forgetJumps();
  return __real_qht_remove(table, what, hash);
}
bool __wrap_qht_reset_size(uc_engine* uc, void* table, size_t size) {
  if (Engine* e = currentEngine()) e->forgetJumps();
  return __real_qht_reset_size(uc, table, size);
}

uint64_t __wrap_cpu_get_tsc_x86_64(void* env) {
  Engine* e = currentEngine();
  return e ? e->readTsc() : __real_cpu_get_tsc_x86_64(env);
}

// libunicorn checks after every load and store whether to leave the block, for faults that do not leave by themselves.
// Ours do; and an asynchronous stop seen there would run the first half of the block twice.
__attribute__((visibility("default"))) void check_exit_request_x86_64(void*) {}

// libunicorn's own forgets the exception flags, and lets FTZ flush x87's results.
__attribute__((visibility("default"))) void update_mxcsr_status_x86_64(char* env) {
  using namespace shimbed;
  Env e{env};
  uint32_t mxcsr = e.at<uint32_t>(offset::mxcsr);
  e.at<uint8_t>(offset::sseRounding) = mxcsr >> 13 & 3;
  e.at<uint8_t>(offset::sseFlags) = uint8_t(mxcsr & MXCSR_TRACKED);
  e.at<uint8_t>(offset::sseFlushResults) = mxcsr >> 15 & 1;
  e.at<uint8_t>(offset::sseFlushInputs) = mxcsr >> 6 & 1;
  uint32_t& hflags = e.head().hflags;
  hflags = unmasks(mxcsr) ? hflags | HF_FLOAT_TRAPS : hflags & ~HF_FLOAT_TRAPS;
}

// A jump, not a call: the return address says which guest instruction it is.
void __wrap_helper_fxsave_x86_64(char* env, uint64_t address) {
  shimbed::wantAligned(env, address, 3, CALLER);
  shimbed::Env{env}.mergeMxcsr();
  return __real_helper_fxsave_x86_64(env, address);
}

// What is translated otherwise while an exception of MXCSR is unmasked. The return address says which instruction it is.
#define LOADS_MXCSR(name, parameters, arguments, before)                                        \
  void __real_helper_##name##_x86_64 parameters;                                                \
  void __wrap_helper_##name##_x86_64 parameters {                                               \
    Engine* e = currentEngine();                                                                \
    uintptr_t retaddr = CALLER;                                                                 \
    bool flips = e && e->before;                                                                \
    __real_helper_##name##_x86_64 arguments;                                                    \
    if (flips) e->leaveBlock();                                                                 \
  }
LOADS_MXCSR(ldmxcsr, (void* env, uint32_t value), (env, value), beforeMxcsr(value, retaddr))
LOADS_MXCSR(fxrstor, (void* env, uint64_t address), (env, address), beforeFxrstor(address, retaddr))
#undef LOADS_MXCSR

// Loads of segment registers, after which strict segments may have other things to check. Without them it is a jump,
// since the return address says which guest instruction it is; with them that is looked up before.
#define LOADS_SEGMENT(name, parameters, arguments)                                                       \
  void __real_helper_##name##_x86_64 parameters;                                                         \
  void __wrap_helper_##name##_x86_64 parameters {                                                        \
    Engine* e = currentEngine();                                                                         \
    if (!e || !e->strict()) return __real_helper_##name##_x86_64 arguments;                              \
    cpu_restore_state_x86_64(e->cpu, CALLER, true); \
    __real_helper_##name##_x86_64 arguments;                                                             \
    e->updateShape();                                                                                    \
  }
LOADS_SEGMENT(load_seg, (void* env, int segment, int selector), (env, segment, selector))
LOADS_SEGMENT(ljmp_protected, (void* env, int cs, uint64_t eip, uint64_t next), (env, cs, eip, next))
LOADS_SEGMENT(lcall_protected, (void* env, int cs, uint64_t eip, int shift, uint64_t next), (env, cs, eip, shift, next))
LOADS_SEGMENT(lret_protected, (void* env, int shift, int addend), (env, shift, addend))
LOADS_SEGMENT(iret_protected, (void* env, int shift, int next), (env, shift, next))
#undef LOADS_SEGMENT

// The horizontal additions write their destination before they have read all of the source, which may be the same.
#define HORIZONTAL(name, size)                                                    \
  void __real_helper_##name##_x86_64(void* env, void* to, const void* from);      \
  void __wrap_helper_##name##_x86_64(void* env, void* to, const void* from) {     \
    alignas(16) char copy[size];                                                  \
    std::memcpy(copy, from, size);                                                \
    __real_helper_##name##_x86_64(env, to, copy);                                 \
  }
#define HORIZONTALS(name) HORIZONTAL(name##_mmx, 8) HORIZONTAL(name##_xmm, 64)
HORIZONTALS(phaddw)
HORIZONTALS(phaddd)
HORIZONTALS(phaddsw)
HORIZONTALS(phsubw)
HORIZONTALS(phsubd)
HORIZONTALS(phsubsw)
#undef HORIZONTALS
#undef HORIZONTAL

// Some encodings reach an abort() in the translator; for the guest they are undefined instructions.
[[noreturn]] void __wrap_abort() {
  Engine* e = currentEngine();
  if (e && e->running()) e->onAbort();
  __real_abort();
}
}

namespace shimbed::internals {

void* firstRegion(uc_engine* uc) { return __real_memory_mapping(uc, 0); }
void flushTlb(CPUState* cpu) { tlb_flush_x86_64(cpu); }
void flushTlbPage(CPUState* cpu, uint64_t page) { tlb_flush_page_x86_64(cpu, page); }
void setPage(CPUState* cpu, uint64_t page, uint64_t physical, int prot, int mmuIdx) {
  tlb_set_page_x86_64(cpu, page, physical, prot, mmuIdx, PAGE);
}
void setDirty(CPUState* cpu, uint64_t page) { tlb_set_dirty_x86_64(cpu, page); }
void dropTranslations(uc_engine* uc, uint64_t physicalPage) {
  tb_invalidate_phys_range_x86_64(uc, physicalPage, physicalPage + PAGE);
}
namespace {
uint32_t& nextBlock(CPUState* cpu) { return *reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(cpu) + offset::cpuNextBlock); }
}  // namespace
void nextBlockAlone(CPUState* cpu) { nextBlock(cpu) = 1; }
void forgetAlone(CPUState* cpu) { nextBlock(cpu) = 0xffffffffu; }
namespace {
void onUnaligned(CPUState*, uint64_t address, int, int, uintptr_t retaddr) {
  if (Engine* e = currentEngine()) e->onUnaligned(address, retaddr);
}
// libunicorn's own does no more than this.
void onBlockLeft(CPUState*, const char* tb) {
  Engine* e = currentEngine();
  if (!e) return;
  e->env.head().eip = *reinterpret_cast<const uint64_t*>(tb + offset::tbPc) - *reinterpret_cast<const uint64_t*>(tb + offset::tbCsBase);
  e->onBlockLeft(tb);
}
}  // namespace
bool takeOverClass(CPUState* cpu) {
  // The class lies within the processor's own memory. After the function for interrupts it has one for accesses that are not
  // aligned, none on x86, and after five others, before the one that fills the TLB, one that is told of blocks that left.
  using Function = void (*)();
  Function* word = reinterpret_cast<Function*>(cpu);
  Function* end = word + malloc_usable_size(cpu) / sizeof(Function);
  while (word != end && *word != reinterpret_cast<Function>(x86_cpu_do_interrupt_x86_64)) word++;
  if (end - word < 8 || word[1] != nullptr || word[7] != reinterpret_cast<Function>(x86_cpu_tlb_fill_x86_64)) return false;
  word[1] = reinterpret_cast<Function>(onUnaligned);
  word[6] = reinterpret_cast<Function>(onBlockLeft);
  return true;
}
void restoreState(CPUState* cpu, uintptr_t retaddr) { cpu_restore_state_x86_64(cpu, retaddr, true); }
void exitBlock(CPUState* cpu) { cpu_loop_exit_x86_64(cpu); }
void leave(CPUState* cpu, uc_engine* uc, uintptr_t retaddr) {
  uc_emu_stop(uc);
  if (retaddr) cpu_restore_state_x86_64(cpu, retaddr, true);
  cpu_loop_exit_x86_64(cpu);
}

}  // namespace shimbed::internals
