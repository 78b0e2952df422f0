export const PAGE = 4096;

export const pageUp = (length: number): number => Math.ceil(length / PAGE) * PAGE;
export const pageDown = (address: number): number => address - (address % PAGE);
