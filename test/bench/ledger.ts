// What the ledger costs a TLS call: CPU time of the same guest in the same program with a ledger that keeps records, and with
// one that keeps none.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Session } from "../../cli/session.ts";
import { Signals } from "../../shims/linux/signals/port.ts";
import { type Arch, median } from "./runners.ts";

/** What `shimbed run` and `shimbed trace` keep. */
const KEPT = 64;
const SELF = fileURLToPath(import.meta.url);

/** Nanoseconds a call, medians. */
export interface LedgerCost {
  readonly arch: Arch;
  readonly off: number;
  readonly on: number;
}

/** Runs take turns, each in a process of its own. */
export function ledgerCost(guest: string, arch: Arch, calls: number, runs: number): LedgerCost {
  const cost = (kept: number): number => {
    const child = spawnSync(process.execPath, ["--import", "tsx", SELF, guest, String(kept)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", 2],
    });
    if (child.status !== 0) throw new Error(`${guest} with a ledger of ${kept} records: status ${child.status}`);
    return (Number(child.stdout) * 1e3) / calls;
  };
  const rounds = Array.from({ length: runs }, () => ({ off: cost(0), on: cost(KEPT) }));
  return { arch, off: median(rounds.map(({ off }) => off)), on: median(rounds.map(({ on }) => on)) };
}

/** Prints the microseconds of CPU time that the guest took. */
async function measureOne(guest: string, kept: number): Promise<void> {
  const session = new Session({
    program: guest,
    argv: [guest],
    envp: [],
    provider: "direct",
    user: { uid: 1000, gid: 1000 },
    seed: 0,
    clock: "virtual",
    hostMemory: 2 ** 30,
    keptRecords: kept,
    signals: new Signals({ report: () => {} }),
  });
  try {
    const before = process.cpuUsage();
    await session.run();
    const { user, system } = process.cpuUsage(before);
    process.stdout.write(`${user + system}\n`);
  } finally {
    session.close();
  }
}

const [, script, guest, kept] = process.argv;
if (script === SELF && guest !== undefined) await measureOne(guest, Number(kept));
