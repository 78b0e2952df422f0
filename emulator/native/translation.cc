// What libunicorn's translator is shown of the guest's code.
#include <cstring>

#include "engine.h"

namespace shimbed {

// Looks through the block that is about to be translated and decides how many instructions it may have: it ends with
// the first one that needs a patch, and before one that reaches into the next page, where a fetch may fault.
int Engine::prepareTranslation(const char* tb, int maxInstructions) {
  patch_.length = 0;
  if (!active_) return maxInstructions;
  uint64_t pc = *reinterpret_cast<const uint64_t*>(tb + offset::tbPc);
  uint32_t flags = *reinterpret_cast<const uint32_t*>(tb + offset::tbFlags);
  Width width = codeWidth(flags);
  bool checks = strict_ && width != Width::code64 && maxInstructions > 1;  // alone: runAlone()
  if (width != Width::code64) pc = uint32_t(pc);
  int64_t at = active_->translate(pc, FETCH);
  if (at < 0) return maxInstructions;
  const uint8_t* bytes = physical->base() + at;
  size_t left = PAGE - (pc & (PAGE - 1));
  uint8_t window[30];
  for (int count = 0; count < maxInstructions; count++) {
    if (left == 0) return count;
    Decoded d = decode(bytes, left, width);
    if (!d.length && left < 15) {
      if (count) return count;
      // A block's first instruction may cross into the next page.
      std::memcpy(window, bytes, left);
      int64_t next = active_->translate(pc + left, FETCH);
      if (next < 0) return 1;
      std::memcpy(window + left, physical->base() + next, 15);
      d = decode(window, left + 15, width);
      if (checks && d.length && needsCheck(d, flags)) d.verdict = Verdict::checked;
      if (d.verdict != Verdict::fine) patchInstruction(pc, d, width);
      return 1;
    }
    if (!d.length) return count + 1;  // too long: the translator raises #GP itself
    if (checks && (d.verdict != Verdict::undefined) && needsCheck(d, flags)) {
      d.verdict = Verdict::checked;
      d.endsBlock = true;
    }
    if (d.verdict != Verdict::fine) patchInstruction(pc, d, width);
    if (d.endsBlock) return count + 1;
    pc += d.length;
    bytes += d.length;
    left -= d.length;
  }
  return maxInstructions;
}

void Engine::patchInstruction(uint64_t at, const Decoded& d, Width width) {
  switch (d.verdict) {
    case Verdict::fine: break;
    // In 64-bit code one byte is enough (`push es`), so that the next page is not asked for.
    case Verdict::undefined:
      if (width == Width::code64) patch_ = {at, {0x06, 0}, 1};
      else patch_ = {at, {0x0f, 0x0b}, 2};
      break;
    case Verdict::privileged: patch_ = {at, {0xf4, 0}, 1}; break;
    case Verdict::rewrite:
      patch_.address = at;
      patch_.length = d.length;
      std::memcpy(patch_.bytes, d.patch, sizeof patch_.bytes);
      break;
    case Verdict::checked:
      if (d.length == 1 && (at & (PAGE - 1)) == PAGE - 1) {
        patch_ = {at, {0xf4, 0}, 1};  // the next page must not be asked for; onInterrupt
        break;
      }
      [[fallthrough]];
    case Verdict::repString:
    case Verdict::storeMxcsr:
    case Verdict::writeBase: patch_ = {at, {0x0f, 0x05}, 2}; break;
  }
}

}  // namespace shimbed
