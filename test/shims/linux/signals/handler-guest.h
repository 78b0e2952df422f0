// What the signal guests share: they print only what every run on every machine has in common.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __x86_64__
#define WIDE 1
#define IP REG_RIP
#define SP REG_RSP
#define AX REG_RAX
#define BX REG_RBX
#define FLAGS REG_EFL
#else
#define WIDE 0
#define IP REG_EIP
#define SP REG_ESP
#define AX REG_EAX
#define BX REG_EBX
#define FLAGS REG_EFL
#endif

static inline long greg(void *uc, int n) { return ((ucontext_t *)uc)->uc_mcontext.gregs[n]; }

static inline void on(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  if (sigaction(number, &action, 0) != 0) perror("sigaction");
}

static inline void onSimple(int number, void (*handler)(int), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  if (sigaction(number, &action, 0) != 0) perror("sigaction");
}

static inline void reset(int number) { onSimple(number, SIG_DFL, 0); }

// strerrorname_np for musl's sake.
static inline const char *err(long result) {
  if (result >= 0) return "ok";
  switch (errno) {
    case EAGAIN: return "EAGAIN";
    case EFAULT: return "EFAULT";
    case EINTR: return "EINTR";
    case EINVAL: return "EINVAL";
    case ENOMEM: return "ENOMEM";
    case EPERM: return "EPERM";
    case ESRCH: return "ESRCH";
    case EBADF: return "EBADF";
    case EOPNOTSUPP: return "EOPNOTSUPP";
    case ENOSYS: return "ENOSYS";
    case E2BIG: return "E2BIG";
    default: return strerror(errno);
  }
}
