// VEX-encoded instructions of the guest, by their plans.
#include "vector.h"

#include <signal.h>

#include <cstring>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "engine.h"
#include "internals.h"

namespace shimbed {

namespace {

constexpr uint32_t ALL_MASKED = 0x1f80, EXCEPTIONS = 0x3f, MODES = 0xe040;  // rounding, FTZ, DAZ
constexpr uint32_t UNDERFLOW = 0x10;
constexpr uint32_t CC_EFLAGS = 1;
constexpr unsigned MASK_SHIFT = 7;
enum { RAX, RCX, RDX };

// The host's SSE for one instruction, all exceptions masked.
class Host {
 public:
#if defined(__x86_64__)
  explicit Host(uint32_t control, uint32_t known) : control_(control) {
    uint32_t before = _mm_getcsr();
    if ((before & ~EXCEPTIONS) != control || (before & EXCEPTIONS & ~known)) _mm_setcsr(control);
  }
  ~Host() {
    if (control_ != ALL_MASKED) _mm_setcsr(ALL_MASKED);
  }
  uint32_t raised() const { return _mm_getcsr() & EXCEPTIONS; }
#else
  explicit Host(uint32_t control, uint32_t) : control_(control) {}
  uint32_t raised() const { return 0; }
#endif
  Host(const Host&) = delete;

 private:
  uint32_t control_;
};

// The host's SSE with the guest's exceptions not masked, for an instruction that is going to raise one: which flags it
// leaves then no run with all of them masked tells. It is carried out to its end all the same.
class HostTrap {
 public:
  HostTrap() {
    trapped = 0;
    struct sigaction action {};
    action.sa_sigaction = onSignal;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGFPE, &action, &before_);
  }
  ~HostTrap() { sigaction(SIGFPE, &before_, nullptr); }
  HostTrap(const HostTrap&) = delete;
  bool caught() const { return trapped & CAUGHT; }
  template <typename F>
  uint32_t run(uint32_t control, F instruction) {
#if defined(__x86_64__)
    _mm_setcsr(control);
    instruction();
    uint32_t raised = caught() ? trapped : _mm_getcsr();
    _mm_setcsr(ALL_MASKED);
    return raised & EXCEPTIONS;
#else
    (void)control;
    instruction();
    return 0;
#endif
  }

 private:
  static constexpr uint32_t CAUGHT = 1u << 31;
  static void onSignal(int, siginfo_t*, void* context) {
#if defined(__x86_64__) && defined(__linux__)
    auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.fpregs;
    trapped = CAUGHT | (registers->mxcsr & EXCEPTIONS);
    registers->mxcsr |= ALL_MASKED;
#else
    (void)context;
#endif
  }
  static thread_local volatile uint32_t trapped;
  struct sigaction before_ {};
};
thread_local volatile uint32_t HostTrap::trapped = 0;

}  // namespace

// With a memory operand at `m`. False when an exception has stopped the run, and nothing has changed but MXCSR.
bool Engine::runFloats(const VectorPlan& plan, void* m) {
  uint32_t guest = env.mergedMxcsr();
  uint32_t& mxcsr = env.at<uint32_t>(offset::mxcsr);
  uint32_t control = (guest & MODES) | ALL_MASKED;
  char* r = env.p + plan.rAt;
  if (__builtin_expect((guest & ALL_MASKED) == ALL_MASKED, 1)) {
    Host host(control, guest & EXCEPTIONS);
    plan.stub(r, env.p + plan.vAt, m, env.p + plan.fourthAt);
    mxcsr = guest | host.raised();
    return true;
  }
  // What is written where nothing is to change after all.
  char* written = plan.form == Form::MR ? static_cast<char*>(m) : plan.form == Form::MVR ? env.p + plan.mAt : r;
  char before[2][16];
  uint64_t flags = env.head().ccSrc;
  bool vector = plan.form != Form::GM && !(plan.form == Form::MR && plan.memory);
  std::memcpy(before[0], written, plan.form == Form::GM ? 8 : 16);
  if (vector) std::memcpy(before[1], written + offset::ymmHigh, 16);
  auto undo = [&] {
    std::memcpy(written, before[0], plan.form == Form::GM ? 8 : 16);
    if (vector) std::memcpy(written + offset::ymmHigh, before[1], 16);
    env.head().ccSrc = flags;
  };
  uint32_t unmasked = ~(guest >> MASK_SHIFT) & EXCEPTIONS, raised;
  {
    Host host(control, 0);
    plan.stub(r, env.p + plan.vAt, m, env.p + plan.fourthAt);
    raised = host.raised();
  }
  // A result that is tiny but exact is an underflow only while that is not masked.
  if (!(raised & unmasked) && !(unmasked & UNDERFLOW)) {
    mxcsr = guest | raised;
    return true;
  }
  undo();
  HostTrap trap;
  raised = trap.run(guest & ~EXCEPTIONS, [&] { plan.stub(r, env.p + plan.vAt, m, env.p + plan.fourthAt); });
  mxcsr = guest | raised;
  if (!trap.caught()) return true;
  undo();
  stopException(19, 0);
  return false;
}

bool Engine::checkVectorAccess(const VectorPlan& plan, uint64_t offset, uint64_t size, Access access) {
  return !strict_ || (env.head().hflags & HF_CS64) || checkAccess(plan.segment, offset, size, access);
}

// A memory operand that lies in two pages, has to be faulted in, or is code.
Engine::Repeated Engine::vectorSlowly(const VectorPlan& plan, uint64_t offset, uint64_t address) {
  alignas(32) char buffer[32 + offset::ymmHigh + 32];
  Access access = plan.stores ? WRITE : READ;
  if (!checkVectorAccess(plan, offset, plan.size, access)) return Repeated::stopped;
  if (!loadGuest(address, buffer, plan.size, access)) return Repeated::stopped;
  if (plan.floats) {
    if (!runFloats(plan, buffer)) return Repeated::stopped;
  } else {
    plan.stub(env.p + plan.rAt, env.p + plan.vAt, buffer, env.p + plan.fourthAt);
  }
  if (!plan.stores) return Repeated::done;
  storedCode_ = false;
  if (!storeGuest(address, buffer, plan.size)) return Repeated::stopped;
  return storedCode_ ? Repeated::leaves : Repeated::done;
}

Engine::Repeated Engine::runVector(const VectorPlan& plan) {
  EnvHead& h = env.head();
  if (__builtin_expect(plan.stub == nullptr || plan.form == Form::strings, 0)) return runSpecial(plan);
  char* m = env.p + plan.mAt;
  if (plan.memory) {
    uint64_t offset = plan.offset(h), address = plan.linear(h, offset);
    if (plan.aligned && (address & (plan.size - 1u))) {
      stopException(13, 0);
      return Repeated::stopped;
    }
    int64_t at = active_->translateQuickly(address, plan.stores ? WRITE : READ);
    if (at < 0 || (address & (PAGE - 1)) > PAGE - plan.size || strict_ || watching_ ||
        (plan.stores && (plan.floats || physical->hasCode(uint32_t(uint64_t(at) / PAGE))))) {
      return vectorSlowly(plan, offset, address);
    }
    m = reinterpret_cast<char*>(physical->base() + at);
  }
  if (plan.floats) return runFloats(plan, m) ? Repeated::done : Repeated::stopped;
  plan.stub(env.p + plan.rAt, env.p + plan.vAt, m, env.p + plan.fourthAt);
  return Repeated::done;
}

// From translated code; `returnAddress` says where in it.
void Engine::onVectorInstruction(uint32_t number, uint64_t eip, uintptr_t returnAddress) {
  EnvHead& h = env.head();
  h.eip = eip;
  const VectorPlan& plan = vectors_.at(number);
  Repeated end = runVector(plan);
  if (__builtin_expect(hits_, 0) && end != Repeated::stopped && trapsForAccess()) {
    if (plan.givesFlags) h.ccOp = CC_EFLAGS;
    h.eip = eip + plan.length;
    if (!(h.hflags & HF_CS64)) h.eip &= 0xffffffffu;
    internals::exitBlock(cpu);
  }
  if (__builtin_expect(end == Repeated::done, 1)) return;
  if (end == Repeated::leaves) {
    if (h.eflags & FLAG_TF) return;  // blocks of one instruction, and the trap is still to come
    h.eip = eip + plan.length;
    if (!(h.hflags & HF_CS64)) h.eip &= 0xffffffffu;
    internals::exitBlock(cpu);
  }
  // Where flags are given the translator has not kept those of before.
  internals::leave(cpu, uc, plan.givesFlags ? returnAddress : 0);
}

// From outside of translated code.
void Engine::ownVectorInstruction(const Decoded& d) {
  EnvHead& h = env.head();
  VectorPlan plan = vectors_.make(d, codeWidth(h.hflags));
  if (plan.givesFlags) {
    uint64_t before = h.ccSrc;
    uint32_t beforeOp = h.ccOp;
    h.ccSrc = flags() & 0x8d5;
    h.ccOp = CC_EFLAGS;
    if (runVector(plan) == Repeated::stopped) {
      h.ccSrc = before;
      h.ccOp = beforeOp;
      return;
    }
  } else if (runVector(plan) == Repeated::stopped) {
    return;
  }
  h.eip += plan.length;
  if (!(h.hflags & HF_CS64)) h.eip &= 0xffffffffu;
}

}  // namespace shimbed
