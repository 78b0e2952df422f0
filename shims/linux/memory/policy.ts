/** NUMA policies of a machine with one node (set_mempolicy(2), mm/mempolicy.c): they are kept, and there is nothing to choose. */
export interface MemoryPolicy {
  /** MPOL_* with its MPOL_F_*. */
  readonly mode: number;
  /** The nodes that `get_mempolicy` tells of, a bit each. */
  readonly nodes: bigint;
}

export const Mpol = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
} as const;

const MPOL_F_STATIC_NODES = 1 << 15;
const MPOL_F_RELATIVE_NODES = 1 << 14;
const MPOL_F_NUMA_BALANCING = 1 << 13;
const MPOL_MODE_FLAGS = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING;
/** The nodes there are. */
export const ALL_NODES = 1n;

export const modeOf = (mode: number): number => mode & ~MPOL_MODE_FLAGS;

/** Whether mode and its flags make sense together, before any nodes are looked at (sanitize_mpol_flags). */
export function isMode(given: number): boolean {
  const mode = modeOf(given);
  const both = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;
  if (mode < 0 || mode > Mpol.MPOL_WEIGHTED_INTERLEAVE || (given & both) === both) return false;
  if ((given & MPOL_F_NUMA_BALANCING) === 0) return true;
  return mode === Mpol.MPOL_BIND || mode === Mpol.MPOL_PREFERRED_MANY;
}

/** The policy of mode and nodes as given (mpol_new, mpol_set_nodemask): undefined for the default, a sentence where there is none. */
export function policyOf(given: number, nodes: bigint): MemoryPolicy | undefined | string {
  const mode = modeOf(given);
  const placed = (given & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES)) !== 0;
  if (mode === Mpol.MPOL_DEFAULT) return nodes === 0n ? undefined : "MPOL_DEFAULT takes no nodes";
  if (mode === Mpol.MPOL_LOCAL || (mode === Mpol.MPOL_PREFERRED && nodes === 0n)) {
    if (nodes !== 0n || placed) return "the local node is not to be named";
    return { mode: Mpol.MPOL_LOCAL, nodes: 0n };
  }
  if (nodes === 0n) return "no nodes";
  const relative = (given & MPOL_F_RELATIVE_NODES) !== 0;
  if (!relative && (nodes & ALL_NODES) === 0n) return "there are no such nodes";
  return { mode: given, nodes: placed ? nodes : nodes & ALL_NODES };
}
