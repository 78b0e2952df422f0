/** NUMA policies, as far as libnuma and those who ask it need them: one node, whose pages are everybody's. */

import { Errno } from "../errno.ts";
import { choice, int, pointer, size, uintHex } from "../kinds/kinds.ts";
import { PAGE, pageUp } from "../memory/pages.ts";
import { ALL_NODES, isMode, type MemoryPolicy, Mpol, modeOf, policyOf } from "../memory/policy.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const MPOL_F_NODE = 1;
const MPOL_F_ADDR = 2;
const MPOL_F_MEMS_ALLOWED = 4;
const MPOL_MF_MOVE_ALL = 4;
const MPOL_MF_VALID = 7;
const NODE_IDS = 1;
const BITS_PER_WORD = 64;
/** CONFIG_NODES_SHIFT of common kernels is 10. */
const MAX_NUMNODES = 1024;

/** copy_nodes_to_user. @throws MemoryFault */
function writeNodes(task: Task, to: number, maxnode: number, nodes: bigint): number {
  if (to === 0) return 0;
  const bytes = new Uint8Array((Math.ceil((maxnode - 1) / BITS_PER_WORD) * BITS_PER_WORD) / 8);
  if (bytes.length > PAGE) return task.fail(Errno.EINVAL, "more nodes than a page has bits");
  if (bytes.length > 0) new DataView(bytes.buffer).setBigUint64(0, nodes, true);
  task.memory.write(to, bytes);
  return 0;
}

/** get_nodes: undefined where the mask is no mask. @throws MemoryFault */
function readNodes(task: Task, from: number, given: number): bigint | undefined {
  const maxnode = given - 1;
  if (maxnode === 0 || from === 0) return 0n;
  if (maxnode < 0 || maxnode > PAGE * 8) return undefined;
  const bytes = new Uint8Array(Math.ceil(maxnode / (8 * task.abi.word)) * task.abi.word);
  task.memory.read(from, bytes);
  let nodes = 0n;
  for (const [index, byte] of bytes.entries()) nodes |= BigInt(byte) << BigInt(8 * index);
  nodes &= (1n << BigInt(maxnode)) - 1n;
  return nodes >> BigInt(MAX_NUMNODES) === 0n ? nodes : undefined;
}

function getMempolicy(task: Task, mode: number, mask: number, maxnode: number, at: number, flags: number): number {
  const { memory, process } = task;
  if (mask !== 0 && maxnode < NODE_IDS) return task.fail(Errno.EINVAL, "the mask has no room for the nodes there are");
  const byNode = (flags & MPOL_F_NODE) !== 0;
  const byAddress = (flags & MPOL_F_ADDR) !== 0;
  if ((flags & ~(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED)) !== 0)
    return task.fail(Errno.EINVAL, "unknown flags");
  let policy: MemoryPolicy = task.memoryPolicy ?? { mode: Mpol.MPOL_DEFAULT, nodes: 0n };
  let answer = policy.mode;
  if ((flags & MPOL_F_MEMS_ALLOWED) !== 0) {
    if (byNode || byAddress) return task.fail(Errno.EINVAL, "MPOL_F_MEMS_ALLOWED stands alone");
    policy = { mode: 0, nodes: ALL_NODES };
    answer = 0;
  } else if (byAddress) {
    if (process.space.regionAt(at) === undefined) return task.fail(Errno.EFAULT, "nothing is mapped there");
    // The page's node, else the policy of its range, which is the default.
    policy = { mode: Mpol.MPOL_DEFAULT, nodes: 0n };
    answer = 0;
    if (byNode) memory.u8(at);
  } else if (at !== 0) return task.fail(Errno.EINVAL, "an address without MPOL_F_ADDR");
  else if (byNode) {
    const named = modeOf(policy.mode);
    if (named !== Mpol.MPOL_INTERLEAVE && named !== Mpol.MPOL_WEIGHTED_INTERLEAVE)
      return task.fail(Errno.EINVAL, "the policy does not interleave");
    answer = 0;
  }
  if (mode !== 0) memory.setU32(mode, answer);
  return writeNodes(task, mask, maxnode, policy.nodes);
}

function setMempolicy(task: Task, mode: number, mask: number, maxnode: number): number {
  if (!isMode(mode)) return task.fail(Errno.EINVAL, "no MPOL_*");
  const nodes = readNodes(task, mask, maxnode);
  if (nodes === undefined) return task.fail(Errno.EINVAL, "more nodes than there may be");
  const policy = policyOf(mode, nodes);
  if (typeof policy === "string") return task.fail(Errno.EINVAL, policy);
  task.memoryPolicy = policy;
  return 0;
}

function mbind(
  task: Task,
  start: number,
  length: number,
  mode: number,
  mask: number,
  maxnode: number,
  flags: number,
): number {
  const { process } = task;
  if (!isMode(mode)) return task.fail(Errno.EINVAL, "no MPOL_*");
  const nodes = readNodes(task, mask, maxnode);
  if (nodes === undefined) return task.fail(Errno.EINVAL, "more nodes than there may be");
  if ((flags & ~MPOL_MF_VALID) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if ((flags & MPOL_MF_MOVE_ALL) !== 0 && !process.cred.capable(Cap.CAP_SYS_NICE))
    return task.fail(Errno.EPERM, "MPOL_MF_MOVE_ALL is root's");
  if (start % PAGE !== 0) return task.fail(Errno.EINVAL, "not at the start of a page");
  const end = start + pageUp(length);
  if (end === start) return 0;
  const policy = policyOf(mode, nodes);
  if (typeof policy === "string") return task.fail(Errno.EINVAL, policy);
  let at = start;
  for (const region of process.space.regions(start)) {
    if (region.start > at || region.start >= end) break;
    at = region.end;
  }
  return at >= end ? 0 : task.fail(Errno.EFAULT, "not all of it is mapped");
}

const family = "memory";
const policyMode = choice("MPOL_", Mpol);

export const memoryPolicyCalls: readonly Row[] = [
  row("get_mempolicy", { x86_64: 239, i386: 275 }, [pointer, pointer, size, pointer, uintHex], getMempolicy, {
    family,
    support: "one node; ranges have no policy of their own",
  }),
  row("set_mempolicy", { x86_64: 238, i386: 276 }, [policyMode, pointer, size], setMempolicy, {
    family,
    support: "kept only",
  }),
  row("mbind", { x86_64: 237, i386: 274 }, [pointer, size, int, pointer, size, uintHex], mbind, {
    family,
    support: "arguments are checked; nothing is kept",
  }),
];
