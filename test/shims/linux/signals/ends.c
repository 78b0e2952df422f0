// How processes end by signals; the first argument says by which way.
#include "handler-guest.h"
#include <sys/resource.h>

static void handler(int number) {
  printf("handled %d\n", number);
  signal(number, SIG_DFL);
}
static void again(int number) {
  printf("in handler %d\n", number);
  raise(SIGABRT);
}

int main(int argc, char **argv) {
  setvbuf(stdout, 0, _IONBF, 0);
  const char *how = argc > 1 ? argv[1] : "";
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  sigset_t all;
  sigfillset(&all);
  if (!strncmp(how, "default", 7)) raise(atoi(how + 7));
  if (!strcmp(how, "null")) *(volatile int *)0 = 1;
  if (!strcmp(how, "blocked")) sigprocmask(SIG_BLOCK, &all, 0), *(volatile int *)0 = 1;
  if (!strcmp(how, "ignored")) signal(SIGSEGV, SIG_IGN), *(volatile int *)0 = 1;
  if (!strcmp(how, "blocked-handled")) onSimple(SIGSEGV, handler, 0), sigprocmask(SIG_BLOCK, &all, 0), *(volatile int *)0 = 1;
  if (!strcmp(how, "twice")) onSimple(SIGSEGV, handler, 0), *(volatile int *)0 = 1;
  if (!strcmp(how, "stack")) {
    onSimple(SIGSEGV, handler, 0);
    onSimple(SIGUSR1, handler, 0);
    long pid = getpid();
#if WIDE
    __asm__ volatile("mov $16, %%rsp\n syscall" ::"a"(SYS_kill), "D"(pid), "S"(SIGUSR1));
#else
    __asm__ volatile("mov $16, %%esp\n int $0x80" ::"a"(SYS_kill), "b"(pid), "c"(SIGUSR1));
#endif
  }
  if (!strcmp(how, "stack-alternate")) {
    static char stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alt, 0);
    onSimple(SIGSEGV, again, SA_ONSTACK);
    onSimple(SIGUSR1, handler, 0);
    long pid = getpid();
#if WIDE
    __asm__ volatile("mov $16, %%rsp\n syscall" ::"a"(SYS_kill), "D"(pid), "S"(SIGUSR1));
#else
    __asm__ volatile("mov $16, %%esp\n int $0x80" ::"a"(SYS_kill), "b"(pid), "c"(SIGUSR1));
#endif
  }
  if (!strcmp(how, "small-alternate")) {
    static char stack[2048] __attribute__((aligned(16)));
    stack_t alt = {.ss_sp = stack + 1024, .ss_size = 2048};
    // Too small for a frame with FPU state once the stack pointer is deep in it.
    sigaltstack(&alt, 0);
    onSimple(SIGUSR1, again, SA_ONSTACK);
    long pid = getpid();
#if WIDE
    __asm__ volatile("mov %3, %%rsp\n syscall" ::"a"(SYS_kill), "D"(pid), "S"(SIGUSR1), "r"(stack + 1024 + 200));
#else
    __asm__ volatile("mov %3, %%esp\n int $0x80" ::"a"(SYS_kill), "b"(pid), "c"(SIGUSR1), "r"(stack + 1024 + 200));
#endif
  }
  if (!strcmp(how, "frame")) {
    // A sigreturn without a frame.
#if WIDE
    __asm__ volatile("mov $64, %%rsp\n syscall" ::"a"(SYS_rt_sigreturn));
#else
    __asm__ volatile("mov $64, %%esp\n int $0x80" ::"a"(SYS_sigreturn));
#endif
  }
  if (!strcmp(how, "kill-first")) {
    onSimple(SIGINT, again, 0);
    sigprocmask(SIG_BLOCK, &all, 0);
    kill(getpid(), SIGINT);
    kill(getpid(), SIGTERM);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
  }
  if (!strcmp(how, "alarm")) {
    alarm(1);
    for (;;)
      ;
  }
  if (!strcmp(how, "abort")) abort();
  if (!strcmp(how, "rt")) raise(SIGRTMIN + 3);
  printf("still here\n");
  return 3;
}
