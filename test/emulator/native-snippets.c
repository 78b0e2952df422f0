/*
 * Executes one instruction of each snippet on the host's processor and says how it ended.
 *
 *   native-snippets <snippets >results
 *   native-snippets vectors <snippets >results     each with YMM registers and MXCSR, before and after
 *
 * Before the results comes /proc/self/maps, with its length: what snippets can reach that the engine does not have.
 *
 * Everything happens inside signal handlers: each returns to the next snippet with the trap flag set, and the trap or
 * the fault comes back. No thread-local storage is used, since a snippet may change FS and GS.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { CODE = 0x401000, DATA = 0x600000, STACK_LOW = 0x7fb000 };

struct snippet {
  uint64_t regs[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8 to r15 */
  uint32_t flags, offset, length;
  uint8_t code[36];
  uint16_t selectors[4]; /* ds es fs gs, in 32-bit code */
  uint32_t mxcsr, spare;
};
struct result {
  uint32_t signal, trap, error, spare;
  uint64_t address, rip, regs[16];
  uint32_t flags, data, stack, selectors;
  uint8_t fx[512];
};

struct vectors {
  uint32_t mxcsr, spare[3];
  uint32_t ymm[16][8];
};

static struct snippet now;
static struct result out;
static struct vectors vectors;
static int with_vectors;
static uint8_t *code;
static int started;

#ifdef __x86_64__
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
enum { COUNT = 16, IP = REG_RIP, FLAGS = REG_EFL };
static long call3(long n, long a, const void *b, long c) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return r;
}
#else
static const int order[16] = {REG_EAX, REG_ECX, REG_EDX, REG_EBX, REG_ESP, REG_EBP, REG_ESI, REG_EDI};
enum { FSAVE = 112 }; /* bytes before the FXSAVE image in a frame */
enum { COUNT = 8, IP = REG_EIP, FLAGS = REG_EFL };
static long call3(long n, long a, const void *b, long c) {
  long r;
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
  return r;
}
#endif

static void put(const void *from, uint32_t length) {
  for (const char *p = from; length;) {
    long n = call3(SYS_write, 1, p, length);
    if (n <= 0) call3(SYS_exit_group, 1, 0, 0);
    p += n, length -= (uint32_t)n;
  }
}
static int get(void *into, uint32_t length) {
  for (char *p = into; length;) {
    long n = call3(SYS_read, 0, p, length);
    if (n <= 0) return 0;
    p += n, length -= (uint32_t)n;
  }
  return 1;
}

static uint32_t digest(const void *memory, uint32_t length) {
  const uint32_t *p = memory;
  uint32_t h = 1;
  for (uint32_t i = 0; i < length / 4; i++) h = h * 0x01000193u + p[i];
  return h;
}

static void fill(void *memory, uint32_t length) {
  uint32_t *p = memory;
  for (uint32_t i = 0; i < length / 4; i++) p[i] = 0x3f800000u + i * 0x01010101u;
}

/* As `vectorPattern` in vector-snippets.ts. */
static void fill_from_vectors(void *memory, uint32_t length) {
  const uint32_t *from = vectors.ymm[0];
  uint32_t *p = memory;
  for (uint32_t i = 0; i < length / 4; i++) p[i] = from[(i * 5 + i / 128) % 128];
}

/* The image of XSAVE in the signal frame: in 32-bit code behind that of FSAVE. */
static uint8_t *image_of(ucontext_t *u) {
#ifdef __x86_64__
  return (uint8_t *)u->uc_mcontext.fpregs;
#else
  return (uint8_t *)u->uc_mcontext.fpregs + 112;
#endif
}

enum { MXCSR = 24, XMM = 160, HEADER = 512, UPPER = 576, REGISTERS = sizeof(long) == 8 ? 16 : 8 };

static void give_vectors(uint8_t *image) {
  memset(image, 0, 24);
  memset(image + 32, 0, 128);
  image[0] = 0x7f, image[1] = 0x03;
  memcpy(image + MXCSR, &vectors.mxcsr, 4);
  for (int i = 0; i < REGISTERS; i++) {
    memcpy(image + XMM + 16 * i, vectors.ymm[i], 16);
    memcpy(image + UPPER + 16 * i, vectors.ymm[i] + 4, 16);
  }
  memset(image + HEADER, 0, 64);
  image[HEADER] = 7;
}

static void take_vectors(const uint8_t *image) {
  uint8_t there = image[HEADER];
  memset(&vectors, 0, sizeof vectors);
  memcpy(&vectors.mxcsr, image + MXCSR, 4);
  for (int i = 0; i < REGISTERS; i++) {
    if (there & 2) memcpy(vectors.ymm[i], image + XMM + 16 * i, 16);
    if (there & 4) memcpy(vectors.ymm[i] + 4, image + UPPER + 16 * i, 16);
  }
}

static void next(ucontext_t *u) {
  if (!get(&now, sizeof now)) call3(SYS_exit_group, 0, 0, 0);
  if (with_vectors) {
    if (!get(&vectors, sizeof vectors)) call3(SYS_exit_group, 1, 0, 0);
    fill_from_vectors((void *)DATA, 0x2000);
    fill_from_vectors((void *)STACK_LOW, 0x5000);
  } else {
    fill((void *)DATA, 0x2000);
    fill((void *)STACK_LOW, 0x5000);
  }
  memset(code, 0xcc, 0x2000);
  memcpy(code + now.offset, now.code, now.length);
  greg_t *g = u->uc_mcontext.gregs;
  for (int i = 0; i < COUNT; i++) g[order[i]] = (greg_t)now.regs[i];
  g[IP] = CODE + (greg_t)now.offset;
  g[FLAGS] = now.flags | 0x302;
#ifdef __x86_64__
  call3(SYS_arch_prctl, 0x1002, (void *)0x1000, 0); /* ARCH_SET_FS, ARCH_SET_GS */
  call3(SYS_arch_prctl, 0x1001, (void *)0x2000, 0);
  g[REG_CSGSFS] = (greg_t)(0x33 | 0x002bull << 48);
  if (with_vectors) return give_vectors(image_of(u));
  uint8_t *fx = (uint8_t *)u->uc_mcontext.fpregs;
#else
  g[REG_CS] = 0x23, g[REG_SS] = 0x2b, g[REG_DS] = now.selectors[0], g[REG_ES] = now.selectors[1];
  g[REG_FS] = now.selectors[2], g[REG_GS] = now.selectors[3];
  if (with_vectors) return give_vectors(image_of(u));
  static const uint32_t fsave[7] = {0xffff037f, 0xffff0000, 0xffffffff};
  memset(u->uc_mcontext.fpregs, 0, FSAVE);
  memcpy(u->uc_mcontext.fpregs, fsave, sizeof fsave);
  uint8_t *fx = (uint8_t *)u->uc_mcontext.fpregs + FSAVE;
#endif
  memset(fx, 0, 512); /* also the mark of extended state: only this much is restored */
  fx[0] = 0x7f, fx[1] = 0x03;
  memcpy(fx + 24, &now.mxcsr, 4);
  for (int i = 0; i < 256; i++) fx[160 + i] = (uint8_t)(i * 37 + 5);
}

static void on_signal(int number, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  (void)info;
  /* The kernel leaves AC as the snippet had it. */
#ifdef __x86_64__
  __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
#else
  __asm__ volatile("pushfl; andl $~0x40000, (%%esp); popfl" ::: "memory", "cc");
#endif
  greg_t *g = u->uc_mcontext.gregs;
  if (started) {
    memset(&out, 0, sizeof out);
    out.signal = (uint32_t)number;
    out.trap = (uint32_t)g[REG_TRAPNO];
    out.error = (uint32_t)g[REG_ERR];
    for (int i = 0; i < COUNT; i++) out.regs[i] = (uint64_t)(unsigned long)g[order[i]];
    out.rip = (uint64_t)(unsigned long)g[IP];
    out.flags = (uint32_t)g[FLAGS];
    out.data = digest((void *)DATA, 0x2000);
    out.stack = digest((void *)STACK_LOW, 0x5000);
#ifdef __x86_64__
    out.address = (uint64_t)g[REG_CR2];
    out.selectors = (uint32_t)(g[REG_CSGSFS] & 0xffff) | (uint32_t)(g[REG_CSGSFS] >> 48) << 16;
    memcpy(out.fx, u->uc_mcontext.fpregs, 512);
#else
    out.address = u->uc_mcontext.cr2;
    out.selectors = (uint32_t)(g[REG_CS] & 0xffff) | (uint32_t)g[REG_SS] << 16;
    memcpy(out.fx, (uint8_t *)u->uc_mcontext.fpregs + FSAVE, 512);
#endif
    put(&out, sizeof out);
    if (with_vectors) {
      take_vectors(image_of(u));
      put(&vectors, sizeof vectors);
    }
  }
  started = 1;
  next(u);
}

#ifdef __i386__
#include <asm/ldt.h>
/* As `localDescriptors` in snippets.ts. */
static int make_ldt(void) {
  static const struct user_desc entries[] = {
      {0, DATA, 0xfff, 1, 0, 0, 0, 0, 1},   {1, DATA, 0x17ff, 1, 0, 1, 0, 0, 1}, {2, DATA, 0xfff, 1, 1, 0, 0, 0, 1},
      {3, 0, 0xfffff, 1, 2, 1, 1, 0, 1},    {4, 0, 0xfffff, 1, 2, 0, 1, 0, 1},   {5, DATA, 0x7ff, 0, 1, 0, 0, 0, 1},
      {6, 0, 0xfffff, 1, 0, 0, 1, 0, 1},    {7, 0, 0x600, 1, 0, 0, 1, 0, 1},
  };
  for (unsigned i = 0; i < sizeof entries / sizeof *entries; i++) {
    struct user_desc d = entries[i];
    if (syscall(SYS_modify_ldt, 0x11, &d, sizeof d)) return 1;
  }
  return 0;
}
#else
static int make_ldt(void) { return 0; }
#endif

static int tell_maps(void) {
  static char text[1 << 16];
  uint32_t length = 0;
  int file = open("/proc/self/maps", O_RDONLY);
  if (file < 0) return 1;
  for (ssize_t n; (n = read(file, text + length, sizeof text - length)) > 0;) length += (uint32_t)n;
  close(file);
  put(&length, sizeof length);
  put(text, length);
  return 0;
}

int main(int count, char **arguments) {
  with_vectors = count > 1 && !strcmp(arguments[1], "vectors");
  if (make_ldt()) return 9;
  int memory = (int)syscall(SYS_memfd_create, "code", 0);
  if (memory < 0 || ftruncate(memory, 0x2000)) return 2;
  code = mmap(0, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  if (mmap((void *)CODE, 0x2000, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, memory, 0) != (void *)CODE) return 3;
  if (mmap((void *)DATA, 0x2000, PROT_READ | PROT_WRITE, fixed, -1, 0) != (void *)DATA) return 4;
  if (mmap((void *)STACK_LOW, 0x5000, PROT_READ | PROT_WRITE, fixed, -1, 0) != (void *)STACK_LOW) return 5;
  static char stack[1 << 16];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  if (sigaltstack(&alternate, 0)) return 6;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGUSR1};
  for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (sigaction(numbers[i], &action, 0)) return 7;
  if (tell_maps()) return 10;
  raise(SIGUSR1);
  return 8;
}
