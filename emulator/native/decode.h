// A length decoder for x86 code, enough to know before translation where each instruction starts and whether the
// processor we model has it. libunicorn 2.0.1 executes some encodings wrongly (VEX as two-operand SSE), ends the
// host process on others, and lets ring 3 use I/O ports; the translator is shown other bytes in their place.
#pragma once
#include <cstddef>
#include <cstdint>

namespace shimbed {

enum class Verdict : uint8_t {
  fine,        // translate as it stands
  undefined,   // #UD on the modelled processor
  privileged,  // #GP in ring 3
  repString,   // rep movs/stos: done by the engine on whole pages
};

struct Decoded {
  uint8_t length = 0;  // 0: the bytes ran out
  Verdict verdict = Verdict::fine;
  bool endsBlock = false;
};

Decoded decode(const uint8_t* bytes, size_t available, bool code64);

}  // namespace shimbed
