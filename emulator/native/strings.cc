// rep movs and rep stos. libunicorn runs them element by element, each through its store helper; here they are done on
// whole pages, with the same faults.
#include <cstring>

#include "engine.h"

namespace shimbed {

// Page by page on guest memory. Faults stop with the registers of the iterations done.
Engine::Repeated Engine::repString(const Decoded& d) {
  EnvHead& h = env.head();
  bool code64 = h.hflags & HF_CS64;
  bool opsize = d.opsize, adsize = d.adsize, rexW = d.rex & 8;
  int segment = d.segment >= 0 ? int(d.segment) : int(DS);
  uint8_t op = d.opcode;
  bool moves = op < 0xa8;
  bool addressWide = code64 && !adsize, address16 = !code64 && ((h.hflags & HF_CS32) ? adsize : !adsize);
  bool operand32 = (h.hflags & HF_CS32) ? !opsize : opsize;
  unsigned shift = !(op & 1) ? 0 : rexW ? 3 : operand32 ? 2 : 1;
  uint64_t size = uint64_t(1) << shift;
  uint64_t mask = addressWide ? ~uint64_t(0) : address16 ? 0xffff : 0xffffffffu;
  uint64_t sourceBase = code64 ? (segment >= FS ? h.segs[segment].base : 0) : h.segs[segment].base;
  uint64_t targetBase = code64 ? 0 : h.segs[ES].base;
  uint64_t linearMask = code64 ? ~uint64_t(0) : 0xffffffffu;
  bool down = h.df < 0;
  uint64_t& rcx = h.regs[1];
  uint64_t& rsi = h.regs[6];
  uint64_t& rdi = h.regs[7];
  auto put = [&](uint64_t& r, uint64_t v) {
    r = address16 ? (r & ~uint64_t(0xffff)) | (v & 0xffff) : (v & mask);
  };
  uint64_t count = rcx & mask;
  uint8_t value[8];
  std::memcpy(value, &h.regs[0], 8);
  uint64_t spent = 0;
  bool codeWritten = false;
  storedCode_ = false;
  bool stepping = (h.eflags & FLAG_TF) || strict_ || watching_;  // a trap or a check after each element
  if (h.eflags & FLAG_AC && count) {
    uint64_t s = moves ? sourceBase + (rsi & mask) : 0, t = targetBase + (rdi & mask);
    if ((s | t) & (size - 1) && canonical(s) && canonical(t)) {
      stopException(17, 0);
      return Repeated::stopped;
    }
  }
  // Copies within a page each, as most are, and not in the way of each other.
  if (moves && count - 1 < PAGE && !stepping) {
    uint64_t bytes = count << shift, back = down ? bytes - size : 0;
    uint64_t si = (rsi & mask) - back, di = (rdi & mask) - back;
    uint64_t s = (sourceBase + si) & linearMask, t = (targetBase + di) & linearMask;
    auto oneStretch = [&](uint64_t index, uint64_t a) { return index <= mask - bytes && (a & (PAGE - 1)) + bytes <= PAGE; };
    if (oneStretch(si, s) && oneStretch(di, t) && (down ? t >= s : t <= s || t >= s + bytes)) {
      int64_t from = active_->translateQuickly(s, READ), to = active_->translateQuickly(t, WRITE);
      if (from >= 0 && to >= 0) {
        codeWritten = beforeWrite(uint32_t(uint64_t(to) / PAGE));
        std::memmove(physical->base() + to, physical->base() + from, bytes);
        put(rsi, down ? rsi - bytes : rsi + bytes);
        put(rdi, down ? rdi - bytes : rdi + bytes);
        put(rcx, 0);
        count = 0;
      }
    }
  }
  while (count) {
    uint64_t s = (sourceBase + (rsi & mask)) & linearMask, t = (targetBase + (rdi & mask)) & linearMask;
    uint64_t steps;
    // How many elements lie whole in the pages of s and t, in the direction of travel.
    auto room = [&](uint64_t a) { return down ? ((a & (PAGE - 1)) + size <= PAGE ? ((a & (PAGE - 1)) >> shift) + 1 : 0) : (PAGE - (a & (PAGE - 1))) >> shift; };
    steps = room(t);
    if (moves && room(s) < steps) steps = room(s);
    uint64_t wrap = (down ? rdi & mask : mask - (rdi & mask)) >> shift;
    if (steps && steps - 1 > wrap) steps = wrap + 1;
    if (moves) {
      wrap = (down ? rsi & mask : mask - (rsi & mask)) >> shift;
      if (steps && steps - 1 > wrap) steps = wrap + 1;
    }
    bool crossing = steps == 0;
    if (crossing) steps = 1;
    if (steps > count) steps = count;
    if (stepping) steps = 1;
    int64_t from = 0, to = 0, from2 = 0, to2 = 0;
    auto touch = [&](uint64_t a, Access access, int64_t& p, int64_t& p2) {
      p = reach(a, access);
      if (p < 0) {
        pageFault(a, access, p);
        return false;
      }
      uint64_t last = a + size - 1;
      if (crossing && (a ^ last) >= PAGE) {
        p2 = reach(last & ~(PAGE - 1), access);
        if (p2 < 0) {
          pageFault(last & ~(PAGE - 1), access, p2);
          return false;
        }
      }
      return true;
    };
    bool ok = !moves || touch(s, READ, from, from2);
    uint32_t changes = active_->changes;
    ok = ok && touch(t, WRITE, to, to2);
    // Making the target writable may have moved the page of the source.
    if (ok && moves && active_->changes != changes) ok = touch(s, READ, from, from2);
    if (!ok) {
      endRun();
      return Repeated::stopped;
    }
    codeWritten = beforeWrite(uint32_t(uint64_t(to) / PAGE)) || codeWritten;
    uint8_t* memory = physical->base();
    if (crossing) {
      if (to2) codeWritten = beforeWrite(uint32_t(uint64_t(to2) / PAGE)) || codeWritten;
      for (uint64_t k = 0; k < size; k++) {
        uint64_t sf = s + k, tf = t + k;
        uint8_t byte = moves ? memory[((s ^ sf) >= PAGE ? from2 - int64_t(PAGE - (s & (PAGE - 1))) : from) + int64_t(k)] : value[k];
        memory[((t ^ tf) >= PAGE ? to2 - int64_t(PAGE - (t & (PAGE - 1))) : to) + int64_t(k)] = byte;
      }
    } else {
      uint64_t bytesTotal = steps * size;
      uint8_t* tp = memory + to - (down ? (steps - 1) * size : 0);
      if (moves) {
        uint8_t* sp = memory + from - (down ? (steps - 1) * size : 0);
        bool overlap = sp < tp + bytesTotal && tp < sp + bytesTotal;
        // Elements already copied are read again where the target runs ahead of the source.
        if (!overlap || (down ? tp >= sp : tp <= sp)) {
          std::memmove(tp, sp, bytesTotal);
        } else {
          for (uint64_t k = 0; k < steps; k++) {
            uint64_t o = (down ? steps - 1 - k : k) * size;
            uint8_t element[8];
            std::memcpy(element, sp + o, size);
            std::memcpy(tp + o, element, size);
          }
        }
      } else if (size == 1) {
        std::memset(tp, value[0], bytesTotal);
      } else {
        for (uint64_t k = 0; k < bytesTotal; k += size) std::memcpy(tp + k, value, size);
      }
    }
    if (moves) noteAccess(s, size, false);
    noteAccess(t, size, true);
    uint64_t step = down ? 0 - steps * size : steps * size;
    if (moves) put(rsi, rsi + step);
    put(rdi, rdi + step);
    count -= steps;
    put(rcx, count);
    // A very long copy lets an interrupt in, as the instruction does on hardware.
    if (((spent += steps) >= (1u << 20) || stepping) && count) return Repeated::more;
  }
  h.eip += d.length;
  if (!code64) h.eip &= 0xffffffffu;
  return codeWritten || storedCode_ ? Repeated::leaves : Repeated::done;
}

}  // namespace shimbed
