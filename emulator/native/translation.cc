// What libunicorn's translator is shown of the guest's code.
#include <cstring>
#include <iterator>

#include "engine.h"

namespace shimbed {

// Looks through the block that is about to be translated and decides how many instructions it may have: it ends with
// the first one that needs a patch, and before one that reaches into the next page, where a fetch may fault.
int Engine::prepareTranslation(const char* tb, int maxInstructions) {
  patchCount_ = patchAt_ = 0;
  aligned_.clear();
  nextAligned_ = 0;
  beginBlock(tb);
  if (!active_) return maxInstructions;
  uint64_t pc = *reinterpret_cast<const uint64_t*>(tb + offset::tbPc);
  uint32_t flags = *reinterpret_cast<const uint32_t*>(tb + offset::tbFlags);
  Width width = codeWidth(flags);
  alignsAll_ = flags & FLAG_AC;
  bool checks = strict_ && width != Width::code64 && maxInstructions > 1;  // alone: runAlone()
  if (width != Width::code64) pc = uint32_t(pc);
  auto toHost = [&](Decoded& d) {
    if (d.map == 1 || !d.length || (d.verdict != Verdict::fine && d.verdict != Verdict::rewrite) || !hostForm(d, flags).to) return;
    if (!hostSse) hostSse = std::make_unique<HostSse>();
    if (!hostSse->ok()) return;
    d.verdict = Verdict::hostSse;
    d.endsBlock = true;
  };
  int64_t at = active_->translate(pc, FETCH);
  if (at < 0) return maxInstructions;
  if (flags & HF_BREAKS) noteBreakPage(pc, uint32_t(uint64_t(at) / PAGE));
  const uint8_t* bytes = physical->base() + at;
  size_t left = PAGE - (pc & (PAGE - 1));
  uint8_t window[30];
  bool breaks = flags & HF_BREAKS && breaking_;
  if (breaks && flags & FLAG_RF) {
    maxInstructions = 1;  // it has been told of the one that is here
    breaks = false;
  }
  for (int count = 0; count < maxInstructions; count++) {
    if (left == 0) return count;
    if (breaks && breakpoints_.executing(pc)) {
      if (count) return count;
      patches_[patchCount_++] = {pc, {0xf4, 0}, 1};  // onInterrupt
      return 1;
    }
    Decoded d = decode(bytes, left, width, processor_);
    if (!d.length && left < 15) {
      if (count) return count;
      // A block's first instruction may cross into the next page.
      std::memcpy(window, bytes, left);
      int64_t next = active_->translate(pc + left, FETCH);
      if (next < 0 && d.vex) {
        // libunicorn would refuse some of these before it had all bytes.
        patches_[patchCount_++] = {pc, {0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e}, uint8_t(left)};
      }
      if (next < 0) return 1;
      std::memcpy(window + left, physical->base() + next, 15);
      d = decode(window, left + 15, width, processor_);
      toHost(d);
      if (checks && d.length && needsCheck(d, flags)) d.verdict = Verdict::checked;
      noteAlignment(pc, d);
      patchInstruction(pc, d, width, d.verdict == Verdict::vector);
      return 1;
    }
    if (flags & HF_BREAKS && d.map == 2 && d.opcode == 0xaa) d.verdict = Verdict::undefined;  // RSM, by the flag that is ours
    toHost(d);
    if (!d.length) return count + 1;  // too long: the translator raises #GP itself
    if (checks && (d.verdict != Verdict::undefined) && needsCheck(d, flags)) {
      d.verdict = Verdict::checked;
      d.endsBlock = true;
    }
    noteAlignment(pc, d);
    // A trap or a check after each element of a string needs to leave the translated code.
    bool inPlace = d.verdict == Verdict::vector || ((d.verdict == Verdict::repString || d.verdict == Verdict::hostSse) && !strict_ && !(flags & FLAG_TF));
    patchInstruction(pc, d, width, inPlace);
    if (d.endsBlock && (!inPlace || patchCount_ == std::size(patches_))) return count + 1;
    pc += d.length;
    bytes += d.length;
    left -= d.length;
  }
  return maxInstructions;
}

// An instruction that calls a helper stands for one of ours, and another helper is called in its place: `cpuid`, or where
// flags are given `comiss`, after which the translator looks for them where the plans leave them.
bool Engine::showVector(Patch& patch, uint64_t at, const Decoded& d, Width width) {
  uint32_t number = vectors_.numberOf(d, width);
  if (number == VectorPlans::NONE) return false;
  patch.address = at;
  patch.length = d.length;
  patch.vector = number;
  std::memset(patch.bytes, 0x3e, sizeof patch.bytes);  // DS prefixes, without effect
  static const uint8_t comiss[3] = {0x0f, 0x2f, 0xc0}, cpuid[2] = {0x0f, 0xa2};
  if (vectors_.at(number).givesFlags) std::memcpy(patch.bytes + d.length - 3, comiss, 3);
  else std::memcpy(patch.bytes + d.length - 2, cpuid, 2);
  return true;
}

uint32_t Engine::vectorAtHand(uint64_t& eip) const {
  for (uint32_t p = 0; p < patchCount_; p++) {
    if (fetchedAt_ - patches_[p].address >= patches_[p].length) continue;
    eip = patches_[p].address - translatedBase_;
    return patches_[p].vector;
  }
  return VectorPlans::NONE;
}

void Engine::patchInstruction(uint64_t at, const Decoded& d, Width width, bool inPlace) {
  if (d.verdict == Verdict::fine) return;
  Patch& patch = patches_[patchCount_++];
  patch.vector = VectorPlans::NONE;
  switch (d.verdict) {
    case Verdict::fine: break;
    // In 64-bit code one byte is enough (`push es`), so that the next page is not asked for.
    case Verdict::undefined:
      if (width == Width::code64) patch = {at, {0x06, 0}, 1};
      else patch = {at, {0x0f, 0x0b}, 2};
      break;
    case Verdict::privileged: patch = {at, {0xf4, 0}, 1}; break;
    case Verdict::rewrite:
      patch.address = at;
      patch.length = d.length;
      std::memcpy(patch.bytes, d.patch, sizeof patch.bytes);
      break;
    case Verdict::checked:
      if (d.length == 1 && (at & (PAGE - 1)) == PAGE - 1) {
        patch = {at, {0xf4, 0}, 1};  // the next page must not be asked for; onInterrupt
        break;
      }
      [[fallthrough]];
    case Verdict::repString:
    case Verdict::hostSse:
      // After cpuid the translated code goes on with the next instruction, after syscall it is left.
      if (inPlace) {
        patch.address = at;
        patch.length = d.length;
        std::memset(patch.bytes, 0x3e, sizeof patch.bytes);  // DS prefixes, without effect
        patch.bytes[d.length - 2] = 0x0f;
        patch.bytes[d.length - 1] = 0xa2;
        break;
      }
      [[fallthrough]];
    case Verdict::vector:
      if (inPlace && d.verdict == Verdict::vector && showVector(patch, at, d, width)) break;
      [[fallthrough]];
    case Verdict::storeMxcsr:
    case Verdict::xsave:
    case Verdict::writeBase: patch = {at, {0x0f, 0x05}, 2}; break;
  }
}

}  // namespace shimbed
