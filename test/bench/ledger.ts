// What the ledger costs a TLS call: CPU time of the same guest in the same program with a ledger that keeps records, with one that
// keeps none, and with one that goes to a file, a line with its hash for each record.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Session } from "../../cli/session.ts";
import { LedgerWriter } from "../../providers/ledger-file.ts";
import { Signals } from "../../shims/linux/signals/port.ts";
import type { Arch } from "./runners.ts";

/** What `shimbed run` and `shimbed trace` keep. */
const KEPT = 64;
const SELF = fileURLToPath(import.meta.url);

/** Nanoseconds a call. */
export interface LedgerCost {
  readonly arch: Arch;
  readonly off: number;
  readonly on: number;
  readonly file: number;
}

/** Runs take turns, each in a process of its own. */
export function ledgerCost(guest: string, arch: Arch, calls: number, runs: number): LedgerCost {
  const cost = (kept: number | "file"): number => {
    const child = spawnSync(process.execPath, ["--import", "tsx", SELF, guest, String(kept)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", 2],
    });
    if (child.status !== 0) throw new Error(`${guest} with a ledger of ${kept} records: status ${child.status}`);
    return (Number(child.stdout) * 1e3) / calls;
  };
  const rounds = Array.from({ length: runs }, () => ({ off: cost(0), on: cost(KEPT) }));
  // The least of all: what other work on the machine costs is no part of it, and a ratio shows that twice.
  const least = (way: "off" | "on"): number => Math.min(...rounds.map((round) => round[way]));
  // A file costs so much more that one run says enough.
  return { arch, off: least("off"), on: least("on"), file: cost("file") };
}

/** Prints the microseconds of CPU time that the guest took. */
async function measureOne(guest: string, kept: string): Promise<void> {
  const toFile = kept === "file";
  const session = new Session({
    program: guest,
    argv: [guest],
    envp: [],
    provider: "direct",
    user: { uid: 1000, gid: 1000 },
    seed: 0,
    clock: "virtual",
    hostMemory: 2 ** 30,
    keptRecords: toFile ? KEPT : Number(kept),
    signals: new Signals({ report: () => {} }),
  });
  const folder = mkdtempSync(join(tmpdir(), "shimbed-bench-"));
  const fd = openSync(join(folder, "ledger.jsonl"), "w");
  try {
    if (toFile) {
      const writer = new LedgerWriter((text) => writeSync(fd, text), { provider: "direct" });
      session.kernel.gate.ledger.subscribe(writer.record);
    }
    const before = process.cpuUsage();
    await session.run();
    const { user, system } = process.cpuUsage(before);
    process.stdout.write(`${user + system}\n`);
  } finally {
    session.close();
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}

const [, script, guest, kept] = process.argv;
if (script === SELF && guest !== undefined && kept !== undefined) await measureOne(guest, kept);
