/** An ELF file around machine code: one segment that may be read, written and executed, with room for data behind the code. */

export type Bits = 32 | 64;

/** Where the code lies; what labels count from. */
export const codeAddress: Readonly<Record<Bits, number>> = { 64: 0x40_1000, 32: 0x804_9000 };

const OFFSET = 0x1000;
/** Zeroes behind the code. */
const ROOM = 0x1000;
const EM_386 = 3;
const EM_X86_64 = 62;
const RWX = 7;

/** A static executable that starts at its first byte (elf(5)). */
export function asmProgram(bits: Bits, code: Uint8Array): Uint8Array {
  const file = new Uint8Array(OFFSET + code.length);
  const view = new DataView(file.buffer);
  const wide = bits === 64;
  const address = codeAddress[bits];
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  file.set(code, OFFSET);
  view.setUint16(16, 2, true);
  view.setUint16(18, wide ? EM_X86_64 : EM_386, true);
  view.setUint32(20, 1, true);
  const segment = [OFFSET, address, address, code.length, code.length + ROOM];
  if (wide) {
    view.setBigUint64(24, BigInt(address), true);
    view.setBigUint64(32, 64n, true);
    for (const [at, value] of [
      [52, 64],
      [54, 56],
      [56, 1],
    ] as const)
      view.setUint16(at, value, true);
    view.setUint32(64, 1, true);
    view.setUint32(68, RWX, true);
    for (const [index, value] of [...segment, OFFSET].entries()) view.setBigUint64(72 + 8 * index, BigInt(value), true);
    return file;
  }
  view.setUint32(24, address, true);
  view.setUint32(28, 52, true);
  for (const [at, value] of [
    [40, 52],
    [42, 32],
    [44, 1],
  ] as const)
    view.setUint16(at, value, true);
  for (const [index, value] of [1, ...segment, RWX, OFFSET].entries()) view.setUint32(52 + 4 * index, value, true);
  return file;
}
