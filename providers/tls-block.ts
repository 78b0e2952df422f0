/** Memory of a guest thread, as far as its TLS is concerned. */
export interface WordReader {
  /** A word of a thread's memory; undefined where it cannot be read. */
  word(thread: number, address: bigint, bytes: 4 | 8): bigint | undefined;
}

/** Where compilers and C libraries have the stack protector's canary: fs:0x28, gs:0x14. */
export const canaryOffset = { wide: 0x28n, narrow: 0x14n } as const;

/**
 * Whether the block at a thread's base is a C library's with a canary in it. glibc's and musl's blocks begin with a pointer to
 * themselves and have, third, one to a block of the same kind: themselves, or the thread before. A block that a program made for
 * itself need not have a canary.
 */
export function hasCanary(world: WordReader, thread: number, base: bigint, wide: boolean): boolean {
  const bytes = wide ? 8 : 4;
  if (world.word(thread, base, bytes) !== base) return false;
  const third = world.word(thread, base + BigInt(2 * bytes), bytes);
  return third !== undefined && third !== 0n && world.word(thread, third, bytes) === third;
}

/** The canary of such a block; undefined where it cannot be read. */
export function canaryOf(world: WordReader, thread: number, base: bigint, wide: boolean): bigint | undefined {
  return wide ? world.word(thread, base + canaryOffset.wide, 8) : world.word(thread, base + canaryOffset.narrow, 4);
}
