// Actions, masks, queues, stacks, and every errno of the calls around them; raw calls, so that no libc is in between.
#include "handler-guest.h"
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <poll.h>

#if WIDE
typedef struct { unsigned long handler, flags, restorer, mask; } Action;
#else
typedef struct { unsigned long handler, flags, restorer; uint32_t mask[2]; } Action;
typedef struct { unsigned long handler; uint32_t mask; unsigned long flags, restorer; } OldAction;
#endif
#define CALL(...) err(syscall(__VA_ARGS__))

static int order[64], count;
static void note(int number, siginfo_t *i, void *c) {
  (void)c;
  order[count++] = number;
  printf("  %d code %d value %d\n", number, i->si_code, i->si_code == SI_QUEUE ? i->si_value.sival_int : -1);
}
static void nested(int number, siginfo_t *i, void *c) {
  sigset_t now;
  (void)c;
  sigprocmask(SIG_BLOCK, 0, &now);
  printf("  in %d: blocked self %d usr2 %d\n", number, sigismember(&now, number), sigismember(&now, SIGUSR2));
  (void)i;
}

static void queue(int number, int value) {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  info.si_code = SI_QUEUE;
  info.si_pid = 77;
  info.si_uid = 88;
  info.si_value.sival_int = value;
  printf("queue %d: %s\n", number, CALL(SYS_rt_sigqueueinfo, getpid(), number, &info));
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  long pid = getpid(), tid = syscall(SYS_gettid);
  Action action, old;
  memset(&action, 0, sizeof action);
  printf("sigaction\n");
  for (int n = -1; n < 70; n += 1)
    if (n < 2 || n == 9 || n == 19 || n > 63) printf(" %d %s", n, CALL(SYS_rt_sigaction, n, &action, 0, 8));
  printf("\n size %s", CALL(SYS_rt_sigaction, 1, 0, &old, 4));
  printf(" query kill %s", CALL(SYS_rt_sigaction, 9, 0, &old, 8));
  printf(" new fault %s", CALL(SYS_rt_sigaction, 1, (void *)8, 0, 8));
  printf(" old fault %s", CALL(SYS_rt_sigaction, 1, 0, (void *)8, 8));
  action.flags = ~0ul;
  action.handler = 0x1234;
  memset(&action.mask, 0xff, sizeof action.mask);
  action.restorer = 0x5678;
  printf(" set %s", CALL(SYS_rt_sigaction, 10, &action, 0, 8));
  memset(&old, 0xee, sizeof old);
  printf(" get %s", CALL(SYS_rt_sigaction, 10, 0, &old, 8));
  printf(" handler %lx flags %lx restorer %lx mask %lx\n", old.handler, old.flags, old.restorer, *(unsigned long *)&old.mask);
#if !WIDE
  OldAction o = {0x1111, 0x80010203, 0x10000000, 0x2222}, p;
  printf("old sigaction %s", CALL(SYS_sigaction, 12, &o, 0));
  printf(" %s", CALL(SYS_sigaction, 12, 0, &p));
  printf(" %lx %x %lx %lx\n", p.handler, p.mask, p.flags, p.restorer);
  printf("signal %lx", syscall(SYS_signal, 12, 0x4444));
  printf(" %s", CALL(SYS_sigaction, 12, 0, &p));
  printf(" %lx %x %lx\n", p.handler, p.mask, p.flags);
  printf("signal %s %s\n", CALL(SYS_signal, 9, 0), CALL(SYS_signal, 0, 0));
  uint32_t word = 0x40000100, got = 0;
  uint64_t all = ~0ull, full = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, 8);
  printf("old mask %s", CALL(SYS_sigprocmask, SIG_SETMASK, &word, &got));
  syscall(SYS_rt_sigprocmask, 0, 0, &full, 8);
  printf(" %x now %llx; sgetmask %lx\n", got, (unsigned long long)full, syscall(SYS_sgetmask));
  printf("ssetmask %lx", syscall(SYS_ssetmask, 0x300));
  syscall(SYS_rt_sigprocmask, 0, 0, &full, 8);
  printf(" now %llx how %s\n", (unsigned long long)full, CALL(SYS_sigprocmask, 9, &word, 0));
  full = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &full, 0, 8);
#endif
  reset(SIGUSR1), reset(SIGUSR2);

  printf("masks\n");
  uint64_t set = ~0ull, was = 1;
  printf(" %s", CALL(SYS_rt_sigprocmask, SIG_SETMASK, &set, &was, 8));
  printf(" was %llx", (unsigned long long)was);
  printf(" %s", CALL(SYS_rt_sigprocmask, 7, 0, &was, 8));
  printf(" now %llx", (unsigned long long)was);
  printf(" how %s size %s fault %s\n", CALL(SYS_rt_sigprocmask, 7, &set, 0, 8), CALL(SYS_rt_sigprocmask, 0, &set, 0, 16),
         CALL(SYS_rt_sigprocmask, 0, (void *)1, 0, 8));

  printf("sending\n");
  printf(" kill 0 %s", CALL(SYS_kill, pid, 0));
  printf(" bad signal %s", CALL(SYS_kill, pid, 65));
  printf(" negative signal %s", CALL(SYS_kill, pid, -1));
  printf(" nobody %s", CALL(SYS_kill, 0x3fffffff, 0));
  printf(" no group %s", CALL(SYS_kill, -0x3fffffff, 0));
  printf(" int_min %s", CALL(SYS_kill, (int)0x80000000, 0));
  printf(" tkill %s %s", CALL(SYS_tkill, 0, 1), CALL(SYS_tkill, tid, 65));
  printf(" %s", CALL(SYS_tkill, 0x3fffffff, 1));
  printf(" tgkill %s %s %s\n", CALL(SYS_tgkill, 0, tid, 1), CALL(SYS_tgkill, pid, 0x3fffffff, 1), CALL(SYS_tgkill, 0x3fffffff, tid, 1));

  printf("queues\n");
  on(SIGUSR1, note, SA_SIGINFO);
  on(SIGUSR2, note, SA_SIGINFO);
  on(SIGRTMIN, note, SA_SIGINFO);
  on(SIGRTMIN + 1, note, SA_SIGINFO);
  queue(SIGRTMIN + 1, 1);
  queue(SIGRTMIN, 2);
  queue(SIGRTMIN, 3);
  queue(SIGUSR2, 4);
  queue(SIGUSR2, 5);
  queue(SIGUSR1, 6);
  syscall(SYS_tgkill, pid, tid, SIGUSR1);
  uint64_t pending = 0;
  printf("pending %s", CALL(SYS_rt_sigpending, &pending, 8));
  printf(" %llx short %s long %s\n", (unsigned long long)pending, CALL(SYS_rt_sigpending, &pending, 3), CALL(SYS_rt_sigpending, &pending, 9));
  set = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, 0, 8);
  for (int i = 0; i < count; i++) printf(" %d", order[i]);
  printf("\n");
  siginfo_t info;
  memset(&info, 0, sizeof info);
  info.si_code = SI_USER;
  printf("queue as user %s", CALL(SYS_rt_sigqueueinfo, pid, 0, &info));
  printf(" to another %s", CALL(SYS_rt_sigqueueinfo, 1, 0, &info));
  info.si_code = SI_TKILL;
  printf(" tkill to another %s", CALL(SYS_rt_tgsigqueueinfo, pid, 0x3fffffff, 0, &info));
  info.si_code = SI_QUEUE;
  printf(" nobody %s", CALL(SYS_rt_sigqueueinfo, 0x3fffffff, 0, &info));
  printf(" fault %s", CALL(SYS_rt_sigqueueinfo, pid, 0, (void *)3));
  printf(" tg %s\n", CALL(SYS_rt_tgsigqueueinfo, pid, tid, SIGUSR2, &info));

  printf("limit\n");
  struct rlimit limit = {0, 0};
  set = ~0ull;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, 0, 8);
  setrlimit(RLIMIT_SIGPENDING, &limit);
  queue(SIGRTMIN, 9);
  queue(SIGUSR1, 9);
  printf("kill rt %s", CALL(SYS_kill, pid, SIGRTMIN + 1));
  printf(" kill %s\n", CALL(SYS_kill, pid, SIGUSR2));
  set = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, 0, 8);

  printf("flags\n");
  on(SIGUSR1, nested, SA_SIGINFO);
  raise(SIGUSR1);
  on(SIGUSR1, nested, SA_SIGINFO | SA_NODEFER);
  raise(SIGUSR1);
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = nested;
  a.sa_flags = SA_SIGINFO | SA_RESETHAND;
  sigaddset(&a.sa_mask, SIGUSR2);
  sigaction(SIGUSR1, &a, 0);
  raise(SIGUSR1);
  sigaction(SIGUSR1, 0, &a);
  printf("after RESETHAND: default %d flags %x\n", a.sa_handler == SIG_DFL, a.sa_flags & ~0x04000000);

  printf("ignoring\n");
  set = ~0ull;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, 0, 8);
  syscall(SYS_kill, pid, SIGUSR1);
  syscall(SYS_kill, pid, SIGWINCH);
  syscall(SYS_kill, pid, SIGCONT);
  syscall(SYS_rt_sigpending, &pending, 8);
  printf(" pending %llx", (unsigned long long)pending);
  signal(SIGUSR1, SIG_IGN);
  signal(SIGWINCH, SIG_DFL);
  syscall(SYS_rt_sigpending, &pending, 8);
  printf(" after SIG_IGN %llx", (unsigned long long)pending);
  syscall(SYS_kill, pid, SIGTSTP);
  syscall(SYS_rt_sigpending, &pending, 8);
  printf(" after TSTP %llx", (unsigned long long)pending);
  syscall(SYS_kill, pid, SIGCONT);
  syscall(SYS_rt_sigpending, &pending, 8);
  printf(" after CONT %llx\n", (unsigned long long)pending);
  set = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, 0, 8);

  printf("stacks\n");
  static char stack[16384];
  stack_t s = {.ss_sp = stack, .ss_size = 2047}, t;
  printf(" small %s", CALL(SYS_sigaltstack, &s, 0));
  s.ss_size = sizeof stack;
  s.ss_flags = 4;
  printf(" flags %s", CALL(SYS_sigaltstack, &s, 0));
  s.ss_flags = SS_ONSTACK;
  printf(" onstack %s", CALL(SYS_sigaltstack, &s, 0));
  printf(" get %s", CALL(SYS_sigaltstack, 0, &t));
  printf(" %d %x %zu", t.ss_sp == stack, t.ss_flags, t.ss_size);
  s.ss_flags = SS_DISABLE;
  printf(" disable %s", CALL(SYS_sigaltstack, &s, &t));
  printf(" %x", t.ss_flags);
  sigaltstack(0, &t);
  printf(" %p %x %zu fault %s %s\n", t.ss_sp, t.ss_flags, t.ss_size, CALL(SYS_sigaltstack, (void *)4, 0), CALL(SYS_sigaltstack, 0, (void *)4));

  printf("signalfd\n");
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR2);
  sigaddset(&wanted, SIGRTMIN + 2);
  sigprocmask(SIG_BLOCK, &wanted, 0);
  int fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
  struct signalfd_siginfo records[3];
  printf(" empty %s", err(read(fd, records, sizeof records)));
  printf(" short %s", err(read(fd, records, 127)));
  struct pollfd p1 = {.fd = fd, .events = POLLIN};
  printf(" poll %d", poll(&p1, 1, 0));
  union sigval v = {.sival_int = 42};
  limit.rlim_cur = 0;
  syscall(SYS_tgkill, pid, tid, SIGUSR2);
  printf(" poll %d %x", poll(&p1, 1, 0), p1.revents);
  (void)v;
  long n = read(fd, records, sizeof records);
  printf(" read %ld signal %u code %d mine %d\n", n, records[0].ssi_signo, records[0].ssi_code, records[0].ssi_pid == (uint32_t)pid);
  printf(" bad fd %s not one %s flags %s size %s\n", CALL(SYS_signalfd4, 99, &wanted, 8, 0), CALL(SYS_signalfd4, 1, &wanted, 8, 0),
         CALL(SYS_signalfd4, -1, &wanted, 8, 1), CALL(SYS_signalfd4, -1, &wanted, 4, 0));
  return 0;
}
