import { PAGE_SIZE } from "../../../emulator/physical-memory.ts";

export const PAGE = PAGE_SIZE;

/** A number beyond 2**53 has lost its low bits: the last bytes of 64-bit space are then no multiple of the page size. */
export const isAligned = (address: number): boolean => address % PAGE === 0 && address < 2 ** 64;

export const pageUp = (length: number): number => Math.ceil(length / PAGE) * PAGE;
export const pageDown = (address: number): number => address - (address % PAGE);
