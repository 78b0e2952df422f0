#include "engine.h"

#include <malloc.h>

#include <cstring>

#include "decode.h"
#include "internals.h"
#include "interrupts.h"

namespace shimbed {

namespace {
// Where Linux maps the GDT and the LDT of a process: sgdt and sldt are not privileged, a guest may look.
constexpr uint64_t GDT_ADDRESS = 0xfffffe0000001000ull;
constexpr uint64_t LDT_ADDRESS = 0xffff880000000000ull;
constexpr uint32_t LDT_MAX_ENTRIES = 8192;
constexpr uint32_t LDT_SELECTOR = 0x50, TASK_SELECTOR = 0x40;  // entries 10 and 8, asm/segment.h
constexpr uint64_t CR0 = 0x80050033, CR4 = 1u << 5 | 1u << 9 | 1u << 10;  // PAE, OSFXSR, OSXMMEXCPT
constexpr uint64_t EFER = 0xd01;                                                       // NX, LMA, LME, SCE
constexpr uint64_t KERNEL_HALF = 0x7ffffffff000ull;  // TASK_SIZE_MAX
constexpr uint32_t DESC_P = 1u << 15;
constexpr uint32_t DR6_STEP = 1u << 14;

struct HookHead {
  int type, insn, refs, op, opFlags;
  bool toDelete;
  uint64_t begin, end;
};
}  // namespace

thread_local constinit Engine* runningEngine = nullptr;

std::unique_ptr<Engine> Engine::open(uint64_t windowBytes, Processor processor, std::string& error) {
  if (!internals::takeOver(error)) return nullptr;
  // Engines opened and closed in turn leave a heap of large, scattered blocks; mapped ones go back at once.
  mallopt(M_MMAP_THRESHOLD, 131072);
  mallopt(M_TRIM_THRESHOLD, 131072);
  std::unique_ptr<Engine> e(new Engine());
  e->processor_ = processor;
  e->physical = std::make_unique<Physical>(windowBytes);
  if (!e->physical->ok()) {
    error = "cannot reserve address space for the guest's memory";
    return nullptr;
  }
  if (!e->init(error)) return nullptr;
  return e;
}

Engine::~Engine() {
  spaces_.clear();
  if (uc) uc_close(uc);
}

bool Engine::init(std::string& error) {
  uc_err err = uc_open(UC_ARCH_X86, UC_MODE_64, &uc);
  if (err == UC_ERR_OK) err = uc_mem_map_ptr(uc, 0, physical->size(), UC_PROT_ALL, physical->base());
  if (err != UC_ERR_OK) {
    error = std::string("libunicorn: ") + uc_strerror(err);
    return false;
  }
  if (!verifyLayout(error) || !operations_.find(uc, error)) return false;
  if (!internals::takeOverClass(cpu)) {
    error = "this build of libunicorn 2.0.1 keeps its class of processors elsewhere than expected";
    return false;
  }
  region = internals::firstRegion(uc);
  beginJumps();
  modelProcessor();
  resetProcessor();
  gdtFrame_ = physical->allocate();
  uc_hook_add(uc, &intrHook_, UC_HOOK_INTR, reinterpret_cast<void*>(onInterrupt), this, 1, 0);
  uc_hook_add(uc, &invalidHook_, UC_HOOK_INSN_INVALID, reinterpret_cast<void*>(onInvalid), this, 1, 0);
  env.oldException() = -1;
  return true;
}

bool Engine::verifyLayout(std::string& error) {
  unsigned major, minor;
  uc_version(&major, &minor);
  if (major != 2 || minor != 0) {
    error = "libunicorn " + std::to_string(major) + "." + std::to_string(minor) + " was linked; 2.0.1 is needed";
    return false;
  }
  char* c = *reinterpret_cast<char**>(reinterpret_cast<char*>(uc) + offset::ucCpu);
  cpu = reinterpret_cast<CPUState*>(c);
  env.p = *reinterpret_cast<char**>(c + offset::cpuEnvPtr);
  bool ok = *reinterpret_cast<uc_engine**>(c + offset::cpuUc) == uc;
  static const int names[17] = {UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX, UC_X86_REG_RSP, UC_X86_REG_RBP,
                                UC_X86_REG_RSI, UC_X86_REG_RDI, UC_X86_REG_R8,  UC_X86_REG_R9,  UC_X86_REG_R10, UC_X86_REG_R11,
                                UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14, UC_X86_REG_R15, UC_X86_REG_RIP};
  for (int i = 0; ok && i < 17; i++) {
    uint64_t v = 0x1122334455667700ull + uint64_t(i);
    uc_reg_write(uc, names[i], &v);
    uint64_t& slot = i < 16 ? env.head().regs[i] : env.head().eip;
    ok = slot == v;
    slot = 0;
  }
  uint64_t base = 0x123456789000ull;
  uc_reg_write(uc, UC_X86_REG_FS_BASE, &base);
  ok = ok && env.head().segs[FS].base == base;
  env.head().segs[FS].base = 0;
  uint64_t cr4 = 0x220;
  uc_reg_write(uc, UC_X86_REG_CR4, &cr4);
  ok = ok && env.head().cr[4] == cr4;
  ok = ok && uint32_t(env.feature(FEAT_1_EDX)) == 0x07088100u;
  ok = ok && *reinterpret_cast<uint32_t*>(c + offset::cpuNextBlock) == 0xffffffffu;
  if (!ok) error = "this build of libunicorn 2.0.1 keeps its CPU state elsewhere than expected";
  return ok;
}

void Engine::resetProcessor() {
  EnvHead& h = env.head();
  h.cr[0] = CR0;
  h.cr[4] = CR4;
  env.efer() = EFER;
  h.hflags = HF_FIXED;
  setFlags(0);
  h.gdt.base = GDT_ADDRESS;
  h.gdt.limit = GDT_ENTRIES * 8 - 1;
  h.idt.limit = 0;
  h.ldt = SegmentCache{0, LDT_ADDRESS, 0, 0};
  h.tr.selector = TASK_SELECTOR;
  uint8_t image[512] = {0x7f, 0x03};  // as FNINIT and a reset leave them
  image[24] = 0x80, image[25] = 0x1f;
  fxrstor(image);
}

void Engine::setFsGsBase(bool on) {
  uint64_t& cr4 = env.head().cr[4];
  cr4 = on ? cr4 | CR4_FSGSBASE : cr4 & ~CR4_FSGSBASE;
}

// ---- spaces

uint32_t Engine::addSpace(uint64_t limit) {
  spaces_.push_back(std::make_unique<Space>(*physical, limit));
  return uint32_t(spaces_.size() - 1);
}

uint32_t Engine::forkSpace(uint32_t id) {
  spaces_.push_back(spaces_[id]->fork());
  changed(*spaces_[id]);
  return uint32_t(spaces_.size() - 1);
}

void Engine::removeSpace(uint32_t id) {
  if (active_ == spaces_[id].get()) {
    active_ = nullptr;
    internals::flushTlb(cpu);
    jumps_.clear();
  }
  spaces_[id].reset();
  stop.generation++;
  sweepStaleCode();
}

void Engine::activate(uint32_t id) {
  active_ = spaces_[id].get();
  activeId_ = id;
  SegmentCache& l = env.head().ldt;
  l.limit = active_->ldtEntries ? active_->ldtEntries * 8 - 1 : 0;
  l.base = LDT_ADDRESS;
  l.selector = active_->ldtEntries ? LDT_SELECTOR : 0;
  l.flags = DESC_P | 2u << 8;
  internals::flushTlb(cpu);
  jumps_.clear();
}

void Engine::changed(Space& s, uint64_t start, uint64_t end) {
  if (&s == active_) {
    jumps_.clear();
    if (end - start > 8 * PAGE) internals::flushTlb(cpu);
    else for (uint64_t a = start & ~(PAGE - 1); a < end; a += PAGE) internals::flushTlbPage(cpu, a);
  }
  stop.generation++;
  sweepStaleCode();
}

void Engine::sweepStaleCode() {
  if (physical->staleCode.empty()) return;
  for (uint32_t f : physical->staleCode) {
    internals::dropTranslations(uc, uint64_t(f) * PAGE);
    physical->setCode(f, false);
  }
  physical->staleCode.clear();
  jumps_.clear();
  internals::flushTlb(cpu);
}

void Engine::dropCode(uint32_t frame) {
  internals::dropTranslations(uc, uint64_t(frame) * PAGE);
  physical->setCode(frame, false);
  internals::flushTlb(cpu);
  jumps_.clear();
}

bool Engine::resizeLdt(uint32_t entries) {
  if (entries > LDT_MAX_ENTRIES || !active_) return false;
  uint32_t frames = (entries * 8 + uint32_t(PAGE) - 1) / uint32_t(PAGE);
  while (active_->ldtFrames.size() < frames) {
    uint32_t f = physical->allocate();
    if (!f) return false;
    active_->ldtFrames.push_back(f);
  }
  while (active_->ldtFrames.size() > frames) {
    physical->release(active_->ldtFrames.back());
    active_->ldtFrames.pop_back();
  }
  active_->ldtEntries = entries;
  activate(activeId_);
  return true;
}

uint64_t* Engine::gdt() { return reinterpret_cast<uint64_t*>(physical->page(gdtFrame_)); }

uint64_t* Engine::ldtEntry(uint32_t index) {
  if (!active_ || index >= active_->ldtEntries) return nullptr;
  return reinterpret_cast<uint64_t*>(physical->page(active_->ldtFrames[index / 512])) + index % 512;
}

// ---- the TLB

// A copy-on-write page has another frame now.
// True when code was translated from the one before: its blocks have jumps to each other, and are gone.
bool Engine::pageMoved(uint64_t address) {
  internals::flushTlbPage(cpu, address & ~(PAGE - 1));
  jumps_.clear();
  stop.generation++;
  if (!physical->hasCode(active_->movedFrom)) return false;
  internals::dropTranslations(uc, uint64_t(active_->movedFrom) * PAGE);
  return true;
}

bool Engine::fill(CPUState* cs, uint64_t address, int, int access, int mmuIdx, bool probe, uintptr_t retaddr) {
  uint64_t page = address & ~(PAGE - 1);
  // Conditional jumps of 32-bit code that wrap around 4 GiB leave more bits than there are.
  if (access == FETCH && !(env.head().hflags & HF_CS64)) address = uint32_t(address);
  if (mmuIdx != MMU_USER_IDX) {
    uint32_t frame = 0;
    if (page == (GDT_ADDRESS & ~(PAGE - 1))) {
      frame = gdtFrame_;
    } else if (active_ && page >= LDT_ADDRESS && page - LDT_ADDRESS < active_->ldtFrames.size() * PAGE) {
      frame = active_->ldtFrames[(page - LDT_ADDRESS) / PAGE];
    }
    if (frame) {
      internals::setPage(cs, page, uint64_t(frame) * PAGE, PROT_R | PROT_W, mmuIdx);
      return true;
    }
  }
  uint32_t changes = active_ ? active_->changes : 0;
  int64_t physicalAddress = active_ ? active_->translate(address, Access(access)) : int64_t(UNMAPPED);
  if (physicalAddress < 0) {
    if (probe) return false;
    pageFault(address, access, physicalAddress);
    internals::leave(cs, uc, retaddr);
  }
  uint32_t frame = uint32_t(uint64_t(physicalAddress) / PAGE);
  if (access == FETCH && !physical->hasCode(frame)) {
    // From here on stores to this frame must be seen by the translator, through whatever address they come.
    physical->setCode(frame, true);
    internals::flushTlb(cs);
    stop.generation++;
  } else if (++fills_ % 2048 == 0) {
    internals::flushTlb(cs);  // libunicorn resizes its TLB only when it is flushed
  }
  if (active_->changes != changes) {
    if (retaddr && physical->hasCode(active_->movedFrom)) internals::restoreState(cs, retaddr);
    if (pageMoved(address) && retaddr) internals::exitBlock(cs);  // and begins the instruction anew
  }
  bool code = physical->hasCode(frame);
  int prot = active_->rights(address);
  if (!code) prot &= ~PROT_X;  // the first fetch has to come here
  internals::setPage(cs, page, uint64_t(frame) * PAGE, prot, mmuIdx);
  if ((prot & PROT_W) && !code) internals::setDirty(cs, page);
  return true;
}

void Engine::pageFault(uint64_t address, int access, int64_t miss) {
  stopped_ = true;
  stop.kind = EXCEPTION;
  stop.software = 0;
  stop.address = double(address);
  stop.exactAddress = address;
  stop.access = uint32_t(access);
  stop.miss = uint32_t(-miss);
  if (!canonical(address)) {
    stop.vector = 13;
    stop.errorCode = 0;
    return;
  }
  stop.vector = 14;
  // Linux calls every address of the kernel's half protected, whatever is there (arch/x86/mm/fault.c).
  stop.errorCode = (miss == FORBIDDEN || address >= KERNEL_HALF ? 1u : 0u) | (access == WRITE ? 2u : 0u) | 4u |
                   (access == FETCH ? 16u : 0u);
}

// ---- stops

void Engine::stopWith(StopKind kind) {
  stopped_ = true;
  stop.kind = kind;
  endRun();
}

// Before the next block, where this one is not left at once.
void Engine::endRun() {
  uc_emu_stop(uc);
  if (running_ && counting_) count_.park();
}

void Engine::stopException(uint32_t vector, uint32_t errorCode) {
  stop.vector = vector;
  stop.errorCode = errorCode;
  stop.address = 0;
  stop.access = 0;
  stop.miss = 0;
  stopWith(EXCEPTION);
}

void Engine::onSyscallInstruction(uint32_t addend) {
  EnvHead& h = env.head();
  if (ownInstruction()) {
    trapsForAccess();
    return;
  }
  h.eip += addend;
  if (!(h.hflags & HF_CS64)) h.eip &= 0xffffffffu;
  h.regs[1] = h.eip;
  // The way back, SYSRET, loads SS from the STAR register, whatever the program had there.
  if (h.segs[SS].selector != SYSRET_SS) {
    setSegment(SS, SYSRET_SS, gdt()[SYSRET_SS >> 3]);
    h.hflags |= HF_SS32;
    updateAddseg();
  }
  // Linux has SYSCALL clear TF, and SYSRET sets it again: the next trap comes after the instruction that follows.
  syscallTf_ = h.eflags & FLAG_TF;
  h.eflags &= ~FLAG_TF;
  stopWith(SYSCALL);
}

bool Engine::onCpuidInstruction() {
  const Decoded& d = ownInstructionAt(env.head().eip);
  if (SseForm form = hostForm(d, env.head().hflags); form.to) {
    // The translator does not know of other flags.
    if (!computeOnHost(d, form) || trapsForAccess() || form.to == SseForm::flags) internals::exitBlock(cpu);
    return true;
  }
  if (d.verdict != Verdict::repString) return extendedCpuid();
  // The block goes on with the next instruction, unless there is a reason to look around first.
  bool ends = repString(d) != Repeated::done;
  if (trapsForAccess() || ends) internals::exitBlock(cpu);
  return true;
}

void Engine::onSysenter(uint32_t) { stopWith(SYSENTER); }

void Engine::onAbort() {
  stopException(6, 0);
  internals::leave(cpu, uc, 0);
}

void Engine::onInterrupt(uc_engine*, uint32_t number, void* self) {
  Engine& e = *static_cast<Engine*>(self);
  e.env.oldException() = -1;
  if (e.aloneTrap_ && number == 1) {
    e.aloneTrap_ = false;
    return;
  }
  // A check at the end of a page has HLT's place, see patchInstruction.
  if (number == 13 && e.strict_ && e.checkedAt_ != e.env.head().eip && e.ownInstruction()) {
    e.aloneTrap_ = false;
    return;
  }
  if (number == 13 && e.breaksHere()) return;
  if (number == 1) e.hits_ |= DR6_STEP;
  if (e.stopped_) return;  // the trap of a single step after an instruction of ours that has stopped already
  bool software = e.env.exceptionIsInt();
  e.stop.software = software;
  if (software && number == 0x80) {
    e.stopWith(INT80);
    return;
  }
  bool hasCode = number == 8 || (number >= 10 && number <= 14) || number == 17;
  e.stopException(number, hasCode ? uint32_t(e.env.errorCode()) : 0);
}

bool Engine::onInvalid(uc_engine*, void* self) {
  Engine& e = *static_cast<Engine*>(self);
  e.env.oldException() = -1;
  e.stop.software = 0;
  e.stopException(6, 0);
  return true;
}

// Never called: that there is a hook has the translator ask for a call, and counting.cc puts other code there.
void Engine::onBlock(uc_engine*, uint64_t, uint32_t, void*) {}

// Counting code is translated apart from the rest: a flag that only matters to I/O instructions tells them apart, so
// that switching costs no retranslation and a guest that runs uncounted pays nothing.
void Engine::setCounting(bool on) {
  // A single hook would be called from where no wrap can stand in.
  for (uc_hook& added : blockHooks_) {
    if (on && !added) uc_hook_add(uc, &added, UC_HOOK_BLOCK, reinterpret_cast<void*>(onBlock), this, 1, 0);
    if (!added) continue;
    HookHead* hook = reinterpret_cast<HookHead*>(added);
    hook->begin = on ? 1 : ~uint64_t(0);
    hook->end = on ? 0 : ~uint64_t(0);
  }
  if (on) env.head().hflags |= HF_IOBPT;
  else env.head().hflags &= ~HF_IOBPT;
  counting_ = on;
}

void Engine::run() {
  EnvHead& h = env.head();
  if ((stop.budget >= 0) != counting_ || counting_ != bool(h.hflags & HF_IOBPT)) setCounting(stop.budget >= 0);
  if (breaking_) h.hflags |= HF_BREAKS;
  else h.hflags &= ~HF_BREAKS;
  stopped_ = aloneTrap_ = aloneForTrap_ = false;
  hits_ = 0;
  checkedAt_ = ~uint64_t(0);
  internals::forgetAlone(cpu);
  stop.kind = FAILED;
  stop.software = 0;
  if (counting_) count_.begin(&env.at<int64_t>(offset::blockCount), stop.budget);
  Engine* outer = runningEngine;
  runningEngine = this;
  running_ = true;
  // A signal that came between two runs found no engine to stop.
  bool late = interruptRequested_ || interruptionPending();
  uc_err err = late ? UC_ERR_OK : uc_emu_start(uc, h.eip, 0, 0, 0);
  running_ = false;
  runningEngine = outer;
  if (counting_) {
    count_.end();
    double left = count_.blocksLeft();
    stop.blocks += stop.budget - left;
    stop.budget = left;
    stop.codeBytes += count_.bytes();
  }
  if (!stopped_) {
    if (interruptRequested_.exchange(false) || late) {
      stop.kind = INTERRUPTED;
    } else if (err == UC_ERR_OK && h.eip == 0) {
      // Address 0 is where libunicorn was told to end; for the guest it is an unmapped page.
      pageFault(0, FETCH, UNMAPPED);
    } else {
      stop.vector = uint32_t(err);
    }
  }
  if (!(h.hflags & HF_CS64)) h.eip = uint32_t(h.eip);
  if (stop.kind == EXCEPTION) refineStop();
  stop.debug = stop.kind == EXCEPTION && stop.vector == 1 ? hits_ : 0;
  if (syscallTf_) {
    h.eflags |= FLAG_TF;
    syscallTf_ = false;
  }
  stop.rflags = flags();
  if (stop.kind == SYSCALL) h.regs[11] = stop.rflags;
}

void Engine::interrupt() {
  interruptRequested_ = true;
  if (running_) uc_emu_stop(uc);
}

uint64_t Engine::readTsc() {
  stop.tsc += 64;
  return uint64_t(stop.tsc);
}

// ---- registers

uint64_t Engine::flags() {
  uint64_t v = 0;
  uc_reg_read(uc, UC_X86_REG_RFLAGS, &v);
  return v;
}

void Engine::setFlags(uint64_t v) {
  v = (v & FLAGS_USER) | FLAGS_FIXED;
  uc_reg_write(uc, UC_X86_REG_RFLAGS, &v);
  stop.rflags = flags();
}

}  // namespace shimbed
