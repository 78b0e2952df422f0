// Which VEX-encoded instruction this is, and whether x86-64-v3 has it so (SDM vol. 2, 2.3).
#include "decode.h"

#include <cstring>

#include "vex-table.h"

namespace shimbed {

namespace {
// vvvv has to be 1111 where it names nothing.
bool usesV(Form form) {
  switch (form) {
    case Form::RM: case Form::MR: case Form::GM: case Form::RG: case Form::MG: case Form::compares: case Form::strings:
    case Form::zero: case Form::loadMxcsr: case Form::storeMxcsr: case Form::maskedBytes:
      return false;
    default: return true;
  }
}

bool legal(const Decoded& d, const VexRow& row, Width width) {
  if (row.form == Form::none || !(row.digits >> d.reg() & 1)) return false;
  bool w = d.rex & 8;
  if (((row.flags & L0) && d.vexL) || ((row.flags & L1) && !d.vexL)) return false;
  if (((row.flags & W0) && w) || ((row.flags & W1) && !w)) return false;
  // VPEXTRQ and VPINSRQ
  if (width != Width::code64 && w && d.map == 4 && (d.opcode == 0x16 || d.opcode == 0x22)) return false;
  bool rorx = row.form == Form::quietBits && d.map == 4;
  if ((rorx || !usesV(row.form)) && d.vvvv != 0) return false;
  if (row.form == Form::gather) {
    bool address16 = width != Width::code64 && d.adsize != (width == Width::code16);
    int index = ((d.sib >> 3) & 7) | (d.rex & 2) << 2, reg = d.reg() | (d.rex & 4) << 1;
    int mask = width == Width::code64 ? d.vvvv : d.vvvv & 7;
    if (address16 || d.rm() != 4 || index == reg || index == mask || reg == mask) return false;
  }
  return true;
}
}  // namespace

void decodeVex(Decoded& d, const uint8_t* p, size_t at, size_t n, Width width) {
  bool code64 = width == Width::code64;
  bool refused = d.opsize || d.rep || d.repne || d.lock || d.rex;
  size_t i = at + (p[at] == 0xc5 ? 2 : 3);
  if (i >= n) return;
  uint8_t first = p[at + 1], last = p[i - 1];
  d.vex = true;
  d.map = p[at] == 0xc5 ? 2 : uint8_t((first & 0x1f) + 1);
  // R, X and B are kept inverted, and mean nothing outside 64-bit code.
  uint8_t rex = uint8_t(p[at] == 0xc5 ? (~first >> 5 & 4) : (~first >> 5 & 7) | (last >> 4 & 8));
  d.rex = code64 ? rex : rex & 8;
  d.vvvv = ~(last >> 3) & 15;
  d.vexL = last >> 2 & 1;
  d.pp = last & 3;
  d.opcode = p[i++];
  d.length = uint8_t(i);
  d.verdict = Verdict::undefined;
  d.endsBlock = true;
  if (refused || d.map < 2 || d.map > 4) return;
  // What there is neither with memory nor without needs no more bytes to be refused.
  if (vexRow(d.map, d.pp, d.opcode, true).form == Form::none && vexRow(d.map, d.pp, d.opcode, false).form == Form::none) return;
  bool noModrm = d.map == 2 && d.opcode == 0x77;
  if (!noModrm && i < n) {
    const VexRow& row = vexRow(d.map, d.pp, d.opcode, p[i] < 0xc0);
    if (row.form == Form::none || !(row.digits >> (p[i] >> 3 & 7) & 1)) return;
  }
  d.length = 0;
  if (!noModrm && !takeOperand(d, p, i, n, !code64 && d.adsize != (width == Width::code16))) return;
  const VexRow& row = vexRow(d.map, d.pp, d.opcode, d.memory());
  if (row.flags & IMMEDIATE) {
    if (i >= n) return;
    d.immediate = p[i++];
  }
  d.length = uint8_t(i);
  if (noModrm ? row.form == Form::none || d.vvvv != 0 : !legal(d, row, width)) return;
  if (!code64) d.vvvv &= 7;
  d.verdict = row.form == Form::plainBits ? Verdict::fine : Verdict::vector;
  d.endsBlock = d.verdict != Verdict::fine;
  std::memcpy(d.patch, p, d.length);
  if (code64 || d.verdict != Verdict::fine) return;
  // libunicorn takes B, W and the first bit of vvvv for what they are in 64-bit code.
  d.patch[at + 1] |= 0x20;
  d.patch[at + 2] = uint8_t((last | 0x40) & 0x7f);
  if (std::memcmp(d.patch, p, d.length) != 0) d.verdict = Verdict::rewrite, d.endsBlock = true;
}

}  // namespace shimbed
