// Where the engine and a processor differ on a single instruction, and why. What is not named here must be the same.
import type { Bits } from "./guest.ts";
import type { Ending, HostEnding, Snippet } from "./snippets.ts";

interface Parts {
  readonly bits: Bits;
  /** 1, 2 for 0F, 3 for 0F38, 4 for 0F3A; 0 for VEX and EVEX. */
  readonly map: number;
  readonly op: number;
  readonly modrm: number;
  readonly reg: number;
  readonly memory: boolean;
  readonly prefixes: ReadonlySet<number>;
}

const prefixBytes = new Set([0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65]);

function split(code: Uint8Array, bits: Bits): Parts {
  const prefixes = new Set<number>();
  let i = 0;
  const at = (k: number): number => code[k] ?? 0;
  while (i < code.length && (prefixBytes.has(at(i)) || (bits === 64 && (at(i) & 0xf0) === 0x40))) prefixes.add(at(i++));
  let op = at(i++);
  let map = 1;
  if ([0xc4, 0xc5, 0x62].includes(op) && (bits === 64 || at(i) >= 0xc0)) map = 0;
  if (op === 0x0f) {
    op = at(i++);
    map = 2;
    if (op === 0x38 || op === 0x3a) {
      map = op === 0x38 ? 3 : 4;
      op = at(i++);
    }
  }
  const modrm = at(i);
  return { bits, map, op, modrm, reg: (modrm >> 3) & 7, memory: modrm < 0xc0, prefixes };
}

/** True for system calls, which would leave the program that runs snippets natively. */
export function leaves(s: Snippet, bits: Bits): boolean {
  const p = split(s.code, bits);
  return (p.map === 2 && (p.op === 0x05 || p.op === 0x34)) || (p.map === 1 && p.op === 0xcd);
}

/** Whether the engine found nothing where the program that runs snippets natively has memory of its own. */
export function touchesNative(host: HostEnding, ours: Ending): boolean {
  return ours.vector === 14 && host.memory.has(ours.address);
}

type Rule = readonly [name: string, holds: (p: Parts, host: HostEnding, ours: Ending, strict: boolean) => boolean];

const oneOf =
  (...ops: number[]) =>
  (p: Parts): boolean =>
    ops.includes(p.op);
const inMap = (map: number, holds: (p: Parts) => boolean) => (p: Parts) => p.map === map && holds(p);
const x87 = inMap(1, (p) => p.op >= 0xd8 && p.op <= 0xdf);

/** Instructions of which only the vector and RIP are compared, or nothing at all. */
const different: readonly Rule[] = [
  ["the modelled processor has no AVX, AVX-512 or BMI", (p) => p.map === 0],
  [
    "nor SHA, GFNI, ADX, MOVDIRI, CET",
    inMap(3, (p) => p.op >= 0xc8 && (p.op < 0xdb || p.op > 0xdf) && (p.op & 0xfe) !== 0xf0),
  ],
  ["nor INVPCID", inMap(3, oneOf(0x82))],
  ["LOCK MOV CR0 is MOV CR8 on AMD", (p) => p.map === 2 && oneOf(0x20, 0x22)(p) && p.prefixes.has(0xf0)],
  ["nor those of 0F3A", inMap(4, (p) => p.op >= 0xcc && p.op <= 0xcf)],
  [
    "nor XSAVE, CLFLUSHOPT, CLWB, RDRAND, RDPID, LZCNT, TZCNT, PREFETCHW",
    inMap(2, oneOf(0xae, 0xc7, 0x0d, 0xbc, 0xbd, 0xb8)),
  ],
  [
    "nor CET's nops and SSE4a, nor 3DNow!",
    inMap(2, oneOf(0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x0e, 0x0f, 0x78, 0x79, 0x2b)),
  ],
  ["SGDT and its like are answered by Linux where the processor has UMIP; SVM", inMap(2, oneOf(0x00, 0x01))],
  ["CPUID, RDTSC and SYSRET tell of the processor", inMap(2, oneOf(0xa2, 0x31, 0x07))],
  ["BSWAP of 16 bits is undefined", inMap(2, (p) => p.op >= 0xc8 && p.op < 0xd0)],
  [
    "an instruction that is refused and cut off by a missing page",
    (_p, host) => host.error === 20 && host.vector === 14,
  ],
  ["the program that runs snippets natively has memory of its own", (_p, host, ours) => touchesNative(host, ours)],
  ["MASKMOVQ with nothing to write may touch its page", inMap(2, oneOf(0xf7))],
  ["the upper half of CMPXCHG's destination when it does not match", inMap(2, (p) => p.op === 0xb1 && !p.memory)],
  [
    "some processors take MOV with another register field",
    (p) => p.map === 1 && (p.op === 0xc6 || p.op === 0xc7) && p.reg !== 0,
  ],
  [
    "the segments of MOVS and CMPS are checked before either page",
    (p, host, _ours, strict) => strict && p.map === 1 && (p.op & 0xfc) === 0xa4 && host.vector === 14,
  ],
  ["ARPL to a segment that cannot be written", (p) => p.bits === 32 && p.map === 1 && p.op === 0x63],
  ["CMPS reads its two operands in the other order", inMap(1, oneOf(0xa6, 0xa7))],
  ["F2 and F3 before one string instruction", (p) => p.prefixes.has(0xf2) && p.prefixes.has(0xf3)],
  ["far returns read CS before RIP; ENTER does not probe the new stack top", inMap(1, oneOf(0xca, 0xcb, 0xcf, 0xc8))],
  [
    "operand size 16 on near branches is the processor maker's own, so are prefixes of LOOP",
    inMap(1, (p) => p.op >= 0xe0 && p.op <= 0xe3),
  ],
  [
    "the same on RET, CALL and JMP",
    (p) =>
      p.prefixes.has(0x66) &&
      ((p.map === 1 && [0xc2, 0xc3, 0xe8, 0xe9, 0xeb, 0xff].includes(p.op)) ||
        (p.op & 0xf0) === 0x70 ||
        (p.map === 2 && (p.op & 0xf0) === 0x80)),
  ],
  ["RET to an address that is not canonical faults at the target", inMap(1, oneOf(0xc2, 0xc3, 0xff))],
  ["INT1 under the trap flag", inMap(1, oneOf(0xf1))],
  [
    "more than one of 66, F2, F3 before an SSE instruction",
    (p) => p.map > 1 && [0x66, 0xf2, 0xf3].filter((b) => p.prefixes.has(b)).length > 1,
  ],
  [
    "prefixes that an SSE instruction has no form for",
    (p, host) =>
      p.map > 1 && host.vector === 6 && (p.prefixes.has(0xf2) || p.prefixes.has(0xf3) || p.prefixes.has(0x66)),
  ],
  [
    "null and code segments are not checked in 32-bit code unless segments are strict",
    (p, host, _ours, strict) => !strict && p.bits === 32 && (host.vector === 13 || host.vector === 12),
  ],
  ["32-bit LDS, LES and BOUND", (p) => p.bits === 32 && p.map === 1 && [0xc4, 0xc5, 0x62].includes(p.op)],
  ["the operand of BT, XADD and shifts relative to RIP", inMap(2, oneOf(0xa4, 0xac))],
  [
    "an x87 operand of ten bytes is touched in two parts",
    (p, host, ours) => x87(p) && host.vector === 14 && ours.vector === 14,
  ],
  ["x87 moves have no stack faults", x87],
];

/** Flags that the manual leaves undefined after an instruction. */
function undefinedFlags(p: Parts): number {
  const [PF, AF, ZF, SF, OF, CF] = [4, 0x10, 0x40, 0x80, 0x800, 1];
  if (p.map === 1) {
    if ([0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3].includes(p.op)) return AF | OF | CF;
    if (p.op === 0x69 || p.op === 0x6b) return SF | ZF | AF | PF;
    if ((p.op === 0xf6 || p.op === 0xf7) && p.reg >= 4) return p.reg >= 6 ? 0x8d5 : SF | ZF | AF | PF;
    if ([0x27, 0x2f, 0x37, 0x3f, 0xd4, 0xd5].includes(p.op)) return OF | SF | ZF | AF | PF | CF;
    return (p.op & 0xc4) === 0 ||
      (p.op >= 0x80 && p.op < 0x86) ||
      p.op === 0xa8 ||
      p.op === 0xa9 ||
      p.op === 0xf6 ||
      p.op === 0xf7
      ? AF
      : 0;
  }
  if (p.map === 2) {
    if ([0xa4, 0xa5, 0xac, 0xad].includes(p.op)) return AF | OF | CF | SF | ZF | PF;
    if (p.op === 0xaf) return SF | ZF | AF | PF;
    if ([0xa3, 0xab, 0xb3, 0xbb, 0xba].includes(p.op)) return OF | SF | AF | PF;
  }
  return 0;
}

const show = (e: Ending): string =>
  `vector ${e.vector} error ${e.error} rip ${e.rip.toString(16)} address ${e.address.toString(16)} flags ${e.flags.toString(16)}`;

/** Undefined when both ended alike or the difference has a name; else what differs. */
export function compare(s: Snippet, bits: Bits, host: HostEnding, ours: Ending, strict = false): string | undefined {
  const p = split(s.code, bits);
  if (different.some(([, holds]) => holds(p, host, ours, strict))) return undefined;
  const differ = (what: string): string =>
    `${Buffer.from(s.code).toString("hex")} ${what}: host ${show(host)}, ours ${show(ours)}`;
  if (host.vector !== ours.vector) return differ("vector");
  if (host.rip !== ours.rip) return differ("rip");
  if (host.vector !== 1 && host.error !== ours.error) return differ("error code");
  if (host.address !== ours.address) return differ("address");
  const register = host.registers.findIndex((value, i) => value !== ours.registers[i]);
  if (register >= 0) return differ(`register ${register}`);
  if (host.data !== ours.data || host.stack !== ours.stack) return differ("memory");
  if (((host.flags ^ ours.flags) & 0xcd5 & ~undefinedFlags(p)) !== 0) return differ("flags");
  const end = bits === 64 ? 416 : 288;
  const xmm = host.fx.findIndex((value, i) => i >= 160 && i < end && value !== ours.fx[i]);
  if (xmm >= 0) return differ(`xmm${(xmm - 160) >> 4}`);
  // Denormal operands are not tracked while all exceptions are masked.
  const tracked = (s.mxcsr & 0x1f80) === 0x1f80 ? ~2 : ~0;
  if ((((host.fx[24] ?? 0) ^ (ours.fx[24] ?? 0)) & tracked) !== 0) return differ("mxcsr");
  return undefined;
}
