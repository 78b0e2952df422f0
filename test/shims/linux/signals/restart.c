// Calls that signals interrupt: which fail with EINTR, which go on, and what is left of their times.
#include "handler-guest.h"
#include <poll.h>
#include <sys/select.h>
#include <sys/time.h>

static volatile int handled;
static void handler(int number) {
  (void)number;
  handled++;
}
static int pipefd[2];
static void feed(int number) {
  (void)number;
  handled++;
  if (write(pipefd[1], "x", 1) != 1) perror("write");
}

static void soon(void) {
  struct itimerval t = {{0, 0}, {0, 20000}};
  setitimer(ITIMER_REAL, &t, 0);
}

static void tell(const char *name, long result) {
  printf("%s: %ld %s handled %d\n", name, result, result < 0 ? err(result) : "", handled);
  handled = 0;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  char c;
  if (pipe(pipefd) != 0) perror("pipe");

  onSimple(SIGALRM, handler, 0);
  soon();
  tell("read", read(pipefd[0], &c, 1));
  onSimple(SIGALRM, feed, SA_RESTART);
  soon();
  tell("read, SA_RESTART", read(pipefd[0], &c, 1));
  onSimple(SIGALRM, handler, 0);
  soon();
  tell("pause", pause());
  onSimple(SIGALRM, handler, SA_RESTART);
  soon();
  tell("pause, SA_RESTART", pause());
  soon();
  struct pollfd p = {.fd = pipefd[0], .events = POLLIN};
  tell("poll, SA_RESTART", poll(&p, 1, 1000));
  soon();
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pipefd[0], &set);
  struct timeval tv = {1, 0};
  tell("select, SA_RESTART", select(pipefd[0] + 1, &set, 0, 0, &tv));
  soon();
  struct timespec request = {1, 0}, left = {0, 0};
  long result = nanosleep(&request, &left);
  tell("nanosleep, SA_RESTART", result);
  printf("left %d\n", left.tv_sec == 0 && left.tv_nsec > 900000000 && left.tv_nsec < 990000000);
  soon();
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  now.tv_sec++;
  int code = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, 0);
  printf("clock_nanosleep absolute: %d handled %d\n", code == EINTR, handled);
  handled = 0;

  // An ignored or stopped-and-continued signal restarts it unseen.
  signal(SIGALRM, SIG_IGN);
  soon();
  request.tv_sec = 0;
  request.tv_nsec = 50000000;
  tell("nanosleep, ignored", nanosleep(&request, &left));

  // The mask of sigsuspend is for the wait alone.
  sigset_t blocked, none, after;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGALRM);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, 0);
  sigemptyset(&none);
  onSimple(SIGALRM, handler, SA_RESTART);
  onSimple(SIGUSR1, handler, SA_RESTART);
  raise(SIGUSR1);
  raise(SIGALRM);
  tell("sigsuspend, pending", sigsuspend(&none));
  soon();
  tell("sigsuspend", sigsuspend(&none));
  sigprocmask(SIG_BLOCK, 0, &after);
  printf("mask after %d %d\n", sigismember(&after, SIGALRM), sigismember(&after, SIGUSR1));

  siginfo_t info;
  struct timespec wait = {0, 1000000};
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR1);
  tell("sigtimedwait, nothing", sigtimedwait(&wanted, &info, &wait));
  raise(SIGUSR1);
  tell("sigtimedwait, pending", sigtimedwait(&wanted, &info, &wait));
  printf("code %d\n", info.si_code);
  sigset_t alarmOnly;
  sigemptyset(&alarmOnly);
  sigaddset(&alarmOnly, SIGALRM);
  sigprocmask(SIG_UNBLOCK, &alarmOnly, 0);
  wait.tv_sec = 1;
  soon();
  tell("sigtimedwait, another", sigtimedwait(&wanted, &info, &wait));
  sigprocmask(SIG_BLOCK, &alarmOnly, 0);
  sigaddset(&wanted, SIGALRM);
  soon();
  tell("sigtimedwait, timer", sigtimedwait(&wanted, &info, &wait));
  printf("code %d pid %d\n", info.si_code, info.si_pid);
  wait.tv_nsec = -1;
  tell("sigtimedwait, bad time", sigtimedwait(&wanted, &info, &wait));
  tell("restart_syscall", syscall(SYS_restart_syscall));
  return 0;
}
