/** Numbers from the processor's manual (Intel SDM). */

/** Exceptions by their vector (volume 3, 6.15). */
export const Vector = {
  DE: 0,
  DB: 1,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  XM: 19,
} as const;

/** Of RFLAGS (volume 1, 3.4.3). */
export const Flag = { TF: 0x100, DF: 0x400, RF: 0x1_0000 } as const;
