/* spent OUT COMMAND…: runs it and writes "status user_us system_us peak_kib wall_us" to the file OUT. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 3) return 125;
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  pid_t child = fork();
  if (child == 0) {
    execvp(argv[2], argv + 2);
    fprintf(stderr, "spent: %s: %s\n", argv[2], strerror(errno));
    _exit(127);
  }
  int status;
  struct rusage r;
  if (child < 0 || wait4(child, &status, 0, &r) < 0) return 125;
  clock_gettime(CLOCK_MONOTONIC, &to);
  FILE *out = fopen(argv[1], "w");
  if (!out) return 125;
  fprintf(out, "%d %ld %ld %ld %ld\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          r.ru_utime.tv_sec * 1000000L + r.ru_utime.tv_usec, r.ru_stime.tv_sec * 1000000L + r.ru_stime.tv_usec, r.ru_maxrss,
          (to.tv_sec - from.tv_sec) * 1000000L + (to.tv_nsec - from.tv_nsec) / 1000);
  return fclose(out) ? 125 : 0;
}
