// The frame as the handler finds it, and the state that handlers start with and leave behind.
#include "handler-guest.h"

static unsigned char stack[65536] __attribute__((aligned(64)));

static uintptr_t entrySp(void *frameAddress) { return (uintptr_t)frameAddress + sizeof(void *); }

static void words(const char *name, const unsigned char *from, int at, int length) {
  printf("%s+%d:", name, at);
  for (int i = 0; i < length; i += 4) {
    uint32_t word;
    memcpy(&word, from + at + i, 4);
    printf(" %x", word);
  }
  printf("\n");
}

static void info(int number, siginfo_t *i, void *context) {
  unsigned char *sp = (unsigned char *)entrySp(__builtin_frame_address(0));
  ucontext_t *uc = context;
  printf("signal %d info at +%d context at +%d, sp %% 16 = %d\n", number, (int)((unsigned char *)i - sp),
         (int)((unsigned char *)context - sp), (int)((uintptr_t)sp & 15));
  // UC_FP_XSTATE depends on XSAVE.
  printf("uc_flags %lx link %p\n", uc->uc_flags & ~1ul, (void *)uc->uc_link);
  printf("stack flags %x size %zu\n", uc->uc_stack.ss_flags, uc->uc_stack.ss_size);
  printf("signo %d errno %d code %d mine %d\n", i->si_signo, i->si_errno, i->si_code, i->si_pid == getpid());
  printf("mask %lx\n", ((unsigned long *)&uc->uc_sigmask)[0]);
#if WIDE
  printf("csgsfs %lx flags %lx err %ld trapno %ld oldmask %lx cr2 %lx\n", (long)greg(context, REG_CSGSFS),
         (long)greg(context, REG_EFL) & ~0x8d5l, (long)greg(context, REG_ERR), (long)greg(context, REG_TRAPNO),
         (long)greg(context, REG_OLDMASK), (long)greg(context, REG_CR2));
  printf("registers %lx %lx %lx %lx\n", (long)greg(context, REG_R12), (long)greg(context, REG_R13),
         (long)greg(context, REG_R14), (long)greg(context, REG_R15));
  unsigned char *fp = (unsigned char *)uc->uc_mcontext.fpregs;
  printf("fp %% 64 = %d\n", (int)((uintptr_t)fp & 63));
  // Where the last x87 instruction was (6 to 23) Intel's processors always say, AMD's after an exception alone.
  printf("fx: %x %x %x\n", *(uint16_t *)fp, *(uint16_t *)(fp + 2), *(uint16_t *)(fp + 4));
  words("fx", fp, 32, 64);
  words("xmm", fp, 160, 64);
#else
  unsigned char *c = (unsigned char *)&uc->uc_mcontext;
  printf("gs %x fs %x es %x ds %x\n", *(uint32_t *)c ? 1 : 0, *(uint32_t *)(c + 4), *(uint32_t *)(c + 8), *(uint32_t *)(c + 12));
  printf("trapno %d err %d cs %x flags %x ss %x oldmask %x cr2 %x spsame %d\n", *(int *)(c + 48), *(int *)(c + 52),
         *(uint32_t *)(c + 60), *(uint32_t *)(c + 64) & ~0x8d5, *(uint32_t *)(c + 72), *(uint32_t *)(c + 80), *(uint32_t *)(c + 84),
         *(uint32_t *)(c + 68) == *(uint32_t *)(c + 28));
  words("retcode", sp, 260, 8);
  unsigned char *fp = *(unsigned char **)(c + 76);
  printf("fp %% 64 = %d\n", (int)((uintptr_t)fp & 63));
  words("fsave", fp, 0, 12);
  words("fsave", fp, 28, 84);
  printf("fx: %x %x %x\n", *(uint16_t *)(fp + 112), *(uint16_t *)(fp + 114), *(uint16_t *)(fp + 116));
  words("fx", fp + 112, 32, 64);
  words("xmm", fp + 112, 160, 64);
#endif
  unsigned short control;
  unsigned mxcsr;
  unsigned long flags;
  __asm__ volatile("fnstcw %0\n stmxcsr %1\n" : "=m"(control), "=m"(mxcsr));
  __asm__ volatile("pushf\n pop %0" : "=r"(flags));
  printf("handler: control %x mxcsr %x df %d\n", control, mxcsr, (int)(flags >> 10 & 1));
}

static void plain(int number) {
  unsigned char *sp = (unsigned char *)entrySp(__builtin_frame_address(0));
  printf("plain %d, sp %% 16 = %d\n", number, (int)((uintptr_t)sp & 15));
#if !WIDE
  words("plain", sp, 4, 4);
  words("es", sp, 8 + 8, 8);
  words("trapno", sp, 8 + 48, 8);
  words("cs", sp, 8 + 60, 4);
  words("ss", sp, 8 + 72, 4);
  words("masks", sp, 8 + 80, 4);
  words("extramask", sp, 720, 4);
  words("retcode", sp, 724, 8);
  printf("fp after %d\n", (int)(*(uint32_t *)(sp + 8 + 76) - (uintptr_t)(sp + 732)) < 64 + 16);
#endif
}

static void where(int number, siginfo_t *i, void *context) {
  uintptr_t sp = entrySp(__builtin_frame_address(0));
  (void)number;
  (void)i;
  uintptr_t old = (uintptr_t)greg(context, SP);
  int inside = sp > (uintptr_t)stack && sp < (uintptr_t)stack + sizeof stack;
  printf("on alternate stack %d, below the red zone %d\n", inside, (uintptr_t)old - sp >= (WIDE ? 128 : 0));
  stack_t now;
  sigaltstack(0, &now);
  printf("sigaltstack in handler: flags %x size %zu; saved flags %x\n", now.ss_flags, now.ss_size,
         ((ucontext_t *)context)->uc_stack.ss_flags);
  now.ss_flags = SS_DISABLE;
  printf("change in handler: %s\n", err(sigaltstack(&now, 0)));
}

static void clobber(int number) {
  (void)number;
  __asm__ volatile(
      "pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm7, %%xmm7\n fninit\n fldpi\n fldz\n std\n stc\n cld" ::: "xmm0", "xmm7");
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGRTMIN + 3);
  sigprocmask(SIG_BLOCK, &set, 0);
  on(SIGUSR1, info, SA_SIGINFO);
  static const uint32_t pattern[4] = {1, 0x7fc00000, 3, 0x80000000};
  long pid = getpid();
  long tid = syscall(SYS_gettid);
  // A known FPU and SSE state, and the signal sent by the very next instruction.
#if WIDE
  __asm__ volatile(
      "fninit\n fld1\n fldpi\n fldz\n movups %0, %%xmm0\n movups %0, %%xmm3\n pxor %%xmm1, %%xmm1\n pxor %%xmm2, %%xmm2\n"
      "mov $0x1212, %%r12\n mov $0x1313, %%r13\n mov $0x1414, %%r14\n mov $0x1515, %%r15\n"
      "syscall\n fstp %%st\n fstp %%st\n fstp %%st" ::"m"(pattern),
      "a"(SYS_tgkill), "D"(pid), "S"(tid), "d"(SIGUSR1)
      : "rcx", "r11", "r12", "r13", "r14", "r15", "memory", "xmm0", "xmm1", "xmm2", "xmm3");
#else
  __asm__ volatile(
      "fninit\n fld1\n fldpi\n fldz\n movups %0, %%xmm0\n movups %0, %%xmm3\n pxor %%xmm1, %%xmm1\n pxor %%xmm2, %%xmm2\n"
      "int $0x80\n fstp %%st\n fstp %%st\n fstp %%st" ::"m"(pattern),
      "a"(SYS_tgkill), "b"(pid), "c"(tid), "d"(SIGUSR1)
      : "memory", "xmm0", "xmm1", "xmm2", "xmm3");
#endif
  onSimple(SIGUSR1, plain, 0);
  raise(SIGUSR1);

  on(SIGUSR2, where, SA_SIGINFO);
  raise(SIGUSR2);
  stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 0};
  printf("sigaltstack %s\n", err(sigaltstack(&alt, 0)));
  raise(SIGUSR2);
  on(SIGUSR2, where, SA_SIGINFO | SA_ONSTACK);
  raise(SIGUSR2);
  alt.ss_flags = (int)(1u << 31);
  printf("autodisarm %s\n", err(sigaltstack(&alt, 0)));
  raise(SIGUSR2);
  stack_t now;
  sigaltstack(0, &now);
  printf("after: flags %x size %zu\n", now.ss_flags, now.ss_size);

  // State survives a handler that spoils it.
  onSimple(SIGUSR1, clobber, 0);
  uint32_t xmm0[4], xmm7[4];
  double top;
  unsigned long flags;
#if WIDE
  __asm__ volatile(
      "fninit\n fld1\n movups %4, %%xmm0\n movups %4, %%xmm7\n std\n stc\n syscall\n pushf\n pop %0\n cld\n"
      "movups %%xmm0, %1\n movups %%xmm7, %2\n fstpl %3"
      : "=&r"(flags), "=m"(xmm0), "=m"(xmm7), "=m"(top)
      : "m"(pattern), "a"(SYS_tgkill), "D"(pid), "S"(tid), "d"(SIGUSR1)
      : "rcx", "r11", "memory", "xmm0", "xmm7");
#else
  __asm__ volatile(
      "fninit\n fld1\n movups %4, %%xmm0\n movups %4, %%xmm7\n std\n stc\n int $0x80\n pushf\n pop %0\n cld\n"
      "movups %%xmm0, %1\n movups %%xmm7, %2\n fstpl %3"
      : "=&S"(flags), "=m"(xmm0), "=m"(xmm7), "=m"(top)
      : "m"(pattern), "a"(SYS_tgkill), "b"(pid), "c"(tid), "d"(SIGUSR1)
      : "memory", "xmm0", "xmm7");
#endif
  printf("kept: %d %d top %g df %d cf %d\n", memcmp(xmm0, pattern, 16), memcmp(xmm7, pattern, 16), top,
         (int)(flags >> 10 & 1), (int)(flags & 1));
  return 0;
}
