// Every exception a program can cause: signal, code, address, trap number, error code, flags, and where RIP is.
#include "handler-guest.h"
#include <fcntl.h>

static sigjmp_buf back;
static volatile uintptr_t base;
static volatile uintptr_t mark;

static void handler(int number, siginfo_t *i, void *context) {
  uintptr_t address = (uintptr_t)i->si_addr;
  uintptr_t pc = (uintptr_t)greg(context, IP);
  char text[64];
  if (i->si_code == SI_KERNEL || i->si_code <= 0) sprintf(text, "address %lx", (long)address);
  else if (address == pc) sprintf(text, "address pc");
  else if (base != 0 && address - base < 0x100000) sprintf(text, "address base+%lx", (long)(address - base));
  else sprintf(text, "address %lx", (long)address);
  long trapno = greg(context, REG_TRAPNO), error = greg(context, REG_ERR);
#if WIDE
  uintptr_t cr2 = (uintptr_t)greg(context, REG_CR2);
#else
  uintptr_t cr2 = ((ucontext_t *)context)->uc_mcontext.cr2;
#endif
  printf("  signal %d code %d %s trapno %ld err %lx flags %lx pc%+ld cr2 %s\n", number, i->si_code, text, trapno, error,
         (long)greg(context, FLAGS) & 0x1ffff & ~0x8d5l, (long)(pc - mark),
         trapno != 14 ? "-" : cr2 == address ? "same" : "other");
  siglongjmp(back, 1);
}

// Runs CODE with the address of its first instruction in `mark`.
#if WIDE
#define MARK(label) "lea " label "(%%rip), %%rax\n mov %%rax, %0\n"
#define CLOBBER "rax", "rbx", "rcx", "memory", "cc"
#else
#define MARK(label) "call 77f\n77: pop %%eax\n add $(" label " - 77b), %%eax\n mov %%eax, %0\n"
#define CLOBBER "eax", "ecx", "memory", "cc"
#endif
#define TRY(name, code, ...)                                                                     \
  do {                                                                                           \
    printf("%s\n", name);                                                                        \
    if (sigsetjmp(back, 1) == 0) {                                                               \
      __asm__ volatile(MARK("1f") "1: " code "\n" : "=m"(mark) : __VA_ARGS__ : CLOBBER);         \
      printf("  nothing happened\n");                                                            \
    }                                                                                            \
  } while (0)

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  for (int s = 1; s < 32; s++)
    if (s == SIGSEGV || s == SIGBUS || s == SIGILL || s == SIGFPE || s == SIGTRAP) on(s, handler, SA_SIGINFO | SA_ONSTACK);
  static char stack[65536];
  stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alt, 0);
  char *page = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base = (uintptr_t)page;
  // Touched, so that something is there to forbid; but one page of what is read-only is not.
  for (int i = 0; i < 4; i++) page[i * 4096] = 1;
  mprotect(page + 7 * 4096, 4096, PROT_READ);
  munmap(page + 4096, 4096);
  mprotect(page + 2 * 4096, 4096, PROT_READ);
  mprotect(page + 3 * 4096, 4096, PROT_NONE);
  page[4 * 4096] = 0x90;
  char name[] = "/tmp/signal-fault-XXXXXX";
  int fd = mkstemp(name);
  unlink(name);
  if (ftruncate(fd, 4096) != 0) perror("ftruncate");
  char *file = mmap(page + 5 * 4096, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);

  TRY("null read", "movl 0, %%ecx", "d"(0));
  TRY("null write", "movl %%ecx, 0", "d"(0));
  TRY("unmapped read", "movb (%1), %%cl", "d"(page + 4096 + 5));
  TRY("unmapped write across", "movl %%ecx, (%1)", "d"(page + 4094));
  TRY("read-only write", "movl %%ecx, (%1)", "d"(page + 2 * 4096 + 8));
  TRY("write to untouched read-only", "movl %%ecx, (%1)", "d"(page + 7 * 4096 + 8));
  TRY("no access read", "movl (%1), %%ecx", "d"(page + 3 * 4096));
  TRY("no access write", "movl %%ecx, (%1)", "d"(page + 3 * 4096));
  TRY("read-modify-write of read-only", "lock; addl $1, (%1)", "d"(page + 2 * 4096));
  TRY("beyond the file", "movl (%1), %%ecx", "d"(file + 4096 + 12));
  TRY("write beyond the file", "movl %%ecx, (%1)", "d"(file + 4096 + 12));
  printf("fetches\n");
  mark = (uintptr_t)page + 4 * 4096;
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))(page + 4 * 4096))();
  mark = (uintptr_t)page + 4096;
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))(page + 4096))();
  mark = 0x10;
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))(uintptr_t)0x10)();
#if WIDE
  TRY("kernel read", "movl (%1), %%ecx", "d"(0xffff888000000000ul));
  TRY("top of user space", "movl (%1), %%ecx", "d"(0x7ffffffff000ul));
  TRY("last byte", "movb (%1), %%cl", "d"(-1l));
  TRY("kernel write", "movb %%cl, (%1)", "d"(0xffffffff81234567ul));
  TRY("not canonical", "movl (%1), %%ecx", "d"(0x1234567800000000ul));
  TRY("not canonical stack", "mov %%rsp, %%rbx\n mov %1, %%rsp\n 1: push %%rcx", "d"(0x1234567800000000ul));
#else
  TRY("top of user space", "movl (%1), %%ecx", "d"(0xfffff000ul));
#endif
  TRY("divide", "xor %%ecx, %%ecx\n div %%ecx", "d"(0));
  TRY("divide overflow", "mov $1, %%ecx\n mov $5, %%edx\n div %%ecx", "d"(0));
  TRY("ud2", "ud2", "d"(0));
  TRY("hlt", "hlt", "d"(0));
  TRY("cli", "cli", "d"(0));
  TRY("in", "in $0x10, %%al", "d"(0));
  TRY("rdmsr", "rdmsr", "d"(0));
  TRY("mov cr0", ".byte 0x0f, 0x20, 0xc1", "d"(0));
  TRY("int3", "int3", "d"(0));
  TRY("int $3", ".byte 0xcd, 3", "d"(0));
  TRY("int $4", "int $4", "d"(0));
  TRY("int $0", "int $0", "d"(0));
  TRY("int $1", "int $1", "d"(0));
  TRY("int $14", "int $14", "d"(0));
  TRY("int $0x42", "int $0x42", "d"(0));
  TRY("int $0xff", "int $0xff", "d"(0));
#if !WIDE
  TRY("into", "movb $0x7f, %%al\n addb $1, %%al\n into", "d"(0));
  static const int bounds[2] = {1, 5};
  TRY("bound", "mov $9, %%ecx\n bound %%ecx, (%1)", "d"(bounds));
#endif
  static const unsigned short control = 0x37b;
  TRY("x87 divide", "fninit\n fldcw %1\n fld1\n fldz\n fdivrp\n fwait", "m"(control));
  __asm__ volatile("fninit");
  TRY("null selector", "mov $8, %%ecx\n mov %%ecx, %%es", "d"(0));
  TRY("bad selector", "mov $0x1237, %%ecx\n mov %%ecx, %%fs", "d"(0));
  TRY("privileged selector", "mov $0x18, %%ecx\n mov %%ecx, %%ss", "d"(0));
  return 0;
}
