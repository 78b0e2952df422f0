// Random VEX-encoded instructions with random operands, and where the engine's x86-64-v3 ends them otherwise than a host.
import { touchesNative } from "./deviations.ts";
import type { Bits } from "./guest.ts";
import { CODE, DATA, DATA_END, STACK } from "./guest.ts";
import type { Ending, HostEnding, Snippet, Vectors } from "./snippets.ts";

type Random = (below: number) => number;

const CODE_SIZE = 0x2000;

/** Numbers that arithmetic treats apart: zeros, denormals, the ends of the range, infinities, NaNs of both kinds. */
const singles = [
  0, 0x80000000, 1, 0x807fffff, 0x00800000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00001, 0x7f812345, 0x3f800000,
];
const doubles = [
  0n,
  1n,
  0x8000000000000000n,
  0x800fffffffffffffn,
  0x10000000000000n,
  0x7fefffffffffffffn,
  0x7ff0000000000000n,
];
const moreDoubles = [
  0xfff0000000000000n,
  0x7ff8000000000001n,
  0x7ff0000000012345n,
  0x3ff0000000000000n,
  0x47efffffe0000001n,
];

function vectors(random: Random): Vectors {
  const ymm = new Uint8Array(512);
  const view = new DataView(ymm.buffer);
  for (let i = 0; i < 16; i++) {
    const kind = random(5);
    for (let k = 0; k < 8; k++) {
      const at = 32 * i + 4 * k;
      if (kind === 0) view.setUint32(at, singles[random(singles.length)] ?? 0, true);
      else if (kind === 1 && k % 2 === 0) {
        const all = [...doubles, ...moreDoubles];
        view.setBigUint64(at, all[random(all.length)] ?? 0n, true);
      } else if (kind === 2) view.setFloat32(at, (random(2000) - 1000) / 8, true);
      else if (kind === 3 && k % 2 === 0) view.setFloat64(at, (random(200000) - 100000) / 8, true);
      else if (kind === 4) view.setUint32(at, random(2 ** 32), true);
    }
    // Indices of gathers, which have to point near.
    if (random(4) === 0) for (let k = 0; k < 8; k++) view.setInt32(32 * i + 4 * k, random(0x400) - 0x200, true);
  }
  // Rounding, FTZ, DAZ and flags at random; the masks all set but sometimes.
  const masks = random(4) === 0 ? random(64) << 7 : 0x1f80;
  const flags = random(3) === 0 ? random(64) : 0;
  return {
    ymm,
    mxcsr: masks | flags | (random(4) << 13) | (random(6) === 0 ? 0x8000 : 0) | (random(6) === 0 ? 0x40 : 0),
  };
}

/** Where there are instructions in the maps 0F, 0F38 and 0F3A, first and last opcode of each stretch. */
const there: readonly (readonly (readonly [number, number])[])[] = [
  [
    [0x10, 0x17],
    [0x28, 0x2f],
    [0x50, 0x77],
    [0x7c, 0x7f],
    [0xae, 0xae],
    [0xc2, 0xc6],
    [0xd0, 0xff],
    [0x50, 0x6f],
  ],
  [
    [0x00, 0x0f],
    [0x13, 0x1e],
    [0x20, 0x47],
    [0x58, 0x5a],
    [0x78, 0x79],
    [0x8c, 0x8e],
    [0x90, 0x93],
    [0x96, 0xbf],
    [0xdb, 0xdf],
    [0xf2, 0xf7],
  ],
  [
    [0x00, 0x0f],
    [0x14, 0x22],
    [0x38, 0x39],
    [0x40, 0x4c],
    [0x60, 0x63],
    [0xdf, 0xdf],
    [0xf0, 0xf0],
  ],
];

function opcode(random: Random, map: number): number {
  const ranges = there[map - 1];
  const [first, last] = ranges?.[random(ranges.length)] ?? [0, 0xff];
  return random(5) === 0 ? random(256) : first + random(last - first + 1);
}

/** One VEX-encoded instruction, often one that there is, or a BMI, LZCNT or TZCNT without VEX. */
export function vectorSnippet(random: Random, bits: Bits): Snippet {
  const code: number[] = [];
  if (random(12) === 0) code.push([0x64, 0x65, 0x36, 0x67, 0x2e][random(5)] ?? 0x67);
  if (random(60) === 0) code.push([0x66, 0xf2, 0xf3, 0xf0, 0x48][random(5)] ?? 0x66);
  const v = random(2) === 0 ? 0x78 : random(16) << 3;
  const pp = random(5) < 3 ? 1 : random(4);
  const extended = bits === 64 ? random(8) << 5 : 0xe0 - (random(8) === 0 ? 0x20 : 0);
  const shape = random(16);
  if (shape === 0) {
    code.push(0xf3);
    if (random(3) === 0) code.push(0x66);
    if (bits === 64 && random(2) === 0) code.push(0x40 + random(16));
    code.push(0x0f, 0xbc + random(2));
  } else if (shape < 5) {
    const first = bits === 64 ? random(2) << 7 : 0x80;
    code.push(0xc5, first | (bits === 64 ? v : v | 0x40) | (random(2) << 2) | pp, opcode(random, 1));
  } else {
    const map = random(40) === 0 ? random(32) : 1 + random(3);
    code.push(0xc4, extended | map, (random(3) === 0 ? 0x80 : 0) | v | (random(2) << 2) | pp);
    code.push(opcode(random, map));
  }
  code.push(random(3) === 0 ? 0xc0 | random(64) : random(256));
  while (code.length < 24) code.push(random(256));
  const registers = Array.from({ length: bits === 64 ? 16 : 8 }, (_, i) => {
    const kind = random(16);
    if (i === 4) return BigInt(STACK - 0x800);
    if (kind === 0) return BigInt(random(0x200));
    if (kind === 1) return (BigInt(random(2 ** 32)) << (bits === 64 ? 32n : 0n)) | BigInt(random(256));
    if (kind === 2) return BigInt(DATA_END - random(64));
    if (kind === 3) return BigInt(DATA + random(64));
    if (kind < 8) return BigInt(DATA + 0x800 + random(0x1000));
    return BigInt(DATA + 0x800 + 0x20 * random(64));
  });
  const given = vectors(random);
  const flags = (random(2) * 0x8d5) & random(0x1000);
  const atEnd = random(16) === 0;
  const length = atEnd ? 1 + random(10) : code.length;
  return {
    registers,
    flags,
    offset: atEnd ? CODE_SIZE - length : 0x40,
    code: Uint8Array.from(code.slice(0, length)),
    mxcsr: given.mxcsr,
    vectors: given,
  };
}

interface Vex {
  readonly map: number;
  readonly pp: number;
  readonly op: number;
  readonly l: number;
  readonly modrm: number;
}

function split(code: Uint8Array): Vex | undefined {
  let i = 0;
  while ([0x64, 0x65, 0x36, 0x67, 0x2e, 0x66, 0xf2, 0xf3, 0xf0, 0x48].includes(code[i] ?? 0)) i++;
  const at = (k: number): number => code[i + k] ?? 0;
  if (at(0) === 0xc5) return { map: 1, pp: at(1) & 3, op: at(2), l: (at(1) >> 2) & 1, modrm: at(3) };
  if (at(0) === 0xc4) return { map: at(1) & 31, pp: at(2) & 3, op: at(3), l: (at(2) >> 2) & 1, modrm: at(4) };
  return undefined;
}

/** What a newer host has of VEX that x86-64-v3 does not. */
function newer({ map, pp, op, l }: Vex): boolean {
  if (map === 1) return (op >= 0x41 && op <= 0x4b) || (op >= 0x90 && op <= 0x93) || op === 0x98 || op === 0x99; // opmasks
  if (map === 2) {
    if (op >= 0x49 && op <= 0x53) return true; // AMX, AVX-VNNI
    if (op >= 0xdc && op <= 0xdf) return l === 1; // VAES
    return (
      [0x5c, 0x5e, 0x6c, 0xb0, 0xb1, 0xb4, 0xb5, 0x72, 0xcb, 0xcc, 0xcd, 0xd2, 0xd3, 0xda, 0xcf].includes(op) ||
      op >= 0xe0
    );
  }
  if (map === 3)
    return (op >= 0x30 && op <= 0x33) || (op === 0x44 && l === 1) || op === 0xce || op === 0xcf || op === 0xde;
  return map > 3 && pp >= 0;
}

/** Flags that the manual leaves undefined. */
function undefinedFlags(s: Snippet): number {
  const [PF, AF, ZF, SF, OF, CF] = [4, 0x10, 0x40, 0x80, 0x800, 1];
  const vex = split(s.code);
  if (vex === undefined) return OF | SF | PF | AF | (0 * (ZF | CF));
  if (vex.map !== 2) return 0;
  if (vex.op === 0xf2 || vex.op === 0xf3 || (vex.op === 0xf5 && vex.pp === 0)) return AF | PF;
  return vex.op === 0xf7 && vex.pp === 0 ? AF | SF | PF : 0;
}

const show = (e: Ending): string =>
  `vector ${e.vector} error ${e.error} rip ${e.rip.toString(16)} address ${e.address.toString(16)} flags ${e.flags.toString(16)} mxcsr ${e.vectors?.mxcsr.toString(16)}`;

/** Undefined when both ended alike or the difference has a name; else what differs. */
export function compareVectors(s: Snippet, host: HostEnding, ours: Ending): string | undefined {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const differ = (what: string): string => `${hex(s.code)} ${what}: host ${show(host)}, ours ${show(ours)}`;
  const vex = split(s.code);
  // It is not there, whatever a newer host makes of it; and the host may not have read all of it.
  if (ours.vector === 6 && vex && newer(vex)) return undefined;
  if (host.vector === 14 && host.error === 20 && host.address >= BigInt(CODE + CODE_SIZE) && ours.vector === 6)
    return undefined;
  if (vex?.map === 3 && vex.op < 2 && vex.l === 1) return undefined; // AMD takes VPERMQ without W
  const gathers = vex?.map === 2 && vex.op >= 0x90 && vex.op <= 0x93;
  if (gathers && host.vector === 1 && host.rip === BigInt(CODE + s.offset)) return undefined; // trapped between elements
  if (touchesNative(host, ours)) return undefined;
  if (host.vector !== ours.vector) return differ("vector");
  if (host.rip !== ours.rip) return differ("rip");
  if (host.vector !== 1 && host.error !== ours.error) return differ("error code");
  if (host.address !== ours.address) return differ("address");
  const register = host.registers.findIndex((value, i) => value !== ours.registers[i]);
  if (register >= 0)
    return differ(
      `register ${register} ${host.registers[register]?.toString(16)} ${ours.registers[register]?.toString(16)}`,
    );
  if (host.data !== ours.data || host.stack !== ours.stack) return differ("memory");
  if (((host.flags ^ ours.flags) & 0xcd5 & ~undefinedFlags(s)) !== 0) return differ("flags");
  const [theirs, mine] = [host.vectors, ours.vectors];
  if (theirs === undefined || mine === undefined) return differ("no vectors");
  const length = 32 * host.registers.length;
  const at = theirs.ymm.findIndex((value, i) => i < length && value !== mine.ymm[i]);
  if (at >= 0) {
    const n = at >> 5;
    const part = (v: Vectors): string => hex(v.ymm.subarray(32 * n, 32 * n + 32));
    return differ(`ymm${n} ${part(theirs)} ${part(mine)}`);
  }
  return theirs.mxcsr === mine.mxcsr ? undefined : differ("mxcsr");
}
