// Single-stepping with TF, through calls and across handlers.
#include "handler-guest.h"

static uintptr_t seen[64];
static int count;
static unsigned long flags0;
static void trap(int number, siginfo_t *i, void *context) {
  unsigned long flags;
  __asm__ volatile("pushf\n pop %0" : "=r"(flags));
  if (count == 0) flags0 = flags & 0x100;
  if (count < 64) seen[count++] = (uintptr_t)greg(context, IP);
  if (i->si_code != TRAP_TRACE || (uintptr_t)i->si_addr != (uintptr_t)greg(context, IP) || greg(context, REG_TRAPNO) != 1) printf("odd code %d number %d\n", i->si_code, number);
}
extern char from[], to[];

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  on(SIGTRAP, trap, SA_SIGINFO);
#if WIDE
  __asm__ volatile(
      "pushf\n orl $0x100, (%%rsp)\n popf\n .globl from\nfrom: nop\n mov $39, %%eax\n syscall\n nop\n xor %%ecx, %%ecx\n rep stosb\n"
      "mov $3, %%ecx\n lea -256(%%rsp), %%rdi\n rep stosb\n pushf\n andl $~0x100, (%%rsp)\n popf\n .globl to\nto: nop\n" ::: "rax", "rcx", "rdi", "r11", "memory");
#else
  __asm__ volatile(
      "pushf\n orl $0x100, (%%esp)\n popf\n .globl from\nfrom: nop\n mov $20, %%eax\n int $0x80\n nop\n xor %%ecx, %%ecx\n rep stosb\n"
      "mov $3, %%ecx\n lea -256(%%esp), %%edi\n rep stosb\n pushf\n andl $~0x100, (%%esp)\n popf\n .globl to\nto: nop\n" ::: "eax", "ecx", "edi", "memory");
#endif
  printf("%d steps, TF in handler %lx:", count, flags0);
  for (int i = 0; i < count; i++) printf(" %ld", (long)(seen[i] - (uintptr_t)from));
  printf(" end %ld\n", (long)(to - from));
  return 0;
}
