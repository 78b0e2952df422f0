// The same functions taken over when libunicorn is a shared library: it shows all its names, and calls them through
// tables that the dynamic linker fills from the first object that has the name. That is this addon, which stands before
// its own dependencies. Each name here is a jump to ours, and ours reaches libunicorn's by the next object that has it.
#include "internals.h"

#if SHIMBED_STATIC_UNICORN

namespace shimbed::internals {
bool takeOver(std::string&) { return true; }
}  // namespace shimbed::internals

#else

#include <dlfcn.h>

#include "engine.h"

#if !defined(__x86_64__) || !defined(__ELF__)
#error "the shared libunicorn can be taken over on x86-64 ELF systems only; build with libunicorn.a of version 2.0"
#endif

// clang-format off
#define TAKEN(X) \
  X(x86_cpu_tlb_fill_x86_64) X(memory_mapping) X(gen_intermediate_code_x86_64) X(cpu_ldub_code_x86_64) \
  X(helper_sysenter_x86_64) X(helper_cpuid_x86_64) X(helper_svm_check_intercept_param_x86_64) X(tcg_gen_callN_x86_64) X(tcg_emit_op_x86_64) X(tcg_gen_op3_x86_64) X(tcg_gen_brcondi_i32_x86_64) X(tcg_gen_lookup_and_goto_ptr_x86_64) X(qht_remove) X(qht_reset_size) X(cpu_watchpoint_address_matches_x86_64) X(cpu_check_watchpoint_x86_64) X(tcg_gen_qemu_ld_i32_x86_64) \
  X(tcg_gen_qemu_ld_i64_x86_64) X(tcg_gen_qemu_st_i32_x86_64) X(tcg_gen_qemu_st_i64_x86_64) X(cpu_get_tsc_x86_64) X(cpu_exec_x86_64) X(helper_syscall_x86_64) X(helper_fxsave_x86_64) X(helper_ldmxcsr_x86_64) X(helper_fxrstor_x86_64) \
  X(helper_phaddw_mmx_x86_64) X(helper_phaddw_xmm_x86_64) X(helper_phaddd_mmx_x86_64) X(helper_phaddd_xmm_x86_64) \
  X(helper_phaddsw_mmx_x86_64) X(helper_phaddsw_xmm_x86_64) X(helper_phsubw_mmx_x86_64) X(helper_phsubw_xmm_x86_64) \
  X(helper_phsubd_mmx_x86_64) X(helper_phsubd_xmm_x86_64) X(helper_phsubsw_mmx_x86_64) X(helper_phsubsw_xmm_x86_64) \
  X(helper_roundps_xmm_x86_64) X(helper_roundpd_xmm_x86_64) X(helper_roundss_xmm_x86_64) X(helper_roundsd_xmm_x86_64) \
  X(helper_rcpps_x86_64) X(helper_rcpss_x86_64) X(helper_rsqrtps_x86_64) X(helper_rsqrtss_x86_64) \
  X(float32_add_x86_64) X(float32_sub_x86_64) X(float32_mul_x86_64) X(float32_div_x86_64) \
  X(float64_add_x86_64) X(float64_sub_x86_64) X(float64_mul_x86_64) X(float64_div_x86_64) \
  X(tcg_gen_ext32u_i64_x86_64) X(tcg_gen_movcond_i64_x86_64) X(tcg_gen_atomic_cmpxchg_i64_x86_64) \
  X(tcg_gen_atomic_xchg_i64_x86_64) X(tcg_gen_atomic_fetch_add_i64_x86_64) X(tcg_gen_atomic_fetch_and_i64_x86_64) X(tcg_gen_atomic_fetch_or_i64_x86_64) \
  X(tcg_gen_atomic_fetch_xor_i64_x86_64) X(tcg_gen_atomic_add_fetch_i64_x86_64) X(tcg_gen_atomic_and_fetch_i64_x86_64) X(tcg_gen_atomic_or_fetch_i64_x86_64) \
  X(tcg_gen_atomic_xor_fetch_i64_x86_64) X(helper_cmpxchg8b_unlocked_x86_64) \
  X(helper_fldt_ST0_x86_64) X(helper_fstt_ST0_x86_64) X(helper_fbld_ST0_x86_64) X(helper_fldenv_x86_64) X(helper_fsave_x86_64) X(helper_frstor_x86_64) \
  X(helper_fstenv_x86_64) X(helper_load_seg_x86_64) X(helper_ljmp_protected_x86_64) X(helper_lcall_protected_x86_64) \
  X(helper_lret_protected_x86_64) X(helper_iret_protected_x86_64)
// clang-format on

extern "C" {
// Jumps keep arguments and return address as they are; the helpers look at the latter.
#define JUMPS(name)                                  \
  __attribute__((visibility("hidden"))) void* shimbed_next_##name = nullptr; \
  asm(".text\n.globl " #name "\n.type " #name ",@function\n" #name ":\n jmp __wrap_" #name "\n" \
      ".globl __real_" #name "\n.hidden __real_" #name "\n.type __real_" #name ",@function\n__real_" #name \
      ":\n jmp *shimbed_next_" #name "(%rip)\n");
TAKEN(JUMPS)
#undef JUMPS

// libunicorn's calls of abort() go to the C library before they could come here.
[[noreturn]] void __real_abort() { std::abort(); }
}

namespace shimbed::internals {

bool takeOver(std::string& error) {
#define FIND(name)                                                    \
  if (!shimbed_next_##name) {                                         \
    shimbed_next_##name = dlsym(RTLD_NEXT, #name);                    \
    if (!shimbed_next_##name) {                                       \
      error = "the shared libunicorn does not show its function " #name \
              "; install libunicorn.a of version 2.0 (Debian and Ubuntu: libunicorn-dev) and run `npm run setup` again"; \
      return false;                                                   \
    }                                                                 \
  }
  TAKEN(FIND)
#undef FIND
  return true;
}

}  // namespace shimbed::internals

#endif
