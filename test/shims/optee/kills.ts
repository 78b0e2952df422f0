// npx tsx test/shims/optee/kills.ts KILLS [SEED]
//
// Kills processes that write to a storage file, at random moments, and fails when something committed was lost or something half
// written is there.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { killWriters } from "./storage-kills.ts";

const [rounds, seed = 1] = process.argv.slice(2).map(Number);
if (rounds === undefined || !Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write("usage: kills.ts KILLS [SEED]\n");
  process.exit(2);
}
const directory = mkdtempSync(join(tmpdir(), "shimbed-kills-"));
try {
  const { kills, committed, during, through } = await killWriters(join(directory, "storage"), rounds, seed);
  process.stdout.write(
    `${kills} kills: ${committed} writes committed, none lost; ${during} killed in the middle of a write, ${through} of them had come through\n`,
  );
} finally {
  rmSync(directory, { recursive: true, force: true });
}
