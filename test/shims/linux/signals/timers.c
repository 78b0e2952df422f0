// alarm, setitimer and POSIX timers.
#include "handler-guest.h"
#include <sys/time.h>

static volatile int count, overruns, value, code;
static timer_t timer;
static void handler(int number, siginfo_t *i, void *c) {
  (void)c;
  (void)number;
  count++;
  code = i->si_code;
  value = i->si_value.sival_int;
}

static int between(long us, long low, long high) { return us >= low && us <= high; }

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  struct itimerval t = {{0, 10000}, {0, 10000}}, old;
  printf("alarm %u", alarm(10));
  printf(" %u", alarm(0));
  printf(" %u\n", alarm(0));
  printf("setitimer which %s usec %s negative %s\n", err(setitimer(3, &t, 0)), (t.it_value.tv_usec = 1000000, err(setitimer(0, &t, 0))),
         (t.it_value.tv_usec = -1, err(setitimer(0, &t, 0))));
  printf("getitimer %s %s\n", err(getitimer(5, &old)), err(syscall(SYS_getitimer, 0, 8)));
  on(SIGALRM, handler, SA_SIGINFO);
  t.it_value.tv_usec = 10000;
  setitimer(ITIMER_REAL, &t, 0);
  for (int i = 0; i < 3; i++) pause();
  t.it_interval.tv_usec = t.it_value.tv_usec = 0;
  setitimer(ITIMER_REAL, &t, &old);
  printf("interval timer: %d code %d left %d interval %ld\n", count, code, between(old.it_value.tv_usec, 1, 10000), (long)old.it_interval.tv_usec);
  getitimer(ITIMER_REAL, &old);
  printf("stopped %ld %ld\n", (long)old.it_value.tv_usec, (long)old.it_interval.tv_usec);

  on(SIGVTALRM, handler, SA_SIGINFO);
  count = 0;
  t.it_value.tv_usec = 20000;
  setitimer(ITIMER_VIRTUAL, &t, 0);
  struct timespec nap = {0, 50000000};
  nanosleep(&nap, 0);
  printf("virtual timer while asleep: %d\n", count);
  while (count == 0)
    for (volatile int i = 0; i < 100000; i++)
      ;
  printf("virtual timer: %d\n", count);

  printf("create: clock %s coarse %s notify %s signal %s thread %s fault %s\n", err(timer_create(77, 0, &timer)),
         err(timer_create(CLOCK_MONOTONIC_COARSE, 0, &timer)),
         err(syscall(SYS_timer_create, 1, &(struct sigevent){.sigev_notify = 9}, &timer)),
         err(syscall(SYS_timer_create, 1, &(struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65}, &timer)),
         err(syscall(SYS_timer_create, 1, &(struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = 10}, &timer)),
         err(syscall(SYS_timer_create, 1, 0, 8)));
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  event.sigev_value.sival_int = 1234;
  on(SIGRTMIN, handler, SA_SIGINFO);
  count = 0;
  printf("create %s", err(timer_create(CLOCK_MONOTONIC, &event, &timer)));
  struct itimerspec s = {{0, 10000000}, {0, 10000000}}, was;
  printf(" settime %s\n", err(timer_settime(timer, 0, &s, &was)));
  for (int i = 0; i < 3; i++) pause();
  printf("timer: %d code %d value %d overrun %d\n", count, code, value, timer_getoverrun(timer));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &set, 0);
  nap.tv_nsec = 105000000;
  nanosleep(&nap, 0);
  count = 0;
  sigprocmask(SIG_UNBLOCK, &set, 0);
  int over = timer_getoverrun(timer);
  printf("late: %d overrun %d\n", count, over >= 8 && over <= 11);
  printf("gettime %s", err(timer_gettime(timer, &was)));
  printf(" left %d interval %ld\n", was.it_value.tv_nsec > 0 && was.it_value.tv_nsec <= 10000000, was.it_interval.tv_nsec);
  s.it_value.tv_nsec = 1000000000;
  printf("bad time %s null %s\n", err(timer_settime(timer, 0, &s, 0)), err(syscall(SYS_timer_settime, timer, 0, 0, 0)));
  printf("delete %s %s", err(timer_delete(timer)), err(syscall(SYS_timer_delete, 99)));
  printf(" gettime %s %s\n", err(syscall(SYS_timer_gettime, 98, &was)), err(syscall(SYS_timer_getoverrun, 98)));

  // An absolute time that is over fires at once; SIGEV_NONE only counts.
  count = 0;
  timer_create(CLOCK_REALTIME, &event, &timer);
  memset(&s, 0, sizeof s);
  s.it_value.tv_sec = 1;
  timer_settime(timer, TIMER_ABSTIME, &s, 0);
  nap.tv_nsec = 1000000;
  nanosleep(&nap, 0);
  printf("absolute in the past: %d\n", count);
  timer_delete(timer);
  event.sigev_notify = SIGEV_NONE;
  timer_create(CLOCK_MONOTONIC, &event, &timer);
  s.it_value.tv_sec = 0;
  s.it_value.tv_nsec = 1000000;
  timer_settime(timer, 0, &s, 0);
  nap.tv_nsec = 5000000;
  nanosleep(&nap, 0);
  timer_gettime(timer, &was);
  printf("none: %ld %ld count %d\n", (long)was.it_value.tv_sec, was.it_value.tv_nsec, count);
  // The default is SIGALRM with the timer's number.
  code = 0;
  timer_t standard;
  timer_create(CLOCK_MONOTONIC, 0, &standard);
  timer_settime(standard, 0, &s, 0);
  pause();
  printf("default: code %d value same %d\n", code, value == (int)(intptr_t)standard);
  return 0;
}
