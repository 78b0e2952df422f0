// SSE instructions carried out by the host's own processor under the guest's MXCSR: those that may raise a floating-point
// exception, while the guest has one of these unmasked. Which flags a packed instruction sets, what is tiny and what
// counts as a denormal operand are then as on hardware, and the masked case, nearly always, costs nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "decode.h"

namespace shimbed {

// What an SSE instruction that may raise a floating-point exception works on.
struct SseForm {
  enum Kind : uint8_t { none, vector, general, mmx, flags };
  Kind to = none, from = none;  // `to` is none where it is no such instruction
  uint8_t size = 0;             // of a memory operand
  bool always = false;          // libunicorn has it wrong in any case
};

// `none` also where the host is no x86-64 Linux: there such exceptions are not raised.
SseForm sseForm(const Decoded& d);
// MXCSR has an exception that is not masked.
inline bool unmasks(uint32_t mxcsr) { return (mxcsr & 0x1f80) != 0x1f80; }

class HostSse {
 public:
  struct alignas(16) Operands {
    uint8_t to[16], from[16];
    uint32_t mxcsr, hostMxcsr;
    uint64_t general, flags, mmx;
    uint8_t raised;
  };

  HostSse();
  HostSse(const HostSse&) = delete;
  ~HostSse();
  bool ok() const { return code_ != nullptr; }
  // Carries the instruction out on `o`; false when it has raised an exception, and then only MXCSR has changed.
  bool run(const Decoded& d, const SseForm& form, Operands& o);
  // Where a thread goes on that the host's processor has stopped at `pc`; null when it is none of our instructions.
  const uint8_t* recovery(uintptr_t pc) const;

 private:
  using Code = void (*)(Operands*);
  Code codeFor(const Decoded& d, const SseForm& form);
  Code emit(const Decoded& d, const SseForm& form, uint8_t immediate);

  static constexpr size_t REGION = 1 << 16;
  struct Known {
    uint32_t key = 0;
    Code code = nullptr;
  };
  Known known_[256];
  uint8_t* code_ = nullptr;
  size_t used_ = 0;
};

}  // namespace shimbed
