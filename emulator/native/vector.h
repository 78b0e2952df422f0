// VEX-encoded instructions as the engine carries them out: each becomes a plan, made once for its bytes, and most plans
// end in a stub, host code with the same instruction on registers of its own.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "decode.h"
#include "layout.h"
#include "vex-table.h"

namespace shimbed {

// Operands in ModRM.reg, vvvv and ModRM.rm, each where the processor's state or memory has it; the fourth is the register
// that the immediate names, or where flags go.
using Stub = void (*)(void* r, void* v, void* m, void* fourth);

// What PCMPxSTRx takes and gives besides vectors.
struct StringsState {
  uint64_t rax, rdx, rcx, flags;
};

struct VectorPlan {
  Stub stub = nullptr;
  Form form = Form::none;
  uint8_t length = 0, size = 0;  // of the instruction, of its memory operand
  bool memory = false, stores = false, wide = false, w = false, floats = false, aligned = false, givesFlags = false;
  uint8_t opcode = 0, map = 0;
  uint8_t r = 0, v = 0, m = 0;
  // Of the operands, from the start of the processor's state.
  uint32_t rAt = 0, vAt = 0, mAt = 0, fourthAt = 0;
  // The address: base and index are general registers, 16 the instruction pointer.
  uint8_t base = 0, index = 0, scale = 0, segment = 0;
  bool segmented = false;
  uint64_t baseMask = 0, indexMask = 0, offsetMask = 0, linearMask = 0;
  int64_t displacement = 0;

  uint64_t offset(const EnvHead& h) const {
    return (uint64_t(displacement) + (h.regs[base] & baseMask) + ((h.regs[index] & indexMask) << scale)) & offsetMask;
  }
  uint64_t linear(const EnvHead& h, uint64_t offset) const {
    return segmented ? (offset + h.segs[segment].base) & linearMask : offset;
  }
};
static_assert(offsetof(EnvHead, eip) == offsetof(EnvHead, regs) + 16 * sizeof(uint64_t), "register 16 is the instruction pointer");

// Memory for stubs, never writable and executable at once.
class StubMemory {
 public:
  StubMemory() = default;
  ~StubMemory();
  StubMemory(const StubMemory&) = delete;
  // Null where the host gives no memory.
  Stub add(const std::string& code);

 private:
  static constexpr size_t CHUNK = 64 * 1024;
  std::vector<char*> chunks_;
  size_t used_ = CHUNK;
  std::unordered_map<std::string, Stub> known_;
};

class VectorPlans {
 public:
  static constexpr uint32_t NONE = ~uint32_t(0);
  // The number of a plan, or NONE when there are too many to keep.
  uint32_t numberOf(const Decoded& d, Width width);
  const VectorPlan& at(uint32_t number) const { return plans_[number]; }
  VectorPlan make(const Decoded& d, Width width);

 private:
  static constexpr uint32_t MOST = 1u << 20;
  StubMemory stubs_;
  std::vector<VectorPlan> plans_;
  std::unordered_map<std::string, uint32_t> numbers_;
};

}  // namespace shimbed
