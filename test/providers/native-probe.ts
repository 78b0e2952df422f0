import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readUserDesc, type UserDesc, writeUserDesc } from "../../emulator/descriptors.ts";

/** An operation of native-probe.c. */
export type Op =
  | { op: "set_thread_area" | "get_thread_area" | "set_ldt_legacy" | "set_ldt"; desc: UserDesc }
  | { op: "read_ldt"; entry: number }
  | { op: "lar"; selector: number }
  | { op: "load"; segment: ProbeSegment; selector: number }
  | { op: "peek"; segment: ProbeSegment }
  | { op: "arch_prctl"; code: number; address: bigint };

export type ProbeSegment = "ds" | "es" | "fs" | "gs";

/** What the machine was like after an operation. Bases are only known of 64-bit probes. */
export interface Answer {
  result: number;
  value: bigint;
  desc: UserDesc;
  ds: number;
  es: number;
  fs: number;
  gs: number;
  fsBase: bigint;
  gsBase: bigint;
}

const OPS = [
  "set_thread_area",
  "get_thread_area",
  "set_ldt_legacy",
  "set_ldt",
  "read_ldt",
  "lar",
  "load",
  "peek",
  "arch_prctl",
] as const;
const SEGMENTS = ["ds", "es", "fs", "gs"] as const;
const IN_BYTES = 32;
const OUT_BYTES = 64;

/** Where the probe's two cells are, and what they hold. */
export const CELLS = 0x10000000;
export const cellValue = (cell: number): bigint => 0xce110000n + BigInt(cell);

/**
 * Compiles native-probe.c and runs the operations in one process of this machine.
 * @throws when there is no gcc that builds for the word size, or the probe dies
 */
export function runNatively(bits: 32 | 64, ops: readonly Op[]): Answer[] {
  const directory = mkdtempSync(join(tmpdir(), "native-probe-"));
  try {
    const probe = join(directory, "probe");
    const source = fileURLToPath(new URL("./native-probe.c", import.meta.url));
    const flags = ["-O1", "-static", "-no-pie", "-nostdlib", "-ffreestanding", "-fno-stack-protector"];
    flags.push("-fcf-protection=none", "-mgeneral-regs-only", `-Wl,--section-start=.cells=0x${CELLS.toString(16)}`);
    const compiled = spawnSync("gcc", [`-m${bits}`, ...flags, "-o", probe, source], { encoding: "utf8" });
    if (compiled.status !== 0) {
      const why = compiled.error?.message ?? compiled.stderr;
      throw new Error(`comparing with the native kernel needs gcc -m${bits} (Debian: gcc-multilib): ${why}`);
    }
    const ran = spawnSync(probe, { input: encode(ops), maxBuffer: OUT_BYTES * ops.length + 1 });
    if (ran.stdout.length !== OUT_BYTES * ops.length) {
      throw new Error(`the ${bits}-bit probe gave ${ran.stdout.length} bytes, ended by ${ran.signal ?? ran.status}`);
    }
    return decode(ran.stdout, ops.length);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function encode(ops: readonly Op[]): Uint8Array {
  const bytes = new Uint8Array(ops.length * IN_BYTES);
  const view = new DataView(bytes.buffer);
  ops.forEach((op, index) => {
    const at = index * IN_BYTES;
    const setU32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
    setU32(at, OPS.indexOf(op.op));
    if ("desc" in op) writeUserDesc({ setU32 }, at + 16, op.desc);
    else if (op.op === "read_ldt") setU32(at + 4, op.entry);
    else if (op.op === "lar") setU32(at + 4, op.selector);
    else if (op.op === "arch_prctl") {
      setU32(at + 4, op.code);
      view.setBigUint64(at + 8, op.address, true);
    } else {
      setU32(at + 4, SEGMENTS.indexOf(op.segment));
      if (op.op === "load") setU32(at + 8, op.selector);
    }
  });
  return bytes;
}

function decode(bytes: Uint8Array, count: number): Answer[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const u32 = (offset: number): number => view.getUint32(offset, true);
  return Array.from({ length: count }, (_, index) => {
    const at = index * OUT_BYTES;
    return {
      result: view.getInt32(at, true),
      value: view.getBigUint64(at + 4, true),
      desc: readUserDesc({ u32 }, at + 12),
      ds: u32(at + 28),
      es: u32(at + 32),
      fs: u32(at + 36),
      gs: u32(at + 40),
      fsBase: view.getBigUint64(at + 48, true),
      gsBase: view.getBigUint64(at + 56, true),
    };
  });
}
