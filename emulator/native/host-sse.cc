#include "host-sse.h"

#if defined(__x86_64__) && defined(__linux__)

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>
#include <initializer_list>
#include <iterator>
#include <mutex>

#include "engine.h"

namespace shimbed {

namespace {

constexpr size_t LONGEST = 64;  // bytes of code for one instruction
struct sigaction oldFpe;

// The host's processor has raised an exception that the guest asked for: the code ends early and says so.
void onFloatingPoint(int number, siginfo_t* info, void* context) {
  greg_t& rip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  Engine* e = currentEngine();
  const uint8_t* recovery = e && e->hostSse ? e->hostSse->recovery(uintptr_t(rip)) : nullptr;
  if (recovery) {
    rip = greg_t(recovery);
  } else if (oldFpe.sa_flags & SA_SIGINFO) {
    oldFpe.sa_sigaction(number, info, context);
  } else if (oldFpe.sa_handler != SIG_DFL && oldFpe.sa_handler != SIG_IGN) {
    oldFpe.sa_handler(number);
  } else {
    signal(number, SIG_DFL);  // and the instruction raises it again
  }
}

void catchFloatingPoint() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = onFloatingPoint;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGFPE, &action, &oldFpe);
  });
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGFPE);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

enum { NONE = 1, P66 = 2, PF3 = 4, PF2 = 8, ALL = 15 };
int prefixOf(const Decoded& d) { return d.rep ? PF3 : d.repne ? PF2 : d.opsize ? P66 : NONE; }

}  // namespace

SseForm sseForm(const Decoded& d) {
  if (d.vex || (d.map != 2 && d.map != 4)) return {};
  int prefix = prefixOf(d), has = 0;
  SseForm form{SseForm::vector, SseForm::vector, 0};
  if (d.map == 4) {
    // ROUNDxx, DPPS and DPPD
    if ((d.opcode >= 0x08 && d.opcode <= 0x0b) || d.opcode == 0x40 || d.opcode == 0x41) has = P66;
    form.always = d.opcode >= 0x40;  // the order of the sums, and what is inexact of them
  } else {
    switch (d.opcode) {
      case 0x51: case 0x58: case 0x59: case 0x5a: case 0x5c: case 0x5d: case 0x5e: case 0x5f: case 0xc2: has = ALL; break;
      case 0x2a:
        has = ALL;
        form.from = prefix & (NONE | P66) ? SseForm::mmx : SseForm::general;
        // No MMX register is used, so x87 is to stay as it is.
        form.always = form.from == SseForm::mmx && d.memory();
        break;
      case 0x2c: case 0x2d:
        has = ALL;
        form.to = prefix & (NONE | P66) ? SseForm::mmx : SseForm::general;
        break;
      case 0x2e: case 0x2f:
        has = NONE | P66;
        form.to = SseForm::flags;
        break;
      case 0x5b: has = NONE | P66 | PF3; break;
      case 0x7c: case 0x7d: case 0xd0: has = P66 | PF2; break;
      case 0xe6: has = P66 | PF2; break;
      default: break;
    }
  }
  if (!(prefix & has)) return {};
  if (d.memory()) form.size = form.from == SseForm::general && d.rex & 8 ? 8 : uint8_t(memoryUse(d, true).size);
  return form;
}

HostSse::HostSse() {
  void* region = mmap(nullptr, REGION, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) return;
  code_ = static_cast<uint8_t*>(region);
  catchFloatingPoint();
}

HostSse::~HostSse() {
  if (code_) munmap(code_, REGION);
}

#define AT(field) uint8_t(offsetof(Operands, field))

const uint8_t* HostSse::recovery(uintptr_t pc) const {
  uintptr_t start = reinterpret_cast<uintptr_t>(code_);
  return pc >= start && pc < start + REGION ? code_ : nullptr;
}

// The operands lie where RDI points; the instruction's own are XMM0, MM0 or EAX, and memory.
HostSse::Code HostSse::emit(const Decoded& d, const SseForm& form, uint8_t immediate) {
  auto put = [this](std::initializer_list<uint8_t> bytes) {
    for (uint8_t b : bytes) code_[used_++] = b;
  };
  if (used_ + LONGEST > REGION) {
    used_ = 0;
    for (Known& k : known_) k = {};
  }
  if (used_ == 0) {
    // The recovery: stmxcsr; ldmxcsr; movb $1; emms; ret
    put({0x0f, 0xae, 0x5f, AT(mxcsr), 0x0f, 0xae, 0x57, AT(hostMxcsr), 0xc6, 0x47, AT(raised), 1, 0x0f, 0x77, 0xc3});
  }
  uint8_t* start = code_ + used_;
  put({0x0f, 0xae, 0x5f, AT(hostMxcsr)});  // stmxcsr
  put({0x0f, 0x28, 0x47, AT(to)});         // movaps to xmm0
  put({0x0f, 0xae, 0x57, AT(mxcsr)});      // ldmxcsr
  int prefix = prefixOf(d);
  if (prefix != NONE) put({uint8_t(prefix == P66 ? 0x66 : prefix == PF3 ? 0xf3 : 0xf2)});
  if (d.rex & 8) put({0x48});
  put({0x0f});
  if (d.map == 4) put({0x3a});
  put({d.opcode, 0x47, AT(from)});
  if (d.map == 4 || d.opcode == 0xc2) put({immediate});
  if (form.to == SseForm::flags) put({0x9c, 0x8f, 0x47, AT(flags)});       // pushfq; pop
  put({0x0f, 0xae, 0x5f, AT(mxcsr), 0x0f, 0xae, 0x57, AT(hostMxcsr)});     // stmxcsr; ldmxcsr
  if (form.to == SseForm::vector) put({0x0f, 0x29, 0x47, AT(to)});         // movaps
  if (form.to == SseForm::general) put({0x48, 0x89, 0x47, AT(general)});   // mov
  if (form.to == SseForm::mmx) put({0x0f, 0x7f, 0x47, AT(mmx), 0x0f, 0x77});  // movq; emms
  put({0xc3});
  return reinterpret_cast<Code>(start);
}

HostSse::Code HostSse::codeFor(const Decoded& d, const SseForm& form) {
  bool immediates = d.map == 4 || d.opcode == 0xc2;
  // CMPPS has eight predicates without AVX.
  uint8_t immediate = !immediates ? 0 : d.opcode == 0xc2 ? d.immediate & 7 : d.immediate;
  uint32_t key = 1u << 31 | uint32_t(d.map) << 24 | uint32_t(prefixOf(d)) << 20 | uint32_t(d.rex & 8) << 16 | uint32_t(d.opcode) << 8 | immediate;
  Known& known = known_[(key ^ key >> 8 ^ key >> 16) % std::size(known_)];
  if (known.key != key) {
    Code code = emit(d, form, immediate);
    known = {key, code};
  }
  return known.code;
}

bool HostSse::run(const Decoded& d, const SseForm& form, Operands& o) {
  o.raised = 0;
  codeFor(d, form)(&o);
  return !o.raised;
}

// False when it has stopped the run.
bool Engine::computeOnHost(const Decoded& d, const SseForm& form) {
  EnvHead& h = env.head();
  HostSse::Operands o{};
  auto vectorAt = [this](int i) { return env.p + offset::xmmRegs + 64 * i; };
  auto mmxAt = [this](int i) { return env.p + offset::fpregs + 16 * i; };
  int to = d.reg(), from = d.rm();
  if (form.to != SseForm::mmx) to |= (d.rex & 4) << 1;
  if (form.from != SseForm::mmx) from |= (d.rex & 1) << 3;
  if (d.memory()) {
    uint64_t address = effectiveAddress(d);
    if (wantsAlignment(d) && (address & 15)) {
      stopException(13, 0);
      return false;
    }
    if ((h.eflags & FLAG_AC) && (address & (form.size - 1u)) && canonical(address)) {
      stopException(17, 0);
      return false;
    }
    if (!loadGuest(address, o.from, form.size)) return false;
  } else {
    switch (form.from) {
      case SseForm::general: std::memcpy(o.from, &h.regs[from], 8); break;
      case SseForm::mmx: std::memcpy(o.from, mmxAt(from), 8); break;
      default: std::memcpy(o.from, vectorAt(from), 16);
    }
  }
  if (form.to == SseForm::vector || form.to == SseForm::flags) std::memcpy(o.to, vectorAt(to), 16);
  // Any use of an MMX register makes all of x87's valid, before an exception is raised.
  if (form.to == SseForm::mmx || (form.from == SseForm::mmx && !d.memory())) {
    env.at<uint32_t>(offset::fpstt) = 0;
    std::memset(env.p + offset::fptags, 0, 8);
  }
  env.mergeMxcsr();
  uint32_t& mxcsr = env.at<uint32_t>(offset::mxcsr);
  o.mxcsr = mxcsr;
  bool done = hostSse->run(d, form, o);
  mxcsr = o.mxcsr;
  if (!done) {
    stopException(19, 0);
    return false;
  }
  constexpr uint32_t CC_OP_EFLAGS = 1, STATUS = 0x8d5;
  switch (form.to) {
    case SseForm::general: h.regs[to] = o.general; break;
    case SseForm::mmx:
      std::memcpy(mmxAt(to), &o.mmx, 8);
      std::memset(mmxAt(to) + 8, 0xff, 2);
      break;
    case SseForm::flags:
      h.ccOp = CC_OP_EFLAGS;
      h.ccSrc = o.flags & STATUS;
      break;
    default: std::memcpy(vectorAt(to), o.to, 16);
  }
  h.eip += d.length;
  if (!(h.hflags & HF_CS64)) h.eip &= 0xffffffffu;
  return true;
}

}  // namespace shimbed

#else

#include "engine.h"

namespace shimbed {
SseForm sseForm(const Decoded&) { return {}; }
HostSse::HostSse() = default;
HostSse::~HostSse() = default;
bool Engine::computeOnHost(const Decoded&, const SseForm&) { return false; }
}  // namespace shimbed

#endif
