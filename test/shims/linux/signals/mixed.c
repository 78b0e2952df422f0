// A 64-bit program whose handlers were set by `int $0x80`: they run in 32-bit code, on frames of i386.
// Built for x86-64 without PIE, so that its code lies below 4 GiB.
#include "handler-guest.h"

static volatile uint32_t results[8] __attribute__((used));
__asm__(
    ".code32\n"
    "handler32: mov 4(%esp), %eax\n mov %eax, results\n mov %cs, %eax\n mov %eax, results+4\n mov %ss, %eax\n mov %eax, results+8\n"
    "mov %ds, %eax\n mov %eax, results+12\n mov 8+60(%esp), %eax\n mov %eax, results+16\n mov %es, %eax\n mov %eax, results+20\n ret\n"
    "restorer32: pop %eax\n mov $119, %eax\n int $0x80\n"
    "rthandler32: mov 12(%esp), %eax\n mov 20+60(%eax), %eax\n mov %eax, results+24\n mov 8(%esp), %eax\n mov 8(%eax), %eax\n mov %eax, results+28\n ret\n"
    "rtrestorer32: mov $173, %eax\n int $0x80\n"
    ".code64\n");
extern char handler32[], restorer32[], rthandler32[], rtrestorer32[];

static long int80(long number, long a, long b, long c, long d) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory", "r8", "r9", "r10", "r11");
  return result;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  char *low = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  uint32_t *action = (uint32_t *)low;
  // struct old_sigaction: handler, mask, flags, restorer.
  action[0] = (uint32_t)(uintptr_t)handler32;
  action[1] = 0;
  action[2] = 0x04000000;
  action[3] = (uint32_t)(uintptr_t)restorer32;
  printf("sigaction %ld\n", int80(67, SIGUSR1, (long)action, 0, 0));
  action[0] = (uint32_t)(uintptr_t)rthandler32;
  action[1] = 0x04000004;
  action[2] = (uint32_t)(uintptr_t)rtrestorer32;
  action[3] = action[4] = 0;
  printf("rt_sigaction %ld\n", int80(174, SIGUSR2, (long)action, 0, 8));
  long pid = getpid();
  for (int round = 0; round < 2; round++) {
    unsigned long r12 = 0, r15 = 0, stack = (unsigned long)low + 60000;
    long result;
    __asm__ volatile("mov %%rsp, %%r13\n mov %3, %%rsp\n mov $0x1234567890, %%r12\n mov $-5, %%r15\n syscall\n mov %%r13, %%rsp\n mov %%r12, %1\n mov %%r15, %2"
                     : "=a"(result), "=r"(r12), "=r"(r15)
                     : "r"(stack), "a"(SYS_kill), "D"(pid), "S"(round == 0 ? SIGUSR1 : SIGUSR2)
                     : "rbx", "r13", "rcx", "r11", "r12", "r15", "memory");
    (void)stack;
    printf("back %ld %lx %lx\n", result, r12, r15);
  }
  for (int i = 0; i < 8; i++) printf(" %x", results[i]);
  printf("\n");
  return 0;
}
