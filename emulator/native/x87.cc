// The x87 instructions that compute, carried out by the host's own x87 where it has one. libunicorn 2.0 raises none of
// their exceptions, knows no SNaN, and takes the transcendental ones from the C library's double functions. What is
// not here (loads that are exact, exchanges, the environment) libunicorn does well.
//
// Results of FSIN and its like are those of the host's processor: their last bit is not the same with every maker.
#if defined(__x86_64__)
#include <cstring>

#include "engine.h"

namespace {

using namespace shimbed;

constexpr uint16_t EXCEPTIONS = 0x3f, BEFORE = 0x07;  // BEFORE: those that keep the instruction from having an effect
constexpr uint16_t STACK_FAULT = 0x41;                // invalid operation, of the stack
constexpr uint16_t SUMMARY = 0x8080;                  // ES and B
constexpr uint16_t C0 = 0x100, C1 = 0x200, C2 = 0x400, C3 = 0x4000, ALL = C0 | C1 | C2 | C3;
constexpr uint16_t HOST_CONTROL = 0x37f, MASKED = 0x7f, TRUNCATE = 0xc00;

struct Extended {
  uint64_t significand;
  uint16_t exponent;
  uint16_t missing;  // of the operand alone: it came from an empty register
};
static_assert(sizeof(Extended) == 16, "as libunicorn keeps a register");
constexpr Extended INDEFINITE = {0xc000000000000000, 0xffff, 0};

extern "C" {
[[noreturn]] void raise_exception_ra_x86_64(void* env, int vector, uintptr_t hostPc);
void update_fp_status_x86_64(char* env);
bool cpu_restore_state_x86_64(CPUState*, uintptr_t hostPc, bool willExit);
void cpu_stw_data_ra_x86_64(char* env, uint64_t address, uint32_t value, uintptr_t hostPc);
void cpu_stq_data_ra_x86_64(char* env, uint64_t address, uint64_t value, uintptr_t hostPc);
}

struct Fpu {
  Env env;
  bool fault = false;
  explicit Fpu(char* state) : env{state} {}
  uint32_t& top() const { return env.at<uint32_t>(offset::fpstt); }
  uint16_t& status() const { return env.at<uint16_t>(offset::fpus); }
  uint16_t control() const { return env.at<uint16_t>(offset::fpuc); }
  uint8_t& empty(uint32_t i) const { return env.at<uint8_t>(offset::fptags + ((top() + i) & 7)); }
  Extended& st(uint32_t i) const { return env.at<Extended>(offset::fpregs + 16 * ((top() + i) & 7)); }
  // The operand that the translator fetched before it asks for the operation.
  Extended& operand() const { return env.at<Extended>(offset::fpOperand); }
  // The same to read: what is not there reads as the indefinite NaN, and done() reports it.
  const Extended& in(uint32_t i) {
    if (!empty(i)) return st(i);
    fault = true;
    return INDEFINITE;
  }
  const Extended& operandIn() {
    if (operand().missing) fault = true;
    return operand();
  }
  void set(uint32_t i, const Extended& value) const {
    st(i) = value;
    empty(i) = 0;
  }
  void push(const Extended& value) const {
    top() = (top() - 1) & 7;
    st(0) = value;
    empty(0) = 0;
  }
  void pop() const {
    empty(0) = 1;
    top() = (top() + 1) & 7;
  }
  void summarize() const {
    if (status() & ~control() & EXCEPTIONS) status() |= SUMMARY;
    else status() &= uint16_t(~SUMMARY);
  }
};

// The host's x87 for one instruction, with the guest's rounding and precision, and all exceptions masked.
class Host {
 public:
  Host(const Fpu& fpu, uint16_t also = 0) : fpu_(fpu) {
    uint16_t control = uint16_t((fpu.control() & 0xf00) | MASKED | also);
    if (control != HOST_CONTROL) {
      asm volatile("fldcw %0" ::"m"(control));
      changed_ = true;
    }
    uint16_t before;
    asm volatile("fnstsw %0" : "=a"(before));
    // Flags that the guest has already need not be told apart, unless one of them is to trap.
    uint16_t known = (fpu.control() & EXCEPTIONS) == EXCEPTIONS ? fpu.status() : 0;
    if (before & EXCEPTIONS & ~known) asm volatile("fnclex");
  }
  Host(const Host&) = delete;
  ~Host() {
    uint16_t control = HOST_CONTROL;
    if (changed_) asm volatile("fldcw %0" ::"m"(control));
  }
  // Gives the guest the flags and the condition codes named; false when the instruction has no effect.
  bool done(uint16_t hostStatus, uint16_t conditions = C1) const {
    uint16_t& status = fpu_.status();
    if (fpu_.fault) hostStatus |= STACK_FAULT;
    status = uint16_t((status & ~conditions) | (hostStatus & (conditions | EXCEPTIONS)) | (fpu_.fault ? STACK_FAULT : 0));
    fpu_.summarize();
    return !(hostStatus & BEFORE & ~fpu_.control());
  }

 private:
  const Fpu& fpu_;
  bool changed_ = false;
};

#define STACK "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"

enum class Op { add, mul, sub, subr, div, divr, scale, prem, prem1, atan, yl2x, yl2xp1, sqrt, rndint, f2xm1, sin, cos, com, ucom, xam, l2t, l2e, pi, lg2, ln2 };

// st(0) = a, st(1) = b; the result is what is on top then, of which `depth` values are there.
template <Op op>
uint16_t binary(const Extended& a, const Extended& b, Extended& result) {
  uint16_t status;
  Extended out{};
#define BINARY(instruction)                                                                           \
  asm volatile("fldt %[b]\n fldt %[a]\n" instruction "\n fnstsw %%ax\n fstpt %[out]\n fstp %%st(0)"   \
               : "=a"(status), [out] "=m"(out) : [a] "m"(a), [b] "m"(b) : STACK, "cc")
#define POPPING(instruction)                                                                          \
  asm volatile("fldt %[b]\n fldt %[a]\n" instruction "\n fnstsw %%ax\n fstpt %[out]"                  \
               : "=a"(status), [out] "=m"(out) : [a] "m"(a), [b] "m"(b) : STACK, "cc")
  if constexpr (op == Op::add) BINARY("fadd %%st(1), %%st");
  else if constexpr (op == Op::mul) BINARY("fmul %%st(1), %%st");
  else if constexpr (op == Op::sub) BINARY("fsub %%st(1), %%st");
  else if constexpr (op == Op::subr) BINARY("fsubr %%st(1), %%st");
  else if constexpr (op == Op::div) BINARY("fdiv %%st(1), %%st");
  else if constexpr (op == Op::divr) BINARY("fdivr %%st(1), %%st");
  else if constexpr (op == Op::com) BINARY("fcom %%st(1)");
  else if constexpr (op == Op::ucom) BINARY("fucom %%st(1)");
  else if constexpr (op == Op::scale) BINARY("fscale");
  else if constexpr (op == Op::prem) BINARY("fprem");
  else if constexpr (op == Op::prem1) BINARY("fprem1");
  else if constexpr (op == Op::atan) POPPING("fpatan");
  else if constexpr (op == Op::yl2x) POPPING("fyl2x");
  else if constexpr (op == Op::yl2xp1) POPPING("fyl2xp1");
  result = out;
  return status;
}

template <Op op>
uint16_t unary(const Extended& a, Extended& result) {
  uint16_t status;
  Extended out{};
#define UNARY(instruction)                                                    \
  asm volatile("fldt %[a]\n" instruction "\n fnstsw %%ax\n fstpt %[out]"      \
               : "=a"(status), [out] "=m"(out) : [a] "m"(a) : STACK, "cc")
  if constexpr (op == Op::sqrt) UNARY("fsqrt");
  else if constexpr (op == Op::rndint) UNARY("frndint");
  else if constexpr (op == Op::f2xm1) UNARY("f2xm1");
  else if constexpr (op == Op::sin) UNARY("fsin");
  else if constexpr (op == Op::cos) UNARY("fcos");
  else if constexpr (op == Op::xam) UNARY("fxam");
  result = out;
  return status;
}

template <Op op>
Extended constant() {
  Extended out{};
#define CONSTANT(instruction) asm volatile(instruction "\n fstpt %0" : "=m"(out) : : STACK)
  if constexpr (op == Op::l2t) CONSTANT("fldl2t");
  else if constexpr (op == Op::l2e) CONSTANT("fldl2e");
  else if constexpr (op == Op::pi) CONSTANT("fldpi");
  else if constexpr (op == Op::lg2) CONSTANT("fldlg2");
  else if constexpr (op == Op::ln2) CONSTANT("fldln2");
  return out;
}

// An exception that an earlier instruction left pending comes with this one.
#define WAIT(fpu)                                                                                       \
  if (__builtin_expect((fpu).status() & SUMMARY, 0))                                                    \
    raise_exception_ra_x86_64((fpu).env.p, 16, CALLER)

#define HELPER __attribute__((visibility("default")))

}  // namespace

extern "C" {

#define ARITHMETIC(name)                                                \
  HELPER void helper_f##name##_ST0_FT0_x86_64(char* env) {              \
    Fpu fpu(env);                                                       \
    WAIT(fpu);                                                          \
    Host host(fpu);                                                     \
    Extended result;                                                    \
    uint16_t status = binary<Op::name>(fpu.in(0), fpu.operandIn(), result); \
    if (host.done(status)) fpu.set(0, result);                          \
  }                                                                     \
  HELPER void helper_f##name##_STN_ST0_x86_64(char* env, int i) {       \
    Fpu fpu(env);                                                       \
    WAIT(fpu);                                                          \
    Host host(fpu);                                                     \
    Extended result;                                                    \
    uint16_t status = binary<Op::name>(fpu.in(uint32_t(i)), fpu.in(0), result); \
    if (host.done(status)) fpu.set(uint32_t(i), result);                \
  }
ARITHMETIC(add)
ARITHMETIC(mul)
ARITHMETIC(sub)
ARITHMETIC(subr)
ARITHMETIC(div)
ARITHMETIC(divr)

#define COMPARISON(name)                                                       \
  HELPER void helper_f##name##_ST0_FT0_x86_64(char* env) {                     \
    Fpu fpu(env);                                                              \
    WAIT(fpu);                                                                 \
    Host host(fpu);                                                            \
    Extended ignored;                                                          \
    host.done(binary<Op::name>(fpu.in(0), fpu.operandIn(), ignored), ALL);       \
  }                                                                            \
  HELPER void helper_f##name##i_ST0_FT0_x86_64(char* env) {                    \
    Fpu fpu(env);                                                              \
    WAIT(fpu);                                                                 \
    Host host(fpu);                                                            \
    Extended ignored;                                                          \
    uint16_t status = binary<Op::name>(fpu.in(0), fpu.operandIn(), ignored);     \
    /* C0, C2 and C3 stand where CF, PF and ZF do in a byte's flags. */        \
    if (host.done(status)) fpu.env.head().ccSrc = status >> 8 & 0x45;          \
  }
COMPARISON(com)
COMPARISON(ucom)

#define IN_PLACE(name, op, conditions)                                  \
  HELPER void helper_##name##_x86_64(char* env) {                       \
    Fpu fpu(env);                                                       \
    WAIT(fpu);                                                          \
    Host host(fpu);                                                     \
    Extended result;                                                    \
    uint16_t status = unary<Op::op>(fpu.in(0), result);                 \
    if (host.done(status, conditions)) fpu.set(0, result);              \
  }
IN_PLACE(fsqrt, sqrt, C1)
IN_PLACE(frndint, rndint, C1)
IN_PLACE(f2xm1, f2xm1, C1)
IN_PLACE(fsin, sin, C1 | C2)
IN_PLACE(fcos, cos, C1 | C2)

// A remainder leaves three bits of the quotient, or C0 and C3 as they are where there is none.
#define WITH_NEXT(name, op, quotient)                                                                  \
  HELPER void helper_##name##_x86_64(char* env) {                                                      \
    Fpu fpu(env);                                                                                      \
    WAIT(fpu);                                                                                         \
    Host host(fpu);                                                                                    \
    Extended result;                                                                                   \
    uint16_t status = binary<Op::op>(fpu.in(0), fpu.in(1), result);                                    \
    uint16_t conditions = (result.exponent & 0x7fff) == 0x7fff ? (quotient) & ~(C0 | C3) : (quotient); \
    if (host.done(status, conditions)) fpu.set(0, result);                                             \
  }
WITH_NEXT(fscale, scale, C1)
WITH_NEXT(fprem, prem, ALL)
WITH_NEXT(fprem1, prem1, ALL)

#define INTO_NEXT(name, op)                                             \
  HELPER void helper_##name##_x86_64(char* env) {                       \
    Fpu fpu(env);                                                       \
    WAIT(fpu);                                                          \
    Host host(fpu);                                                     \
    Extended result;                                                    \
    uint16_t status = binary<Op::op>(fpu.in(0), fpu.in(1), result);     \
    if (!host.done(status)) return;                                     \
    fpu.pop();                                                          \
    fpu.set(0, result);                                                 \
  }
INTO_NEXT(fpatan, atan)
INTO_NEXT(fyl2x, yl2x)
INTO_NEXT(fyl2xp1, yl2xp1)

// What leaves two values where one was; C2 says of FPTAN and FSINCOS that the operand is out of range and stays.
#define SPLITS(name, conditions, second)                                                            \
  HELPER void helper_##name##_x86_64(char* env) {                                                   \
    Fpu fpu(env);                                                                                   \
    WAIT(fpu);                                                                                      \
    Host host(fpu);                                                                                 \
    uint16_t status;                                                                                \
    Extended upper{}, lower{};                                                                      \
    asm volatile("fldt %[a]\n" #name "\n fnstsw %%ax\n" second "fstpt %[upper]\n 1: fstpt %[lower]" \
                 : "=a"(status), [upper] "+m"(upper), [lower] "=m"(lower)                           \
                 : [a] "m"(fpu.in(0)) : STACK, "cc");                                               \
    if (!host.done(status, conditions) || ((conditions) & status & C2)) return;                     \
    fpu.set(0, lower);                                                                              \
    fpu.push(upper);                                                                                \
  }
SPLITS(fptan, C1 | C2, "testw $0x400, %%ax\n jnz 1f\n")
SPLITS(fsincos, C1 | C2, "testw $0x400, %%ax\n jnz 1f\n")
SPLITS(fxtract, C1, "")

#define CONSTANT_OF(name, op)                        \
  HELPER void helper_##name##_ST0_x86_64(char* env) { \
    Fpu fpu(env);                                    \
    Host host(fpu);                                  \
    fpu.set(0, constant<Op::op>());                  \
  }
CONSTANT_OF(fldl2t, l2t)
CONSTANT_OF(fldl2e, l2e)
CONSTANT_OF(fldpi, pi)
CONSTANT_OF(fldlg2, lg2)
CONSTANT_OF(fldln2, ln2)

#define LOAD(name, instruction, Bits)                                                           \
  static bool name##Loaded(const Fpu& fpu, Bits bits, Extended& result) {                       \
    Host host(fpu);                                                                             \
    uint16_t status;                                                                            \
    asm volatile(instruction " %[bits]\n fnstsw %%ax\n fstpt %[out]"                            \
                 : "=a"(status), [out] "+m"(result) : [bits] "m"(bits) : STACK);                \
    return host.done(status);                                                                   \
  }                                                                                             \
  HELPER void helper_##name##_FT0_x86_64(char* env, Bits bits) {                                \
    Fpu fpu(env);                                                                               \
    WAIT(fpu);                                                                                  \
    fpu.operand().missing = 0;                                                                  \
    name##Loaded(fpu, bits, fpu.operand());                                                     \
  }                                                                                             \
  HELPER void helper_##name##_ST0_x86_64(char* env, Bits bits) {                                \
    Fpu fpu(env);                                                                               \
    WAIT(fpu);                                                                                  \
    Extended result{};                                                                          \
    if (name##Loaded(fpu, bits, result)) fpu.push(result);                                      \
  }
LOAD(flds, "flds", uint32_t)
LOAD(fldl, "fldl", uint64_t)
LOAD(fildl, "fildl", int32_t)

HELPER void helper_fldz_FT0_x86_64(char* env) { Fpu(env).operand() = {0, 0, 0}; }

HELPER void helper_fmov_FT0_STN_x86_64(char* env, int i) {
  Fpu fpu(env);
  fpu.operand() = fpu.in(uint32_t(i));
  fpu.operand().missing = fpu.fault;
}

#define STORE(name, instruction, Bits, Returned, also)                                         \
  HELPER Returned helper_##name##_ST0_x86_64(char* env) {                                      \
    Fpu fpu(env);                                                                              \
    WAIT(fpu);                                                                                 \
    Host host(fpu, also);                                                                      \
    uint16_t status;                                                                           \
    Bits bits{};                                                                               \
    asm volatile("fldt %[a]\n" instruction " %[bits]\n fnstsw %%ax"                            \
                 : "=a"(status), [bits] "=m"(bits) : [a] "m"(fpu.in(0)) : STACK);              \
    host.done(status);                                                                         \
    return bits;                                                                               \
  }
STORE(fsts, "fstps", uint32_t, uint32_t, 0)
STORE(fstl, "fstpl", uint64_t, uint64_t, 0)
STORE(fist, "fistps", int16_t, int32_t, 0)
STORE(fistl, "fistpl", int32_t, int32_t, 0)
STORE(fistll, "fistpll", int64_t, int64_t, 0)
STORE(fistt, "fistps", int16_t, int32_t, TRUNCATE)
STORE(fisttl, "fistpl", int32_t, int32_t, TRUNCATE)
STORE(fisttll, "fistpll", int64_t, int64_t, TRUNCATE)

HELPER void helper_fbst_ST0_x86_64(char* env, uint64_t address) {
  Fpu fpu(env);
  WAIT(fpu);
  uintptr_t hostPc = CALLER;
  wantAligned(env, address, 7, hostPc);
  Extended digits{};
  uint16_t status;
  {
    Host host(fpu);
    asm volatile("fldt %[a]\n fbstp %[out]\n fnstsw %%ax" : "=a"(status), [out] "=m"(digits) : [a] "m"(fpu.in(0)) : STACK);
  }
  // Either may end in a page fault, with the x87 as it was.
  cpu_stq_data_ra_x86_64(env, address, digits.significand, hostPc);
  cpu_stw_data_ra_x86_64(env, address + 8, digits.exponent, hostPc);
  Host(fpu).done(status);
}

HELPER void helper_fxam_ST0_x86_64(char* env) {
  Fpu fpu(env);
  WAIT(fpu);
  Host host(fpu);
  Extended same;
  uint16_t status = unary<Op::xam>(fpu.st(0), same);
  if (fpu.empty(0)) status = uint16_t((status & C1) | C0 | C3);
  host.done(status, ALL);
}

HELPER void helper_fldcw_x86_64(char* env, uint32_t control) {
  Fpu fpu(env);
  WAIT(fpu);
  fpu.env.at<uint16_t>(offset::fpuc) = uint16_t(control);
  update_fp_status_x86_64(env);
  fpu.summarize();
}

// The instruction masks all exceptions when it has stored the environment. The return address says which instruction it
// is, so that is looked up before.
void __real_helper_fstenv_x86_64(char* env, uint64_t address, int wide);
void __wrap_helper_fstenv_x86_64(char* env, uint64_t address, int wide) {
  Engine* e = currentEngine();
  if (!e) return __real_helper_fstenv_x86_64(env, address, wide);
  wantAligned(env, address, wide ? 3 : 1, CALLER);
  cpu_restore_state_x86_64(e->cpu, CALLER, true);
  __real_helper_fstenv_x86_64(env, address, wide);
  Fpu fpu(env);
  fpu.env.at<uint16_t>(offset::fpuc) |= EXCEPTIONS;
  update_fp_status_x86_64(env);
  fpu.summarize();
}

HELPER void helper_fwait_x86_64(char* env) {
  Fpu fpu(env);
  WAIT(fpu);
}
}

#else

extern "C" {
void __real_helper_fstenv_x86_64(char* env, unsigned long address, int wide);
void __wrap_helper_fstenv_x86_64(char* env, unsigned long address, int wide) {
  return __real_helper_fstenv_x86_64(env, address, wide);
}
}

#endif
