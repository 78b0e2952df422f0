/** The word sizes that the conformance suite has guests for. */
export const arches = ["x86_64", "i386"] as const;
export type Arch = (typeof arches)[number];
