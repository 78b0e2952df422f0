#include "vex-table.h"

#include <initializer_list>

namespace shimbed {

namespace {

enum : uint8_t { NP = 1, P66 = 2, F3 = 4, F2 = 8 };

struct Group {
  uint8_t map, prefixes;
  Form form;
  Size size;
  uint16_t flags;
  std::initializer_list<uint8_t> opcodes;
  uint8_t digits = 0xff;
};

using enum Form;
using enum Size;

const Group groups[] = {
    // 0F
    {2, NP | P66, RM, full, 0, {0x10}},
    {2, F3 | F2, RM, scalar, LIG | MEMORY, {0x10}},
    {2, F3 | F2, RVM, scalar, LIG | REGISTER, {0x10}},
    {2, NP | P66, MR, full, 0, {0x11}},
    {2, F3 | F2, MR, scalar, LIG | MEMORY, {0x11}},
    {2, F3 | F2, MVR, scalar, LIG | REGISTER, {0x11}},
    {2, NP, RVM, b8, L0, {0x12, 0x16}},
    {2, P66, RVM, b8, L0 | MEMORY, {0x12, 0x16}},
    {2, F3, RM, full, 0, {0x12, 0x16}},
    {2, F2, RM, duplicated, 0, {0x12}},
    {2, NP | P66, MR, b8, L0 | MEMORY, {0x13, 0x17}},
    {2, NP | P66, RVM, full, 0, {0x14, 0x15, 0x54, 0x55, 0x56, 0x57}},
    {2, NP | P66, RM, full, ALIGNED, {0x28}},
    {2, NP | P66, MR, full, ALIGNED, {0x29}},
    {2, F3 | F2, RVG, byW, LIG | FLOATS, {0x2a}},
    {2, NP | P66, MR, full, ALIGNED | MEMORY, {0x2b}},
    {2, F3 | F2, GM, scalar, LIG | FLOATS, {0x2c, 0x2d}},
    {2, NP | P66, compares, ordered, LIG | FLOATS, {0x2e, 0x2f}},
    {2, NP | P66, GM, full, REGISTER, {0x50}},
    {2, NP | P66, RM, full, FLOATS, {0x51}},
    {2, F3 | F2, RVM, scalar, LIG | FLOATS, {0x51, 0x58, 0x59, 0x5a, 0x5c, 0x5d, 0x5e, 0x5f}},
    {2, NP, RM, full, 0, {0x52, 0x53}},
    {2, F3, RVM, b4, LIG, {0x52, 0x53}},
    {2, NP | P66, RVM, full, FLOATS, {0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f}},
    {2, NP, RM, half, FLOATS, {0x5a}},
    {2, P66, RM, full, FLOATS, {0x5a}},
    {2, NP | P66 | F3, RM, full, FLOATS, {0x5b}},
    {2, P66, RVM, full, 0, {0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x74, 0x75, 0x76,
                            0xd4, 0xd5, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe3, 0xe4, 0xe5, 0xe8, 0xe9, 0xea,
                            0xeb, 0xec, 0xed, 0xee, 0xef, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe}},
    {2, P66, RVM, b16, 0, {0xd1, 0xd2, 0xd3, 0xe1, 0xe2, 0xf1, 0xf2, 0xf3}},
    {2, P66, RG, byW, L0, {0x6e}},
    {2, P66, RM, full, ALIGNED, {0x6f}},
    {2, F3, RM, full, 0, {0x6f}},
    {2, P66 | F3 | F2, RM, full, IMMEDIATE, {0x70}},
    {2, P66, VM, full, IMMEDIATE | REGISTER, {0x71, 0x72}, 1 << 2 | 1 << 4 | 1 << 6},
    {2, P66, VM, full, IMMEDIATE | REGISTER, {0x73}, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7},
    {2, P66 | F2, RVM, full, FLOATS, {0x7c, 0x7d, 0xd0}},
    {2, P66, MG, byW, L0, {0x7e}},
    {2, F3, RM, b8, L0, {0x7e}},
    {2, P66, MR, full, ALIGNED, {0x7f}},
    {2, F3, MR, full, 0, {0x7f}},
    {2, NP, loadMxcsr, b4, L0 | MEMORY, {0xae}, 1 << 2},
    {2, NP, RVM, full, IMMEDIATE | FLOATS, {0xc2}},
    {2, P66, RVM, full, IMMEDIATE | FLOATS, {0xc2}},
    {2, F3 | F2, RVM, scalar, IMMEDIATE | LIG | FLOATS, {0xc2}},
    {2, P66, RVG, b2, IMMEDIATE | L0, {0xc4}},
    {2, P66, GM, b16, IMMEDIATE | L0 | REGISTER, {0xc5}},
    {2, NP | P66, RVM, full, IMMEDIATE, {0xc6}},
    {2, P66, MR, b8, L0, {0xd6}},
    {2, P66, GM, full, REGISTER, {0xd7}},
    {2, P66 | F2, RM, full, FLOATS, {0xe6}},
    {2, F3, RM, half, 0, {0xe6}},
    {2, P66, MR, full, ALIGNED | MEMORY, {0xe7}},
    {2, F2, RM, full, MEMORY, {0xf0}},
    {2, P66, maskedBytes, b16, L0 | REGISTER, {0xf7}},
    // 0F38
    {3, P66, RVM, full, 0, {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x28, 0x29, 0x2b, 0x37, 0x38,
                            0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x45, 0x47}},
    {3, P66, RVM, full, W0, {0x0c, 0x0d, 0x46}},
    {3, P66, compares, full, W0, {0x0e, 0x0f}},
    {3, P66, RM, half, W0 | FLOATS, {0x13}},
    {3, P66, RVM, full, L1 | W0, {0x16, 0x36}},
    {3, P66, compares, full, 0, {0x17}},
    {3, P66, RM, b4, W0, {0x18, 0x58}},
    {3, P66, RM, b8, L1 | W0, {0x19}},
    {3, P66, RM, b16, L1 | W0 | MEMORY, {0x1a, 0x5a}},
    {3, P66, RM, full, 0, {0x1c, 0x1d, 0x1e}},
    {3, P66, RM, half, 0, {0x20, 0x23, 0x25, 0x30, 0x33, 0x35}},
    {3, P66, RM, quarter, 0, {0x21, 0x24, 0x31, 0x34}},
    {3, P66, RM, eighth, 0, {0x22, 0x32}},
    {3, P66, RM, full, ALIGNED | MEMORY, {0x2a}},
    {3, P66, maskedLoad, b4, W0 | MEMORY, {0x2c}},
    {3, P66, maskedLoad, b8, W0 | MEMORY, {0x2d}},
    {3, P66, maskedStore, b4, W0 | MEMORY, {0x2e}},
    {3, P66, maskedStore, b8, W0 | MEMORY, {0x2f}},
    {3, P66, RM, b16, L0, {0x41, 0xdb}},
    {3, P66, RM, b8, W0, {0x59}},
    {3, P66, RM, b1, W0, {0x78}},
    {3, P66, RM, b2, W0, {0x79}},
    {3, P66, maskedLoad, byW, MEMORY, {0x8c}},
    {3, P66, maskedStore, byW, MEMORY, {0x8e}},
    {3, P66, gather, byW, MEMORY, {0x90, 0x91, 0x92, 0x93}},
    {3, P66, RVM, full, FLOATS | READS_R, {0x96, 0x97, 0x98, 0x9a, 0x9c, 0x9e, 0xa6, 0xa7, 0xa8, 0xaa, 0xac, 0xae, 0xb6, 0xb7, 0xb8, 0xba, 0xbc, 0xbe}},
    {3, P66, RVM, byW, LIG | FLOATS | READS_R, {0x99, 0x9b, 0x9d, 0x9f, 0xa9, 0xab, 0xad, 0xaf, 0xb9, 0xbb, 0xbd, 0xbf}},
    {3, P66, RVM, full, HALVES, {0xdc, 0xdd, 0xde, 0xdf}},
    {3, NP, plainBits, byW, L0, {0xf2}},
    {3, NP, bits, byW, L0, {0xf3}, 1 << 1 | 1 << 2 | 1 << 3},
    {3, NP, bits, byW, L0, {0xf5, 0xf7}},
    {3, F3 | F2, quietBits, byW, L0, {0xf5}},
    {3, F2, plainBits, byW, L0, {0xf6}},
    {3, P66 | F3 | F2, plainBits, byW, L0, {0xf7}},
    // 0F3A
    {4, P66, RM, full, IMMEDIATE | L1 | W1, {0x00, 0x01}},
    {4, P66, RVM, full, IMMEDIATE | W0, {0x02}},
    {4, P66, RM, full, IMMEDIATE | W0, {0x04, 0x05}},
    {4, P66, RVM, full, IMMEDIATE | L1 | W0, {0x06, 0x46}},
    {4, P66, RM, full, IMMEDIATE | FLOATS, {0x08, 0x09}},
    {4, P66, RVM, b4, IMMEDIATE | LIG | FLOATS, {0x0a}},
    {4, P66, RVM, b8, IMMEDIATE | LIG | FLOATS, {0x0b}},
    {4, P66, RVM, full, IMMEDIATE, {0x0c, 0x0d, 0x0e, 0x0f, 0x42}},
    {4, P66, MG, b1, IMMEDIATE | L0, {0x14}},
    {4, P66, MG, b2, IMMEDIATE | L0, {0x15}},
    {4, P66, MG, byW, IMMEDIATE | L0, {0x16}},
    {4, P66, MG, b4, IMMEDIATE | L0, {0x17}},
    {4, P66, RVM, b16, IMMEDIATE | L1 | W0, {0x18, 0x38}},
    {4, P66, MR, b16, IMMEDIATE | L1 | W0, {0x19, 0x39}},
    {4, P66, MR, half, IMMEDIATE | W0 | FLOATS, {0x1d}},
    {4, P66, RVG, b1, IMMEDIATE | L0, {0x20}},
    {4, P66, RVM, b4, IMMEDIATE | L0, {0x21}},
    {4, P66, RVG, byW, IMMEDIATE | L0, {0x22}},
    {4, P66, RVM, full, IMMEDIATE | FLOATS, {0x40}},
    {4, P66, RVM, b16, IMMEDIATE | L0 | FLOATS, {0x41}},
    {4, P66, RVM, full, IMMEDIATE | HALVES, {0x44}},
    {4, P66, RVMR, full, IMMEDIATE | W0, {0x4a, 0x4b, 0x4c}},
    {4, P66, strings, b16, IMMEDIATE | L0, {0x60, 0x61, 0x62, 0x63}},
    {4, P66, RM, b16, IMMEDIATE | L0, {0xdf}},
    {4, F2, quietBits, byW, IMMEDIATE | L0, {0xf0}},
};

struct Table {
  VexRow rows[3][4][256][2];
  Table() {
    for (const Group& g : groups)
      for (unsigned pp = 0; pp < 4; pp++)
        for (uint8_t op : g.opcodes) {
          if (!(g.prefixes >> pp & 1)) continue;
          if (!(g.flags & REGISTER)) rows[g.map - 2][pp][op][1] = {g.form, g.size, g.flags, g.digits};
          if (!(g.flags & MEMORY)) rows[g.map - 2][pp][op][0] = {g.form, g.size, g.flags, g.digits};
        }
    for (VexRow& row : rows[0][0][0x77]) row = {zero, b1, 0, 0xff};
    // With VLDMXCSR in one place of the table.
    rows[0][0][0xae][1].digits |= 1 << 3;
  }
};

}  // namespace

const VexRow& vexRow(unsigned map, unsigned pp, uint8_t opcode, bool memory) {
  static const Table table;
  return table.rows[map - 2][pp][opcode][memory];
}

}  // namespace shimbed
