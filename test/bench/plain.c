/*
 * The least that runs a static Linux guest over libunicorn, in C: the yardstick of the benchmark.
 *
 * System calls are answered inside the hook, memory is three arenas that are mapped once, nothing is checked.
 * -DFAST_STORES, with the static library and --wrap=x86_cpu_tlb_fill_x86_64, marks pages of data dirty after a fill,
 * so that stores stay on the engine's fast path. Without it this is what stock Unicorn does.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unicorn/unicorn.h>
#include <unistd.h>

enum { HEAP_SIZE = 256 << 20, ARENA_SIZE = 512 << 20, STACK_SIZE = 8 << 20 };
static const uint64_t HEAP = 0x20000000, ARENA = 0x40000000, STACK = 0x70000000, TABLE = 0x80000000;

static uc_engine *uc;
static bool wide;
static uint64_t brk_now, arena_next;
static int status;
static struct { uint64_t start, end; } code[16];
static int codes;

static void need(uc_err e, const char *what) {
  if (!e) return;
  fprintf(stderr, "plain: %s: %s\n", what, uc_strerror(e));
  exit(125);
}

#ifdef FAST_STORES
bool __real_x86_cpu_tlb_fill_x86_64(void *cs, uint64_t addr, int size, int access, int mmu, bool probe, uintptr_t ra);
void tlb_set_dirty_x86_64(void *cs, uint64_t page);
bool __wrap_x86_cpu_tlb_fill_x86_64(void *cs, uint64_t addr, int size, int access, int mmu, bool probe, uintptr_t ra) {
  bool ok = __real_x86_cpu_tlb_fill_x86_64(cs, addr, size, access, mmu, probe, ra);
  for (int i = 0; i < codes; i++)
    if (addr >= code[i].start && addr < code[i].end) return ok;
  if (ok) tlb_set_dirty_x86_64(cs, addr & ~0xfffull);
  return ok;
}
#endif

static uint64_t reg(int r) {
  uint64_t v = 0;
  uc_reg_read(uc, r, &v);
  return v;
}
static void set_reg(int r, uint64_t v) { uc_reg_write(uc, r, &v); }

static uint64_t descriptor(uint32_t base, uint32_t limit, int access, int flags) {
  return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}
static long set_thread_area(uint64_t at) {
  uint32_t d[4];
  static uint32_t next = 12;
  uc_mem_read(uc, at, d, sizeof d);
  if (d[0] == UINT32_MAX) {
    d[0] = next++;
    uc_mem_write(uc, at, d, 4);
  }
  uint64_t raw = descriptor(d[1], d[2], 0xf3, 0xc);
  uc_mem_write(uc, TABLE + 8 * d[0], &raw, 8);
  uint64_t gs = reg(UC_X86_REG_GS);
  if (gs >> 3 == d[0]) set_reg(UC_X86_REG_GS, gs);
  return 0;
}
static long get_thread_area(uint64_t at) {
  uint32_t d[4] = { 0, 0, 0xfffff, 0x51 };
  uint64_t raw = 0;
  uc_mem_read(uc, at, d, 4);
  uc_mem_read(uc, TABLE + 8 * d[0], &raw, 8);
  d[1] = (uint32_t)(raw >> 16 & 0xffffff) | (uint32_t)(raw >> 56) << 24;
  uc_mem_write(uc, at, d, sizeof d);
  return 0;
}

static long call(uint64_t n, const uint64_t *a) {
  static char buffer[65536];
  enum { WRITE, BRK, MMAP, MUNMAP, MPROTECT, EXIT, PPID, TID, PRCTL, SET_AREA, GET_AREA, RANDOM, READLINK, FSTAT, NONE };
  int what = NONE;
  if (wide) switch (n) {
    case 1: what = WRITE; break;
    case 9: what = MMAP; break;
    case 10: what = MPROTECT; break;
    case 11: what = MUNMAP; break;
    case 12: what = BRK; break;
    case 60: case 231: what = EXIT; break;
    case 110: what = PPID; break;
    case 158: what = PRCTL; break;
    case 218: what = TID; break;
    case 273: what = MPROTECT; break;
    case 318: what = RANDOM; break;
    case 262: what = FSTAT; break;
  } else switch (n) {
    case 4: what = WRITE; break;
    case 1: case 252: what = EXIT; break;
    case 45: what = BRK; break;
    case 64: what = PPID; break;
    case 91: what = MUNMAP; break;
    case 125: what = MPROTECT; break;
    case 192: what = MMAP; break;
    case 243: what = SET_AREA; break;
    case 244: what = GET_AREA; break;
    case 258: what = TID; break;
    case 311: what = MPROTECT; break;
    case 355: what = RANDOM; break;
  }
  switch (what) {
    case WRITE: {
      size_t size = a[2] < sizeof buffer ? a[2] : sizeof buffer;
      uc_mem_read(uc, a[1], buffer, size);
      return write((int)a[0], buffer, size);
    }
    case BRK:
      if (a[0] >= HEAP && a[0] < HEAP + HEAP_SIZE) brk_now = a[0];
      return (long)brk_now;
    case MMAP: {
      uint64_t at = arena_next;
      arena_next += (a[1] + 4095) & ~4095ull;
      return arena_next > ARENA + ARENA_SIZE ? -12 : (long)at;
    }
    case MUNMAP:
    case MPROTECT: return 0;
    case EXIT:
      status = (int)a[0];
      uc_emu_stop(uc);
      return 0;
    case PPID:
    case TID: return 1;
    case PRCTL: {
      uint64_t base;
      if (a[0] == 0x1002) return uc_reg_write(uc, UC_X86_REG_FS_BASE, &a[1]);
      if (a[0] != 0x1003) return -22;
      base = reg(UC_X86_REG_FS_BASE);
      return uc_mem_write(uc, a[1], &base, 8);
    }
    case SET_AREA: return set_thread_area(a[0]);
    case GET_AREA: return get_thread_area(a[0]);
    case RANDOM: return (long)a[1];
    case FSTAT: return -9;
    default: return -38;
  }
}
static void on_syscall(uc_engine *engine, void *user) {
  (void)engine, (void)user;
  static const int names[] = { UC_X86_REG_RAX, UC_X86_REG_RDI, UC_X86_REG_RSI, UC_X86_REG_RDX, UC_X86_REG_R10, UC_X86_REG_RIP, UC_X86_REG_EFLAGS };
  uint64_t v[7];
  void *to[7];
  for (int i = 0; i < 7; i++) to[i] = &v[i];
  uc_reg_read_batch(uc, (int *)names, to, 7);
  uint64_t out[3] = { (uint64_t)call(v[0], v + 1), v[5] + 2, v[6] };
  static const int outs[] = { UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_R11 };
  void *from[3] = { &out[0], &out[1], &out[2] };
  uc_reg_write_batch(uc, (int *)outs, from, 3);
}
static void on_interrupt(uc_engine *engine, uint32_t number, void *user) {
  (void)engine, (void)user;
  if (number != 0x80) {
    fprintf(stderr, "plain: exception %u at %#lx\n", number, (unsigned long)reg(wide ? UC_X86_REG_RIP : UC_X86_REG_EIP));
    status = 125;
    uc_emu_stop(uc);
    return;
  }
  static const int names[] = { UC_X86_REG_EAX, UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_ESI };
  uint64_t v[5] = { 0 };
  void *to[5];
  for (int i = 0; i < 5; i++) to[i] = &v[i];
  uc_reg_read_batch(uc, (int *)names, to, 5);
  set_reg(UC_X86_REG_EAX, (uint64_t)call(v[0], v + 1));
}

static uint64_t top;
static uint64_t push_text(const char *s) {
  top -= strlen(s) + 1;
  uc_mem_write(uc, top, s, strlen(s) + 1);
  return top;
}
static void map(uint64_t start, uint64_t size, uint32_t prot) {
  void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  need(uc_mem_map_ptr(uc, start, size, prot, host), "map");
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "usage: plain GUEST\n"), 125;
  int fd = open(argv[1], O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) return perror(argv[1]), 125;
  uint8_t *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  wide = file[EI_CLASS] == ELFCLASS64;
  need(uc_open(UC_ARCH_X86, wide ? UC_MODE_64 : UC_MODE_32, &uc), "open");

  uint64_t entry, phdr_at = 0, phnum, phoff, word = wide ? 8 : 4;
  const Elf64_Ehdr *e64 = (void *)file;
  const Elf32_Ehdr *e32 = (void *)file;
  entry = wide ? e64->e_entry : e32->e_entry;
  phnum = wide ? e64->e_phnum : e32->e_phnum;
  phoff = wide ? e64->e_phoff : e32->e_phoff;
  for (uint64_t i = 0; i < phnum; i++) {
    Elf64_Phdr p;
    if (wide) p = ((Elf64_Phdr *)(file + phoff))[i];
    else {
      Elf32_Phdr q = ((Elf32_Phdr *)(file + phoff))[i];
      p = (Elf64_Phdr){ q.p_type, q.p_flags, q.p_offset, q.p_vaddr, q.p_paddr, q.p_filesz, q.p_memsz, q.p_align };
    }
    if (p.p_type != PT_LOAD || !p.p_memsz) continue;
    if (phoff >= p.p_offset && phoff < p.p_offset + p.p_filesz) phdr_at = p.p_vaddr + phoff - p.p_offset;
    uint64_t start = p.p_vaddr & ~4095ull, end = (p.p_vaddr + p.p_memsz + 4095) & ~4095ull;
    map(start, end - start, p.p_flags & PF_X ? UC_PROT_READ | UC_PROT_EXEC : p.p_flags & PF_W ? UC_PROT_READ | UC_PROT_WRITE : UC_PROT_READ);
    need(uc_mem_write(uc, p.p_vaddr, file + p.p_offset, p.p_filesz), "load");
    if (p.p_flags & PF_X && codes < 16) code[codes].start = start, code[codes++].end = end;
  }
  map(HEAP, HEAP_SIZE, UC_PROT_READ | UC_PROT_WRITE);
  map(ARENA, ARENA_SIZE, UC_PROT_READ | UC_PROT_WRITE);
  map(STACK, STACK_SIZE, UC_PROT_READ | UC_PROT_WRITE);
  brk_now = HEAP;
  arena_next = ARENA;

  top = STACK + STACK_SIZE - 64;
  uint64_t name = push_text(argv[1]), platform = push_text(wide ? "x86_64" : "i686"), random = push_text("0123456789abcdef");
  uint64_t block[] = { 1, name, 0, 0, AT_PHDR, phdr_at, AT_PHENT, wide ? 56 : 32, AT_PHNUM, phnum, AT_PAGESZ, 4096, AT_ENTRY, entry, AT_UID, 0, AT_EUID, 0, AT_GID, 0, AT_EGID, 0,
    AT_SECURE, 0, AT_RANDOM, random, AT_HWCAP, 0x078bfbfd, AT_CLKTCK, 100, AT_EXECFN, name, AT_PLATFORM, platform, AT_NULL, 0 };
  top = (top - sizeof block / 8 * word) & ~15ull;
  for (size_t i = 0; i < sizeof block / 8; i++) uc_mem_write(uc, top + i * word, &block[i], word);

  uc_hook h1, h2;
  if (wide) {
    need(uc_hook_add(uc, &h1, UC_HOOK_INSN, (void *)on_syscall, NULL, 1, 0, UC_X86_INS_SYSCALL), "hook");
  } else {
    map(TABLE, 4096, UC_PROT_READ | UC_PROT_WRITE);
    uint64_t gdt[16] = { [5] = descriptor(0, 0xfffff, 0xf3, 0xc), [6] = descriptor(0, 0xfffff, 0x93, 0xc), [7] = descriptor(0, 0xfffff, 0x9b, 0xc) };
    uc_mem_write(uc, TABLE, gdt, sizeof gdt);
    uc_x86_mmr gdtr = { 0, TABLE, sizeof gdt - 1, 0 };
    need(uc_reg_write(uc, UC_X86_REG_GDTR, &gdtr), "gdtr");
    set_reg(UC_X86_REG_CS, 7 << 3); /* the guest runs at CPL 0 here, and SS has to match */
    set_reg(UC_X86_REG_SS, 6 << 3);
    set_reg(UC_X86_REG_DS, 0x2b);
    set_reg(UC_X86_REG_ES, 0x2b);
  }
  need(uc_hook_add(uc, &h2, UC_HOOK_INTR, (void *)on_interrupt, NULL, 1, 0), "hook");
  uint16_t fpu_control = 0x37f; /* as after fninit: the engine starts with what a CPU has at reset */
  uc_reg_write(uc, UC_X86_REG_FPCW, &fpu_control);
  set_reg(wide ? UC_X86_REG_RSP : UC_X86_REG_ESP, top);
  uc_err err = uc_emu_start(uc, entry, 0, 0, 0);
  if (err) {
    fprintf(stderr, "plain: %s at %#lx\n", uc_strerror(err), (unsigned long)reg(wide ? UC_X86_REG_RIP : UC_X86_REG_EIP));
    return 125;
  }
  return status;
}
