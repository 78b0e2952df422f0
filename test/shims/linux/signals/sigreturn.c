// What sigreturn restores, and what it refuses.
#include "handler-guest.h"
#include <asm/ldt.h>

static volatile int step;
static volatile unsigned long seenFlags, wanted;
static sigjmp_buf back;
static unsigned own;

static void edit(int number, siginfo_t *i, void *context) {
  ucontext_t *uc = context;
  (void)number;
  (void)i;
#if WIDE
  uint16_t *selectors = (uint16_t *)&uc->uc_mcontext.gregs[REG_CSGSFS];
#define CS selectors[0]
#define SS selectors[3]
#else
  uint32_t *c = (uint32_t *)&uc->uc_mcontext;
#define GS c[0]
#define FS c[1]
#define ES c[2]
#define CS c[15]
#define SS c[18]
#endif
  switch (step) {
    case 1: uc->uc_mcontext.gregs[FLAGS] = (long)wanted; break;
    case 2: CS = 0; break;
    case 3: CS = 0x13; break;
    case 4: SS = 0x23; break;
    case 5: SS = 0x7; break;
    case 6: CS = 0xf; break;
    case 7: SS = 0x17; break;
    case 8: CS = 0x1f; break;
    case 9: CS &= ~3, SS &= ~3; break;
#if !WIDE
    case 10: GS = 0x27; break;
    case 11: GS = 0x1237; break;
    case 12: FS = 0x24; break;
    case 13: ES = 0xf; break;
#endif
    case 20: ((char *)uc->uc_mcontext.fpregs)[27 + (WIDE ? 0 : 112)] = (char)0xff; break;
    case 21: memset(&uc->uc_mcontext.fpregs, 0, sizeof uc->uc_mcontext.fpregs); break;
    case 22: uc->uc_mcontext.fpregs = (void *)8; break;
    case 23: sigaddset(&uc->uc_sigmask, SIGHUP); sigaddset(&uc->uc_sigmask, SIGKILL); break;
    case 24: uc->uc_stack.ss_flags = 0x77; break;
    default: break;
  }
}

static void caught(int number, siginfo_t *i, void *context) {
#if WIDE
  unsigned long csgsfs = (unsigned long)greg(context, REG_CSGSFS);
  unsigned cs = csgsfs & 0xffff, ss = (unsigned)(csgsfs >> 48);
#else
  unsigned cs = (unsigned)greg(context, REG_CS), ss = (unsigned)greg(context, REG_SS);
#endif
  printf("  signal %d code %d address %lx trapno %ld err %lx cs %x ss %x\n", number, i->si_code, (long)i->si_addr,
         (long)greg(context, REG_TRAPNO), (long)greg(context, REG_ERR), cs, ss);
  unsigned short now;
  __asm__ volatile("mov %%ss, %0" : "=r"(now));
  printf("  handler ss %x\n", now);
  siglongjmp(back, 1);
}

static void attempt(int n) {
  printf("%d\n", n);
  step = n;
  if (sigsetjmp(back, 1) == 0) {
    unsigned cs, ss;
    long pid = getpid();
#if WIDE
    __asm__ volatile("syscall\n mov %%cs, %0\n mov %%ss, %1" : "=&r"(cs), "=&r"(ss) : "a"(SYS_tgkill), "D"(pid), "S"(pid), "d"(SIGUSR1) : "rcx", "r11", "memory");
#else
    // What follows must not use a GS that is not the thread's own.
    unsigned seen[5];
    __asm__ volatile("int $0x80\n mov %%gs, %%ebx\n mov %%ebx, (%3)\n mov %%fs, %%ebx\n mov %%ebx, 4(%3)\n mov %%es, %%ebx\n mov %%ebx, 8(%3)\n"
                     "mov %%cs, %%ebx\n mov %%ebx, 12(%3)\n mov %%ss, %%ebx\n mov %%ebx, 16(%3)\n mov 4(%4), %%ebx\n mov %%ebx, %%es\n mov %%ebx, %%ss\n mov (%4), %%ebx\n mov %%ebx, %%gs"
                     : "+a"((int){SYS_tgkill}), "+b"(pid) : "c"(pid), "D"(seen), "S"((unsigned[]){own, 0x2b}), "d"(SIGUSR1) : "memory");
    printf("  gs %s %x fs %x es %x", seen[0] == own ? "kept" : "changed", seen[0] == own ? 0 : seen[0], seen[1], seen[2]);
    cs = seen[3], ss = seen[4];
#endif
    printf("  cs %x ss %x\n", cs, ss);
  }
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  static char stack[65536];
  stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alt, 0);
  on(SIGUSR1, edit, SA_SIGINFO);
  on(SIGSEGV, caught, SA_SIGINFO | SA_ONSTACK);
  on(SIGBUS, caught, SA_SIGINFO | SA_ONSTACK);
  // LDT: 0 data, 1 code that is not there, 2 data that is not there, 3 code of 16 bits but not there, 4 data.
  for (int entry = 0; entry < 5; entry++) {
    struct user_desc d;
    memset(&d, 0, sizeof d);
    d.entry_number = (unsigned)entry;
    d.limit = 0xfffff;
    d.seg_32bit = entry != 3;
    d.limit_in_pages = 1;
    d.contents = entry == 1 || entry == 3 ? 2 : 0;
    d.seg_not_present = entry >= 1 && entry <= 3;
    if (syscall(SYS_modify_ldt, 0x11, &d, sizeof d) != 0) perror("modify_ldt");
  }
#if !WIDE
  unsigned short gs;
  __asm__("mov %%gs, %0" : "=r"(gs));
  own = gs;
#endif
  for (int n = 2; n <= (WIDE ? 9 : 13); n++) attempt(n);
  for (int n = 20; n <= 24; n++) attempt(n);
  sigset_t now;
  sigprocmask(SIG_BLOCK, 0, &now);
  printf("mask %d %d\n", sigismember(&now, SIGHUP), sigismember(&now, SIGKILL));

  // Which flags come back: all bits set, then none.
  for (int round = 0; round < 2; round++) {
    step = 1;
    wanted = round == 0 ? ~0x140100ul : 0;  // not TF, AC and VIF
    raise(SIGUSR1);
    long result;
#if WIDE
    __asm__ volatile("syscall\n pushf\n pop %0\n push $0x202\n popf" : "=r"(seenFlags), "=a"(result) : "a"(SYS_tgkill), "D"((long)getpid()), "S"((long)getpid()), "d"(SIGUSR1) : "rcx", "r11", "memory");
#else
    __asm__ volatile("int $0x80\n pushf\n pop %0\n push $0x202\n popf" : "=S"(seenFlags), "=a"(result) : "a"(SYS_tgkill), "b"((long)getpid()), "c"((long)getpid()), "d"(SIGUSR1) : "memory");
#endif
    printf("flags %lx result %ld\n", seenFlags, result);
  }
  return 0;
}
