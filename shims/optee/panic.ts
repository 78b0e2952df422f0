/** The end of a TA that may not go on, and what is known of it. */
import type { LedgerRecord } from "../../providers/ledger.ts";
import { formatRecord } from "../../providers/ledger-format.ts";

export interface PanicReport {
  readonly uuid: string;
  readonly instance: number;
  /** `TA panic with code 0x…`, `page fault reading 0x28`, … */
  readonly reason: string;
  /** What TEE_Panic was given. */
  readonly code: number | undefined;
  readonly pc: number;
  /** Offset of the instruction in the file that holds it. */
  readonly offset: number | undefined;
  readonly symbol: string | undefined;
  /** Bytes at the instruction, as far as they can be read. */
  readonly bytes: Uint8Array;
  /** Where FS pointed, undefined where the provider does not say. */
  readonly fsBase: bigint | undefined;
  /** What FS should have been while the TA ran. */
  readonly fsExpected: bigint;
  /** Who changed FS base last. */
  readonly fsSetBy: string;
}

/** Who changed FS base last, from the ledger, and whether the CPU still has it. */
export function describeSetter(record: LedgerRecord | undefined, fsBase: bigint | undefined): string {
  if (record === undefined) return "nobody: no token has set it in this run";
  const text = `${formatRecord(record)}, for ${record.call} (record ${record.sequence}, thread ${record.thread})`;
  if (fsBase === undefined || fsBase === record.after.fsBase) return text;
  return `no token: the last one was ${text}`;
}

/** The report as lines of text. `instruction` is the decoded instruction, where somebody decoded it. */
export function formatPanic(report: PanicReport, instruction?: string): string {
  const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
  const where = report.symbol ?? (report.offset === undefined ? undefined : `file offset ${hex(report.offset)}`);
  const expected = report.fsBase === report.fsExpected ? "" : `, and the TA's is ${hex(report.fsExpected)}`;
  return [
    `trusted application ${report.uuid} (instance ${report.instance}) is dead: ${report.reason}`,
    `  at ${hex(report.pc)}${where === undefined ? "" : ` (${where})`}: ${instruction ?? Buffer.from(report.bytes).toString("hex")}`,
    `  FS base ${report.fsBase === undefined ? "unknown" : hex(report.fsBase)}${expected}, set by ${report.fsSetBy}`,
  ].join("\n");
}
