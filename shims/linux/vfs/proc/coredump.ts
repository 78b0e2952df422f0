/** /proc/pid/coredump_filter (core(5)): kept and handed on, as no core is ever written. */
import { Errno } from "../../errno.ts";
import type { Process } from "../../task.ts";
import type { FileSystem, Inode } from "../inode.ts";
import { ProcText } from "./proc.ts";

/** MMF_DUMP_FILTER_BITS. */
const KINDS = 0x1ff;

export function coredumpFilter(fs: FileSystem, process: Process): Inode {
  const { euid, egid } = process.cred;
  const content = (): string => (process.ended ? "" : `${process.coredumpFilter.toString(16).padStart(8, "0")}\n`);
  const store = (given: string): number => {
    const text = given.trim();
    const value = /^\+?0[0-7]*$/.test(text) ? Number.parseInt(text, 8) : Number(text);
    if (!/^\+?(0x[0-9a-f]+|[0-9]+)$/i.test(text)) return -Errno.EINVAL;
    if (value > 0xffff_ffff) return -Errno.ERANGE;
    if (process.ended) return -Errno.ESRCH;
    process.coredumpFilter = value & KINDS;
    return 0;
  };
  return new ProcText(fs, content, 0o644, store, euid, egid);
}
