// Breakpoints of the debug registers (SDM vol. 3, 17.2): an instruction that has one is not begun, and after an access that
// one watches the instruction ends as usual and then traps.
//
// Blocks that are translated while there are breakpoints on instructions are kept apart from the rest, so that threads
// without them run what was translated before. Accesses to a page with a watched address leave the fast path, as
// libunicorn has it for watchpoints of its own.
#include "engine.h"
#include "internals.h"

namespace shimbed {

namespace {
enum { EXECUTE, WRITES, PORTS, ACCESSES };
}  // namespace

uint32_t Breakpoints::executing(uint64_t address) const {
  uint32_t hits = 0;
  for (uint32_t i = 0; i < COUNT; i++)
    if (ones[i].length && ones[i].kind == EXECUTE && ones[i].address == address) hits |= 1u << i;
  return hits;
}

uint32_t Breakpoints::accessing(uint64_t address, uint64_t size, bool writes) const {
  uint32_t hits = 0;
  for (uint32_t i = 0; i < COUNT; i++) {
    const One& b = ones[i];
    if (!b.length || (b.kind != ACCESSES && !(b.kind == WRITES && writes))) continue;
    if (address < b.address + b.length && b.address < address + size) hits |= 1u << i;
  }
  return hits;
}

void Engine::setBreakpoints(const double* addresses, uint32_t control) {
  static const uint8_t lengths[4] = {1, 2, 8, 4};
  Breakpoints now;
  bool instructions = false, data = false;
  for (uint32_t i = 0; i < Breakpoints::COUNT; i++) {
    if (!(control >> 2 * i & 3)) continue;
    uint32_t field = control >> (16 + 4 * i);
    now.ones[i] = {uint64_t(addresses[i]), lengths[field >> 2 & 3], uint8_t(field & 3)};
    (now.ones[i].kind == EXECUTE ? instructions : data) = true;
  }
  if (watching_ || data) internals::flushTlb(cpu);
  // Threads that take turns with others often have the same ones as the last that had any.
  for (uint32_t i = 0; instructions && i < Breakpoints::COUNT; i++) {
    uint64_t address = now.ones[i].length && now.ones[i].kind == EXECUTE ? now.ones[i].address : ~uint64_t(0);
    if (translatedBreaks_[i] == address) continue;
    dropBreaksAt(translatedBreaks_[i]);
    dropBreaksAt(address);
    translatedBreaks_[i] = address;
  }
  breakpoints_ = now;
  watching_ = data;
  breaking_ = instructions;
}

// Blocks of the page that an address lies in.
void Engine::dropBreaksAt(uint64_t address) {
  auto pages = breakPages_.equal_range(address / PAGE);
  for (auto it = pages.first; it != pages.second; ++it) internals::dropTranslations(uc, uint64_t(it->second) * PAGE);
  breakPages_.erase(pages.first, pages.second);
  jumps_.clear();
}

// A block is translated while there are breakpoints on instructions.
void Engine::noteBreakPage(uint64_t pc, uint32_t frame) {
  auto pages = breakPages_.equal_range(pc / PAGE);
  for (auto it = pages.first; it != pages.second; ++it)
    if (it->second == frame) return;
  breakPages_.emplace(pc / PAGE, frame);
}

void Engine::onWatchedAccess(uint64_t address, uint64_t size, bool writes, uintptr_t retaddr) {
  uint32_t hits = breakpoints_.accessing(address, size, writes);
  if (!hits) return;
  if (env.head().eflags & FLAG_TF) {
    hits_ |= hits;  // the trap is still to come
    return;
  }
  if (aloneForTrap_) {
    if (!hits_) stopException(1, 0);
    hits_ |= hits;
    return;
  }
  // Once more from its start, in a block of its own, after which the run ends.
  internals::restoreState(cpu, retaddr);
  aloneForTrap_ = true;
  if (counting_) count_.allowOne();
  internals::nextBlockAlone(cpu);
  internals::exitBlock(cpu);
}

bool Engine::breaksHere() {
  EnvHead& h = env.head();
  if (!breaking_ || h.eflags & FLAG_RF) return false;
  uint64_t linear = h.hflags & HF_CS64 ? h.eip : uint32_t(h.eip + h.segs[CS].base);
  hits_ = breakpoints_.executing(linear);
  if (hits_) stopException(1, 0);
  return hits_;
}

// An instruction of the engine's own is done; true when it is to trap for what it has accessed.
bool Engine::trapsForAccess() {
  if (!hits_ || stopped_ || env.head().eflags & FLAG_TF) return false;
  stopException(1, 0);
  return true;
}

}  // namespace shimbed

extern "C" {
int __wrap_cpu_watchpoint_address_matches_x86_64(CPUState*, uint64_t page, uint64_t size) {
  constexpr int READS = 1, WRITES = 2;
  shimbed::Engine* e = shimbed::currentEngine();
  if (!e || !e->watches(page, size)) return 0;
  return READS | WRITES;
}

void __wrap_cpu_check_watchpoint_x86_64(CPUState*, uint64_t address, uint64_t size, uint32_t, int access, uintptr_t retaddr) {
  constexpr int WRITES = 2;
  if (shimbed::Engine* e = shimbed::currentEngine()) e->onWatchedAccess(address, size, access & WRITES, retaddr);
}
}
