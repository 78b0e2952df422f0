/*
 * replay RECORDING: runs a trusted application's instructions again, over libunicorn and nothing else.
 *
 * Memory, registers and what the system calls answered come from a recording (ta-recording.ts). At each call all registers have to
 * be what they were, and at the end of each entry all memory: else these were not the same instructions. Prints the CPU time in
 * microseconds of the engine with the answers (checks and mappings not counted), and that of the whole process.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unicorn/unicorn.h>

enum { MAP = 1, UNMAP, WRITE, ENTER, CALL, RESULT, LEAVE, GENERAL = 17, REGIONS = 64, PAGE = 4096 };
static const int names[GENERAL] = {
  UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX, UC_X86_REG_RSP, UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI, UC_X86_REG_R8,
  UC_X86_REG_R9, UC_X86_REG_R10, UC_X86_REG_R11, UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14, UC_X86_REG_R15, UC_X86_REG_RIP,
};

static uc_engine *uc;
static const uint64_t *at, *end;
static struct { uint64_t start, size; uint8_t *host; bool code; } regions[REGIONS];
static int count;
static int64_t apart;

static void fail(const char *what, uint64_t value) {
  fprintf(stderr, "replay: %s (%#lx)\n", what, (unsigned long)value);
  exit(1);
}
static void need(uc_err e, const char *what) {
  if (e) fail(uc_strerror(e), 0), fail(what, 0);
}
static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

#ifdef FAST_STORES
bool __real_x86_cpu_tlb_fill_x86_64(void *cs, uint64_t addr, int size, int access, int mmu, bool probe, uintptr_t ra);
void tlb_set_dirty_x86_64(void *cs, uint64_t page);
bool __wrap_x86_cpu_tlb_fill_x86_64(void *cs, uint64_t addr, int size, int access, int mmu, bool probe, uintptr_t ra) {
  bool ok = __real_x86_cpu_tlb_fill_x86_64(cs, addr, size, access, mmu, probe, ra);
  for (int i = 0; i < count; i++)
    if (regions[i].code && addr - regions[i].start < regions[i].size) return ok;
  if (ok) tlb_set_dirty_x86_64(cs, addr & ~0xfffull);
  return ok;
}
#endif

static uint8_t *host(uint64_t address, uint64_t size) {
  for (int i = 0; i < count; i++)
    if (address - regions[i].start < regions[i].size && address - regions[i].start + size <= regions[i].size) return regions[i].host + (address - regions[i].start);
  fail("not mapped", address);
  return NULL;
}

static int by_start(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}
static uint32_t checksum(void) {
  uint32_t sum = 0x811c9dc5;
  qsort(regions, count, sizeof regions[0], by_start);
  for (int i = 0; i < count; i++)
    for (uint64_t p = 0; p < regions[i].size; p += PAGE) {
      static const uint8_t zeros[PAGE];
      const uint32_t *words = (const void *)(regions[i].host + p);
      if (!memcmp(words, zeros, PAGE)) continue;
      for (int w = 0; w < PAGE / 4; w++) sum = (sum ^ words[w]) * 0x01000193;
    }
  return sum;
}

/* Does what stands before the next entry or answer. */
static void changes(void) {
  for (; at < end; ) switch (at[0]) {
    case MAP: {
      if (count == REGIONS) fail("too many regions", 0);
      uint8_t *memory = mmap(NULL, at[2], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      need(uc_mem_map_ptr(uc, at[1], at[2], (uint32_t)at[3], memory), "map");
      regions[count].start = at[1], regions[count].size = at[2], regions[count].host = memory, regions[count].code = at[3] & 4;
      count++, at += 4;
      break;
    }
    case UNMAP:
      need(uc_mem_unmap(uc, at[1], at[2]), "unmap");
      for (int i = 0; i < count; i++)
        if (regions[i].start == at[1]) munmap(regions[i].host, at[2]), regions[i] = regions[--count];
      at += 3;
      break;
    case WRITE:
      memcpy(host(at[1], at[2]), at + 3, at[2]);
      at += 3 + at[2] / 8;
      break;
    default: return;
  }
}

static void on_syscall(uc_engine *engine, void *user) {
  (void)engine, (void)user;
  uint64_t v[GENERAL];
  void *to[GENERAL];
  for (int i = 0; i < GENERAL; i++) to[i] = &v[i];
  uc_reg_read_batch(uc, (int *)names, to, GENERAL);
  if (at[0] != CALL) fail("a call too many", v[0]);
  uint64_t flags;
  uc_reg_read(uc, UC_X86_REG_EFLAGS, &flags);
  v[16] += 2, v[1] = v[16]; /* as the instruction leaves them; R11 holds flags, of which the engine shows no RF */
  for (int i = 0; i < GENERAL; i++)
    if (i != 11 && v[i] != at[1 + i]) fprintf(stderr, "replay: call %lu: register %d is not %#lx\n", (unsigned long)v[0], i, (unsigned long)at[1 + i]), fail("but", v[i]);
  at += 1 + GENERAL;
  changes();
  if (at[0] == LEAVE) {
    uc_emu_stop(uc);
    return;
  }
  if (at[0] != RESULT) fail("no answer", at[0]);
  uint64_t out[3] = { at[1], v[1], flags };
  static const int outs[] = { UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_R11 };
  void *from[3] = { &out[0], &out[1], &out[2] };
  uc_reg_write_batch(uc, (int *)outs, from, 3);
  at += 2;
}

int main(int argc, char **argv) {
  FILE *in = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!in) return fprintf(stderr, "usage: replay RECORDING\n"), 125;
  fseek(in, 0, SEEK_END);
  long size = ftell(in);
  at = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fileno(in), 0);
  end = at + size / 8;
  need(uc_open(UC_ARCH_X86, UC_MODE_64, &uc), "open");
  uc_hook hook;
  need(uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)on_syscall, NULL, 1, 0, UC_X86_INS_SYSCALL), "hook");
  int64_t spent = 0;
  for (;;) {
    changes();
    if (at >= end) break;
    if (at[0] != ENTER) fail("no entry", at[0]);
    for (int i = 0; i < GENERAL; i++) need(uc_reg_write(uc, names[i], at + 1 + i), "register");
    uint16_t fpu_control = 0x37f;
    uint32_t sse_control = 0x1f80;
    uc_reg_write(uc, UC_X86_REG_FPCW, &fpu_control);
    uc_reg_write(uc, UC_X86_REG_MXCSR, &sse_control);
    need(uc_reg_write(uc, UC_X86_REG_EFLAGS, at + 1 + GENERAL), "flags");
    need(uc_reg_write(uc, UC_X86_REG_FS_BASE, at + 2 + GENERAL), "FS base");
    uint64_t entry = at[1 + 16];
    at += 3 + GENERAL;
    int64_t from = now();
    uc_err e = uc_emu_start(uc, entry, 0, 0, 0);
    spent += now() - from;
    uint64_t rip;
    uc_reg_read(uc, UC_X86_REG_RIP, &rip);
    if (e) fail(uc_strerror(e), rip);
    if (at >= end || at[0] != LEAVE) fail("it stopped before its end", rip);
    from = now();
    uint32_t sum = checksum();
    apart += now() - from;
    if (sum != at[1]) fail("memory is another than recorded", sum);
    at += 2;
  }
  printf("%ld %ld\n", (long)(spent / 1000), (long)((now() - apart) / 1000));
  return 0;
}
