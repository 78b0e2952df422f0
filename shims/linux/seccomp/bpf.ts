/** Classic BPF over `struct seccomp_data`: the checks and the machine (bpf_check_classic in net/core/filter.c, kernel/seccomp.c). */

/** `struct sock_filter`. */
export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

export const SOCK_FILTER_BYTES = 8;
/** BPF_MAXINSNS. */
export const MOST_INSTRUCTIONS = 4096;
const MEMORY_WORDS = 16;
/** Of `struct seccomp_data`: number, architecture, instruction pointer, six arguments. */
export const DATA_BYTES = 64;

// Codes of linux/bpf_common.h, put together: class, size or operation, mode or source.
const LD_ABS = 0x20;
const LD_IMM = 0x00;
const LD_MEM = 0x60;
const LD_LEN = 0x80;
const LDX_IMM = 0x01;
const LDX_MEM = 0x61;
const LDX_LEN = 0x81;
const ST = 0x02;
const STX = 0x03;
const JA = 0x05;
const RET_K = 0x06;
const RET_A = 0x16;
const TAX = 0x07;
const TXA = 0x87;
const NEG = 0x84;
const CLASS = 7;
const ALU = 4;
const JMP = 5;
const FROM_X = 8;
/** Operations of ALU and JMP, in the high half of the byte. */
const Alu = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  xor: 0xa0,
} as const;
const Jump = { eq: 0x10, gt: 0x20, ge: 0x30, set: 0x40 } as const;
const ALU_OPERATIONS: ReadonlySet<number> = new Set(Object.values(Alu));
const JUMPS: ReadonlySet<number> = new Set(Object.values(Jump));
const PLAIN: ReadonlySet<number> = new Set([
  ...[LD_ABS, LD_IMM, LD_MEM, LD_LEN, LDX_IMM, LDX_MEM, LDX_LEN, ST, STX, JA, RET_K, RET_A, TAX, TXA, NEG],
]);
const OF_MEMORY: ReadonlySet<number> = new Set([LD_MEM, LDX_MEM, ST, STX]);

function isAlu(code: number): boolean {
  return (code & CLASS) === ALU && code <= 0xff && ALU_OPERATIONS.has(code & 0xf0);
}

function isConditional(code: number): boolean {
  return (code & CLASS) === JMP && code <= 0xff && JUMPS.has(code & 0xf0);
}

function isSound({ code, jt, jf, k }: Instruction, at: number, length: number): boolean {
  if (isAlu(code)) {
    if ((code & FROM_X) !== 0) return true;
    const operation = code & 0xf0;
    if (operation === Alu.div) return k !== 0;
    return (operation !== Alu.lsh && operation !== Alu.rsh) || k < 32;
  }
  if (isConditional(code)) return at + jt + 1 < length && at + jf + 1 < length;
  if (!PLAIN.has(code)) return false;
  if (code === JA) return k < length - at - 1;
  if (OF_MEMORY.has(code)) return k < MEMORY_WORDS;
  return code !== LD_ABS || (k < DATA_BYTES && k % 4 === 0);
}

/** True where no word of memory is read before it is written, on whatever way (check_load_and_stores). */
function readsWhatIsWritten(program: readonly Instruction[]): boolean {
  const masks = new Uint16Array(program.length).fill(0xffff);
  let written = 0;
  for (const [at, { code, jt, jf, k }] of program.entries()) {
    written &= masks[at] ?? 0;
    const meet = (target: number): void => {
      masks[target] = (masks[target] ?? 0) & written;
    };
    if (code === ST || code === STX) written |= 1 << k;
    else if (code === LD_MEM || code === LDX_MEM) {
      if ((written & (1 << k)) === 0) return false;
    } else if (code === JA) {
      meet(at + k + 1);
      written = 0xffff;
    } else if (isConditional(code)) {
      meet(at + jt + 1);
      meet(at + jf + 1);
      written = 0xffff;
    }
  }
  return true;
}

/** Whether Linux takes a program as a filter. */
export function isFilter(program: readonly Instruction[]): boolean {
  const last = program.at(-1);
  if (last === undefined || program.length > MOST_INSTRUCTIONS) return false;
  if (last.code !== RET_K && last.code !== RET_A) return false;
  return program.every((one, at) => isSound(one, at, program.length)) && readsWhatIsWritten(program);
}

function compute(operation: number, a: number, b: number): number {
  switch (operation) {
    case Alu.add:
      return (a + b) >>> 0;
    case Alu.sub:
      return (a - b) >>> 0;
    case Alu.mul:
      return Math.imul(a, b) >>> 0;
    case Alu.div:
      return Math.floor(a / b);
    case Alu.or:
      return (a | b) >>> 0;
    case Alu.and:
      return (a & b) >>> 0;
    case Alu.lsh:
      return (a << (b & 31)) >>> 0;
    case Alu.rsh:
      return a >>> (b & 31);
    default:
      return (a ^ b) >>> 0;
  }
}

function holds(operation: number, a: number, b: number): boolean {
  switch (operation) {
    case Jump.eq:
      return a === b;
    case Jump.gt:
      return a > b;
    case Jump.ge:
      return a >= b;
    default:
      return (a & b) !== 0;
  }
}

/**
 * Runs a program that `isFilter` has taken.
 * @param data `struct seccomp_data`, in words of 32 bits
 * @returns what it answers, SECCOMP_RET_* with 16 bits of data
 */
export function runFilter(program: readonly Instruction[], data: Uint32Array): number {
  const memory = new Uint32Array(MEMORY_WORDS);
  let a = 0;
  let x = 0;
  for (let at = 0; ; at++) {
    const instruction = program[at];
    // It ends by a return before that.
    if (instruction === undefined) return 0;
    const { code, jt, jf, k } = instruction;
    switch (code) {
      case LD_ABS:
        a = data[k / 4] ?? 0;
        break;
      case LD_IMM:
        a = k;
        break;
      case LD_MEM:
        a = memory[k] ?? 0;
        break;
      case LD_LEN:
        a = DATA_BYTES;
        break;
      case LDX_IMM:
        x = k;
        break;
      case LDX_MEM:
        x = memory[k] ?? 0;
        break;
      case LDX_LEN:
        x = DATA_BYTES;
        break;
      case ST:
        memory[k] = a;
        break;
      case STX:
        memory[k] = x;
        break;
      case JA:
        at += k;
        break;
      case RET_K:
        return k;
      case RET_A:
        return a;
      case TAX:
        x = a;
        break;
      case TXA:
        a = x;
        break;
      case NEG:
        a = -a >>> 0;
        break;
      default: {
        const operand = (code & FROM_X) !== 0 ? x : k;
        if ((code & CLASS) === JMP) at += holds(code & 0xf0, a, operand) ? jt : jf;
        // A division by zero is the answer 0.
        else if ((code & 0xf0) === Alu.div && operand === 0) return 0;
        else a = compute(code & 0xf0, a, operand);
      }
    }
  }
}
